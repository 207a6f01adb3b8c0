"""Schedules that go through a constant that needs no end: Wsdc and Infinite.

A phase can be endless under both, and its data may change in the constant piece without a restart
of the schedule. The warmup convention is that of the families: (s + 1) / w at step s of w.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from thalweg.core.protocols import Schedule
from thalweg.core.time import Span, Time
from thalweg.errors import DialError
from thalweg.schedules.clock import (
    Piece,
    Value,
    by_piece,
    by_pieces,
    check_number,
    check_shape,
    check_span,
    lengths,
    like,
    moved,
    number_at,
    refuse_too_long,
    rise,
    since,
)
from thalweg.schedules.shapes import Cosine, Exponential

__all__ = ["Infinite", "Wsdc"]

_NOTHING = Span(0, "steps")


@dataclass(frozen=True)
class Wsdc(Schedule[Value]):
    """Warm up, stay at the peak, decay, then go on at the low rate (WSDC).

    Step s of a warmup of w: peak (s + 1) / w. Then peak for `stable`. Then, over `decay`,
    floor + (peak - floor) shape. From there on: floor, for as long as the phase lasts.

    Source: arXiv:2503.12167. It does not print lengths or the floor that we could find: they are
    for you to give.

    Example:
        >>> from thalweg.core.time import steps
        >>> s = Wsdc(1.0, 0.1, stable=steps(60), decay=steps(20))
        >>> [round(s(Time(step)), 3) for step in (0, 59, 70, 80, 10_000)]
        [1.0, 1.0, 0.55, 0.1, 0.1]
    """

    peak: float
    """The rate between warmup and decay; at least `floor`."""
    floor: float
    """The rate of the constant tail; a rate like `peak`, not a share of it."""
    stable: Span
    """Length of the piece at the peak."""
    decay: Span
    """Length of the decay."""
    warmup: Span = _NOTHING
    """Length of the rise; 0 steps: none."""
    shape: Schedule[Piece] = Cosine(1.0)  # frozen
    """From 1 to 0 on its own clock, whose phase is the decay."""

    def __post_init__(self) -> None:
        """Refuse a floor above the peak, and a shape that does not start at 1.

        Raises:
            DialError: They do not fit.
        """
        check_number(self, "peak", self.peak, low=0.0)
        check_number(self, "floor", self.floor, low=0.0, high=float(self.peak))
        for field in ("stable", "decay", "warmup"):
            check_span(self, field, getattr(self, field))
        check_shape(self, "shape", self.shape)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`.

        Raises:
            DialError: Warmup, stable and decay are longer than the phase.
        """
        spans = (self.warmup, self.stable, self.decay)
        warm, stable, fall = lengths(self, "warmup, stable and decay", spans, time)
        start = warm + stable
        return by_pieces(  # type: ignore[return-value]  # all parts are numbers
            time,
            [start, start + fall],
            [
                lambda early: like(early, np.asarray(self.peak * rise(early, warm))),
                partial(self._decay, start, fall),
                lambda late: like(late, np.asarray(self.floor, np.float64)),
            ],
        )

    def _decay(self, start: int, length: int, time: Time) -> Value:
        scale = number_at(self.shape, since(time, start).within(length), "Wsdc.shape")
        return self.floor + (self.peak - self.floor) * scale


@dataclass(frozen=True)
class Infinite(Schedule[Value]):
    """Warm up, cool down to a constant that may last for ever, anneal when a model is wanted.

    Step s of a warmup of w: peak (s + 1) / w. Over `cooldown`:
    constant + (peak - constant) shape. Then constant. From the moment `at` on, over `anneal`:
    v (floor / v)^u, with v the rate at that moment; then floor. Without `at` it never anneals: set
    the path `...lr.at` when you decide, or branch, and train on from the weights before.

    Source: arXiv:2503.02844, eq. (1); arXiv:2403.08763 ("Cosine Inf"; with
    ``shape=InverseSqrtDecay(1.0, 0.0, alpha)`` "InvSqrt Inf").

    Example:
        >>> from dataclasses import replace
        >>> from thalweg.core.time import steps
        >>> trunk = Infinite(3e-4, 1.65e-4, 3e-5, cooldown=steps(100), anneal=steps(20))
        >>> trunk(Time(5000)), replace(trunk, at=steps(5000))(Time(5020))
        (0.000165, 3e-05)
    """

    peak: float
    """The rate after the warmup; at least `constant`."""
    constant: float
    """The rate that lasts; at least `floor`."""
    floor: float
    """The rate that annealing ends at, above 0."""
    cooldown: Span
    """Length of the way from the peak to the constant."""
    anneal: Span
    """Length of the annealing, once it is triggered."""
    warmup: Span = _NOTHING
    """Length of the rise; 0 steps: none."""
    at: Span | None = None
    """Moment at which annealing starts, from the start of the phase; None: not yet."""
    shape: Schedule[Piece] = Cosine(1.0)  # frozen
    """From 1 to 0 on the clock of the cooldown."""

    def __post_init__(self) -> None:
        """Refuse rates in the wrong order, and a shape that does not start at 1.

        Raises:
            DialError: They do not fit.
        """
        check_number(self, "peak", self.peak, above=0.0)
        check_number(self, "constant", self.constant, above=0.0, high=float(self.peak))
        check_number(self, "floor", self.floor, above=0.0, high=float(self.constant))
        for field in ("cooldown", "anneal", "warmup"):
            check_span(self, field, getattr(self, field))
        check_shape(self, "shape", self.shape)
        if self.at is not None:
            check_span(self, "at", self.at)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`.

        Raises:
            DialError: Warmup and cooldown, or the annealing, do not fit into the phase.
        """
        if self.at is None:
            return self._trunk(time)
        start, length = self.at.of(time), self.anneal.of(time)
        refuse_too_long(self, "annealing up to the end", start + length, time)
        value = by_piece(
            time,
            time.step < start,
            self._trunk,
            partial(self._annealed, start, length),
        )
        return value  # type: ignore[return-value]  # both pieces are numbers

    def _trunk(self, time: Time) -> Value:
        spans = (self.warmup, self.cooldown)
        warm, fall = lengths(self, "warmup and cooldown", spans, time)
        return by_pieces(  # type: ignore[return-value]  # all parts are numbers
            time,
            [warm, warm + fall],
            [
                lambda early: like(early, np.asarray(self.peak * rise(early, warm))),
                partial(self._cooled, warm, fall),
                lambda late: like(late, np.asarray(self.constant, np.float64)),
            ],
        )

    def _cooled(self, start: int, length: int, time: Time) -> Value:
        scale = number_at(self.shape, since(time, start).within(length), "Infinite.shape")
        return self.constant + (self.peak - self.constant) * scale

    def _annealed(self, start: int, length: int, time: Time) -> Value:
        """Return the exponential way from the trunk's rate at `start` to the floor."""
        if np.size(time.step) == 0:
            return like(time, np.asarray(self.floor, np.float64))
        one = np.ravel(np.asarray(self._trunk(moved(time, start))))[0]
        if one < self.floor:
            raise DialError(
                f"annealing from {one:g} to floor = {self.floor:g}",
                expected="a start of annealing after the rate has risen above the floor",
                where="Infinite.at",
                write="at=steps(...) behind the warmup",
            )
        way = Exponential(float(one), self.floor, over=Span(length, "steps"))
        return way(since(time, start))
