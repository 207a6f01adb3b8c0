"""Slow laws: one step after the other, Python floats, the formulas as their sources print them."""

import math


def annealing(
    lr: list[float], s: int, l0: float, a: float, alpha: float, c: float, lam: float
) -> float:
    """arXiv:2408.11029, eq. (1): L0 + A S1^-alpha - C S2, S2 as the double sum."""
    s1 = sum(lr[: s + 1])
    s2 = sum((lr[k - 1] - lr[k]) * lam ** (i - k) for i in range(1, s + 1) for k in range(1, i + 1))
    return l0 + a * s1**-alpha - c * s2


def multi_power(
    rate: list[float],
    lr: list[float],
    s: int,
    numbers: tuple[float, float, float, float, float, float, float],
) -> float:
    """arXiv:2503.12811, eq. (2), over rates and scheduled rates; the sum includes the first rise.

    numbers: L0, A, alpha, B, C, beta, gamma.
    """
    l0, a, alpha, b, c, beta, gamma = numbers
    drop = 0.0
    for k in range(s + 1):
        before = rate[k - 1] if k else 0.0
        x = c * lr[k] ** -gamma * sum(lr[k : s + 1])
        drop += (before - rate[k]) * (1 - (1 + x) ** -beta)
    return l0 + a * sum(rate[: s + 1]) ** -alpha - b * drop


def multi_power_steps(
    rate: list[float], s: int, numbers: tuple[float, float, float, float, float, float]
) -> float:
    """Return the same with the steps since a change in place of the rates; no gamma."""
    l0, a, alpha, b, c, beta = numbers
    drop = 0.0
    for k in range(s + 1):
        before = rate[k - 1] if k else 0.0
        drop += (before - rate[k]) * (1 - (1 + c * (s + 1 - k)) ** -beta)
    return l0 + a * sum(rate[: s + 1]) ** -alpha - b * drop


def effective(
    lr: list[float], decay: float, init: float, update: float, parts: int = 50
) -> list[float]:
    """Return u lr / sqrt(n) at mid-step; dn = (-2 w lr n + u^2 lr^2) dt in many small parts."""
    n, found = init**2, []
    for rate in lr:
        sizes = []
        for _ in range(parts):
            sizes.append(n)
            n += (-2 * decay * rate * n + (update * rate) ** 2) / parts
        found.append(update * rate / math.sqrt(sizes[parts // 2]))
    return found


def last_iterate_bound(lr: list[float], norm: list[float], distance: float) -> float:
    """arXiv:2310.07831, Theorem 10, as three sums."""
    count = len(lr)
    total = sum(lr)
    first = distance**2 / (2 * total)
    second = sum((e * g) ** 2 for e, g in zip(lr, norm, strict=True)) / (2 * total)
    third = 0.0
    for k in range(count - 1):
        tail = sum((lr[t] * norm[t]) ** 2 for t in range(k, count))
        third += lr[k] / sum(lr[k + 1 :]) * tail / sum(lr[k:])
    return first + second + third / 2
