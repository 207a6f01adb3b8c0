"""What a law of loss curves is, how it is fitted, and what a fit is allowed to be used for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from thalweg.core.rng import rng
from thalweg.errors import RecipeError
from thalweg.laws.curve import Curve, Origin
from thalweg.laws.rates import JUMP, blocks
from thalweg.laws.record import Record, check_are_curves, check_curves, check_use, record_of
from thalweg.laws.solve import DELTA, Columns, Prior, minimise

__all__ = ["Band", "CurveLaw", "Fitted", "check_law", "evaluate", "fit", "scatter", "stretch"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

POINTS = 400
"""A curve with more measurements is averaged down to this many before a fit."""

MISFIT = 0.0008
"""Standard deviation of what a law gets wrong on a whole unseen curve of its peak, as a share of
the loss; measured on set A of the loss curves (docs/log.md)."""
PER_DOUBLING = 0.003
"""The same for each factor of 2 between the peak and the record, for laws that cross peaks."""


@runtime_checkable
class CurveLaw(Protocol):
    """A family of loss curves: positive coefficients times columns of the schedule.

    L(s) = sum over m of coefficient_m * column_m, a function of the rates up to s and of shapes.
    """

    @property
    def name(self) -> str:
        """Say which law, in a word or two."""
        ...

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Name the linear numbers, in the order of the columns."""
        ...

    @property
    def shapes(self) -> tuple[str, ...]:
        """Name the other numbers."""
        ...

    @property
    def crosses_peaks(self) -> bool:
        """Say whether one fit holds for other peak rates."""
        ...

    def features(self, lr_T: Floats, steps_J: Ints) -> Any:
        """Return what does not depend on the parameters."""
        ...

    def columns(self, features: Any, shape_P: Floats) -> Columns:
        """Return the columns at shape numbers as `free` makes them."""
        ...

    def free(self, shapes: Sequence[float]) -> Floats:
        """Turn shapes into numbers without bounds."""
        ...

    def bound(self, shape_P: Floats) -> Floats:
        """Turn them back."""
        ...

    def starts(self) -> Sequence[Sequence[float]]:
        """Return shapes to start a fit from."""
        ...

    def prior(self) -> Prior | None:
        """Return what is known of the shapes beforehand, on the numbers of `free`."""
        ...


class Band(NamedTuple):
    """A predicted curve with its interval, in nats per token."""

    loss: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """A law with its numbers, their uncertainty, and what they were fitted on."""

    law: CurveLaw
    values: Mapping[str, float]
    """Every coefficient and shape by name."""
    covariance: Floats
    """Of log coefficients and free shapes (Laplace), widened for correlated residuals."""
    noise: float
    """Standard deviation of the residuals, as a share of the loss."""
    error: float
    """Mean absolute residual on the fitted curves, nats."""
    record: Record

    def predict(
        self,
        lr: Sequence[float] | Floats,
        steps: Sequence[int] | Ints | None = None,
        *,
        origin: Origin | None = None,
        elsewhere: Literal["refuse", "warn"] = "refuse",
    ) -> Floats:
        """Return the loss this law expects.

        Args:
            lr: [T] rate of every update.
            steps: [J] where; all T steps if left out.
            origin: What the run is made with; compared with the record.
            elsewhere: What to do where the record does not reach.

        Returns:
            [J] nats per token.

        Raises:
            RecipeError: The law is used outside its record.
        """
        lr_T, steps_J = _where(lr, steps)
        check_use(self.record, float(lr_T.max()), origin, elsewhere, crosses=self.law.crosses_peaks)
        return evaluate(self.law, self.point, lr_T, steps_J)

    def band(
        self,
        lr: Sequence[float] | Floats,
        steps: Sequence[int] | Ints | None = None,
        *,
        level: float = 0.9,
        draws: int = 200,
        origin: Origin | None = None,
        elsewhere: Literal["refuse", "warn"] = "refuse",
    ) -> Band:
        """Return the prediction and an interval for one measurement, by Laplace draws.

        Added to the parameters' uncertainty: the noise of a measurement, what laws were seen to
        miss on unseen curves, and more of that for each doubling away from the record's peaks.

        Args:
            lr: [T] rate of every update.
            steps: [J] where; all T steps if left out.
            level: Share of measurements that should fall inside.
            draws: Parameter sets drawn; 200 give the ends to a tenth of their width.
            origin: What the run is made with.
            elsewhere: What to do where the record does not reach.
        """
        lr_T, steps_J = _where(lr, steps)
        middle = self.predict(lr_T, steps_J, origin=origin, elsewhere=elsewhere)
        place = np.unique(np.linspace(0, steps_J.size - 1, 60).astype(np.int64))
        some = steps_J[place]
        random = rng(0, "laws", "band", draws)
        points = random.multivariate_normal(self.point, self.covariance, draws, method="svd")
        features = self.law.features(lr_T, some)
        curves = np.stack([_at(self.law, features, point) for point in points])
        away = max(float(lr_T.max()) / self.record.highest_peak, 1.0) * max(
            self.record.lowest_peak / float(lr_T.max()), 1.0
        )
        astray = np.hypot(MISFIT, PER_DOUBLING * np.log2(away)) * random.standard_normal((draws, 1))
        curves = curves * (1 + astray + self.noise * random.standard_normal(curves.shape))
        low, high = np.quantile(curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
        centre = middle[place]
        below = np.interp(steps_J, some, np.maximum(centre - low, 0.0))
        above = np.interp(steps_J, some, np.maximum(high - centre, 0.0))
        return Band(middle, middle - below, middle + above)

    def expect(self, lr: Floats, steps: Ints) -> Floats:
        """Return the prediction without asking the record: for comparisons, not for plans."""
        lr_T, steps_J = _where(lr, steps)
        return evaluate(self.law, self.point, lr_T, steps_J)

    def final(self, lr: Sequence[float] | Floats) -> float:
        """Return the loss after the last update, without asking the record."""
        lr_T = np.asarray(lr, dtype=np.float64)
        return float(evaluate(self.law, self.point, lr_T, np.array([lr_T.size - 1]))[0])

    @property
    def point(self) -> Floats:
        """Return log coefficients and free shapes."""
        linear = [np.log(max(self.values[name], 1e-300)) for name in self.law.coefficients]
        shapes = self.law.free([self.values[name] for name in self.law.shapes])
        return np.concatenate([linear, shapes])


def fit(
    law: CurveLaw,
    curves: Sequence[Curve],
    *,
    delta: float | None = None,
    one_decay: Literal["refuse", "warn"] = "refuse",
) -> Fitted:
    """Fit a law to curves.

    Args:
        law: Which one.
        curves: Runs of one model on one text that differ in their schedules. Measurements before
            the first rate above 0 are left out.
        delta: Huber threshold on log losses; left out, 1e-3, or the noise where that is larger.
        one_decay: What to do with a single smooth decay, which cannot tell progress from
            annealing: laws fitted on one cosine miss other schedules by .02 to .03 nats.

    Raises:
        RecipeError: No law, no list of curves, too few points, curves of different
            origins, or one smooth decay alone.

    Example:
        >>> from thalweg.laws import AnnealingLaw, warmup_hold_decay
        >>> lr = warmup_hold_decay(2000, peak=1e-3, warmup=50, decay=500)
        >>> s = np.arange(100, 2000, 20)
        >>> y = evaluate(AnnealingLaw(), np.log([2.0, 1.0, 0.5, 0.5]), lr, s)
        >>> fitted = fit(AnnealingLaw(), [Curve(name="wsd", steps=s, loss=y, lr=lr)])
        >>> round(fitted.values["asymptote"], 3), round(fitted.values["exponent"], 3)
        (2.0, 0.5)
    """
    check_law(law, "fit(law)")
    check_are_curves(curves, "fit(curves)")
    curves = [curve.begun() for curve in curves]
    check_curves(curves, len(law.coefficients) + len(law.shapes), one_decay)
    thin = [curve.thinned(POINTS) for curve in curves]
    features = [law.features(curve.lr, curve.steps) for curve in thin]
    loss_J = np.concatenate([curve.loss for curve in thin])
    delta = delta if delta is not None else max(DELTA, scatter(thin))
    found = minimise(
        lambda shape: _stack([law.columns(some, shape) for some in features]),
        loss_J,
        [law.free(start) for start in law.starts()],
        prior=law.prior(),
        delta=delta,
    )
    numbers = [*found.coefficient_M.tolist(), *law.bound(found.shape_P).tolist()]
    free = max(loss_J.size - len(numbers), 1)
    noise = float(np.sqrt((found.residual_J**2).sum() / free))
    widen = (noise / delta) ** 2 * stretch([len(curve) for curve in thin], found.residual_J)
    return Fitted(
        law=law,
        values=dict(zip((*law.coefficients, *law.shapes), numbers, strict=True)),
        covariance=found.covariance * widen,
        noise=noise,
        error=float(np.mean(np.abs(np.expm1(found.residual_J) * loss_J))),
        record=record_of(curves),
    )


def check_law(law: object, where: str) -> None:
    """Refuse what is no law; its class is none either.

    Raises:
        RecipeError: It is not.
    """
    known = isinstance(law, CurveLaw)
    if known and not isinstance(law, type):
        return
    raise RecipeError(
        f"law = {law!r}",
        expected="a law of loss curves, not its class",
        where=where,
        write=f"{law.__name__}()" if known and isinstance(law, type) else "MultiPowerLaw()",
    )


def evaluate(law: CurveLaw, point: Floats, lr_T: Floats, steps_J: Ints) -> Floats:
    """Return losses at log coefficients and free shapes.

    Many steps are evaluated at a few hundred of them and joined by straight lines: the columns
    bend only where blocks of the schedule end, and every such place is among them.
    """
    if steps_J.size <= 2 * POINTS:
        return _at(law, law.features(lr_T, steps_J), point)
    cut = blocks(lr_T)
    leap = np.abs(np.diff(cut.lr_K)) > JUMP * lr_T.max()
    some = np.union1d(np.append(cut.edge_E[1:] - 1, 0), cut.edge_E[1:-1][leap])
    return np.interp(steps_J, some, _at(law, law.features(lr_T, some), point))


def _at(law: CurveLaw, features: Any, point: Floats) -> Floats:
    count = len(law.coefficients)
    with np.errstate(over="ignore"):
        value_JM = law.columns(features, point[count:]).value_JM
        return np.asarray(value_JM @ np.exp(np.minimum(point[:count], 300.0)), dtype=np.float64)


def _where(lr: Sequence[float] | Floats, steps: Sequence[int] | Ints | None) -> tuple[Floats, Ints]:
    lr_T = np.asarray(lr, dtype=np.float64)
    steps_J = np.arange(lr_T.size) if steps is None else np.asarray(steps, dtype=np.int64)
    if lr_T.ndim != 1 or lr_T.size == 0 or not np.isfinite(lr_T).all() or lr_T.max() <= 0:
        raise RecipeError(
            f"rates of the shape {lr_T.shape}, largest {lr_T.max(initial=0.0):g}",
            expected="one finite rate an update, some above 0",
            where="predict(lr=...)",
            write="the array of learning rates, one number an update",
        )
    if steps_J.size == 0 or steps_J.min() < 0 or steps_J.max() >= lr_T.size:
        raise RecipeError(
            f"steps from {steps_J.min(initial=0)} to {steps_J.max(initial=0)}",
            expected=f"steps from 0 to {lr_T.size - 1}, as many as there are rates",
            where="predict(steps=...)",
            write="rates for every update up to the last step that is asked for",
        )
    return lr_T, steps_J.astype(np.int64, copy=False)


def _stack(parts: Sequence[Columns]) -> Columns:
    if len(parts) == 1:
        return parts[0]
    return Columns(
        np.concatenate([part.value_JM for part in parts]),
        np.concatenate([part.slope_JMP for part in parts]),
    )


def scatter(curves: Sequence[Curve]) -> float:
    """Return the scatter of log losses, from second differences; jumps hardly count."""
    bends = [np.diff(np.log(curve.loss), 2) for curve in curves if len(curve) > 2]
    every = np.abs(np.concatenate(bends)) if bends else np.zeros(1)
    return float(1.4826 * np.median(every) / np.sqrt(6.0))


def stretch(lengths: Sequence[int], residual_J: Floats) -> float:
    """Return by how much neighbouring residuals that agree shrink the number of measurements."""
    ends = np.cumsum(lengths)[:-1]
    above = below = 0.0
    for part in np.split(residual_J, ends):
        above += float((part[1:] * part[:-1]).sum())
        below += float((part**2).sum())
    share = min(max(above / max(below, 1e-300), 0.0), 0.95)
    return (1 + share) / (1 - share)
