"""What every schedule shares: reading the clock, choosing between pieces, checking numbers.

A moment (an int step) and a plan (an int array of steps) run through the same formulas, so the plan
says to the last bit what the run will do: sums, products, quotients and bounds are the same in
Python's floats as in numpy, and cost a step of the loop less; anything else is numpy's for both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from thalweg.core.protocols import Schedule
from thalweg.core.time import Count, Span, Time
from thalweg.errors import DialError

__all__ = [
    "WHOLE",
    "Piece",
    "Value",
    "as_count",
    "by_piece",
    "by_pieces",
    "check_move",
    "check_number",
    "check_schedule",
    "check_shape",
    "check_span",
    "check_spans",
    "cut",
    "is_moment",
    "lengths",
    "like",
    "moved",
    "number_at",
    "progress",
    "refuse_too_long",
    "rise",
    "since",
]

Value: TypeAlias = float | np.ndarray
"""A number, or one number a moment when the clock is an array."""

Piece: TypeAlias = Value | Mapping[str, Value]
"""What schedules return: a number, or a mapping of numbers such as mixture weights."""

WHOLE = Span(1.0, "share")
"""The whole phase."""


def is_moment(time: Time) -> bool:
    """Return whether the clock shows one moment, not a plan."""
    return isinstance(time.step, int) or np.ndim(time.step) == 0


def like(time: Time, values: Value) -> Value:
    """Return a float for a moment, a float64 array of the clock's shape for a plan."""
    if is_moment(time):
        return float(values)
    return np.broadcast_to(np.asarray(values, np.float64), np.shape(time.step)).copy()


def progress(time: Time, over: Span) -> Value:
    """Return u = step / length, held at 0 before the start and at 1 from the end on.

    The last step inside has u = (length - 1) / length; u = 1 is the step after it. A length of 0
    has ended at once: u = 1.

    Raises:
        DialError: `over` needs an end and the phase has none.
    """
    return _inside(time.step, over.of(time))


def since(time: Time, start: int) -> Time:
    """Return `time.since(start)`; a phase that ends before `start` has no steps left, not fewer."""
    clock = time.since(start)
    return clock.within(0) if clock.steps is not None and clock.steps < 0 else clock


def moved(time: Time, step: Count) -> Time:
    """Return the clock as it stands at another step, tokens going back or on at the planned rate.

    Args:
        time: A moment, or a plan.
        step: A step of this clock; one for all moments of a plan, or one for each.
    """
    back = time.step - step
    return replace(
        time,
        step=as_count(time.step - back),
        tokens=as_count(time.tokens - back * time.batch_tokens),
        run_step=as_count(time.run_step - back),
    )


def rise(time: Time, length: int) -> Value:
    """Return the factor of a warmup: (s + 1) / length inside, 1 from there on, 0 before step -1."""
    return _inside(time.step + 1, length)


def lengths(owner: object, what: str, spans: Sequence[Span], time: Time) -> list[int]:
    """Return lengths in steps that follow each other; the last gives way to mere rounding.

    Raises:
        DialError: Together they are longer than the phase.
    """
    found = [span.of(time) for span in spans]
    before = sum(found[:-1])
    if time.steps is not None and before + found[-1] > time.steps >= before:
        exact = sum(_exact(span, time) for span in spans)
        if exact <= time.steps * (1 + 1e-12):
            found[-1] = time.steps - before
    refuse_too_long(owner, what, sum(found), time)
    return found


def cut(time: Time, mask: np.ndarray) -> Time:
    """Return the moments of a plan where `mask` is true."""
    return replace(
        time,
        step=np.asarray(time.step)[mask],
        tokens=_some(time.tokens, mask),
        run_step=_some(time.run_step, mask),
    )


def by_piece(
    time: Time,
    early: bool | np.bool_ | np.ndarray,
    first: Callable[[Time], Piece],
    second: Callable[[Time], Piece],
) -> Piece:
    """Return `first(time)` where `early` is true and `second(time)` elsewhere.

    Neither function ever sees a moment that is not its own.

    Raises:
        DialError: One gives a number and the other a mapping, or mappings with other keys.
    """
    if isinstance(early, bool):
        return first(time) if early else second(time)
    mask = np.asarray(early, bool)
    if mask.all():
        return first(time)
    if not mask.any():
        return second(time)
    mask = np.broadcast_to(mask, np.shape(time.step))
    a, b = first(cut(time, mask)), second(cut(time, ~mask))
    if not isinstance(a, Mapping) and not isinstance(b, Mapping):
        return _merge(mask, a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping) and set(a) == set(b):
        return {key: _merge(mask, a[key], b[key]) for key in a}
    raise DialError(
        f"pieces that give {_kind(a)} and {_kind(b)}",
        expected="numbers from both, or mappings with the same keys from both",
        where="a schedule made of pieces",
        write="the same keys in every piece, 0.0 where one has nothing",
    )


def by_pieces(
    time: Time, moments: Sequence[int], parts: Sequence[Callable[[Time], Piece]]
) -> Piece:
    """Return ``parts[i](time)`` from ``moments[i - 1]`` up to ``moments[i]``, that step excluded.

    Args:
        time: A moment, or a plan.
        moments: Steps of change, in order.
        parts: One more than there are moments.
    """
    if not moments:
        return parts[0](time)
    return by_piece(
        time,
        time.step < moments[0],
        parts[0],
        lambda later: by_pieces(later, moments[1:], parts[1:]),
    )


def number_at(part: Schedule[Piece] | float, time: Time, owner: str) -> Value:
    """Return the value of a schedule, or of a plain number, at `time`.

    Raises:
        DialError: The schedule gives a mapping, and `owner` works on numbers.
    """
    if not isinstance(part, Schedule):
        return like(time, np.asarray(part, np.float64))
    value = part(time)
    if isinstance(value, Mapping):
        raise DialError(
            f"{part!r}, which gives {_kind(value)}",
            expected="a schedule of numbers",
            where=owner,
            write="the operation inside each weight, or By(function) for the whole mapping",
        )
    return value


def check_number(
    owner: object,
    field: str,
    value: object,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    above: float = -np.inf,
) -> None:
    """Refuse what is not a finite number with low <= value <= high and value > above.

    Raises:
        DialError: It is not.
    """
    number = isinstance(value, int | float | np.integer | np.floating)
    if (
        number
        and not isinstance(value, bool)
        and np.isfinite(float(value))  # type: ignore[arg-type]  # `number` says it is one
        and low <= value <= high  # type: ignore[operator]
        and value > above  # type: ignore[operator]
    ):
        return
    limits = [f">= {low:g}"] if low > -np.inf else []
    limits += [f"> {above:g}"] if above > -np.inf else []
    limits += [f"<= {high:g}"] if high < np.inf else []
    raise DialError(
        f"{field} = {value!r}",
        expected=" ".join(["a finite number", " and ".join(limits)]).strip(),
        where=f"{_name(owner)}.{field}",
        write=f"{field}={max(low, min(high, 0.001))}",
    )


def check_schedule(owner: object, field: str, value: object, *, numbers: bool = True) -> None:
    """Refuse what is neither a schedule nor, where `numbers` are allowed, a finite number.

    Raises:
        DialError: It is not.
    """
    if isinstance(value, Schedule):
        return
    if numbers and isinstance(value, int | float | np.integer | np.floating):
        return check_number(owner, field, value)
    raise DialError(
        f"{field} = {value!r}",
        expected="a schedule" + (" or a number" if numbers else ""),
        where=f"{_name(owner)}.{field}",
        write="Constant(1.0), Linear(1.0, 0.0) ...; By(function) for a plain function",
    )


def check_span(owner: object, field: str, value: object, *, empty: bool = True) -> None:
    """Refuse what is not a length, and a length of nothing unless it may be `empty`.

    Raises:
        DialError: It is not.
    """
    if _is_length(value, empty):
        return
    raise DialError(
        f"{field} = {_shown(value)}",
        expected="a length with its unit" + ("" if empty else ", above 0"),
        where=f"{_name(owner)}.{field}",
        write=f"{field}=steps(100) or {field}=share(0.1) or {field}=tokens(1e9)",
    )


def check_spans(
    owner: object, field: str, value: object, *, empty: bool = True, least: int = 0
) -> None:
    """Refuse what is not a tuple of at least `least` lengths, each as `check_span` wants it.

    Raises:
        DialError: It is not.
    """
    if isinstance(value, tuple) and len(value) >= least:
        if all(_is_length(span, empty) for span in value):
            return
    raise DialError(
        f"{field} = {_shown(value)}",
        expected="a tuple of lengths with their units"
        + ("" if empty else ", above 0")
        + (f", at least {least}" if least else ""),
        where=f"{_name(owner)}.{field}",
        write=f"{field}=(share(0.5),) or {field}=(steps(100), steps(200))",
    )


def check_move(owner: object, start: object, end: object, over: object) -> None:
    """Refuse a move whose ends are no finite numbers, or that has no length.

    Raises:
        DialError: They are not.
    """
    check_number(owner, "start", start)
    check_number(owner, "end", end)
    check_span(owner, "over", over)


def check_shape(owner: object, field: str, shape: object, *, end: float | None = None) -> None:
    """Refuse a shape that does not start at 1, or, where it matters, does not stop at `end`.

    Raises:
        DialError: It is no schedule of numbers, or it starts or ends elsewhere.
    """
    check_schedule(owner, field, shape, numbers=False)
    assert isinstance(shape, Schedule)
    where = f"{_name(owner)}.{field}"
    for moment, wanted in ((0, 1.0), (1000, end)):
        clock = Time(moment, 1000, tokens=moment, run_step=moment, batch_tokens=1)
        found = float(number_at(shape, clock, where))
        if wanted is not None and abs(found - wanted) > 1e-6:
            raise DialError(
                f"a shape that {'ends' if moment else 'starts'} at {found:g}",
                expected="a schedule that goes from 1 to 0; the rates give the scale",
                where=where,
                write="Linear(1.0, 0.0), Cosine(1.0), OneMinusSqrt(1.0) ...",
            )


def refuse_too_long(owner: object, what: str, length: int, time: Time) -> None:
    """Refuse a length that a phase with a known end does not have.

    Raises:
        DialError: `length` is more than the steps of the phase.
    """
    if time.steps is None or length <= time.steps:
        return
    raise DialError(
        f"{what} of {length} steps in a phase of {time.steps}",
        expected=f"{what} within the phase",
        where=_name(owner),
        write="a longer phase, or shorter lengths, e.g. share(0.1)",
    )


def as_count(value: int | np.generic | np.ndarray) -> Count:
    """Return a Python int for a moment, an array for a plan."""
    return int(value) if np.ndim(value) == 0 else np.asarray(value)


def _inside(steps: Count, length: int) -> Value:
    """Return steps / length, held inside 0..1; 1 where there is no length."""
    if isinstance(steps, np.ndarray):
        return np.clip(steps / length, 0.0, 1.0) if length else np.ones(steps.shape)
    return min(max(steps / length, 0.0), 1.0) if length else 1.0


def _name(owner: object) -> str:
    """Return the name of a part's class, or that of a function as it was given."""
    return owner if isinstance(owner, str) else type(owner).__name__


def _is_length(value: object, empty: bool) -> bool:
    return isinstance(value, Span) and (empty or value.count > 0)


def _shown(value: object) -> str:
    """Return lengths as they are written, anything else as it prints itself."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    return str(value) if isinstance(value, Span) else repr(value)


def _exact(span: Span, time: Time) -> float:
    """Return the length in steps before rounding."""
    if span.unit == "share":
        return span.count * time.horizon
    return span.count / (time.batch_tokens if span.unit == "tokens" else 1)


def _some(count: Count, mask: np.ndarray) -> Count:
    return count if np.ndim(count) == 0 else np.asarray(count)[mask]


def _merge(mask: np.ndarray, first: Value, second: Value) -> np.ndarray:
    out = np.empty(mask.shape, np.float64)
    out[mask] = first
    out[~mask] = second
    return out


def _kind(value: Piece) -> str:
    return f"a mapping of {sorted(value)}" if isinstance(value, Mapping) else "a number"
