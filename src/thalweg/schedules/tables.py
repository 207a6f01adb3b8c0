"""Schedules that are measured: a table of values, and one made of a run's gradient norms."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from thalweg.core.protocols import Schedule
from thalweg.core.time import Span, Time
from thalweg.errors import DialError
from thalweg.schedules.clock import WHOLE, Value, check_number, check_span, like, progress

__all__ = ["Table", "refine"]


@dataclass(frozen=True)
class Table(Schedule[Value]):
    """Follow given values, in straight lines from one to the next.

    Example:
        >>> s = Table((0.0, 1.0, 0.0), at=(0.0, 0.25, 1.0))
        >>> [s(Time(step, steps=100)) for step in (0, 25, 50, 75)]
        [0.0, 1.0, 0.6666666666666667, 0.33333333333333337]
    """

    values: tuple[float, ...]
    """Two or more."""
    at: tuple[float, ...] = ()
    """Where in `over` each value stands: from 0 to 1, rising. Empty: at equal distances."""
    over: Span = WHOLE
    """Length of the table; its last value holds from there on."""

    def __post_init__(self) -> None:
        """Refuse values and places that do not pair up or do not rise.

        Raises:
            DialError: They do not.
        """
        check_span(self, "over", self.over)
        for field, numbers in (("values", self.values), ("at", self.at)):
            if not isinstance(numbers, tuple):
                raise _not_a_tuple(field, numbers)
            for place, number in enumerate(numbers):
                check_number(self, f"{field}.{place}", number)
        rising = all(a < b for a, b in zip(self.at, self.at[1:], strict=False))
        whole = not self.at or (self.at[0] == 0.0 and self.at[-1] == 1.0)
        if len(self.values) < 2 or (self.at and len(self.at) != len(self.values)):
            raise _bad_table(f"{len(self.values)} values at {len(self.at)} places")
        if not rising or not whole:
            raise _bad_table(f"places {self.at[:4]} ... {self.at[-1]}")

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`."""
        values = np.asarray(self.values, np.float64)
        places = np.asarray(self.at or np.linspace(0.0, 1.0, len(values)), np.float64)
        u = progress(time, self.over)
        left = np.clip(np.searchsorted(places, u, side="right") - 1, 0, len(values) - 2)
        weight = (u - places[left]) / (places[left + 1] - places[left])
        return like(time, values[left] * (1.0 - weight) + values[left + 1] * weight)


def refine(
    gradient_norms: Sequence[float] | np.ndarray,
    *,
    optimizer: Literal["adam", "sgd"] = "adam",
    steps: Sequence[float] | np.ndarray | None = None,
    smooth: float = 0.1,
    points: int = 1000,
    peak: float = 1.0,
    over: Span = WHOLE,
) -> Table:
    """Return the schedule that a run's gradient norms ask of the next run.

    eta_t = w_t sum_{p > t} w_p for t = 1 .. T, divided by its largest value; w_t = 1 / G_t^2 for
    SGD, with G_t the l2 norm of the gradient, and w_t = 1 / G_t for Adam, with G_t its l1 norm.
    Equal norms give the straight line to 0. Value t stands at (t - 1) / (T - 1) of `over`. Warmup
    and the final decay come out by themselves, so put no `Warmup` in front.

    The norms are smoothed first by a running median over `smooth` of their number, mirrored at the
    right end. Norms after clipping are useless; so is a run of a handful of steps.

    Args:
        gradient_norms: Norms before clipping, in the order of the run, above 0.
        optimizer: Which of the two weights; by what the next run trains with.
        steps: Steps at which the norms were logged, rising; None: at equal distances. Where they
            are uneven, the norms are first read off, in straight lines, at equal distances.
        smooth: Width of the median, as a share of the run, 0 (none) to 1.
        points: Most values that the table may have.
        peak: Largest value of the schedule: the rate to be tuned.
        over: Length of the next run.

    Raises:
        DialError: Fewer than 3 norms, one that is not above 0 and finite, or other bad input.

    Source: arXiv:2310.07831.

    Example:
        >>> table = refine([1.0] * 5, smooth=0.0)
        >>> table.values
        (1.0, 0.75, 0.5, 0.25, 0.0)
    """
    check_number("refine", "smooth", smooth, low=0.0, high=1.0)
    check_number("refine", "points", points, low=3)
    check_number("refine", "peak", peak, above=0.0)
    norms = _even(_checked(gradient_norms), steps)
    power = {"sgd": -2.0, "adam": -1.0}.get(optimizer)
    if power is None:
        raise DialError(
            f"optimizer = {optimizer!r}",
            expected="'adam' (l1 norms) or 'sgd' (l2 norms)",
            where="refine",
            write="optimizer='adam'",
        )
    smoothed = _median(norms, smooth)
    weights = (smoothed / smoothed.min()) ** power  # any common factor goes out again
    later = np.append(np.cumsum(weights[:0:-1])[::-1], 0.0)
    rates = weights * later
    if len(rates) > points:
        old = np.linspace(0.0, 1.0, len(rates))
        rates = np.interp(np.linspace(0.0, 1.0, points), old, rates)
    return Table(tuple((peak * (rates / rates.max())).tolist()), over=over)


def _checked(gradient_norms: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the norms as an array.

    Raises:
        DialError: They are no norms.
    """
    norms = np.asarray(gradient_norms, np.float64)
    bad = np.argwhere(~(np.isfinite(norms) & (norms > 0)))
    if norms.ndim != 1 or len(norms) < 3 or len(bad):
        found = f"shape {norms.shape}"
        if norms.ndim == 1 and len(bad):
            found = f"{norms[bad[0, 0]]} at place {bad[0, 0]}"
        raise DialError(
            f"gradient norms with {found}",
            expected="one row of at least 3 norms, each finite and above 0",
            where="refine(gradient_norms)",
            write="the norms that are, and steps=... with the steps they belong to",
        )
    return norms


def _even(norms: np.ndarray, steps: Sequence[float] | np.ndarray | None) -> np.ndarray:
    """Return the norms at equal distances from the first to the last step."""
    if steps is None:
        return norms
    places = np.asarray(steps, np.float64)
    rising = places.shape == norms.shape and np.isfinite(places).all() and (np.diff(places) > 0)
    if not np.all(rising):
        raise DialError(
            f"{np.size(places)} steps for {len(norms)} norms",
            expected="one finite step for each norm, rising",
            where="refine(steps)",
            write="steps sorted, each once",
        )
    if np.ptp(np.diff(places)) == 0:
        return norms
    grid = np.linspace(places[0], places[-1], len(places))
    return np.asarray(np.interp(grid, places, norms), np.float64)


def _median(norms: np.ndarray, smooth: float) -> np.ndarray:
    """Return the running median; the left end repeats its first norm, the right is mirrored."""
    half = int(smooth * len(norms) / 2)
    if half == 0:
        return norms
    mirrored = np.pad(norms, (0, half), mode="reflect")
    padded = [float(norms[0])] * half + mirrored.tolist()
    window = sorted(padded[: 2 * half + 1])
    found = [window[half]]
    for old, new in zip(padded, padded[2 * half + 1 :], strict=False):
        del window[bisect_left(window, old)]
        insort(window, new)
        found.append(window[half])
    return np.asarray(found, np.float64)


def _bad_table(given: str) -> DialError:
    return DialError(
        given,
        expected="two or more values, each with a place; places rise from 0 to 1",
        where="Table",
        write="Table((0.0, 1.0, 0.0), at=(0.0, 0.25, 1.0))",
    )


def _not_a_tuple(field: str, given: object) -> DialError:
    return DialError(
        f"{field} of type {type(given).__name__}",
        expected="a tuple of numbers",
        where=f"Table.{field}",
        write=f"{field}=tuple(array.tolist())",
    )
