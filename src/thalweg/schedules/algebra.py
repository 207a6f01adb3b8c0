"""Algebra: schedules made of schedules.

`Then` and `Repeat` move the clock and work on anything a schedule returns, mappings of weights
too. `Times` and `Least` work on numbers. Where two pieces meet nothing is smoothed: `Then` jumps
if its pieces do not meet, and is continuous if the first ends where the second begins.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from thalweg.core.protocols import Schedule
from thalweg.core.time import Count, Span, Time
from thalweg.errors import DialError
from thalweg.schedules.clock import (
    Piece,
    Value,
    by_piece,
    check_schedule,
    is_moment,
    number_at,
    since,
)

__all__ = ["By", "Least", "Repeat", "Then", "Times"]


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
        """Refuse what is not a schedule."""
        check_schedule(self, "first", self.first, numbers=False)
        check_schedule(self, "second", self.second, numbers=False)

    def __call__(self, time: Time) -> Piece:
        """Return the value at `time`."""
        length = self.after.of(time)
        return by_piece(
            time,
            np.less(time.step, length),
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
        """Refuse what is not a schedule."""
        check_schedule(self, "schedule", self.schedule, numbers=False)

    def __call__(self, time: Time) -> Piece:
        """Return the value at `time`.

        Raises:
            DialError: A cycle has no steps on this clock.
        """
        length = self.every.of(time)
        if length == 0:
            raise DialError(
                f"every = {self.every}, which is 0 steps on this clock",
                expected="a cycle of at least one step",
                where="Repeat.every",
                write="steps(1000) or share(0.1)",
            )
        begun = np.floor_divide(time.step, length) * length
        cycle = replace(
            time,
            step=_count(time.step - begun),
            steps=length,
            tokens=_count(time.tokens - begun * time.batch_tokens),
        )
        return self.schedule(cycle)


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
            DialError: The function gave something else than finite numbers.
        """
        if is_moment(time):
            return self._one(time)
        shape = np.shape(time.step)
        clocks = np.broadcast_arrays(time.step, time.tokens, time.run_step)
        rows = zip(*(clock.ravel().tolist() for clock in clocks), strict=True)
        found = [self._one(replace(time, step=s, tokens=n, run_step=r)) for s, n, r in rows]
        if found and isinstance(found[0], Mapping):
            keyed = [value for value in found if isinstance(value, Mapping)]
            return {
                key: np.array([value[key] for value in keyed]).reshape(shape) for key in found[0]
            }
        return np.array(found, np.float64).reshape(shape)

    def _one(self, time: Time) -> float | dict[str, float]:
        value = self.fn(time)
        if isinstance(value, Mapping):
            return {key: self._number(item, time) for key, item in value.items()}
        return self._number(value, time)

    def _number(self, value: float, time: Time) -> float:
        if isinstance(value, int | float | np.number) and np.isfinite(value):
            return float(value)
        raise DialError(
            f"{self.fn.__name__} gave {value!r}",
            expected="a finite number, or a mapping of them",
            where=f"By.fn at step {time.step}",
            write="a function that is finite at every step of the phase",
        )


def _count(value: int | np.generic | np.ndarray) -> Count:
    """Return a Python int for a moment, an array for a plan."""
    return int(value) if np.ndim(value) == 0 else np.asarray(value)
