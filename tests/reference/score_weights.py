"""The number w of every objective: its gradient is - sum over targets of w * gradient of log pi.

Slow and plain numpy, after the papers, with nothing taken from the package. Arrays are of rows and
targets: logp, old, ref, advantage, weight [R, T]. `weight` is the final weight column; `mask` is
where it counts.
"""

import numpy as np

Array = np.ndarray


def ratio(logp: Array, old: Array, mask: Array, level: str) -> Array:
    moved = np.where(mask, np.clip(logp - old, -20, 20), 0.0)
    if level == "sequence":
        moved = np.repeat(
            moved.sum(1, keepdims=True) / mask.sum(1, keepdims=True), mask.shape[1], 1
        )
    return np.exp(moved)


def likelihood(weight: Array) -> Array:
    return weight


def coverage(logp: Array, weight: Array, n: float) -> Array:
    """arXiv:2502.07154: F = N p (1-p)^(N-1) / (1 - (1-p)^N)."""
    w = np.zeros_like(weight)
    for r in range(len(w)):
        counted = weight[r] > 0
        p = np.exp(logp[r][counted].sum())
        factor = n * p * (1 - p) ** (n - 1) / (1 - (1 - p) ** n)
        w[r][counted] = weight[r][counted].mean() * factor
    return w


def clip(r: Array, a: Array, low: float, high: float, dual: float | None = None) -> Array:
    """A r where not clipped."""
    w = a * r
    for index in np.ndindex(*w.shape):
        up = a[index] > 0 and r[index] > 1 + high
        down = a[index] < 0 and r[index] < 1 - low
        far = dual is not None and a[index] < 0 and r[index] > dual
        if up or down or far:
            w[index] = 0.0
    return w


def centred(r: Array, a: Array, centre: Array, low: float, high: float) -> Array:
    out = ((a > 0) & (r > centre + high)) | ((a < 0) & (r < centre - low))
    return np.where(out, 0.0, a * r)


def sequence_clip(r: Array, a: Array, weight: Array, low: float, high: float) -> Array:
    """GSPO: every target of a row carries the row's mean of A s 1[not clipped]."""
    mask = weight > 0
    each = weight * clip(r, a, low, high)
    return np.where(mask, each.sum(1, keepdims=True) / mask.sum(1, keepdims=True), 0.0)


def cispo(r: Array, a: Array, cap: float) -> Array:
    return a * np.minimum(r, cap)


def soft(r: Array, a: Array, tau: float, tau_negative: float) -> Array:
    t = np.where(a > 0, tau, tau_negative)
    s = 1 / (1 + np.exp(-t * (r - 1)))
    return a * r * 4 * s * (1 - s)


def shaped(r: Array, a: Array, gamma: float) -> Array:
    return a * gamma * r / (r + gamma) ** 2


def nft(r: Array, a: Array, rate: Array, omega: str, floor: float, negative: float) -> Array:
    q = rate[:, None]
    scale = {"one": 1.0 + 0 * q, "miss": 1 - q, "odds": np.sqrt((1 - q) / q)}[omega]
    other = np.maximum((1 - q * r) / (1 - q), floor)
    return np.where(a > 0, scale, -negative * scale * (q * r / (1 - q)) / other)


def f_divergence(u: Array, kind: str, a: float = 0.2) -> Array:
    """- u f'(u)."""
    return {
        "ForwardKl": 1 - u,
        "ReverseKl": -u * np.log(u),
        "JensenShannon": -u * np.log(2 * u / (1 + u)),
        "Alpha": (u ** (1 - a) - u) / a,
        "Hellinger": np.sqrt(u) - u,
    }[kind]


def kl(u: Array, estimator: str) -> Array:
    """Minus the slope of the estimator in log pi."""
    return {"k1": -np.ones_like(u), "k2": -np.log(u), "k3": -(1 - 1 / u)}[estimator]


def sigma(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def dpo(high: Array, low: Array, beta: float, margin: float = 0.0) -> Array:
    """beta sigma(-m) of each pair: plus on chosen, minus on rejected targets."""
    return beta * sigma(-(beta * (high - low) - margin))


def ipo(high: Array, low: Array, beta: float) -> Array:
    return -2 * (high - low - 1 / (2 * beta))


def hinge(high: Array, low: Array, beta: float) -> Array:
    return np.where(beta * (high - low) < 1, beta, 0.0)


def forget(compared: Array, beta: float) -> Array:
    return -2 * sigma(beta * compared)


def outcome(compared: Array, reward: Array, beta: float) -> Array:
    return beta * (reward - sigma(beta * compared))
