"""Demonstrations or rewards, step by step: by how much demonstrations still have to teach.

The decision is about the next step, so a step is all of one kind: a mixture whose weights are 1 and
0. What a row lacks of the other kind's columns is filled in, and counts nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.core.protocols import Action, Context, Dial, Set, State
from thalweg.errors import DialError

__all__ = ["GradientSwitch"]


@dataclass(frozen=True, kw_only=True)
class GradientSwitch:
    """Take rows of `taught` while their gradient is large, of `tried` as it falls.

    After a warm-up on `taught`, each step is one on `taught` with chance g / (g + gamma G): g the
    gradient norm of the last such step, G its mean over the end of the warm-up. Norms are those
    before clipping; of rows of one number, as they depend on it. State: g, G's sum, what the next
    step is, and for how long `taught` was not taken.

    Source: arXiv:2505.13026 (SASR). Deviations: G is a mean over several steps, and `taught` comes
    at latest every `refresh` steps, as g goes stale while it is not taken.
    """

    taught: str
    """Name of the source of demonstrations in the mixture."""
    tried: str
    """Name of the source of answers."""
    warmup: int = 100
    """Steps on demonstrations before the first choice."""
    tail: int = 10
    """Last steps of the warm-up whose mean gradient norm is G."""
    gamma: Dial = 1.0
    """More: fewer demonstrations."""
    refresh: int = 50
    """Most steps without demonstrations."""
    metric: str = "grad_norm"
    """The norm in the step's report."""
    path: str = "source.weights"
    """Where the mixture's weights stand."""

    def start(self, ctx: Context) -> State:
        """Return the state before the first step.

        Raises:
            DialError: Counts that do not fit.
        """
        if not 1 <= self.tail <= self.warmup or self.refresh < 1:
            raise DialError(
                f"warmup={self.warmup}, tail={self.tail}, refresh={self.refresh}",
                expected="1 <= tail <= warmup, and refresh 1 or more",
                where="GradientSwitch",
                write="GradientSwitch(..., warmup=100, tail=10, refresh=50)",
            )
        return {"norm": 0.0, "total": 0.0, "taught": True, "since": 0}

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Return what the next step is, where it is another kind than the last."""
        report: Mapping[str, Any] = ctx.last["report"]
        if ctx.trial or self.metric not in report:
            return (), state
        done, norm = int(ctx.time.step) + 1, float(report[self.metric])
        since = 0 if state["taught"] else state["since"] + 1
        found = {**state, "since": since, "norm": norm if state["taught"] else state["norm"]}
        if self.warmup - self.tail < done <= self.warmup:
            found["total"] += norm
        teaches = done < self.warmup or since + 1 >= self.refresh or self._drawn(found, ctx)
        if teaches == state["taught"] and done > 1:
            return (), {**found, "taught": teaches}
        weights = {self.taught: float(teaches), self.tried: float(not teaches)}
        return (Set({self.path: weights}),), {**found, "taught": teaches}

    def chance(self, state: State) -> float:
        """Return the chance of a step on demonstrations, 0 to 1.

        Args:
            state: Its state.
        """
        least = float(self.gamma) * state["total"] / self.tail
        return state["norm"] / (state["norm"] + least) if state["norm"] + least > 0 else 0.0

    def _drawn(self, state: State, ctx: Context) -> bool:
        draw = ctx.rng("gradient switch", int(ctx.time.run_step))
        return bool(draw.random() < self.chance(state))
