"""Judges: pure functions from numbers, one a seed, to a verdict.

An effect is the mean over seeds of a paired difference; its 95 % interval is Student's t over the
seeds. A comparison is reproduced if the whole interval lies on the claimed side of its limit, not
reproduced if the whole interval lies on the other, and inconclusive in between; so it is with a
number that is not finite (an arm diverged) and with a single seed.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from thalweg.core.claim import Verdict

__all__ = [
    "Interval",
    "at_least",
    "at_most",
    "every",
    "fact",
    "higher",
    "interval",
    "lower",
    "within",
]


class Interval(NamedTuple):
    """A mean over seeds and where it lies with 95 %."""

    mean: float
    low: float
    """NaN with fewer than two seeds, or a value that is not finite."""
    high: float


def interval(values_S: ArrayLike) -> Interval:
    """Return mean -+ t(.975, S - 1) sd / sqrt(S).

    Args:
        values_S: One number a seed.

    Example:
        >>> [round(end, 3) for end in interval([1.0, 2.0, 3.0])]
        [2.0, -0.484, 4.484]
    """
    array = np.asarray(values_S, dtype=np.float64)
    mean = float(array.mean())
    if array.size < 2 or not np.isfinite(array).all():
        return Interval(mean, math.nan, math.nan)
    reach = float(stdtrit(array.size - 1, 0.975) * array.std(ddof=1) / math.sqrt(array.size))
    return Interval(mean, mean - reach, mean + reach)


def within(values_S: ArrayLike, least: float, most: float, what: str) -> Verdict:
    """Judge that a mean lies between two numbers; either may be infinite.

    Args:
        values_S: One number a seed.
        least: Smallest value that the claim allows.
        most: Largest.
        what: The effect, with its unit.

    Example:
        >>> within([0.9, 1.0, 1.1], 0.5, 1.5, "slope").verdict
        'reproduced'
    """
    found = interval(values_S)
    verdict: Literal["reproduced", "not reproduced", "inconclusive"] = "inconclusive"
    if least <= found.low and found.high <= most:
        verdict = "reproduced"
    elif found.high < least or found.low > most:
        verdict = "not reproduced"
    return Verdict(verdict, f"{what}, {_range(least, most)}", *found)


def at_most(values_S: ArrayLike, limit: float, what: str) -> Verdict:
    """Judge that a mean is at most `limit`."""
    return within(values_S, -math.inf, limit, what)


def at_least(values_S: ArrayLike, limit: float, what: str) -> Verdict:
    """Judge that a mean is at least `limit`."""
    return within(values_S, limit, math.inf, what)


def lower(a_S: ArrayLike, b_S: ArrayLike, what: str, *, by: float = 0.0) -> Verdict:
    """Judge that `a` is lower than `b` by at least `by`, seed by seed.

    Args:
        a_S: One number a seed.
        b_S: The same seeds of the other arm.
        what: The difference `a - b`, with its unit.
        by: How much lower; negative allows that much more.

    Example:
        >>> lower([1.0, 1.1], [2.0, 2.1], "loss a - b, nats")[:3]
        ('reproduced', 'loss a - b, nats, at most 0', -1.0)
    """
    return at_most(np.asarray(a_S) - np.asarray(b_S), 0.0 - by, what)


def higher(a_S: ArrayLike, b_S: ArrayLike, what: str, *, by: float = 0.0) -> Verdict:
    """Judge that `a` is higher than `b` by at least `by`, seed by seed."""
    return at_least(np.asarray(a_S) - np.asarray(b_S), by, what)


def fact(holds: bool, what: str, effect: float = math.nan) -> Verdict:
    """Judge what has no spread over seeds: an identity, a count.

    Example:
        >>> fact(1 + 1 == 2, "1 + 1", 2.0).verdict
        'reproduced'
    """
    return Verdict("reproduced" if holds else "not reproduced", what, effect, math.nan, math.nan)


def every(*verdicts: Verdict) -> Verdict:
    """Judge a claim of several parts: reproduced if each is, not if one is not.

    The numbers are those of the first part that keeps it from being reproduced, else of the first.

    Example:
        >>> every(fact(True, "a"), fact(False, "b")).what
        'b'
    """
    failed = [v for v in verdicts if v.verdict == "not reproduced"]
    open_ones = [v for v in verdicts if v.verdict == "inconclusive"]
    return [*failed, *open_ones, *verdicts][0]._replace(parts=verdicts)


def _range(least: float, most: float) -> str:
    if math.isinf(least):
        return f"at most {most:g}"
    return f"at least {least:g}" if math.isinf(most) else f"{least:g} to {most:g}"
