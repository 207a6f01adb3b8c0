"""The power-law rate rule: the best rate falls as a power of the tokens and grows with the batch.

    rate(n) = min(cap, batch a n^b),   batch in sequences, n tokens seen

The batch is linear only below the critical one, and a means nothing without muP.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import DialError, RecipeError

__all__ = ["PowerRate", "fit_power_rate", "power_rate"]

Floats = NDArray[np.float64]


class PowerRate(NamedTuple):
    """a and b of the rule, with what is left unexplained."""

    a: float
    b: float
    scatter: float
    """Standard deviation of log rates around the rule; NaN below three runs."""


def power_rate(
    tokens: ArrayLike, batch: float, *, a: float = 4.6, b: float = -0.51, cap: float = 0.02
) -> Floats:
    """Return the rate after some tokens.

    Args:
        tokens: Tokens seen, 0 or more; at 0 the cap applies.
        batch: Sequences per update.
        a: Coefficient; the paper's, for muP rates.
        b: Exponent, negative.
        cap: Largest rate.

    Source: arXiv:2408.13359; constants as in levanter's defaults.

    Example:
        >>> round(float(power_rate(1e12, 1024)), 4)  # 4.6 * 1024 * 1e12^-0.51 = 0.00357
        0.0036
    """
    n = np.asarray(tokens, dtype=np.float64)
    if batch <= 0 or cap <= 0 or (n < 0).any():
        raise DialError(
            f"tokens from {n.min():g}, a batch of {batch:g}, a cap of {cap:g}",
            expected="tokens of 0 or more, a positive batch (in sequences) and a positive cap",
            where="power_rate",
            write="power_rate(tokens, 256)",
        )
    with np.errstate(divide="ignore"):
        return np.asarray(np.minimum(cap, batch * a * np.maximum(n, 1e-300) ** b))


def fit_power_rate(batch: ArrayLike, tokens: ArrayLike, best_rate: ArrayLike) -> PowerRate:
    """Fit log(rate / batch) = log a + b log tokens to tuned rates.

    Args:
        batch: [R] sequences per update.
        tokens: [R] tokens of the whole run.
        best_rate: [R] the rate that was best there.

    Raises:
        RecipeError: Fewer than two horizons.

    Example:
        >>> found = fit_power_rate([8, 16], [1e6, 1e8], [8 * 1e-3, 16 * 1e-4])
        >>> round(found.a, 6), round(found.b, 6)
        (1.0, -0.5)
    """
    arrays = [np.asarray(v, dtype=np.float64) for v in (batch, tokens, best_rate)]
    if len({v.size for v in arrays}) != 1 or np.unique(arrays[1]).size < 2:
        raise RecipeError(
            f"{arrays[0].size} batches, {arrays[1].size} horizons, {arrays[2].size} rates",
            expected="as many of each, with at least two different horizons",
            where="fit_power_rate",
            write="the best rate of runs at two horizons or more",
        )
    log_n, log_rate = np.log(arrays[1]), np.log(arrays[2] / arrays[0])
    b, level = np.polyfit(log_n, log_rate, 1)
    left = log_rate - level - b * log_n
    scatter = float(np.sqrt((left**2).sum() / (left.size - 2))) if left.size > 2 else float("nan")
    return PowerRate(float(np.exp(level)), float(b), scatter)
