"""Hypergradient rates: up while successive steps agree, down when they undo each other.

The derivative of the loss by the learning rate of the step before is -<g, u>: g the gradient now, u
the direction that step took. So the rate follows <g, u>. Raw products grow with the model, so
the default is the cosine, which is scale free.

FedHyper is the same rule twice: on a server, over the mean updates of successive rounds; on a
client, over its own successive updates and the server's. Here both are functions of inner
products, for a federated loop of your own; products of *updates* (new minus old weights), never
mixed with products of gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from thalweg.controllers.reading import dial_in
from thalweg.core.protocols import Action, Context, Set, State
from thalweg.errors import RecipeError
from thalweg.schedules.clock import check_number

__all__ = ["Hypergradient", "client_rate", "global_scale", "hyper_rate", "local_scale"]


@dataclass(frozen=True)
class Hypergradient:
    """Move a learning rate along its hypergradient. Needs ``Learn(watch=("grad_dot",))``.

    After every step: lr (1 + kappa cos), or lr + kappa <g, u> with ``form="raw"``, held between
    `low` and `high`. The rate is Set every `every` steps.

    Source: arXiv:1703.04782.
    """

    low: float
    """Least rate."""
    high: float
    """Largest rate."""
    kappa: float = 0.02
    """Step of the rate: with cosines near 1 it doubles in log(2) / kappa = 35 steps. Our choice."""
    form: Literal["cosine", "raw"] = "cosine"
    """Whether the signal is `grad_cos` or `grad_dot`."""
    path: str = "lr"
    """The rate, or a number inside its schedule, such as `lr.second` of ``Times(Wsd(..), 1.0)``."""
    initial: float | None = None
    """What it begins with; None: the rate of the first step."""
    every: int = 10
    """Steps from one Set to the next; 1 is the paper's. Each Set is a line of the run's journal."""
    model: str = ""
    """The model whose gradient is read; empty for the first that learns in a step."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range.

        Raises:
            DialError: They are.
        """
        check_number(self, "low", self.low, low=0.0)
        check_number(self, "high", self.high, low=float(self.low))
        check_number(self, "kappa", self.kappa, above=0.0)
        check_number(self, "every", self.every, low=1)
        if self.initial is not None:
            check_number(self, "initial", self.initial, above=0.0)

    def start(self, ctx: Context) -> State:
        """Return {rate, seen: steps since the start}."""
        return {"rate": self.initial, "seen": 0}

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Move the rate by the signal of the last step."""
        report = ctx.last["report"]
        rate = state["rate"] if state["rate"] is not None else dial_in(report, self.path)
        signal = self._signal(report)
        moved = hyper_rate(rate, signal, kappa=self.kappa, form=self.form)
        state = {"rate": min(max(moved, self.low), self.high), "seen": state["seen"] + 1}
        due = state["seen"] % self.every == 0
        return ((Set({self.path: state["rate"]}),) if due else ()), state

    def _signal(self, report: dict[str, float]) -> float:
        name = "grad_cos" if self.form == "cosine" else "grad_dot"
        name = f"{self.model}/{name}" if self.model else name
        if name not in report:
            raise RecipeError(
                f"a report without '{name}'",
                expected="a Learn that watches its gradient",
                where="Hypergradient",
                write='Learn(..., watch=("grad_dot",))',
            )
        return report[name]


def hyper_rate(
    rate: float, signal: float, *, kappa: float, form: Literal["cosine", "raw"] = "cosine"
) -> float:
    """Return the next learning rate.

    Args:
        rate: The rate now.
        signal: <g, u> of this gradient and the last direction, or its cosine.
        kappa: Step size of the rate; with "raw" in units of rate per squared gradient.
        form: "cosine": rate (1 + kappa signal). "raw": rate + kappa signal.

    Source: arXiv:1703.04782, its additive and its normalised multiplicative rule.

    Example:
        >>> hyper_rate(0.1, 1.0, kappa=0.5), hyper_rate(0.1, -2.0, kappa=0.01, form="raw")
        (0.15000000000000002, 0.08)
    """
    return rate * (1 + kappa * signal) if form == "cosine" else rate + kappa * signal


def global_scale(scale: float, dot: float, *, low: float = 0.2, high: float = 5.0) -> float:
    """Return FedHyper's server scale a_t = clip(a_{t-1} + <D_{t-1}, D_t>, low, high).

    The server then sets w = w_old + a_t D_t. The authors' variant with momentum has low = 0.8;
    what sets clients' rates (`client_rate`) has no limits here.

    Args:
        scale: a_{t-1}; 1 in the first round.
        dot: Inner product of the mean updates D of this round and the last, new minus old weights.
        low: Least scale.
        high: Largest scale.

    Source: arXiv:2310.03156 (FedHyper-G) and its code.

    Example:
        >>> global_scale(1.0, 0.5), global_scale(1.0, -3.0)
        (1.5, 0.2)
    """
    return min(max(scale + dot, low), high)


def client_rate(rate: float, scale: float, *, low: float = 0.001, high: float = 0.1) -> float:
    """Return the rate that a FedHyper server gives its clients: clip(rate scale, low, high).

    Args:
        rate: The clients' first rate.
        scale: From `global_scale` without limits.
        low: Least rate.
        high: Largest rate.

    Source: the code of arXiv:2310.03156 (FedHyper-SL).

    Example:
        >>> client_rate(0.01, 3.0), client_rate(0.01, 50.0)
        (0.03, 0.1)
    """
    return min(max(rate * scale, low), high)


def local_scale(
    scale: float,
    own: float,
    server: float,
    *,
    clients: float = 1.0,
    weight: float = 0.1,
    rise: float = 1.1,
    low: float = 0.1,
    high: float = 10.0,
) -> float:
    """Return FedHyper's client scale; the client's rate is its first rate times the scale.

    b_k = clip(b_{k-1} min(rise, 1 + <g_k, g_{k-1}> + weight <g_k, D> / clients), low, high).

    Args:
        scale: b_{k-1}; 1 at the start of a round.
        own: <g_k, g_{k-1}>, successive updates of this client.
        server: <g_k, D>, its update and the server's last mean update.
        clients: How many took part in the round.
        weight: Of the server's word.
        rise: Largest factor of a step.
        low: Least scale.
        high: Largest scale.

    Source: the code of arXiv:2310.03156 (FedHyper-CL).

    Example:
        >>> local_scale(1.0, own=-0.2, server=1.0), local_scale(1.0, own=5.0, server=0.0)
        (0.9, 1.1)
    """
    factor = min(rise, 1 + own + weight * server / clients)
    return min(max(scale * factor, low), high)
