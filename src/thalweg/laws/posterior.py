"""What short runs say of a law's numbers, together with what is known beforehand.

Short runs leave directions open: a fit to them alone may put the asymptote at 0 and fall for ever.
So shapes and the asymptote get a belief from runs that were longer, and the answer is the mean of
what agrees with both, not the best fit. Progress and annealing coefficients are free; given the
others they are a least-squares problem.

The Laplace approximation is of no use here (the directions are curved): draws are weighted by how
well they do, and each round is drawn around the good ones of the last (adaptive importance
sampling).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from thalweg.core.rng import rng
from thalweg.laws.curve import Curve
from thalweg.laws.law import CurveLaw, Fitted, stretch

__all__ = ["BELIEFS", "Belief", "Posterior", "posterior"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COUNT, ROUNDS = 500, 12
"""Draws of a round, and rounds at most."""
WIDTHS = (1.0, 2.5)
"""Variances of the proposals, over those of the round before; the first round is the belief."""
ENOUGH = 60
"""Draws that must count before the next round is centred on them."""
POINTS = 50
"""Measurements of a curve that draws are compared with."""
LAST = 5
"""Measurements whose mean is the loss at the end of a run."""


@dataclass(frozen=True, kw_only=True)
class Belief:
    """A log-normal belief."""

    middle: float
    spread: float
    """Standard deviation of the logarithm."""


BELIEFS: Mapping[str, Belief] = {
    "exponent": Belief(middle=0.8, spread=0.4),
    "speed": Belief(middle=2.0, spread=0.5),
    "tail": Belief(middle=0.7, spread=0.4),
    "asymptote": Belief(middle=0.85, spread=0.08),
}
"""For MultiPowerLaw over steps; the asymptote as a share of the lowest loss at a past run's end.
Set on runs of 250k parameters, and without weight on the curves of 124M ones: docs/log.md."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """Sets of a law's numbers with their weights, and their mean as a fit."""

    law: CurveLaw
    linear_DM: Floats
    """Asymptote, progress and annealing of each draw."""
    shape_DP: Floats
    """Free shapes of each draw."""
    weight_D: Floats
    """They sum to 1."""
    fitted: Fitted
    """The numbers at the mean."""

    def losses(self, lr: Floats, steps: Ints) -> Floats:
        """Return [D, J]: the loss by every draw."""
        features = self.law.features(lr, steps)
        rows = [
            self.law.columns(features, shape).value_JM @ linear
            for linear, shape in zip(self.linear_DM, self.shape_DP, strict=True)
        ]
        return np.asarray(np.stack(rows), dtype=np.float64)

    def mean(self, lr: Floats, steps: Ints) -> Floats:
        """Return the mean loss [J] of the draws."""
        return np.asarray(self.weight_D @ self.losses(lr, steps), dtype=np.float64)

    def quantiles(self, value_DJ: Floats, shares: Sequence[float]) -> Floats:
        """Return the weighted quantiles [len(shares), J] of values of the draws."""
        order_DJ = np.argsort(value_DJ, axis=0)
        sorted_DJ = np.take_along_axis(value_DJ, order_DJ, 0)
        reached_DJ = np.cumsum(self.weight_D[order_DJ], axis=0)
        columns = range(value_DJ.shape[1])
        return np.array(
            [[np.interp(q, reached_DJ[:, j], sorted_DJ[:, j]) for j in columns] for q in shares]
        )


def posterior(fitted: Fitted, curves: Sequence[Curve]) -> Posterior:
    """Return the numbers of a law that agree with curves and beliefs.

    Args:
        fitted: The law's fit to the curves; its record and noise stay.
        curves: Its curves.
    """
    problem = _Problem(fitted.law, curves)
    belief = [BELIEFS[name] for name in (*fitted.law.shapes, "asymptote")]
    middle_Q = np.log([one.middle for one in belief])
    spread_Q = np.array([one.spread for one in belief])
    random = rng(0, "laws", "posterior")
    centre_Q: Floats = np.zeros(middle_Q.size)
    root_QQ: Floats = np.eye(middle_Q.size)
    for _ in range(ROUNDS):
        unit_DQ, density_D = _proposals(random, centre_Q, root_QQ)
        linear_DM, misfit_D = problem.solve(middle_Q + spread_Q * unit_DQ)
        log_D = -0.5 * misfit_D - 0.5 * (unit_DQ**2).sum(1) - density_D
        flat, weight_D = _weights(log_D)
        centre_Q = weight_D @ unit_DQ
        away_DQ = unit_DQ - centre_Q
        if flat == 1.0:
            break
        spread_QQ = (weight_D * away_DQ.T) @ away_DQ + 1e-6 * np.eye(centre_Q.size)
        root_QQ = np.asarray(np.linalg.cholesky(spread_QQ), dtype=np.float64)
    shape_DP = (middle_Q + spread_Q * unit_DQ)[:, :-1]
    mean_Q = middle_Q + spread_Q * centre_Q
    linear_M = problem.solve(mean_Q[None])[0][0]
    law = fitted.law
    numbers = [*linear_M.tolist(), *law.bound(mean_Q[:-1]).tolist()]
    values = dict(zip((*law.coefficients, *law.shapes), numbers, strict=True))
    return Posterior(
        law=law,
        linear_DM=linear_DM,
        shape_DP=shape_DP,
        weight_D=weight_D,
        fitted=replace(fitted, values=values),
    )


class _Problem:
    """Curves, and how far a law with given shapes and asymptote stays from them."""

    def __init__(self, law: CurveLaw, curves: Sequence[Curve]) -> None:
        thin = [curve.thinned(POINTS) for curve in curves]
        self._law = law
        self._features = [law.features(curve.lr, curve.steps) for curve in thin]
        self._loss_J = np.concatenate([curve.loss for curve in thin])
        self._lengths = [len(curve) for curve in thin]
        self._lowest = min(float(curve.loss[-LAST:].mean()) for curve in thin)

    def solve(self, number_DQ: Floats) -> tuple[Floats, Floats]:
        """Return coefficients [D, 3] and chi^2 [D] in units of the best draw's residuals."""
        found = [self._coefficients(number_Q) for number_Q in number_DQ]
        linear_DM = np.stack([linear for linear, _ in found])
        miss_DJ = np.stack([miss for _, miss in found])
        square_D = (miss_DJ**2).sum(1)
        best = int(np.argmin(square_D))
        free = max(self._loss_J.size - number_DQ.shape[1] - 2, 1)
        unit = square_D[best] / free * stretch(self._lengths, miss_DJ[best])
        return linear_DM, np.asarray(square_D / max(unit, 1e-12))

    def _coefficients(self, number_Q: Floats) -> tuple[Floats, Floats]:
        """Return asymptote, progress, annealing, and the misses as shares of the loss."""
        asymptote = self._lowest * np.exp(number_Q[-1])
        value_JM = np.concatenate(
            [self._law.columns(one, number_Q[:-1]).value_JM for one in self._features]
        )
        column_JM = value_JM[:, 1:] / self._loss_J[:, None]
        left_J = 1 - asymptote / self._loss_J
        pair_M = np.linalg.lstsq(column_JM, left_J, rcond=None)[0]
        if pair_M[1] < 0:  # a decay that raises the loss: progress alone
            alone_J = column_JM[:, 0]
            pair_M = np.array([alone_J @ left_J / (alone_J @ alone_J), 0.0])
        return np.array([asymptote, *np.maximum(pair_M, 0.0)]), column_JM @ pair_M - left_J


def _proposals(
    random: np.random.Generator, centre_Q: Floats, root_QQ: Floats
) -> tuple[Floats, Floats]:
    """Return draws [D, Q] from normals of several widths, and the log density of each."""
    wide_D = np.repeat(WIDTHS, COUNT // len(WIDTHS))
    plain_DQ = np.sqrt(wide_D)[:, None] * random.standard_normal((wide_D.size, centre_Q.size))
    square_D = (plain_DQ**2).sum(1)
    each = [-0.5 * square_D / w - 0.5 * centre_Q.size * np.log(w) for w in WIDTHS]
    return centre_Q + plain_DQ @ root_QQ.T, np.asarray(np.logaddexp.reduce(each))


def _weights(log_D: Floats) -> tuple[float, Floats]:
    """Return weights that sum to 1 and their power: below 1 where few draws would count."""
    log_D = log_D - log_D.max()
    for flat in (1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.005):
        weight_D = np.exp(flat * log_D)
        weight_D = weight_D / weight_D.sum()
        if 1 / (weight_D**2).sum() >= ENOUGH:
            break
    return flat, np.asarray(weight_D, dtype=np.float64)
