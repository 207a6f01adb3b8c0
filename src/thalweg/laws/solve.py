"""The fitting core of every law: positive coefficients times columns, in log space, robustly.

A law is  L = sum_m c[m] X[m](z)  with coefficients c > 0 and few shape numbers z. So starts need
no grid over c: for each start of z the best c >= 0 is a linear problem (NNLS), and only the best
starts are polished, all parameters together, by least squares with analytic gradients:

    sum_j huber_delta(log L[j] - log y[j]) / delta^2  +  1/2 sum_p w[p] (z[p] - m[p])^2

Coefficients are polished as logarithms, so they stay positive; z is whatever the law made of its
shapes (usually logarithms too). float64 throughout. The Huber loss on logarithms with delta 1e-3
is the one of arXiv:2203.15556, 2408.11029 and 2503.12811.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls

from thalweg.errors import RecipeError

__all__ = ["Columns", "Minimum", "Prior", "minimise"]

Floats = NDArray[np.float64]

DELTA = 1e-3
"""Huber threshold on log losses, from the papers above."""
POLISHED = 2
"""Starts that are followed to the end."""
LOWEST, HIGHEST = 1e-9, 1e9
"""Between these losses a fit can find its way; beyond them it is told to turn back."""
SMALLEST = 1e-9
"""A coefficient that NNLS sets to 0 starts at this share of the loss."""


class Columns(NamedTuple):
    """A law's columns at some measurements, and their slopes."""

    value_JM: Floats
    """One column a coefficient."""
    slope_JMP: Floats
    """Derivative of the columns by each shape number."""


class Prior(NamedTuple):
    """Where shape numbers should lie, and how much that counts; weight 0: not at all."""

    mean_P: Floats
    weight_P: Floats
    """1 / variance, against residuals measured in units of delta."""


class Minimum(NamedTuple):
    """What was found."""

    coefficient_M: Floats
    shape_P: Floats
    cost: float
    """The objective above."""
    covariance: Floats
    """[M + P, M + P] of log coefficients and shapes, for independent errors of size delta."""
    residual_J: Floats
    """log L - log y."""


def minimise(
    columns: Callable[[Floats], Columns],
    loss_J: Floats,
    starts: Sequence[Sequence[float] | Floats],
    *,
    prior: Prior | None = None,
    delta: float = DELTA,
) -> Minimum:
    """Fit coefficients and shapes of a law to losses.

    Args:
        columns: From shape numbers [P] to the columns.
        loss_J: Positive measurements.
        starts: Shape numbers to start from, each [P]; one empty start where there are none.
        prior: On the shape numbers.
        delta: Where the loss turns from square to absolute, in log loss.

    Returns:
        The best minimum over the starts.

    Raises:
        RecipeError: No start gives finite columns.

    Example:
        >>> x = np.arange(1.0, 9.0)
        >>> def line(z):
        ...     return Columns(np.stack([np.ones(8), x], 1), np.zeros((8, 2, 0)))
        >>> minimise(line, 2 + 3 * x, [()]).coefficient_M.round(6).tolist()
        [2.0, 3.0]
    """
    with np.errstate(over="ignore", invalid="ignore"):
        ranked = sorted(
            (found for start in starts if (found := _rough(columns, loss_J, start, delta))),
            key=lambda found: found[0],
        )
    if not ranked:
        raise RecipeError(
            "no start of the fit gives finite numbers",
            expected="finite features of the curves",
            where="laws.solve.minimise",
            write="curves whose steps and rates are of ordinary size",
        )
    objective = _Objective(columns, loss_J, len(starts[0]), prior, delta)
    best = min((objective.polish(start) for _, start in ranked[:POLISHED]), key=lambda r: r.cost)
    return objective.minimum(best)


def _rough(
    columns: Callable[[Floats], Columns],
    loss_J: Floats,
    start: Sequence[float] | Floats,
    delta: float,
) -> tuple[float, Floats] | None:
    shape_P = np.asarray(start, dtype=np.float64)
    value_JM = columns(shape_P).value_JM / loss_J[:, None]
    if not np.isfinite(value_JM).all():
        return None
    size_M = np.maximum(np.abs(value_JM).max(0), 1e-300)
    coefficient_M, _ = nnls(value_JM / size_M, np.ones(loss_J.size))
    coefficient_M = np.maximum(coefficient_M, SMALLEST) / size_M
    cost = np.abs(np.log(np.maximum(value_JM @ coefficient_M, 1e-12))).sum() / delta
    return float(cost), np.concatenate([np.log(coefficient_M), shape_P])


class _Objective:
    """Residuals and their slopes at log coefficients and shapes, computed once a point."""

    def __init__(
        self,
        columns: Callable[[Floats], Columns],
        loss_J: Floats,
        shapes: int,
        prior: Prior | None,
        delta: float,
    ) -> None:
        self.columns = columns
        self.shapes = shapes
        self.log_J = np.log(loss_J)
        self.delta = delta
        self.prior = prior
        self.at: Floats | None = None
        self.known: tuple[Floats, Floats] = (self.log_J, self.log_J)

    def polish(self, start: Floats) -> Any:
        """Follow one start to its minimum."""
        return least_squares(
            self.residual,
            start,
            jac=self.slope,
            loss=self.huber,
            max_nfev=200,
            xtol=1e-9,
            ftol=1e-9,
            gtol=1e-9,
        )

    def minimum(self, found: Any) -> Minimum:
        """Return the parts of what was found."""
        count = self.log_J.size
        residual, slope = self._both(found.x)
        weight = np.ones(residual.size)
        weight[:count] = 1.0 / np.maximum(1.0, np.abs(residual[:count]))
        normal = slope.T @ (weight[:, None] * slope)
        many = found.x.size - self.shapes
        return Minimum(
            np.exp(found.x[:many]),
            found.x[many:],
            float(found.cost),
            np.asarray(np.linalg.pinv(normal, rcond=1e-12, hermitian=True)),
            residual[:count] * self.delta,
        )

    def residual(self, point: Floats) -> Floats:
        """Return residuals over delta, then those of the prior."""
        return self._both(point)[0]

    def slope(self, point: Floats) -> Floats:
        """Return the derivative of `residual`."""
        return self._both(point)[1]

    def huber(self, square: Floats) -> Floats:
        """Return the Huber loss of the data and the plain square of the prior, with slopes."""
        root = np.sqrt(np.maximum(square, 1.0))
        loss = np.stack([2 * root - 1, 1 / root, -0.5 / root**3])
        inside = square <= 1.0
        inside[self.log_J.size :] = True
        loss[0, inside] = square[inside]
        loss[1, inside] = 1.0
        loss[2, inside] = 0.0
        return loss

    def _both(self, point: Floats) -> tuple[Floats, Floats]:
        if self.at is not None and np.array_equal(point, self.at):
            return self.known
        with np.errstate(over="ignore", invalid="ignore"):
            self.known = self._compute(point)
        self.at = point.copy()
        return self.known

    def _compute(self, point: Floats) -> tuple[Floats, Floats]:
        many = point.size - self.shapes
        coefficient_M = np.exp(np.minimum(point[:many], 300.0))
        value_JM, slope_JMP = self.columns(point[many:])
        loss_J = np.nan_to_num(value_JM @ coefficient_M, nan=HIGHEST, posinf=HIGHEST)
        safe_J = np.clip(loss_J, LOWEST, HIGHEST)
        by_shape = np.einsum("jmp,m->jp", slope_JMP, coefficient_M)
        slope = np.concatenate([value_JM * coefficient_M, by_shape], 1) / safe_J[:, None]
        slope[(safe_J != loss_J) | ~np.isfinite(slope).all(1)] = 0.0
        residual, slope = (np.log(safe_J) - self.log_J) / self.delta, slope / self.delta
        if self.prior is not None:
            root_P = np.sqrt(self.prior.weight_P)
            residual = np.append(residual, root_P * (point[many:] - self.prior.mean_P))
            pull = np.zeros((root_P.size, point.size))
            pull[:, many:] = np.diag(root_P)
            slope = np.concatenate([slope, pull])
        return residual, slope
