"""Shapes: one number moving from a start to an end over a length, then holding the end.

Every shape is a function of u = step / length, `over` being the length. Step 0 has exactly
`start`; `end` is reached at the step *after* the length, so a rate that falls to 0 over the whole
phase is still positive at the last step, where a rate of 0 would waste a batch. From there on the
end holds. Before the start (a negative step) the start holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from thalweg.core.protocols import Schedule
from thalweg.core.time import Span, Time
from thalweg.errors import DialError
from thalweg.schedules.clock import (
    WHOLE,
    Value,
    check_move,
    check_number,
    check_span,
    check_spans,
    like,
    progress,
)

__all__ = [
    "Blend",
    "Constant",
    "Cosine",
    "Exponential",
    "InverseSqrt",
    "Linear",
    "OneMinusSqrt",
    "Polynomial",
    "Staircase",
]


@dataclass(frozen=True)
class Constant(Schedule[Value]):
    """Hold one value.

    Example:
        >>> Constant(0.1)(Time(step=7))
        0.1
    """

    value: float
    """Any finite number."""

    def __post_init__(self) -> None:
        """Refuse what is not a finite number."""
        check_number(self, "value", self.value)

    def __call__(self, time: Time) -> Value:
        """Return the value."""
        return like(time, np.asarray(self.value, np.float64))


@dataclass(frozen=True)
class Linear(Schedule[Value]):
    """Move in a straight line: start (1 - u) + end u.

    Example:
        >>> Linear(1.0, 0.0)(Time(step=25, steps=100))
        0.75
    """

    start: float
    """Value at step 0."""
    end: float
    """Value from the end of `over` on."""
    over: Span = WHOLE
    """Length of the move."""

    def __post_init__(self) -> None:
        """Refuse what is not a finite number, and what is not a length."""
        check_move(self, self.start, self.end, self.over)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`."""
        return like(time, _between(self.end, self.start, progress(time, self.over)))


@dataclass(frozen=True)
class Cosine(Schedule[Value]):
    """Move along half a cosine: end + (start - end) (1 + cos(pi u)) / 2.

    Source: arXiv:1608.03983, eq. (5), without restarts (`Repeat` restarts).

    Example:
        >>> Cosine(1.0)(Time(step=50, steps=100))
        0.5
    """

    start: float
    """Value at step 0."""
    end: float = 0.0
    """Value from the end of `over` on."""
    over: Span = WHOLE
    """Length of the move."""

    def __post_init__(self) -> None:
        """Refuse what is not a finite number, and what is not a length."""
        check_move(self, self.start, self.end, self.over)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`."""
        weight = 0.5 * (1.0 + np.cos(np.pi * progress(time, self.over)))
        return like(time, _between(self.start, self.end, weight))


@dataclass(frozen=True)
class Polynomial(Schedule[Value]):
    """Move along a power: end + (start - end) (1 - u)^power.

    Example:
        >>> Polynomial(1.0, 0.0, power=2.0)(Time(step=50, steps=100))
        0.25
    """

    start: float
    """Value at step 0."""
    end: float = 0.0
    """Value from the end of `over` on."""
    power: float = 1.0
    """Above 0. 1 is a straight line; above 1 falls early, below 1 falls late."""
    over: Span = WHOLE
    """Length of the move."""

    def __post_init__(self) -> None:
        """Refuse what is not a finite number, and a power that is not positive."""
        check_move(self, self.start, self.end, self.over)
        check_number(self, "power", self.power, above=0.0)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`."""
        left = 1.0 - progress(time, self.over)
        # An array of powers: numpy would take another route (sqrt, square) for a lone scalar.
        weight = np.power(left, np.full_like(left, self.power))
        return like(time, _between(self.start, self.end, weight))


@dataclass(frozen=True)
class Exponential(Schedule[Value]):
    """Move by equal factors: start (end / start)^u.

    Example:
        >>> round(Exponential(1.0, 0.01)(Time(step=50, steps=100)), 12)
        0.1
    """

    start: float
    """Value at step 0, above 0."""
    end: float
    """Value from the end of `over` on, above 0."""
    over: Span = WHOLE
    """Length of the move."""

    def __post_init__(self) -> None:
        """Refuse ends that are not positive: no factor leads to 0."""
        check_number(self, "start", self.start, above=0.0)
        check_number(self, "end", self.end, above=0.0)
        check_span(self, "over", self.over)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`."""
        u = progress(time, self.over)
        moving = self.start * np.exp(u * (np.log(self.end) - np.log(self.start)))
        return like(time, np.where(u < 1.0, moving, self.end))


@dataclass(frozen=True)
class OneMinusSqrt(Schedule[Value]):
    """Move by the square root, steep first: end + (start - end) (1 - sqrt(u)).

    The usual decay of a WSD run. Source: arXiv:2405.18392.

    Example:
        >>> OneMinusSqrt(1.0)(Time(step=25, steps=100))
        0.5
    """

    start: float
    """Value at step 0."""
    end: float = 0.0
    """Value from the end of `over` on."""
    over: Span = WHOLE
    """Length of the move."""

    def __post_init__(self) -> None:
        """Refuse what is not a finite number, and what is not a length."""
        check_move(self, self.start, self.end, self.over)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`."""
        return like(time, _between(self.end, self.start, np.sqrt(progress(time, self.over))))


@dataclass(frozen=True)
class InverseSqrt(Schedule[Value]):
    """Fall forever, needing no end: start / sqrt(1 + step / scale).

    ``Warmup(InverseSqrt(peak, scale=steps(w)), over=steps(w))`` is the Transformer's schedule,
    peak sqrt(w / step). Source: arXiv:1706.03762, eq. (3), and arXiv:1910.10683.

    Example:
        >>> from thalweg.core.time import steps
        >>> InverseSqrt(1.0, scale=steps(100))(Time(step=300))
        0.5
    """

    start: float
    """Value at step 0."""
    scale: Span
    """Length after which the value is start / sqrt(2); at least one step."""

    def __post_init__(self) -> None:
        """Refuse what is not a finite number, and a scale of nothing."""
        check_number(self, "start", self.start)
        check_span(self, "scale", self.scale, empty=False)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`.

        Raises:
            DialError: The scale rounds to no step on this clock.
        """
        scale = self.scale.of(time)
        check_number(self, "scale", scale, low=1)
        steps = np.maximum(np.asarray(time.step, np.float64), 0.0)
        return like(time, self.start / np.sqrt(1.0 + steps / scale))


@dataclass(frozen=True)
class Staircase(Schedule[Value]):
    """Hold one value after the other, changing at given moments.

    ``values[i]`` holds from ``at[i - 1]`` (that step included) up to ``at[i]``.

    Example:
        >>> from thalweg.core.time import share
        >>> stairs = Staircase((1.0, 0.1, 0.01), at=(share(0.5), share(0.75)))
        >>> [stairs(Time(step, steps=100)) for step in (49, 50, 99)]
        [1.0, 0.1, 0.01]
    """

    values: tuple[float, ...]
    """One value more than there are moments."""
    at: tuple[Span, ...]
    """Moments of change, measured from the start, none before the one ahead of it."""

    def __post_init__(self) -> None:
        """Refuse values and moments that do not pair up."""
        check_spans(self, "at", self.at)
        for number, value in enumerate(self.values):
            check_number(self, f"values.{number}", value)
        if len(self.values) != len(self.at) + 1:
            raise DialError(
                f"{len(self.values)} values and {len(self.at)} moments of change",
                expected="one value more than moments",
                where="Staircase",
                write="Staircase((1.0, 0.1), at=(share(0.5),))",
            )

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`.

        Raises:
            DialError: The moments are out of order on this clock.
        """
        moments = [span.of(time) for span in self.at]
        if moments != sorted(moments):
            raise DialError(
                f"changes at steps {moments}, from {', '.join(map(str, self.at))}",
                expected="moments in order",
                where="Staircase.at",
                write="the earlier moment first",
            )
        stair = np.searchsorted(np.asarray(moments, np.int64), time.step, side="right")
        return like(time, np.asarray(self.values, np.float64)[stair])


@dataclass(frozen=True)
class Blend(Schedule[Mapping[str, Value]]):
    """Move a mapping of numbers, such as mixture weights, in a straight line: start (1-u) + end u.

    The weights of both ends sum to what every blend between them sums to, if they agree.

    Example:
        >>> ramp = Blend({"web": 1.0, "code": 0.0}, {"web": 0.5, "code": 0.5})
        >>> ramp(Time(step=50, steps=100))
        {'web': 0.75, 'code': 0.25}
    """

    start: Mapping[str, float]
    """Values at step 0."""
    end: Mapping[str, float]
    """Values from the end of `over` on; the same keys."""
    over: Span = WHOLE
    """Length of the move."""

    def __post_init__(self) -> None:
        """Refuse ends with different keys, and what is not a finite number or a length."""
        for field, values in (("start", self.start), ("end", self.end)):
            _check_mapping(f"Blend.{field}", field, values)
        if set(self.start) != set(self.end) or not self.start:
            raise DialError(
                f"keys {sorted(self.start)} and {sorted(self.end)}",
                expected="the same keys at both ends, at least one",
                where="Blend",
                write="0.0 for what is absent at one end",
            )
        for field, values in (("start", self.start), ("end", self.end)):
            for key, value in values.items():
                check_number(self, f"{field}.{key}", value)
        check_span(self, "over", self.over)

    def __call__(self, time: Time) -> dict[str, Value]:
        """Return the values at `time`, in the order of `start`."""
        u = progress(time, self.over)
        return {key: like(time, _between(self.end[key], a, u)) for key, a in self.start.items()}


def _between(there: float, here: float, weight: Value) -> Value:
    """Return weight there + (1 - weight) here: exact at both ends, and where both are equal."""
    if there == here:
        return here
    return weight * there + (1.0 - weight) * here


def _check_mapping(where: str, field: str, values: object) -> None:
    if isinstance(values, Mapping):
        return
    raise DialError(
        f"{field} = {values!r}",
        expected="a mapping of names to numbers",
        where=where,
        write=f'{field}={{"web": 0.5, "code": 0.5}}; Linear(1.0, 0.5) for one number',
    )
