"""The annealing law: the loss from the area under the rate and from how much it was lowered.

    L(s) = L0 + A S1^-alpha - C S2,   S1 = sum_{i<=s} lr[i],
    m[0] = 0, m[i] = lambda m[i-1] + (lr[i-1] - lr[i]),   S2 = sum_{i<=s} m[i]

Deviation from the authors' script: the rates of the warmup count as they were. They count them as
the peak; on long warmups that costs half the accuracy (.0043 to .0052 nats become .0062 to .0073
on the curves of arXiv:2503.12811). For their convention give rates that start at the peak.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from thalweg.errors import DialError
from thalweg.laws.rates import Effective, Scheduled, blocks
from thalweg.laws.solve import Columns, Prior

__all__ = ["AnnealingLaw", "annealing_area"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class AnnealingFeatures(NamedTuple):
    """Rates, and the logarithm of their sums."""

    rate_T: Floats
    steps_J: Ints
    log_area_J: Floats
    annealed_J: Floats
    """S2 at a fixed lambda."""


def annealing_area(lr_T: Floats, decay: float) -> tuple[Floats, Floats]:
    """Return S2 after every update, and its derivative by lambda, in O(T).

    Args:
        lr_T: Rate of every update.
        decay: lambda, 0 to below 1.

    Source: arXiv:2408.11029, eq. (1).

    Example:
        >>> annealing_area(np.array([3.0, 2.0, 2.0]), 0.5)[0].tolist()
        [0.0, 1.0, 1.5]
    """
    drop_T = -np.diff(lr_T, prepend=lr_T[0])
    momentum_T = lfilter([1.0], [1.0, -decay], drop_T)
    by_decay_T = lfilter([0.0, 1.0], [1.0, -decay], momentum_T)
    return np.cumsum(momentum_T), np.cumsum(by_decay_T)


@dataclass(frozen=True, kw_only=True)
class AnnealingLaw:
    """L0 + A S1^-alpha - C S2: three coefficients, one or two shapes.

    Source: arXiv:2408.11029, eq. (1).

    Raises:
        DialError: lambda is not between 0 and 1.

    Example:
        >>> AnnealingLaw().shapes, AnnealingLaw(decay=None).shapes
        (('exponent',), ('exponent', 'decay'))
    """

    decay: float | None = 0.999
    """lambda, per step; 0.99 to 0.999 fit about as well. None: fitted."""
    rates: Scheduled | Effective = field(default_factory=Scheduled)
    """What stands for the rate in both sums."""

    def __post_init__(self) -> None:
        """Refuse a lambda that forgets nothing or nothing but."""
        if self.decay is not None and not 0 <= self.decay < 1:
            raise DialError(
                f"decay is {self.decay!r}",
                expected="a number from 0 to below 1, or None",
                where="AnnealingLaw.decay",
                write="AnnealingLaw(decay=0.999)",
            )

    @property
    def name(self) -> str:
        """Return `annealing`."""
        return "annealing"

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Return L0, A and C by name."""
        return ("asymptote", "progress", "annealing")

    @property
    def shapes(self) -> tuple[str, ...]:
        """Return alpha, and lambda if it is fitted."""
        return ("exponent",) if self.decay is not None else ("exponent", "decay")

    @property
    def crosses_peaks(self) -> bool:
        """Return whether the rates are effective ones."""
        return isinstance(self.rates, Effective)

    def features(self, lr_T: Floats, steps_J: Ints) -> AnnealingFeatures:
        """Return the rates and S1, and S2 where lambda is fixed."""
        cut = blocks(lr_T)
        rate_K = self.rates.of(cut.lr_K, cut.length)
        rate_T = lr_T
        if isinstance(self.rates, Effective):
            ratio_K = rate_K / np.maximum(cut.lr_K, 1e-300)
            middle_K = 0.5 * (cut.edge_E[1:] + cut.edge_E[:-1] - 1)
            rate_T = lr_T * np.interp(np.arange(lr_T.size), middle_K, ratio_K)
        area_J = cut.integral(rate_K, steps_J)
        annealed_J = np.zeros(steps_J.size)
        if self.decay is not None:
            annealed_J = annealing_area(rate_T, self.decay)[0][steps_J]
        return AnnealingFeatures(rate_T, steps_J, np.log(np.maximum(area_J, 1e-300)), annealed_J)

    def columns(self, features: AnnealingFeatures, shape_P: Floats) -> Columns:
        """Return [1, S1^-alpha, -S2] and their slopes by log alpha and log(1 - lambda)."""
        alpha = np.exp(shape_P[0])
        power_J = np.exp(-alpha * features.log_area_J)
        annealed_J, slope_JMP = features.annealed_J, np.zeros((power_J.size, 3, shape_P.size))
        slope_JMP[:, 1, 0] = -alpha * features.log_area_J * power_J
        if self.decay is None:
            lost = np.exp(min(shape_P[1], -1e-6))
            area_T, by_decay_T = annealing_area(features.rate_T, 1 - lost)
            annealed_J = area_T[features.steps_J]
            slope_JMP[:, 2, 1] = lost * by_decay_T[features.steps_J]
        return Columns(np.stack([np.ones_like(power_J), power_J, -annealed_J], 1), slope_JMP)

    def free(self, shapes: Sequence[float]) -> Floats:
        """Return log alpha and log(1 - lambda)."""
        if self.decay is not None:
            return np.log(np.asarray(shapes, dtype=np.float64))
        return np.log([shapes[0], 1 - shapes[1]])

    def bound(self, shape_P: Floats) -> Floats:
        """Return alpha and lambda."""
        alpha = np.exp(shape_P)
        return alpha if self.decay is not None else np.array([alpha[0], 1 - alpha[1]])

    def starts(self) -> Sequence[Sequence[float]]:
        """Return alphas from .2 to 1, with lambdas from .99 to .9998 if it is fitted."""
        alphas = (0.2, 0.35, 0.5, 0.7, 1.0)
        if self.decay is not None:
            return [(alpha,) for alpha in alphas]
        return [(alpha, decay) for alpha in alphas for decay in (0.99, 0.997, 0.999, 0.9998)]

    def prior(self) -> Prior | None:
        """Return None: four numbers need none."""
        return None
