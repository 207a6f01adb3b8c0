"""Families: the schedules of whole training runs.

Warmup convention: at step s (counted from 0) of a warmup of w steps the factor is (s + 1) / w.
No step has a rate of 0, and step w - 1 has the full rate. Of the three conventions in use this is
llm.c's and torchtitan's; nanoGPT has (s + 1) / (w + 1); transformers has s / w, whose first step
moves nothing. They differ by at most one step.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from thalweg.core.protocols import Schedule
from thalweg.core.time import Span, Time
from thalweg.schedules.clock import (
    Piece,
    Value,
    by_piece,
    check_number,
    check_schedule,
    check_shape,
    check_span,
    lengths,
    like,
    number_at,
    refuse_too_long,
    rise,
    since,
)
from thalweg.schedules.shapes import OneMinusSqrt

__all__ = ["Warmup", "Wsd"]

_NOTHING = Span(0, "steps")
_ONE_TO_ZERO = OneMinusSqrt(1.0, 0.0)


@dataclass(frozen=True)
class Warmup(Schedule[Value]):
    """Rise in a straight line to a schedule's first value, then follow it on its own clock.

    Step s of a warmup of w: (s + 1) / w times the schedule at its own step 0. Then, from step w
    on, the schedule in a phase that starts there and ends with this one.

    Example:
        >>> from thalweg.core.time import steps
        >>> from thalweg.schedules import Cosine
        >>> s = Warmup(Cosine(1.0), over=steps(4))
        >>> [s(Time(step, steps=104)) for step in (0, 3, 4, 54)]
        [0.25, 1.0, 1.0, 0.5]
    """

    schedule: Schedule[Piece] | float
    """What follows; a number is held."""
    over: Span
    """Length of the warmup; 0 steps: none."""

    def __post_init__(self) -> None:
        """Refuse what is neither a schedule nor a finite number, and what is not a length."""
        check_schedule(self, "schedule", self.schedule)
        check_span(self, "over", self.over)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`.

        Raises:
            DialError: The warmup is longer than the phase.
        """
        length = self.over.of(time)
        refuse_too_long(self, "warmup", length, time)
        value = by_piece(
            time,
            time.step < length,
            lambda moments: rise(moments, length) * self._first(moments, length),
            lambda moments: number_at(self.schedule, since(moments, length), "Warmup"),
        )
        return value  # type: ignore[return-value]  # both pieces are numbers

    def _first(self, time: Time, length: int) -> Value:
        """Return the schedule's first value, the same for every moment of the warmup."""
        start = replace(since(time, length), step=0, tokens=0, run_step=_start(time) + length)
        if start.steps == 0:  # the warmup is the whole phase; over no steps a shape has ended
            start = start.within(1)
        return number_at(self.schedule, start, "Warmup")


@dataclass(frozen=True)
class Wsd(Schedule[Value]):
    """Warm up, stay at the peak, decay at the end (warmup-stable-decay).

    Step s of a warmup of w: peak (s + 1) / w. In the last `decay` steps of the phase:
    floor + (peak - floor) shape(own clock). Between them: peak. A run without an end never decays:
    give it ``decay=steps(0)`` and branch a decay off where one is wanted.

    Source: arXiv:2404.06395; the decay's shape arXiv:2405.18392; why it works
    arXiv:2410.05192.

    Example:
        >>> from thalweg.core.time import share, steps
        >>> s = Wsd(1.0, warmup=steps(10), decay=share(0.2))
        >>> [s(Time(step, steps=100)) for step in (0, 9, 79, 80, 85)]
        [0.1, 1.0, 1.0, 1.0, 0.5]
    """

    peak: float
    """The rate between warmup and decay; at least `floor`."""
    warmup: Span = _NOTHING
    """Length of the rise; 0 steps: none."""
    decay: Span = _NOTHING
    """Length of the decay, which ends with the phase; 0 steps: none."""
    shape: Schedule[Piece] = _ONE_TO_ZERO
    """From 1 to 0 on its own clock, whose phase is the decay."""
    floor: float = 0.0
    """What the decay ends at where `shape` is 0; a rate like `peak`, not a share of it."""

    def __post_init__(self) -> None:
        """Refuse a floor above the peak, and a shape that does not start at 1.

        Raises:
            DialError: They do not fit.
        """
        check_number(self, "peak", self.peak, low=0.0)
        check_number(self, "floor", self.floor, low=0.0, high=float(self.peak))
        check_span(self, "warmup", self.warmup)
        check_span(self, "decay", self.decay)
        check_shape(self, "shape", self.shape)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`.

        Raises:
            DialError: Warmup and decay do not fit into the phase, or it has no end to decay at.
        """
        warm, fall = lengths(self, "warmup and decay", (self.warmup, self.decay), time)
        if fall == 0:
            return self._risen(warm, time)
        start = time.horizon - fall
        value = by_piece(
            time, time.step < start, partial(self._risen, warm), partial(self._decaying, start)
        )
        return value  # type: ignore[return-value]  # both pieces are numbers

    def _risen(self, length: int, time: Time) -> Value:
        return like(time, np.asarray(self.peak * rise(time, length)))

    def _decaying(self, start: int, time: Time) -> Value:
        scale = number_at(self.shape, since(time, start), "Wsd.shape")
        return like(time, np.asarray(self.floor + (self.peak - self.floor) * scale))


def _start(time: Time) -> int:
    """Return the run's step at which this clock showed 0."""
    starts = np.ravel(np.asarray(time.run_step) - np.asarray(time.step))
    return int(starts[0]) if starts.size else 0
