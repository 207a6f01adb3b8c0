"""Hold the entropy of a policy up with a coefficient that moves in small steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.core.protocols import Action, Context, Set, State

__all__ = ["AdaptiveEntropy"]


@dataclass(frozen=True)
class AdaptiveEntropy:
    """Raise the entropy bonus while entropy is at most the target, else lower it.

    The bonus itself is on only while entropy is at most the target. State: the coefficient, kept
    while the bonus is off, and what was set last.

    Source: arXiv:2505.22312, sec. 3.3 (Skywork-OR1).

    Example:
        >>> from thalweg.core.time import Time
        >>> control = AdaptiveEntropy(target=1.0, delta=0.25)
        >>> ctx = Context(Time(0, 9), last={"report": {"entropy": 0.5}})
        >>> control.act(control.start(ctx), ctx)[0][0].values
        {'objective.weights.entropy': 0.25}
    """

    target: float
    """Nats a target."""
    path: str = "objective.weights.entropy"
    """Where the coefficient stands: a path of the phase, or a unique ending of one."""
    metric: str = "entropy"
    """The entry of the step's report that is held up."""
    start_at: float = 0.0
    """The first coefficient."""
    delta: float = 0.005
    """Change of the coefficient after a step."""
    least: float = 0.0
    """Smallest coefficient."""
    most: float = 1.0
    """Largest coefficient."""

    def start(self, ctx: Context) -> State:
        """Return the first coefficient; nothing has been set."""
        return {"coefficient": self.start_at, "set": None}

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Return a Set where the coefficient in use has changed."""
        report: Mapping[str, Any] = ctx.last["report"]
        if ctx.trial or self.metric not in report:
            return (), state
        low = report[self.metric] <= self.target
        moved = state["coefficient"] + (self.delta if low else -self.delta)
        coefficient = min(max(moved, self.least), self.most)
        used = coefficient if low else 0.0
        if used == state["set"]:
            return (), {**state, "coefficient": coefficient}
        return (Set({self.path: used}),), {"coefficient": coefficient, "set": used}
