"""Which of several fine-tuning runs will end well, from how they begin.

Over the first samples of runs on the same data in the same order: a low gradient norm and a high
loss go with better models at the end. A higher loss means slower memorising, not a worse model.

Limit: larger batches have smaller gradient norms by averaging alone, so the signal is confounded
with the batch size; compare runs of one batch size too before you believe it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal, NamedTuple

import numpy as np

from thalweg.core.protocols import Action, Context, Next, State, Stop
from thalweg.core.time import Span, share
from thalweg.errors import RecipeError
from thalweg.schedules.clock import check_number, check_span

__all__ = ["Early", "EarlyStop", "early_dynamics", "early_scores", "survivors"]


class Early(NamedTuple):
    """How a run began: means over its first steps."""

    grad_norm: float
    """L2 norm of the gradient of the mean loss, before clipping."""
    loss: float
    """Nats per token."""


@dataclass(frozen=True)
class EarlyStop:
    """End a run that began worse than enough others, as the fine-tuning guide judges beginnings.

    After `budget`, this run and the ones in `against` are ranked by `early_scores`; unless it is
    among the best `keep` of them, it ends.

    Source: arXiv:2412.13337; the score and the halving are our reading of it.
    """

    against: tuple[tuple[float, float], ...]
    """(gradient norm, loss) of runs that began before this one, from `early_dynamics`."""
    budget: Span = share(0.1)
    """How much is looked at. Equal samples in all runs: the same tokens, or the same share."""
    keep: float = 0.5
    """Share of the runs that goes on, rounded up."""
    then: Literal["stop", "next"] = "stop"
    """Whether the run ends, or only the phase."""

    def __post_init__(self) -> None:
        """Refuse a comparison with nothing.

        Raises:
            DialError: A number is out of range.
            RecipeError: Nobody to compare with.
        """
        check_number(self, "keep", self.keep, above=0.0, high=1.0)
        check_span(self, "budget", self.budget, empty=False)
        if not self.against or any(len(pair) != 2 for pair in self.against):
            raise RecipeError(
                f"against = {self.against!r}",
                expected="at least one pair of gradient norm and loss",
                where="EarlyStop.against",
                write="against=(early_dynamics(rows_of_another_run, tokens),)",
            )

    def start(self, ctx: Context) -> State:
        """Return {seen: steps, grad_norm and loss: their sums}."""
        return {"seen": 0, "grad_norm": 0.0, "loss": 0.0}

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Add a step; at the end of the budget, judge."""
        budget = max(1, self.budget.of(ctx.time))
        if state["seen"] >= budget:
            return (), state
        report = ctx.last["report"]
        sums = {name: state[name] + report[name] for name in ("grad_norm", "loss")}
        state = {"seen": state["seen"] + 1, **sums}
        return (self._judge(state) if state["seen"] == budget else ()), state

    def _judge(self, state: State) -> tuple[Action, ...]:
        own = Early(state["grad_norm"] / state["seen"], state["loss"] / state["seen"])
        scores = early_scores([own, *(Early(*pair) for pair in self.against)])
        if 0 in survivors(scores, keep=self.keep):
            return ()
        reason = f"early score {scores[0]:+.2f}, among {len(scores)} runs; lower is better"
        return (Stop(reason) if self.then == "stop" else Next(),)


def early_dynamics(rows: Iterable[Mapping[str, float]], tokens: float) -> Early:
    """Return how a run began, from its history.

    Args:
        rows: Reports with `tokens` (consumed so far), `grad_norm` and `loss`: the lines of
            history.jsonl.
        tokens: Budget; steps that end beyond it are left out.

    Raises:
        RecipeError: No step ended within the budget.

    Example:
        >>> rows = [{"tokens": 10 * k, "grad_norm": k, "loss": 4.0} for k in (1, 2, 3)]
        >>> early_dynamics(rows, tokens=20)
        Early(grad_norm=1.5, loss=4.0)
    """
    found = [(row["grad_norm"], row["loss"]) for row in rows if row["tokens"] <= tokens]
    if not found:
        raise RecipeError(
            f"no step within {tokens:g} tokens",
            expected="a budget of at least one step",
            where="early_dynamics",
            write="more tokens, or the history of a run that has begun",
        )
    norm, loss = np.mean(np.asarray(found, np.float64), 0).tolist()
    return Early(norm, loss)


def early_scores(runs: Sequence[Early]) -> list[float]:
    """Return z(gradient norm) - z(loss) of each run; the lower, the better it will end.

    z takes the mean over the runs out and divides by their standard deviation (0 where all agree).

    Args:
        runs: Beginnings over equal samples, same data order.

    Source: arXiv:2412.13337 names the signals and their signs; equal weights are our choice.

    Example:
        >>> early_scores([Early(1.0, 3.0), Early(3.0, 1.0)])
        [-2.0, 2.0]
    """
    table = np.asarray(runs, np.float64)
    spread = table.std(0)
    z = (table - table.mean(0)) / np.where(spread > 0, spread, 1.0)
    scores: list[float] = (z[:, 0] - z[:, 1]).tolist()
    return scores


def survivors(scores: Sequence[float], *, keep: float = 0.5) -> list[int]:
    """Return the positions of the best ceil(keep N) of N runs, best first; earlier ones in a tie.

    Example:
        >>> survivors([0.5, -1.0, 0.1, 2.0])
        [1, 2]
    """
    order = np.argsort(scores, kind="stable")
    kept: list[int] = order[: ceil(keep * len(scores))].tolist()
    return kept
