"""Decays that bring a curve of their own, beside the plain shapes.

Each goes from `start` at step 0 to `end` at the step after its length, like every shape, so it
can stand alone, after a warmup, or as the decay of a family (`Wsd(shape=Rex(1.0))`).
"""

from dataclasses import dataclass

import numpy as np

from thalweg.core.protocols import Schedule
from thalweg.core.time import Span, Time
from thalweg.schedules.clock import (
    WHOLE,
    Value,
    check_move,
    check_number,
    check_span,
    like,
    progress,
)

__all__ = ["Inverse", "InverseSqrtDecay", "Rex"]


@dataclass(frozen=True)
class Rex(Schedule[Value]):
    """Stay above a straight line and fall late (reflected exponential, REX).

    end + (start - end) (1 - u) / ((1 - d) + d (1 - u)), u = step / length; d = 1/2 gives
    2 (1 - u) / (2 - u), the paper's. How often the profile is sampled is `Sampled`'s business.

    Source: arXiv:2107.04197.

    Example:
        >>> round(Rex(1.0)(Time(step=50, steps=100)), 12)
        0.666666666667
    """

    start: float
    """Value at step 0."""
    end: float = 0.0
    """Value from the end of `over` on."""
    bend: float = 0.5
    """d, 0 <= d < 1. 0 is a straight line; 0.9, common in image fine-tuning, holds on longer."""
    over: Span = WHOLE
    """Length of the move."""

    def __post_init__(self) -> None:
        """Refuse what is not a finite number, and a bend that never comes down."""
        check_move(self, self.start, self.end, self.over)
        check_number(self, "bend", self.bend, low=0.0, high=float(np.nextafter(1.0, 0.0)))

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`."""
        left = 1.0 - progress(time, self.over)
        weight = left / ((1.0 - self.bend) + self.bend * left)
        return like(time, self.end + (self.start - self.end) * weight)


@dataclass(frozen=True)
class Inverse(Schedule[Value]):
    """Move in a straight line of the reciprocal, steep first: 1 / ((1 - u) / start + u / end).

    The decay of `WsdS`. Source: arXiv:2410.05192.

    Example:
        >>> round(Inverse(1.0, 0.1)(Time(step=50, steps=100)), 12)
        0.181818181818
    """

    start: float
    """Value at step 0, above 0."""
    end: float
    """Value from the end of `over` on, above 0."""
    over: Span = WHOLE
    """Length of the move."""

    def __post_init__(self) -> None:
        """Refuse ends that are not positive: they have no reciprocal on the way."""
        check_number(self, "start", self.start, above=0.0)
        check_number(self, "end", self.end, above=0.0)
        check_span(self, "over", self.over)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`."""
        u = progress(time, self.over)
        moving = 1.0 / ((1.0 - u) / self.start + u / self.end)
        return like(time, np.where(u <= 0.0, self.start, np.where(u >= 1.0, self.end, moving)))


@dataclass(frozen=True)
class InverseSqrtDecay(Schedule[Value]):
    """Fall like 1 / sqrt(step), but reach `end` at the end: the cooldown "InvSqrt Inf".

    start + (end - start) h(u) / h(1), h(u) = 1 / sqrt(1 + alpha u) - 1. Give it to `Infinite` as
    `shape` for that paper's second infinite schedule.

    Source: arXiv:2403.08763. No value of alpha is taken from it.

    Example:
        >>> round(InverseSqrtDecay(1.0, 0.0, alpha=8.0)(Time(step=3, steps=8)), 12)
        0.25
    """

    start: float
    """Value at step 0."""
    end: float
    """Value from the end of `over` on."""
    alpha: float
    """Steepness, above 0: near 0 a straight line, large falls at once."""
    over: Span = WHOLE
    """Length of the move."""

    def __post_init__(self) -> None:
        """Refuse what is not a finite number, and a steepness that is not positive."""
        check_move(self, self.start, self.end, self.over)
        check_number(self, "alpha", self.alpha, above=0.0)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`."""
        u = progress(time, self.over)
        # h(u) / h(1) with numerators made rational: h itself cancels for a small alpha.
        done = u * _slope(self.alpha * u) / _slope(self.alpha)
        return like(time, np.where(u >= 1.0, self.end, self.start + (self.end - self.start) * done))


def _slope(x: Value) -> Value:
    """Return -(1 / sqrt(1 + x) - 1) / x without cancellation."""
    root: Value = np.sqrt(1.0 + x)
    return 1.0 / (root * (1.0 + root))
