"""A predicted loss curve as a record: what a plan promises, and how a run does against it.

Steps count steps done, as `history.jsonl` does: the loss at step s has seen s updates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import DataError

__all__ = ["Deviation", "Point", "Prediction"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Point(NamedTuple):
    """A predicted loss with its interval, nats per token."""

    loss: float
    low: float
    high: float


class Deviation(NamedTuple):
    """A measured loss against its prediction, in nats per token."""

    gap: float
    """Measured minus predicted."""
    beyond: float
    """How far outside the interval: above 0 above it, below 0 below it, 0 inside."""

    @property
    def place(self) -> str:
        """Return above, below or inside the interval, and by how much.

        Example:
            >>> Deviation(0.05, 0.03).place, Deviation(-0.01, 0.0).place
            ('0.030 above the interval', 'inside the interval')
        """
        if self.beyond == 0:
            return "inside the interval"
        return f"{abs(self.beyond):.3f} {'above' if self.beyond > 0 else 'below'} the interval"


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """The loss curve a law expects of a run. Arrays have one length [J] and rising steps.

    Example:
        >>> line = np.array([3.0, 2.0])
        >>> p = Prediction(step=np.array([10, 20]), tokens=line, loss=line, low=line - 0.1,
        ...                high=line + 0.1, runs=("a", "b"))
        >>> p.at(15).loss, p.judge(15, 2.7).place, p.judge(5, 9.0)
        (2.5, '0.100 above the interval', None)
    """

    step: Ints
    """Steps done."""
    tokens: Floats
    """Targets so far."""
    loss: Floats
    """Expected, nats per token."""
    low: Floats
    high: Floats
    level: float = 0.9
    """Share of measurements expected inside."""
    metric: str = "loss"
    """Column of the history it is about: loss or heldout/loss."""
    runs: tuple[str, ...] = ()
    """The runs it was made from."""
    law: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def final(self) -> Point:
        """Return the prediction at the end of the run."""
        return Point(float(self.loss[-1]), float(self.low[-1]), float(self.high[-1]))

    def at(self, step: float) -> Point | None:
        """Return the prediction at a step; None where the law says nothing."""
        if not self.step[0] <= step <= self.step[-1]:
            return None
        here = [float(np.interp(step, self.step, y)) for y in (self.loss, self.low, self.high)]
        return Point(*here)

    def judge(self, step: float, loss: float) -> Deviation | None:
        """Return how a measured loss deviates; None where the law says nothing."""
        point = self.at(step)
        if point is None:
            return None
        beyond = max(loss - point.high, 0.0) + min(loss - point.low, 0.0)
        return Deviation(loss - point.loss, beyond)

    def to_json(self) -> dict[str, Any]:
        """Return what plan.json holds."""
        numbers = {name: _rounded(getattr(self, name)) for name in ("loss", "low", "high")}
        return {
            "metric": self.metric,
            "level": self.level,
            "law": self.law,
            "runs": list(self.runs),
            "warnings": list(self.warnings),
            "step": self.step.tolist(),
            "tokens": self.tokens.tolist(),
            **numbers,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any], *, where: str = "plan.json") -> "Prediction":
        """Return the prediction that `to_json` wrote.

        Raises:
            DataError: Parts are missing or do not fit together.
        """
        try:
            columns = {
                name: np.asarray(data[name], dtype=np.float64)
                for name in ("tokens", "loss", "low", "high")
            }
            step = np.asarray(data["step"], dtype=np.int64)
            if step.size == 0 or any(c.shape != step.shape for c in columns.values()):
                raise ValueError("columns of different lengths")
            return Prediction(
                step=step,
                level=float(data["level"]),
                metric=str(data["metric"]),
                runs=tuple(map(str, data["runs"])),
                law=str(data["law"]),
                warnings=tuple(map(str, data["warnings"])),
                **columns,
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise DataError(
                f"no prediction: {type(problem).__name__} {problem}",
                expected="step, tokens, loss, low, high of one length, and where they come from",
                where=where,
                write="thalweg train RECIPE --from RUN..., which writes it",
            ) from problem


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 5) for value in values]
