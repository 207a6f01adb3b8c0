"""Which law: errors on curves a fit has not seen."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import RecipeError
from thalweg.laws.curve import Curve
from thalweg.laws.law import CurveLaw, Fitted, check_law, fit
from thalweg.laws.record import check_are_curves

__all__ = ["Errors", "cross_validate", "errors_of", "rank"]

Floats = NDArray[np.float64]


class Errors(NamedTuple):
    """How far predictions are from curves; means are over curves, not points."""

    r2: float
    """Share of each curve's variance that is explained."""
    mae: float
    """Mean absolute error, nats."""
    relative: float
    """Mean absolute error over the loss."""
    worst: float
    """Largest relative error of a curve."""
    largest: float
    """Largest absolute error of any point of any curve, nats."""
    final: float
    """Absolute error of the last point, nats."""


def errors_of(fitted: Fitted, curves: Sequence[Curve]) -> Errors:
    """Return the errors of a fit on curves, without asking its record.

    Raises:
        RecipeError: No curves, or no list of them.
    """
    check_are_curves(curves, "errors_of(curves)")
    if not curves:
        raise RecipeError(
            "no curves to compare with",
            expected="at least one curve",
            where="errors_of",
            write="errors_of(fitted, [curve])",
        )
    rows, largest = [], 0.0
    for curve in (one.begun() for one in curves):
        miss = np.abs(fitted.expect(curve.lr, curve.steps) - curve.loss)
        spread = float(((curve.loss - curve.loss.mean()) ** 2).sum())
        share = miss / curve.loss
        r2 = 1 - float((miss**2).sum()) / max(spread, 1e-300)
        rows.append((r2, miss.mean(), share.mean(), share.max(), miss[-1]))
        largest = max(largest, float(miss.max()))
    r2, mae, relative, worst, final = np.mean(rows, axis=0).tolist()
    return Errors(r2, mae, relative, worst, largest, final)


def cross_validate(law: CurveLaw, curves: Sequence[Curve]) -> Errors:
    """Return the errors on each curve by a fit on the others.

    Args:
        law: Which one.
        curves: At least three, so that every fit sees two.

    Raises:
        RecipeError: No law, no list of curves, or fewer than three.
    """
    check_law(law, "cross_validate(law)")
    check_are_curves(curves, "cross_validate(curves)")
    if len(curves) < 3:
        raise RecipeError(
            f"{len(curves)} curves",
            expected="at least three: each is predicted by a fit on the others",
            where="cross_validate",
            write="more runs, or errors_of(fitted, held_out)",
        )
    found = [
        errors_of(fit(law, [*curves[:k], *curves[k + 1 :]]), [curves[k]])
        for k in range(len(curves))
    ]
    r2, mae, relative, worst, _, final = np.mean(found, axis=0).tolist()
    return Errors(r2, mae, relative, worst, max(one.largest for one in found), final)


def rank(laws: Mapping[str, CurveLaw], curves: Sequence[Curve]) -> list[tuple[str, Errors]]:
    """Return the laws by cross-validated mean error, best first."""
    found = [(name, cross_validate(law, curves)) for name, law in laws.items()]
    return sorted(found, key=lambda pair: pair[1].mae)
