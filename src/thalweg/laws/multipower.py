"""The multi-power law: every lowering of the rate lowers the loss, soon and then ever more slowly.

    L(s) = L0 + A S(s)^-alpha - B sum_k (r[k-1] - r[k]) G(x_k(s)),   G(x) = 1 - (1 + C x)^-beta

with S the sum of the rates r, and x_k(s) how far the run has come since the change at k: over
scheduled rates x_k = lr[k]^-gamma S_k(s) (`relaxation="rates"`, the paper's), or the steps since k
(`relaxation="steps"`, one shape fewer). The sum runs over the warmup too, so a rise of the
rate raises the loss, and L0 is the loss at rate 0 and infinite time.

Deviations from the paper. The rates r may be effective ones (see laws.rates); x keeps the
scheduled rates. Changes are summed over blocks of the run, not over steps: below 1e-4 nats. The
three shapes C, beta and gamma have a log-normal prior around (1, .5, .5): fitted freely
on three short curves they run away and predict longer ones worse, and the paper's own early
stopping was such a prior, unspoken.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.laws.rates import Effective, Scheduled, blocks
from thalweg.laws.solve import Columns, Prior

__all__ = ["MultiPowerLaw"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST = 1e-9
"""Rates below this share of the peak count as this share: 0^-gamma is infinite."""


FAINT = [4.0, 0.44]
"""1 / variance of the logarithms of alpha, and of C over steps."""


class MultiPowerFeatures(NamedTuple):
    """What of a schedule the law sees."""

    log_area_J: Floats
    """log S."""
    change_K: Floats
    """r[k] - r[k-1] of every block with a change."""
    log_since_JK: Floats
    """log of S_k(s), or of the steps since k; -inf before k."""
    log_rate_K: Floats
    """log of the scheduled rate after the change."""


@dataclass(frozen=True, kw_only=True)
class MultiPowerLaw:
    """L0 + A S^-alpha - B sum of relaxing drops: three coefficients, three or four shapes.

    Source: arXiv:2503.12811, eq. (2), and the authors' code for the constants.

    Example:
        >>> MultiPowerLaw().shapes, MultiPowerLaw(relaxation="steps").shapes
        (('exponent', 'speed', 'tail', 'slowing'), ('exponent', 'speed', 'tail'))
    """

    rates: Scheduled | Effective = field(default_factory=Scheduled)
    """What stands for the rate in S and in the drops."""
    relaxation: Literal["rates", "steps"] = "rates"
    """The clock of the relaxation after a drop."""
    strength: float = 1000.0
    """Weight of the prior on speed, tail and slowing (on tail alone, and a hundredth of it, over
    steps), against Huber losses in units of delta; 0: none."""

    @property
    def name(self) -> str:
        """Return `multi-power`."""
        return "multi-power"

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Return L0, A and B by name."""
        return ("asymptote", "progress", "annealing")

    @property
    def shapes(self) -> tuple[str, ...]:
        """Return alpha, C, beta and gamma by name."""
        names = ("exponent", "speed", "tail", "slowing")
        return names if self.relaxation == "rates" else names[:3]

    @property
    def crosses_peaks(self) -> bool:
        """Return whether the rates are effective ones."""
        return isinstance(self.rates, Effective)

    def features(self, lr_T: Floats, steps_J: Ints) -> MultiPowerFeatures:
        """Return log S, the changes, and the time since each."""
        cut = blocks(lr_T)
        rate_K = self.rates.of(cut.lr_K, cut.length)
        log_area_J = np.log(np.maximum(cut.integral(rate_K, steps_J), 1e-300))
        change_K = np.diff(rate_K, prepend=0.0)
        some = np.flatnonzero(np.abs(change_K) > 1e-9 * rate_K.max())
        start = cut.edge_E[some]
        if self.relaxation == "rates":
            until_J = cut.integral(cut.lr_K, steps_J)
            since_JK = until_J[:, None] - cut.integral(cut.lr_K, start - 1)[None, :]
        else:
            since_JK = np.asarray((steps_J[:, None] + 1.0) - start[None, :], dtype=np.float64)
        lr_K = np.maximum(cut.lr_K[some], LEAST * lr_T.max())
        with np.errstate(divide="ignore"):
            since_JK = np.where(start[None, :] <= steps_J[:, None], since_JK, 0.0)
            log_since_JK = np.log(since_JK)
        return MultiPowerFeatures(log_area_J, change_K[some], log_since_JK, np.log(lr_K))

    def columns(self, features: MultiPowerFeatures, shape_P: Floats) -> Columns:
        """Return [1, S^-alpha, -drops] and their slopes by the logarithms of the shapes."""
        alpha, tail = np.exp(shape_P[0]), np.exp(shape_P[2])
        slowing = np.exp(shape_P[3]) if self.relaxation == "rates" else 0.0
        power_J = np.exp(-alpha * features.log_area_J)
        log_x_JK = shape_P[1] + features.log_since_JK - slowing * features.log_rate_K
        with np.errstate(over="ignore"):
            x_JK = np.exp(np.minimum(log_x_JK, 600.0))
        log_JK = np.log1p(x_JK)
        left_JK = np.exp(-tail * log_JK)
        change_K = features.change_K
        slope_JMP = np.zeros((power_J.size, 3, shape_P.size))
        slope_JMP[:, 1, 0] = -alpha * features.log_area_J * power_J
        by_log_x_JK = tail * left_JK * (x_JK / (1.0 + x_JK))
        slope_JMP[:, 2, 1] = by_log_x_JK @ change_K
        slope_JMP[:, 2, 2] = tail * ((left_JK * log_JK) @ change_K)
        if self.relaxation == "rates":
            slope_JMP[:, 2, 3] = -slowing * (by_log_x_JK @ (change_K * features.log_rate_K))
        value_JM = np.stack([np.ones_like(power_J), power_J, (1 - left_JK) @ change_K], 1)
        return Columns(value_JM, slope_JMP)

    def free(self, shapes: Sequence[float]) -> Floats:
        """Return the logarithms."""
        return np.log(np.asarray(shapes, dtype=np.float64))

    def bound(self, shape_P: Floats) -> Floats:
        """Return the shapes."""
        return np.exp(shape_P)

    def starts(self) -> Sequence[Sequence[float]]:
        """Return alphas from .25 to .8 around the prior."""
        alphas = (0.25, 0.4, 0.55, 0.8)
        if self.relaxation == "rates":
            return [(alpha, 1.0, 0.5, 0.5) for alpha in alphas]
        return [(alpha, speed, 0.5) for alpha in alphas for speed in (0.002, 0.01, 0.05)]

    def prior(self) -> Prior | None:
        """Return the log-normal prior around C = 1, beta = .5, gamma = .5, and a faint one.

        The faint one, alpha within a factor 1.6 of .5 and C over steps within 4.5 of .02, decides
        nothing on clean curves and keeps a fit to noisy training losses in its senses.
        """
        if self.strength == 0:
            return None
        half = float(np.log(0.5))
        if self.relaxation == "rates":
            strong = [0.0, self.strength, self.strength, self.strength]
            return Prior(np.array([half, 0.0, half, half]), np.array(FAINT[:1] + strong[1:]))
        mean = np.array([half, float(np.log(0.02)), half])
        return Prior(mean, np.array([*FAINT, 0.01 * self.strength]))
