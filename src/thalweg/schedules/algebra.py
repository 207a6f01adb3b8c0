"""Algebra: schedules made of schedules.

`Then`, `Repeat` and `Sampled` move the clock and work on anything a schedule returns, mappings of
weights too. `Times` and `Least` work on numbers. Where two pieces meet nothing is smoothed: `Then`
jumps if its pieces do not meet, and is continuous if the first ends where the second begins.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import FunctionType

import numpy as np

from thalweg.core.protocols import Schedule
from thalweg.core.time import Count, Span, Time
from thalweg.errors import DialError
from thalweg.schedules.clock import (
    Piece,
    Value,
    as_count,
    by_piece,
    check_schedule,
    check_span,
    check_spans,
    is_moment,
    moved,
    number_at,
    since,
)

__all__ = ["By", "Least", "Repeat", "Sampled", "Then", "Times"]


@dataclass(frozen=True)
class Then(Schedule[Piece]):
    """Follow one schedule, then another on its own clock.

    The first sees a phase that ends at `after`; the second one that starts there and ends with
    the phase. Step `after` belongs to the second.

    Example:
        >>> from thalweg.core.time import steps
        >>> from thalweg.schedules import Constant, Linear
        >>> s = Then(Constant(1.0), Linear(1.0, 0.0), after=steps(60))
        >>> [s(Time(step, steps=100)) for step in (59, 60, 80)]
        [1.0, 1.0, 0.5]
    """

    first: Schedule[Piece]
    """What holds up to `after`."""
    second: Schedule[Piece]
    """What holds from there."""
    after: Span
    """Length of the first."""

    def __post_init__(self) -> None:
        """Refuse what is not a schedule, and what is not a length."""
        check_schedule(self, "first", self.first, numbers=False)
        check_schedule(self, "second", self.second, numbers=False)
        check_span(self, "after", self.after)

    def __call__(self, time: Time) -> Piece:
        """Return the value at `time`."""
        length = self.after.of(time)
        return by_piece(
            time,
            time.step < length,
            lambda moments: self.first(moments.within(length)),
            lambda moments: self.second(since(moments, length)),
        )


@dataclass(frozen=True)
class Times(Schedule[Value]):
    """Multiply two schedules of numbers, both on the same clock.

    Example:
        >>> from thalweg.schedules import Linear
        >>> Times(Linear(1.0, 0.0), 0.1)(Time(step=50, steps=100))
        0.05
    """

    first: Schedule[Piece] | float
    """A schedule or a number."""
    second: Schedule[Piece] | float
    """A schedule or a number."""

    def __post_init__(self) -> None:
        """Refuse what is neither a schedule nor a finite number."""
        check_schedule(self, "first", self.first)
        check_schedule(self, "second", self.second)

    def __call__(self, time: Time) -> Value:
        """Return the product at `time`."""
        return number_at(self.first, time, "Times") * number_at(self.second, time, "Times")


@dataclass(frozen=True)
class Least(Schedule[Value]):
    """Take the smaller of two schedules of numbers, both on the same clock.

    Example:
        >>> from thalweg.schedules import Linear
        >>> Least(Linear(0.0, 1.0), 0.3)(Time(step=50, steps=100))
        0.3
    """

    first: Schedule[Piece] | float
    """A schedule or a number."""
    second: Schedule[Piece] | float
    """A schedule or a number."""

    def __post_init__(self) -> None:
        """Refuse what is neither a schedule nor a finite number."""
        check_schedule(self, "first", self.first)
        check_schedule(self, "second", self.second)

    def __call__(self, time: Time) -> Value:
        """Return the smaller value at `time`."""
        first = number_at(self.first, time, "Least")
        second = number_at(self.second, time, "Least")
        return min(first, second) if is_moment(time) else np.minimum(first, second)


@dataclass(frozen=True)
class Repeat(Schedule[Piece]):
    """Start a schedule anew every so often; each cycle is a phase of its own. It never ends.

    Example:
        >>> from thalweg.core.time import steps
        >>> from thalweg.schedules import Linear
        >>> s = Repeat(Linear(1.0, 0.0), every=steps(10))
        >>> [s(Time(step)) for step in (0, 5, 10)]
        [1.0, 0.5, 1.0]
    """

    schedule: Schedule[Piece]
    """One cycle."""
    every: Span
    """Length of a cycle, at least one step."""

    def __post_init__(self) -> None:
        """Refuse what is not a schedule, and what is not a length."""
        check_schedule(self, "schedule", self.schedule, numbers=False)
        check_span(self, "every", self.every, empty=False)

    def __call__(self, time: Time) -> Piece:
        """Return the value at `time`.

        Raises:
            DialError: A cycle has no steps on this clock.
        """
        length = self.every.of(time)
        if length == 0:
            raise _too_often("Repeat.every", self.every)
        begun = np.floor_divide(time.step, length) * length
        cycle = replace(
            time,
            step=as_count(time.step - begun),
            steps=length,
            tokens=as_count(time.tokens - begun * time.batch_tokens),
        )
        return self.schedule(cycle)


@dataclass(frozen=True)
class Sampled(Schedule[Piece]):
    """Read a schedule only now and then, and hold what was read until the next time.

    At step s: schedule(m), m the last sampling moment at or before s. A profile and how often it
    is sampled are two choices: a straight line sampled at half and three quarters of the phase is
    the usual step schedule, sampled at every step it is the linear one.

    Source: arXiv:2107.04197, which compares profiles by sampling rates.

    Example:
        >>> from thalweg.core.time import share
        >>> from thalweg.schedules import Linear
        >>> stairs = Sampled(Linear(1.0, 0.0), at=(share(0.5), share(0.75)))
        >>> [stairs(Time(step, steps=100)) for step in (49, 50, 74, 99)]
        [1.0, 0.5, 0.5, 0.25]
    """

    schedule: Schedule[Piece]
    """What is read, on the clock of the phase."""
    every: Span | None = None
    """Distance between readings, the first at step 0; at least one step. Or else `at`."""
    at: tuple[Span, ...] = ()
    """Moments of reading after the one at step 0, in order. Or else `every`."""

    def __post_init__(self) -> None:
        """Refuse what is not a schedule, and a rhythm that is given twice or not at all.

        Raises:
            DialError: It is no schedule, or not exactly one of `every` and `at` is given.
        """
        check_schedule(self, "schedule", self.schedule, numbers=False)
        if self.every is not None:
            check_span(self, "every", self.every, empty=False)
        check_spans(self, "at", self.at)
        if (self.every is None) == (not self.at):
            raise DialError(
                f"every = {self.every} and {len(self.at)} moments in at",
                expected="one of the two",
                where="Sampled",
                write="every=steps(100), or at=(share(0.5), share(0.75))",
            )

    def __call__(self, time: Time) -> Piece:
        """Return the value of the last reading.

        Raises:
            DialError: The readings are less than a step apart, or out of order, on this clock.
        """
        return self.schedule(moved(time, self._last(time)))

    def _last(self, time: Time) -> Count:
        """Return the step of the last reading."""
        if self.every is not None:
            apart = self.every.of(time)
            if apart == 0:
                raise _too_often("Sampled.every", self.every)
            return as_count(np.floor_divide(time.step, apart) * apart)
        moments = [0, *(span.of(time) for span in self.at)]
        if moments != sorted(moments):
            raise DialError(
                f"readings at steps {moments[1:]}, from {', '.join(map(str, self.at))}",
                expected="moments in order",
                where="Sampled.at",
                write="the earlier moment first",
            )
        reading = np.searchsorted(np.asarray(moments), time.step, side="right") - 1
        return as_count(np.asarray(moments)[np.maximum(reading, 0)])


@dataclass(frozen=True)
class By(Schedule[Piece]):
    """Let a plain function of time decide. Use `def` at the top level of a file: it is recorded.

    The function sees one moment at a time, also when a whole run is planned, so it may branch
    with `if`. It returns a number, or a mapping of numbers with the same keys at all times.

    Example:
        >>> def early(time: Time) -> float:
        ...     return 1.0 if time.step < 10 else 0.5
        >>> By(early)(Time(step=10))
        0.5
    """

    fn: Callable[[Time], float | Mapping[str, float]]
    """Pure: the same time gives the same value."""

    def __post_init__(self) -> None:
        """Refuse what cannot be called.

        Raises:
            DialError: It is not a function.
        """
        if not callable(self.fn):
            raise DialError(
                f"fn = {self.fn!r}",
                expected="a function of Time",
                where="By.fn",
                write="By(rate) with def rate(time): return 0.1 * time.step",
            )

    def __call__(self, time: Time) -> Piece:
        """Return the value at `time`.

        Raises:
            DialError: The function gave something else than finite numbers, or not the same kind
                of thing at all times of a plan.
        """
        if is_moment(time):
            return self._one(time)
        shape = np.shape(time.step)
        clocks = np.broadcast_arrays(time.step, time.tokens, time.run_step)
        rows = zip(*(clock.ravel().tolist() for clock in clocks), strict=True)
        found = [self._one(replace(time, step=s, tokens=n, run_step=r)) for s, n, r in rows]
        self._check_alike(found)
        keyed = [value for value in found if isinstance(value, Mapping)]
        if not keyed:
            return np.array(found, np.float64).reshape(shape)
        columns = {key: [value[key] for value in keyed] for key in keyed[0]}
        return {key: np.array(column).reshape(shape) for key, column in columns.items()}

    def _one(self, time: Time) -> float | dict[str, float]:
        value = self.fn(time)
        if isinstance(value, Mapping):
            return {key: self._number(item, time) for key, item in value.items()}
        return self._number(value, time)

    def _check_alike(self, found: Sequence[object]) -> None:
        """Refuse values of different kinds in one plan.

        Raises:
            DialError: A number here and a mapping there, or mappings with other keys.
        """
        kinds = [set(value) if isinstance(value, Mapping) else None for value in found]
        other = next((number for number, kind in enumerate(kinds) if kind != kinds[0]), 0)
        if other:
            raise DialError(
                f"{_called(self.fn)} gave {found[0]!r} and later {found[other]!r}",
                expected="a number at all times, or a mapping with the same keys at all times",
                where="By.fn",
                write="the same keys at every step, 0.0 where one has nothing",
            )

    def _number(self, value: float, time: Time) -> float:
        if isinstance(value, int | float | np.number) and np.isfinite(value):
            return float(value)
        raise DialError(
            f"{_called(self.fn)} gave {value!r}",
            expected="a finite number, or a mapping of them",
            where=f"By.fn at step {time.step}",
            write="a function that is finite at every step of the phase",
        )


def _called(fn: Callable[..., object]) -> str:
    """Return the name of a function; what is called without one, as it prints itself."""
    return fn.__name__ if isinstance(fn, FunctionType) else repr(fn)


def _too_often(where: str, every: Span) -> DialError:
    return DialError(
        f"every = {every}, which is 0 steps on this clock",
        expected="at least one step",
        where=where,
        write="steps(1000) or share(0.1)",
    )
