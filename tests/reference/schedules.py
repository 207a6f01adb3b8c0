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


def rex(s: int, n: int, start: float, end: float, d: float) -> float:
    """arXiv:2107.04197: (1 - x) / ((1 - d) + d (1 - x)), d = 1/2 in the paper."""
    if s >= n:
        return end
    x = s / n
    return end + (start - end) * (1.0 - x) / ((1.0 - d) + d * (1.0 - x))


def inverse(s: int, n: int, start: float, end: float) -> float:
    """arXiv:2410.05192: eta_max / ((eta_max / eta_min - 1) x + 1)."""
    return end if s >= n else start / ((start / end - 1.0) * s / n + 1.0)


def inverse_sqrt_decay(s: int, n: int, start: float, end: float, alpha: float) -> float:
    """arXiv:2403.08763: eta_max + (eta_const - eta_max) h(x) / h(1), h(x) = (1 + a x)^-1/2 - 1."""
    if s >= n:
        return end
    return start + (end - start) * ((1.0 + alpha * s / n) ** -0.5 - 1.0) / (
        (1.0 + alpha) ** -0.5 - 1.0
    )


def sampled_line(s: int, n: int, moments: list[int]) -> float:
    """Return 1 - m / n at the last moment m that has come."""
    last = 0
    for moment in moments:
        if moment <= s:
            last = moment
    return 1.0 - last / n


def wsd_s(s: int, targets: list[int], warmup: int, peak: float, floor: float) -> float:
    """arXiv:2410.05192: per cycle, eta_max, then the inverse decay over its last tenth."""
    begin = 0
    for target in targets:
        decay = round(0.1 * (target - begin))
        if s < warmup:
            return peak * (s + 1) / warmup
        if s < target - decay:
            return peak
        if s < target:
            x = (s - (target - decay)) / decay
            return 1.0 / ((1.0 - x) / peak + x / floor)
        begin = target
    return floor


def wsdc(s: int, warmup: int, stable: int, decay: int, peak: float, floor: float) -> float:
    """arXiv:2503.12167, with a cosine decay."""
    if s < warmup:
        return peak * (s + 1) / warmup
    if s < warmup + stable:
        return peak
    return cosine(s - warmup - stable, decay, peak, floor)


def infinite(
    n: int,
    n_w: int,
    n_cd: int,
    n_const: int,
    n_a: int,
    rates: tuple[float, float, float],
) -> float:
    """arXiv:2503.02844, eq. (1), with the warmup (n + 1) / N_w."""
    peak, const, floor = rates
    if n < n_w:
        return peak * (n + 1) / n_w
    if n < n_cd:
        return const + (peak - const) / 2.0 * (1.0 + math.cos(math.pi * (n - n_w) / (n_cd - n_w)))
    if n < n_const:
        return const
    if n < n_a:
        return const * (floor / const) ** ((n - n_const) / (n_a - n_const))
    return floor


def power(n: float, rows: float, peak: float) -> float:
    """arXiv:2408.13359: min(eta_max, beta a n^b), a = 4.6, b = -0.51, beta in sequences."""
    return peak if n == 0 else min(peak, rows * 4.6 * n**-0.51)


def power_run(
    s: int, steps: int, batch_tokens: int, rows: float, peak: float, lengths: tuple[int, int]
) -> float:
    """Linear warmup to the power's value, the power, an exponential decay from its last value."""
    warmup, decay = lengths
    if s < warmup:
        return (s + 1) / warmup * power(warmup * batch_tokens, rows, peak)
    if s < steps - decay:
        return power(s * batch_tokens, rows, peak)
    x = min((s - (steps - decay)) / decay, 1.0)
    return power((steps - decay) * batch_tokens, rows, peak) * 0.01**x


def rewarm(s: int, stages: list[int], warmup: int, rates: tuple[float, float, float]) -> float:
    """arXiv:2403.08763: linear to eta_max, then eta_min + (eta_max - eta_min)(1 + cos) / 2."""
    peak, floor, low = rates
    for stage in stages:
        if s < warmup:
            return low + (peak - low) * (s + 1) / warmup
        if s < stage:
            x = (s - warmup) / (stage - warmup)
            return floor + (peak - floor) / 2.0 * (1.0 + math.cos(math.pi * x))
        s -= stage
        low = floor
    return floor


def cyclic(s: int, stepsize: int, low: float, high: float, fade: float, gamma: float) -> float:
    """arXiv:1506.01186: the triangular policy; fade 1/2 "triangular2", gamma "exp_range"."""
    cycle = math.floor(1 + s / (2 * stepsize))
    x = abs(s / stepsize - 2 * cycle + 1)
    return low + (high - low) * max(0.0, 1.0 - x) * fade ** (cycle - 1) * gamma**s


def one_cycle(s: int, n: int, rates: tuple[float, float, float], up: int, tail: int) -> float:
    """arXiv:1708.07120: a line up, a line down, and a line to far below."""
    start, peak, end = rates
    down = n - up - tail
    if s < up:
        return start + (peak - start) * s / up
    if s < up + down:
        return peak + (start - peak) * (s - up) / down
    return linear(s - up - down, tail, start, end)


def stable_then_decay(s: int, n: int, decay: int, rate: float) -> float:
    """arXiv:2506.20512: constant, then a cosine to a tenth."""
    return rate if s < n - decay else cosine(s - (n - decay), decay, rate, 0.1 * rate)


def table(u: float, places: list[float], values: list[float]) -> float:
    """Return the line between the two places around u."""
    for i in range(len(places) - 1):
        if places[i] <= u < places[i + 1]:
            done = (u - places[i]) / (places[i + 1] - places[i])
            return values[i] + (values[i + 1] - values[i]) * done
    return values[0] if u < places[0] else values[-1]


def refined(norms: list[float], optimizer: str, tau: float) -> list[float]:
    """arXiv:2310.07831: eta_t ~ w_t sum_{p=t+1..T} w_p after a running median, largest value 1."""
    count = len(norms)
    half = math.floor(tau * count / 2)
    window = 2 * half + 1
    mirrored = norms + norms[-2 : -2 - 2 * window : -1]  # two windows, the last norm not repeated
    smoothed = []
    for t in range(count):
        around = sorted(mirrored[max(i, 0)] for i in range(t - half, t + half + 1))
        smoothed.append(around[half])
    weights = [1.0 / g**2 if optimizer == "sgd" else 1.0 / g for g in smoothed]
    rates = [weights[t] * math.fsum(weights[t + 1 :]) for t in range(count)]
    return [rate / max(rates) for rate in rates]
