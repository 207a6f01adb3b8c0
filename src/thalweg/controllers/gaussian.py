"""A small exact Gaussian process on [0, 1], for searches of a dozen points.

k(x, y) = amplitude (1 + r + r^2 / 3) exp(-r), r = sqrt(5) |x - y| / length: the Matern kernel of
smoothness 5/2. Values are standardised first. Amplitude, length and noise are those of the largest
marginal likelihood, searched from fixed starts, so that the same points always give the same fit.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize

from thalweg.errors import RecipeError

__all__ = ["Kernel", "Process", "fit_process", "log_likelihood", "lowest_bound"]

Floats = NDArray[np.float64]

BOUNDS = ((1e-2, 1e3), (1e-2, 1e2), (1e-5, 1e1))
"""Of amplitude, length and noise; values are standardised and points in [0, 1]."""
STARTS = ((1.0, 0.1, 1e-2), (1.0, 0.5, 1e-2), (1.0, 1.0, 0.5))
GRID = 1001
"""Points at which the bound is looked at."""


class Kernel(NamedTuple):
    """What the process believes of the function."""

    amplitude: float
    """Variance of the function, in units of the values' variance."""
    length: float
    """Distance over which it changes."""
    noise: float
    """Variance of a measurement, in units of the values' variance."""

    def between(self, x: Floats, y: Floats) -> Floats:
        """Return the covariance of the function at x [N] and y [M], [N, M]."""
        r = np.sqrt(5.0) * np.abs(x[:, None] - y[None, :]) / self.length
        covariance: Floats = self.amplitude * (1 + r + r**2 / 3) * np.exp(-r)
        return covariance


class Process(NamedTuple):
    """A process that has seen values."""

    kernel: Kernel
    points: Floats
    """[N] in [0, 1]."""
    values: Floats
    """[N] standardised."""
    mean: float
    scale: float
    """What was taken out of the values: value = mean + scale standardised."""

    def at(self, x: Floats) -> tuple[Floats, Floats]:
        """Return the mean and the standard deviation of the function at x [M], noise left out."""
        factor = _factor(self.kernel, self.points)
        across = self.kernel.between(x, self.points)
        weights = cho_solve((factor, True), self.values)
        explained = (across * cho_solve((factor, True), across.T).T).sum(1)
        variance = np.maximum(self.kernel.amplitude - explained, 0.0)
        return self.mean + self.scale * (across @ weights), self.scale * np.sqrt(variance)


def fit_process(
    points: Sequence[float], values: Sequence[float], kernel: Kernel | None = None
) -> Process:
    """Return the process that has seen `values` at `points`.

    Args:
        points: [N] in [0, 1], N >= 1.
        values: [N] finite.
        kernel: The kernel; fitted if not given.

    Raises:
        RecipeError: No points, or not one value for each, or a value that is not finite.

    Example:
        >>> process = fit_process([0.0, 0.5, 1.0], [1.0, 0.0, 1.0], Kernel(1.0, 0.5, 1e-5))
        >>> mean, deviation = process.at(np.array([0.5, 0.75]))
        >>> [round(float(m), 2) for m in mean], bool(deviation[0] < deviation[1])
        ([0.0, 0.4], True)
    """
    x, y = np.asarray(points, np.float64), np.asarray(values, np.float64)
    if x.size == 0 or x.shape != y.shape or not np.isfinite(y).all():
        raise RecipeError(
            f"{x.size} points and values {y.tolist()}",
            expected="one finite value for each of at least one point",
            where="controllers.fit_process",
            write="leave out what diverged, or give it a large value",
        )
    mean, scale = float(y.mean()), float(y.std()) or 1.0
    standard = (y - mean) / scale
    return Process(kernel or _likeliest(x, standard), x, standard, mean, scale)


def log_likelihood(kernel: Kernel, points: Floats, values: Floats) -> float:
    """Return log p(values): -y' K^-1 y / 2 - log det K / 2 - N log(2 pi) / 2, noise inside K."""
    factor = _factor(kernel, points)
    fit = float(values @ cho_solve((factor, True), values))
    volume = float(np.log(np.diag(factor)).sum())
    return -0.5 * fit - volume - 0.5 * values.size * float(np.log(2 * np.pi))


def lowest_bound(process: Process, kappa: float) -> float:
    """Return the point of [0, 1] with the least mean - kappa deviation, of those not yet seen.

    Args:
        process: What is known.
        kappa: 0 trusts the mean; large numbers go where least is known.

    Example:
        >>> process = fit_process([0.0, 1.0], [0.0, 0.0], Kernel(1.0, 0.5, 1e-5))
        >>> lowest_bound(process, kappa=1000.0)
        0.5
    """
    grid = np.linspace(0.0, 1.0, GRID)
    mean, deviation = process.at(grid)
    seen = np.abs(grid[:, None] - process.points).min(1) < 0.01 / GRID  # they went through logs
    bound = np.where(seen, np.inf, mean - kappa * deviation)
    return float(grid[int(np.argmin(bound))])


def _likeliest(points: Floats, values: Floats) -> Kernel:
    objective = partial(_minus_log_likelihood, points=points, values=values)
    bounds = np.log(BOUNDS)
    found = [minimize(objective, np.log(s), method="L-BFGS-B", bounds=bounds) for s in STARTS]
    best = min(found, key=lambda result: float(result.fun))
    return Kernel(*np.exp(best.x).tolist())


def _minus_log_likelihood(logs: Floats, points: Floats, values: Floats) -> float:
    return -log_likelihood(Kernel(*np.exp(logs).tolist()), points, values)


def _factor(kernel: Kernel, points: Floats) -> Floats:
    """Return the lower Cholesky factor of the covariance of the measurements."""
    covariance = kernel.between(points, points) + kernel.noise * np.eye(points.size)
    factor: Floats = cholesky(covariance, lower=True)
    return factor
