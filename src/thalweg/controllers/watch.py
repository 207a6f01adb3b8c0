"""A run against its prediction: a warning when the loss leaves the interval, and when it is back.

It never acts. One measurement in ten falls outside a 90 % interval, so a single one says nothing:
`patience` of them in a row do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from thalweg.core.protocols import Action, Context, State
from thalweg.errors import RecipeError
from thalweg.laws.prediction import Deviation, Prediction

__all__ = ["Watch"]

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Watch:
    """Write into events.jsonl that the loss left its predicted interval, by how much, since when.

    Raises:
        RecipeError: Columns of different lengths, steps that do not rise, or a smoothing beyond 1.

    Example:
        >>> Watch((10, 20), (3.0, 2.0), (2.9, 1.9), (3.1, 2.1)).patience
        2
    """

    steps: tuple[int, ...]
    """[J] rising: steps done in the run."""
    loss: Numbers
    """[J] predicted, nats per token; straight lines between."""
    low: Numbers
    """[J] lower end of the interval."""
    high: Numbers
    """[J] upper end."""
    metric: str = "loss"
    """What is watched, by its name in the history; steps without it are passed over."""
    smoothing: float = 0.0
    """Weight of the past in the watched mean: 0.95 for the loss of single batches."""
    patience: int = 2
    """Measurements in a row beyond the interval before it is said."""
    until: int | None = None
    """Step of the run after which it says nothing: where a branch left the plan; None: never."""

    def __post_init__(self) -> None:
        """Refuse columns that do not pair up."""
        lengths = {len(column) for column in (self.steps, self.loss, self.low, self.high)}
        rising = all(a < b for a, b in zip(self.steps, self.steps[1:], strict=False))
        if len(lengths) != 1 or not self.steps or not rising:
            raise RecipeError(
                f"columns of {sorted(lengths)} numbers, steps {self.steps[:3]}...",
                expected="steps that rise, and a loss, low and high for each",
                where="Watch",
                write="Watch.of(prediction)",
            )
        if not 0 <= self.smoothing < 1 or self.patience < 1:
            raise RecipeError(
                f"smoothing = {self.smoothing}, patience = {self.patience}",
                expected="a smoothing from 0 to below 1, a patience of 1 or more",
                where="Watch",
                write="Watch(..., smoothing=0.95, patience=20)",
            )

    @staticmethod
    def of(prediction: Prediction) -> "Watch":
        """Return the watch over a prediction; single batches are smoothed."""
        single = prediction.metric == "loss"
        return Watch(
            tuple(prediction.step.tolist()),
            tuple(prediction.loss.tolist()),
            tuple(prediction.low.tolist()),
            tuple(prediction.high.tolist()),
            metric=prediction.metric,
            smoothing=0.95 if single else 0.0,
            patience=20 if single else 2,
        )

    def start(self, ctx: Context) -> State:
        """Return the state: the smoothed loss and its weight, and the excursion under way."""
        return {"mean": 0.0, "weight": 0.0, "side": 0, "since": None, "count": 0, "said": False}

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Return no action ever; note when the loss leaves the interval or is back inside."""
        report, step = ctx.last["report"], int(ctx.time.run_step) + 1
        left = self.until is not None and step > self.until
        if left or self.metric not in report:
            return (), state
        keep = self.smoothing
        mean = keep * state["mean"] + (1 - keep) * float(report[self.metric])
        weight = keep * state["weight"] + (1 - keep)
        state = {**state, "mean": mean, "weight": weight}
        found = self._prediction.judge(step, mean / weight)
        return (), state if found is None else self._followed(state, step, found, ctx)

    def _followed(self, state: State, step: int, found: Deviation, ctx: Context) -> State:
        """Return the state with the excursion continued, begun or ended."""
        side = (found.beyond > 0) - (found.beyond < 0)
        name = "held-out loss" if self.metric.startswith("heldout") else self.metric
        if side == 0:
            if state["said"]:
                ctx.note("watch", f"{name} is back inside the predicted interval")
            return {**state, "side": 0, "since": None, "count": 0, "said": False}
        if side != state["side"]:
            state = {**state, "side": side, "since": step, "count": 0, "said": False}
        state = {**state, "count": state["count"] + 1}
        if state["count"] < self.patience or state["said"]:
            return state
        loss = state["mean"] / state["weight"]
        ctx.note(
            "watch",
            f"{name} {loss:.4f} is {found.place}, since step {state['since']}; "
            f"{found.gap:+.4f} from the prediction",
        )
        return {**state, "said": True}

    @cached_property
    def _prediction(self) -> Prediction:
        loss, low, high = (np.array(column) for column in (self.loss, self.low, self.high))
        at = np.array(self.steps)
        return Prediction(step=at, tokens=np.zeros(len(at)), loss=loss, low=low, high=high)
