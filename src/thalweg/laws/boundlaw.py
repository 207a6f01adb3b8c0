"""The convex bound as a law of curves: c + a t1(s) + b t23(s), s by s.

Linear in three numbers, so it needs no start. It is the shape of a curve and no more: expect a
mean error of .03 to .04 nats where the laws over sums of rates reach .002 to .005.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.laws.convex import bound_parts
from thalweg.laws.solve import Columns, Prior

__all__ = ["BoundLaw"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST = 200
"""Steps at which the bound is evaluated; between them straight lines."""


class BoundFeatures(NamedTuple):
    """t1 and t23 of the schedule up to each step, at the scheduled rates."""

    distance_J: Floats
    noise_J: Floats


@dataclass(frozen=True, kw_only=True)
class BoundLaw:
    """c + a t1 + b t23 with gradients of constant size.

    Source: arXiv:2501.18965, section 4; Theorem 10 of arXiv:2310.07831.

    Example:
        >>> BoundLaw().coefficients
        ('asymptote', 'distance', 'noise')
    """

    @property
    def name(self) -> str:
        """Return `convex bound`."""
        return "convex bound"

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Return c, a and b by name."""
        return ("asymptote", "distance", "noise")

    @property
    def shapes(self) -> tuple[str, ...]:
        """Return nothing: it is linear."""
        return ()

    @property
    def crosses_peaks(self) -> bool:
        """Return False."""
        return False

    def features(self, lr_T: Floats, steps_J: Ints) -> BoundFeatures:
        """Return the bound's parts of every truncated schedule, in O(MOST T)."""
        place = np.unique(np.linspace(0, steps_J.size - 1, min(MOST, steps_J.size)).astype(int))
        some = steps_J[place]
        parts = np.array([bound_parts(lr_T[: max(int(step), 1) + 1]) for step in some])
        return BoundFeatures(
            np.interp(steps_J, some, parts[:, 0]), np.interp(steps_J, some, parts[:, 1])
        )

    def columns(self, features: BoundFeatures, shape_P: Floats) -> Columns:
        """Return [1, t1, t23]."""
        rows = [np.ones_like(features.noise_J), features.distance_J, features.noise_J]
        return Columns(np.stack(rows, 1), np.zeros((rows[0].size, 3, 0)))

    def free(self, shapes: Sequence[float]) -> Floats:
        """Return an empty array."""
        return np.zeros(0)

    def bound(self, shape_P: Floats) -> Floats:
        """Return an empty array."""
        return np.zeros(0)

    def starts(self) -> Sequence[Sequence[float]]:
        """Return one empty start."""
        return [()]

    def prior(self) -> Prior | None:
        """Return None."""
        return None
