"""Slow schedules: one moment, Python floats, the formulas as their sources print them.

Every function has `s`, the step, and lengths in whole steps. Nothing is shared with the package.
"""

import math


def linear(s: int, n: int, start: float, end: float) -> float:
    """Return the line from start to end."""
    return end if s >= n else start + (end - start) * s / n


def cosine(s: int, n: int, start: float, end: float) -> float:
    """arXiv:1608.03983, eq. (5): eta_min + (eta_max - eta_min) (1 + cos(pi T_cur / T)) / 2."""
    return end if s >= n else end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * s / n))


def polynomial(s: int, n: int, start: float, end: float, power: float) -> float:
    """Return (start - end) (1 - s/n)^power + end."""
    return end if s >= n else (start - end) * (1.0 - s / n) ** power + end


def exponential(s: int, n: int, start: float, end: float) -> float:
    """Return start (end / start)^(s/n)."""
    return end if s >= n else start * (end / start) ** (s / n)


def one_minus_sqrt(s: int, n: int, start: float, end: float) -> float:
    """arXiv:2405.18392: 1 - sqrt((s - s_decay) / n_decay), scaled to start and end."""
    return end if s >= n else end + (start - end) * (1.0 - math.sqrt(s / n))


def transformer(s: int, warmup: int, peak: float) -> float:
    """arXiv:1706.03762, eq. (3), without its rate at step 0: peak min(sqrt(w / s), (s + 1) / w)."""
    return peak * (s + 1) / warmup if s < warmup else peak * math.sqrt(warmup / s)


def staircase(s: int, values: list[float], moments: list[int]) -> float:
    """Return the value whose turn it is."""
    value = values[0]
    for moment, later in zip(moments, values[1:], strict=True):
        if s >= moment:
            value = later
    return value


def wsd(s: int, n: int, warmup: int, decay: int, peak: float, floor: float) -> float:
    """arXiv:2404.06395, with a 1 - sqrt decay to a floor."""
    if s < warmup:
        return (s + 1) / warmup * peak
    if s < n - decay:
        return peak
    return one_minus_sqrt(s - (n - decay), decay, peak, floor)


def wsd_linear(s: int, n: int, warmup: int, decay: int, peak: float) -> float:
    """Return min((s + 1) / w, 1, (n - s) / d) peak, the trapezoid."""
    return peak * max(min((s + 1) / warmup, 1.0, (n - s) / decay), 0.0)
