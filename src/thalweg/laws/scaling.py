"""Laws over whole runs: model size, tokens, batch. Pure functions of their constants.

Chinchilla: L = E + A N^-alpha + B D^-beta. Kaplan: a sum of a size and a step term, with a
critical batch that trades steps for tokens. Constants of the papers are the defaults of their
dataclasses; fit your own, exponents move less between setups than coefficients do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from thalweg.errors import RecipeError
from thalweg.laws.solve import Columns, minimise

__all__ = [
    "BatchTrade",
    "Chinchilla",
    "Kaplan",
    "fit_batch_trade",
    "fit_chinchilla",
    "fit_critical_batch",
    "fit_kaplan_size",
    "fit_kaplan_steps",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Chinchilla:
    """L(N, D) = E + A N^-alpha + B D^-beta.

    Source: arXiv:2203.15556, eq. (10): the constants of its third approach.

    Example:
        >>> round(float(Chinchilla().loss(70e9, 1.4e12)), 3)
        1.937
    """

    asymptote: float = 1.69
    """E, nats per token."""
    size: float = 406.4
    """A."""
    tokens: float = 410.7
    """B."""
    size_exponent: float = 0.34
    """alpha."""
    tokens_exponent: float = 0.28
    """beta."""

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> Floats:
        """Return nats per token after training N parameters on D tokens."""
        n, d = np.asarray(parameters, np.float64), np.asarray(tokens, np.float64)
        return np.asarray(
            self.asymptote
            + self.size * n**-self.size_exponent
            + self.tokens * d**-self.tokens_exponent
        )

    def best_split(self, flops: float) -> tuple[float, float]:
        """Return N and D with the smallest loss at 6 N D = flops.

        Example:
            >>> n, d = Chinchilla().best_split(6e20)
            >>> round(6 * n * d / 6e20, 6)
            1.0
        """
        a, b = self.size_exponent, self.tokens_exponent
        ratio = (a * self.size / (b * self.tokens)) ** (1 / (a + b))
        parameters = ratio * (flops / 6) ** (b / (a + b))
        return parameters, flops / 6 / parameters


@dataclass(frozen=True, kw_only=True)
class Kaplan:
    """L(N, S_min) = (N_c / N)^alpha_N + (S_c / S_min)^alpha_S, with a critical batch.

    B_crit(L) = B* / L^(1 / alpha_B),  S_min = S / (1 + B_crit / B),  E_min = E / (1 + B / B_crit).
    Kaplan's law has no floor, which fails on small vocabularies; `asymptote` adds one (0: none).

    Source: arXiv:2001.08361, eqs. (1.5), (1.6) and (5.4), Tables 2 and 3; as a recipe for
    estimating them, arXiv:2403.06563.

    Example:
        >>> round(float(Kaplan().min_loss(1e9)), 3)
        2.376
    """

    size: float = 8.8e13
    """N_c, parameters without embeddings."""
    size_exponent: float = 0.076
    """alpha_N."""
    steps: float = 2.1e3
    """S_c."""
    steps_exponent: float = 0.76
    """alpha_S."""
    batch: float = 2e8
    """B*, tokens."""
    batch_exponent: float = 0.21
    """alpha_B."""
    asymptote: float = 0.0
    """Floor under both terms, nats per token."""

    def min_loss(self, parameters: float) -> float:
        """Return the loss at convergence on unlimited text."""
        return float(self.asymptote + (self.size / parameters) ** self.size_exponent)

    def critical_batch(self, loss: float) -> float:
        """Return the tokens per batch at which steps and tokens are both doubled."""
        return float(self.batch / loss ** (1 / self.batch_exponent))

    def least_steps(self, steps: float, batch: float, loss: float) -> float:
        """Return S_min: the steps an unlimited batch would have taken."""
        return steps / (1 + self.critical_batch(loss) / batch)

    def loss(self, parameters: float, steps: float, batch: float) -> float:
        """Return nats per token after S steps of B tokens, by bisection of the implicit law.

        Args:
            parameters: N, without embeddings.
            steps: S.
            batch: B, tokens.
        """
        floor = self.min_loss(parameters)

        def gap(log_excess: float) -> float:
            loss = floor + float(np.exp(log_excess))
            reached = self.least_steps(steps, batch, loss)
            return float(np.exp(log_excess) - (self.steps / reached) ** self.steps_exponent)

        low, high = -30.0, 10.0
        if gap(low) * gap(high) > 0:
            return floor + float(np.exp(low if abs(gap(low)) < abs(gap(high)) else high))
        return floor + float(np.exp(brentq(gap, low, high, xtol=1e-12)))

    def trajectory(self, parameters: float, steps: Sequence[float], batch: float) -> Floats:
        """Return the loss at several steps of one run."""
        return np.array([self.loss(parameters, step, batch) for step in steps])


class BatchTrade(NamedTuple):
    """What reaching one loss costs: (S / steps - 1) (E / tokens - 1) = 1."""

    steps: float
    """S_min."""
    tokens: float
    """E_min."""

    @property
    def critical(self) -> float:
        """Return B_crit = E_min / S_min, tokens."""
        return self.tokens / self.steps


def fit_chinchilla(
    parameters: ArrayLike, tokens: ArrayLike, loss: ArrayLike, *, delta: float = 1e-3
) -> Chinchilla:
    """Fit E, A, alpha, B, beta by log-Huber from 25 starts.

    Args:
        parameters: [R] N of every run.
        tokens: [R] D.
        loss: [R] final losses, nats per token.
        delta: Huber threshold on log losses.

    Raises:
        RecipeError: Fewer runs than the five parameters.
    """
    n, d, y = _columns(parameters, tokens, loss, least=5, what="fit_chinchilla")
    log_n, log_d = np.log(n), np.log(d)

    def columns(shape: Floats) -> Columns:
        a, b = np.exp(shape)
        first, second = np.exp(-a * log_n), np.exp(-b * log_d)
        slope = np.zeros((y.size, 3, 2))
        slope[:, 1, 0], slope[:, 2, 1] = -a * log_n * first, -b * log_d * second
        return Columns(np.stack([np.ones_like(y), first, second], 1), slope)

    grid = np.log([0.1, 0.2, 0.35, 0.5, 0.8])
    found = minimise(columns, y, [(a, b) for a in grid for b in grid], delta=delta)
    e, size, data = found.coefficient_M.tolist()
    a, b = np.exp(found.shape_P).tolist()
    return Chinchilla(asymptote=e, size=size, tokens=data, size_exponent=a, tokens_exponent=b)


def fit_kaplan_size(parameters: ArrayLike, loss: ArrayLike) -> tuple[float, float]:
    """Return N_c and alpha_N by regression of log L on log N.

    Args:
        parameters: [R] N of converged runs, without embeddings.
        loss: [R] their losses.

    Example:
        >>> n_c, a = fit_kaplan_size([1e6, 1e8], [(8.8e13 / n) ** 0.076 for n in (1e6, 1e8)])
        >>> round(n_c / 8.8e13, 6), round(a, 6)
        (1.0, 0.076)
    """
    n, y = _columns(parameters, loss, least=2, what="fit_kaplan_size")
    slope, level = np.polyfit(np.log(n), np.log(y), 1)
    return float(np.exp(-level / slope)), float(-slope)


def fit_kaplan_steps(
    least_steps: ArrayLike, loss: ArrayLike, min_loss: float
) -> tuple[float, float]:
    """Return S_c and alpha_S from one run's curve over S_min, warmup and decay left out.

    Args:
        least_steps: [J] S_min of each measurement.
        loss: [J] losses above `min_loss`.
        min_loss: What the size allows.
    """
    s, y = _columns(
        least_steps, np.asarray(loss, np.float64) - min_loss, least=2, what="fit_kaplan_steps"
    )
    slope, level = np.polyfit(np.log(s), np.log(y), 1)
    return float(np.exp(-level / slope)), float(-slope)


def fit_batch_trade(steps: ArrayLike, tokens: ArrayLike) -> BatchTrade:
    """Fit the hyperbola to runs that reached one loss with different batches.

    1 = S_min / S + E_min / E is linear in both; rows are weighted as relative errors.

    Args:
        steps: [R] steps each batch took.
        tokens: [R] tokens it took.

    Example:
        >>> trade = fit_batch_trade([200.0, 150.0, 110.0], [2e6, 3e6, 11e6])
        >>> round(trade.steps), round(trade.tokens), round(trade.critical)
        (100, 1000000, 10000)
    """
    s, e = _columns(steps, tokens, least=2, what="fit_batch_trade")
    rows = np.stack([1 / s, 1 / e], 1)
    size = np.abs(rows).max(0)
    found, *_ = np.linalg.lstsq(rows / size, np.ones(s.size), rcond=None)
    least_steps, least_tokens = (found / size).tolist()
    if least_steps <= 0 or least_tokens <= 0:
        raise RecipeError(
            f"S_min = {least_steps:g} and E_min = {least_tokens:g}",
            expected="more steps for smaller batches and more tokens for larger ones",
            where="fit_batch_trade",
            write="runs of at least 5 batches over a factor of 16, each at its best rate",
        )
    return BatchTrade(least_steps, least_tokens)


def fit_critical_batch(loss: ArrayLike, critical: ArrayLike) -> tuple[float, float]:
    """Return B* and alpha_B by regression of log B_crit on log L.

    Example:
        >>> b, a = fit_critical_batch([2.0, 3.0], [2e8 / 2 ** (1 / 0.21), 2e8 / 3 ** (1 / 0.21)])
        >>> round(b / 2e8, 6), round(a, 6)
        (1.0, 0.21)
    """
    y, b = _columns(loss, critical, least=2, what="fit_critical_batch")
    slope, level = np.polyfit(np.log(y), np.log(b), 1)
    return float(np.exp(level)), float(-1 / slope)


def _columns(*values: ArrayLike, least: int, what: str) -> list[Floats]:
    arrays = [np.asarray(value, dtype=np.float64) for value in values]
    sizes = {array.size for array in arrays}
    good = all(np.isfinite(array).all() and (array > 0).all() for array in arrays)
    if len(sizes) != 1 or min(sizes) < least or not good:
        raise RecipeError(
            "columns of " + ", ".join(f"{array.size}" for array in arrays) + " numbers",
            expected=f"at least {least} positive numbers each, as many in each",
            where=what,
            write="one row a run",
        )
    return arrays
