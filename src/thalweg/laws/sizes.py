"""One law for models of several sizes: from curves of small models to those of a larger one.

    L(s; N) = E + a n^-p + A n^u X(s) + B n^v Y(s),   n = N / reference

with X and Y the columns of a law of curves (progress and annealing), whose shapes all sizes share.
p is given, not fitted: few sizes cannot tell E from p. On runs of 14M to 61M parameters without
embeddings every p from 0.06 (E = 0: the exponent of arXiv:2001.08361) to 0.2 describes the runs
equally, 0.12 predicted the largest of them best from the others, and 0.34, the exponent that
arXiv:2203.15556 found for all parameters, did worse (docs/log.md has the table).

N counts the weights without embeddings: with them the error at the next size is twice as large.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import DialError, RecipeError
from thalweg.laws.curve import Curve
from thalweg.laws.law import POINTS, CurveLaw, Fitted, check_law, scatter, stretch
from thalweg.laws.record import SAME, Record, check_are_curves, check_curves, object_to, record_of
from thalweg.laws.solve import DELTA, Columns, Prior, minimise

__all__ = ["FittedSizes", "fit_sizes", "sized", "sizes_of"]

Floats = NDArray[np.float64]

EXPONENT = 0.12
"""p above."""
GROWTHS = ("progress_growth", "annealing_growth")
"""u and v above."""
FAINT = 4.0
"""1 / variance of a growth beforehand, around 0, against residuals in units of delta."""
REACH = 3.0
"""Beyond this many times the largest size, or below the smallest by as much, a law is refused."""
PER_DOUBLING = 0.003
"""Standard deviation of what the law gets wrong in the asymptote, as a share of it, for each factor
of 2 between a size and the nearest fitted one; measured on set A (docs/log.md)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedSizes:
    """A law over several sizes with its numbers; `at` makes it the law of one size."""

    law: CurveLaw
    """Of curves."""
    sizes: tuple[float, ...]
    """Parameters of the fitted models, rising."""
    exponent: float
    """p."""
    values: Mapping[str, float]
    """floor (E), asymptote (a), progress, annealing, the law's shapes, and the two growths."""
    covariance: Floats
    """Of the logarithms of the first four, the free shapes and the growths (Laplace)."""
    noise: float
    """Standard deviation of the residuals, as a share of the loss."""
    error: float
    """Mean absolute residual on the fitted curves, nats."""
    record: Record

    @property
    def reference(self) -> float:
        """Return the size that n is counted in: the geometric mean."""
        return _reference(self.sizes)

    def at(self, parameters: float, *, elsewhere: Literal["refuse", "warn"] = "refuse") -> Fitted:
        """Return the law of one size, with an interval that widens away from the fitted ones.

        Args:
            parameters: Of the model, counted as those of the fitted runs were.
            elsewhere: What to do beyond three times the largest size.

        Raises:
            RecipeError: The size is more than three times away from the fitted ones.
        """
        if not self.sizes[0] / REACH <= parameters <= self.sizes[-1] * REACH:
            known = 0 < parameters < np.inf
            object_to(_too_far(parameters, self.sizes), elsewhere if known else "refuse")
        log_n = float(np.log(parameters / self.reference))
        shapes, number = self.law.shapes, self.values
        share = number["asymptote"] * float(np.exp(-self.exponent * log_n))
        asymptote = number["floor"] + share
        grown = [np.exp(number[name] * log_n) for name in GROWTHS]
        values = {
            "asymptote": asymptote,
            "progress": number["progress"] * float(grown[0]),
            "annealing": number["annealing"] * float(grown[1]),
            **{name: number[name] for name in shapes},
        }
        turn = np.zeros((3 + len(shapes), 6 + len(shapes)))
        turn[0, :2] = number["floor"] / asymptote, share / asymptote
        turn[1:, 2:-2] = np.eye(2 + len(shapes))
        turn[1, -2] = turn[2, -1] = log_n
        covariance = turn @ self.covariance @ turn.T
        nearest = min(abs(np.log2(parameters / size)) for size in self.sizes)
        covariance[0, 0] += (PER_DOUBLING * nearest) ** 2
        return Fitted(
            law=self.law,
            values=values,
            covariance=covariance,
            noise=self.noise,
            error=self.error,
            record=replace(self.record, origin=replace(self.record.origin, parameters=parameters)),
        )


def sizes_of(curves: Sequence[Curve]) -> tuple[float, ...]:
    """Return the different sizes of models, rising; within 2 % they are one, and unknown none."""
    found: list[float] = []
    for size in sorted(c.origin.parameters for c in curves if c.origin.parameters):
        if not found or size > SAME * found[-1]:
            found.append(float(size))
    return tuple(found)


def sized(curves: Sequence[Curve], parameters: Sequence[float]) -> list[Curve]:
    """Return curves with the sizes of their models: one for all, or one for each; none: as known.

    Raises:
        RecipeError: Another number of sizes than of curves.

    Example:
        >>> curve = Curve(name="a", steps=[0], loss=[3.0], lr=[0.1])
        >>> [c.origin.parameters for c in sized([curve, curve], [1e6, 2e6])]
        [1000000.0, 2000000.0]
    """
    if parameters and len(parameters) not in (1, len(curves)):
        raise RecipeError(
            f"{len(parameters)} sizes for {len(curves)} curves",
            expected="one size for all, or one for each in their order",
            where="--parameters",
            write="thalweg laws fit A.csv B.csv --parameters 14e6 --parameters 27e6",
        )
    each = list(parameters) if len(parameters) > 1 else [*parameters] * len(curves)
    if not each:
        return list(curves)
    return [
        replace(curve, origin=replace(curve.origin, parameters=size))
        for curve, size in zip(curves, each, strict=True)
    ]


def fit_sizes(law: CurveLaw, curves: Sequence[Curve], *, exponent: float = EXPONENT) -> FittedSizes:
    """Fit one law to curves of models of several sizes.

    Args:
        law: With an asymptote, progress and annealing: MultiPowerLaw or AnnealingLaw.
        curves: Runs on one text; every `origin.parameters` is known, without embeddings, and each
            size has runs that a law can be fitted on.
        exponent: p, of what a larger model takes from the asymptote.

    Raises:
        RecipeError: No law, no list of curves, one size only, a size that is not
            known, or curves that `fit` would refuse.
        DialError: The exponent is not above 0.

    Example:
        >>> from thalweg.laws import AnnealingLaw, Origin, warmup_hold_decay
        >>> lr, s = warmup_hold_decay(2000, peak=1e-3, decay=500), np.arange(100, 2000, 20)
        >>> x = AnnealingLaw().columns(AnnealingLaw().features(lr, s), np.log([0.5])).value_JM
        >>> runs = [Curve(name=str(n), steps=s, lr=lr, loss=x @ [1 + n**-0.12, 1.0, 0.5],
        ...               origin=Origin(parameters=n)) for n in (1e6, 2e6, 4e6)]
        >>> round(fit_sizes(AnnealingLaw(), runs).at(8e6).values["asymptote"] - 8e6**-0.12, 3)
        1.0
    """
    check_law(law, "fit_sizes(law)")
    check_are_curves(curves, "fit_sizes(curves)")
    _check(law, curves, exponent)
    curves = [curve.begun() for curve in curves]
    alike = [replace(c, origin=replace(c.origin, parameters=None)) for c in curves]
    check_curves(alike, len(law.shapes) + 6, "refuse")
    sizes = sizes_of(curves)
    thin = [curve.thinned(POINTS) for curve in curves]
    loss_J = np.concatenate([curve.loss for curve in thin])
    delta = max(DELTA, scatter(thin))
    found = minimise(
        _Over(law, thin, _reference(sizes), exponent),
        loss_J,
        [[*law.free(start), 0.0, 0.0] for start in law.starts()],
        prior=_prior(law),
        delta=delta,
    )
    shapes = law.bound(found.shape_P[:-2]).tolist()
    numbers = [*found.coefficient_M.tolist(), *shapes, *found.shape_P[-2:].tolist()]
    noise = float(np.sqrt((found.residual_J**2).sum() / max(loss_J.size - len(numbers), 1)))
    widen = (noise / delta) ** 2 * stretch([len(curve) for curve in thin], found.residual_J)
    return FittedSizes(
        law=law,
        sizes=sizes,
        exponent=exponent,
        values=dict(zip(("floor", *law.coefficients, *law.shapes, *GROWTHS), numbers, strict=True)),
        covariance=found.covariance * widen,
        noise=noise,
        error=float(np.mean(np.abs(np.expm1(found.residual_J) * loss_J))),
        record=record_of(alike),
    )


class _Over:
    """The columns of a law over curves of several sizes: 1, n^-p, n^u X, n^v Y."""

    def __init__(
        self, law: CurveLaw, curves: Sequence[Curve], reference: float, exponent: float
    ) -> None:
        self._law = law
        self._features = [law.features(curve.lr, curve.steps) for curve in curves]
        size_J = np.concatenate([np.full(len(c), c.origin.parameters) for c in curves])
        self._log_n_J = np.log(size_J / reference)
        self._share_J = np.exp(-exponent * self._log_n_J)

    def __call__(self, number_P: Floats) -> Columns:
        """Return the columns and their slopes by the free shapes and the two growths."""
        parts = [self._law.columns(one, number_P[:-2]) for one in self._features]
        value_JM = np.concatenate([part.value_JM for part in parts])
        slope_JMP = np.concatenate([part.slope_JMP for part in parts])
        with np.errstate(over="ignore"):
            grown_J2 = np.exp(self._log_n_J[:, None] * number_P[-2:])
        pair_J2 = grown_J2 * value_JM[:, 1:]
        by_J4P = np.zeros((value_JM.shape[0], 4, number_P.size))
        by_J4P[:, 2:, :-2] = grown_J2[:, :, None] * slope_JMP[:, 1:]
        by_J4P[:, 2, -2] = self._log_n_J * pair_J2[:, 0]
        by_J4P[:, 3, -1] = self._log_n_J * pair_J2[:, 1]
        return Columns(np.column_stack([value_JM[:, 0], self._share_J, pair_J2]), by_J4P)


def _prior(law: CurveLaw) -> Prior:
    """Return the law's own belief, and a faint one that growths are small."""
    own = law.prior()
    mean_P = np.zeros(len(law.shapes)) if own is None else own.mean_P
    weight_P = np.zeros(len(law.shapes)) if own is None else own.weight_P
    return Prior(np.append(mean_P, [0.0, 0.0]), np.append(weight_P, [FAINT, FAINT]))


def _check(law: CurveLaw, curves: Sequence[Curve], exponent: float) -> None:
    if not 0 < exponent < np.inf:
        raise DialError(
            f"an exponent of {exponent!r}",
            expected="a number above 0",
            where="fit_sizes(exponent=...)",
            write=f"exponent={EXPONENT}",
        )
    if law.coefficients != ("asymptote", "progress", "annealing"):
        raise RecipeError(
            f"the law {law.name} with " + ", ".join(law.coefficients),
            expected="a law with an asymptote, progress and annealing",
            where="fit_sizes",
            write="MultiPowerLaw(rates=Effective(), relaxation='steps')",
        )
    unknown = [curve.name for curve in curves if not curve.origin.parameters]
    if unknown:
        raise RecipeError(
            f"{len(unknown)} curves of models of unknown size: " + ", ".join(unknown[:5]),
            expected="the parameters of every model, without embeddings",
            where="fit_sizes",
            write="Origin(parameters=85e6), or --parameters once for each file",
        )
    if len(sizes_of(curves)) < 2:
        raise RecipeError(
            f"models of {len(sizes_of(curves))} size",
            expected="two sizes at least, better three",
            where="fit_sizes",
            write="fit(law, curves), for a law of one size",
        )


def _reference(sizes: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(sizes))))


def _too_far(parameters: float, sizes: Sequence[float]) -> RecipeError:
    span = f"{sizes[0]:.3g} to {sizes[-1]:.3g}"
    return RecipeError(
        f"a model of {parameters:g} parameters",
        expected=f"one within {REACH:g} times those that were fitted, {span}",
        where="the record of the fit",
        write="runs of a model nearer to it; or --elsewhere warn to use it all the same",
    )
