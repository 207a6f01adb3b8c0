"""End a phase when a number of the run is good enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.core.protocols import Action, Context, Next, State

__all__ = ["Reached"]


@dataclass(frozen=True)
class Reached:
    """End the phase at the first step whose report has `metric` at `least` or more.

    A warm start that ends by what the model can do, not by a count of steps that fits one seed.

    Example:
        >>> from thalweg.core.time import Time
        >>> ctx = Context(Time(5, 9), last={"report": {"heldout/pass@1": 0.4}})
        >>> Reached("heldout/pass@1", 0.35).act(None, ctx)[0]
        (Next(),)
    """

    metric: str
    """Name in the step's report; steps without it are passed over."""
    least: float

    def start(self, ctx: Context) -> State:
        """Return nothing: it remembers nothing."""
        return None

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Return Next where the number is reached."""
        report: Mapping[str, Any] = ctx.last["report"]
        reached = not ctx.trial and report.get(self.metric, float("-inf")) >= self.least
        return ((Next(),) if reached else ()), state
