"""A plan from past runs: the predicted curve with its interval, and what else could be done.

Pure: curves, rates and origins in; numbers out. `thalweg.planning` finds the runs and recipes.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import RecipeError
from thalweg.laws.curve import Curve, LawWarning, Origin
from thalweg.laws.design import Design, optimise
from thalweg.laws.law import MISFIT, CurveLaw, Fitted, fit
from thalweg.laws.multipower import MultiPowerLaw
from thalweg.laws.pilots import decay_share, warmup_of
from thalweg.laws.posterior import Posterior, posterior
from thalweg.laws.prediction import Prediction
from thalweg.laws.rates import Effective, cosine, warmup_hold_decay
from thalweg.laws.record import check_use

__all__ = ["BUDGETS", "Advice", "Past", "Plan", "advise", "foresee", "learn"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Elsewhere = Literal["refuse", "warn"]

BUDGETS = (0.5, 1.0, 2.0)
"""Budgets of the table, over the planned one."""
LEVEL = 0.9
"""Of the interval."""
POINTS = 80
"""Steps at which a prediction is kept."""
BEYOND = 0.1
"""Standard deviation of what a law gets wrong beyond its longest run, as a share of the fall in
loss that it predicts there; measured with runs of the same shape (docs/log.md)."""
SHAPE = 0.005
"""The same for each factor of 2 between the plan's decay and the past runs' nearest, as shares of
their runs; of the loss, while the rate is below its peak."""
EARLY = 0.2
"""Share of the shortest past run whose beginning is left out, where its warm-up is shorter."""
FAR = 10.0
"""A horizon this many times the longest past run is warned about."""
READINGS = 4.0
"""Text read more often than this teaches less than new text. Source: arXiv:2305.16264."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Past:
    """What past runs taught: a fitted law, and what should be known of it."""

    found: Posterior
    since: int
    """Update before which the law says nothing."""
    metric: str
    """Column of the histories it was fitted on."""
    decays: tuple[float, ...]
    """Share of each past run that decays that it spent below its peak."""
    warnings: tuple[str, ...] = ()

    @property
    def fitted(self) -> Fitted:
        """Return the law with its numbers."""
        return self.found.fitted

    @property
    def law(self) -> str:
        """Return the law in words."""
        over = "effective" if self.fitted.law.crosses_peaks else "scheduled"
        return f"{self.fitted.law.name} over {over} rates"


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A run before it is made, as a law sees it."""

    lr: Floats
    """[T] rate of every update."""
    tokens: Floats
    """[T] targets after every update."""
    origin: Origin
    readings: float = 0.0
    """How often the most read source is read; 0: unknown."""
    doubts: tuple[str, ...] = ()
    """What else of it a law cannot see."""


class Advice(NamedTuple):
    """What a fitted law says beside the prediction. Losses are final ones, nats per token."""

    table: Mapping[str, tuple[float, ...]]
    """Schedule -> loss at each of BUDGETS."""
    best: Design
    """The decay it likes best at the planned budget."""
    start: int
    """Step at which that decay starts."""
    doubling: float
    """Loss that twice the tokens take away."""
    tenth: float
    """Loss that 10 % more tokens take away."""


def learn(
    curves: Sequence[Curve],
    metric: str,
    *,
    elsewhere: Elsewhere = "refuse",
) -> Past:
    """Fit the law that suits the optimizer of past runs.

    Args:
        curves: Of runs that differ in their schedules.
        metric: Column of the histories they come from.
        elsewhere: `warn` accepts one smooth decay alone.

    Raises:
        RecipeError: What `fit` refuses: too few points, different origins, one smooth decay.
    """
    shortest = min(int(curve.steps[-1]) for curve in curves)
    since = max(round(EARLY * shortest), *(warmup_of(curve.lr) for curve in curves))
    late = [curve.since(min(since, int(curve.steps[-1]))) for curve in curves]
    with _heard() as said:
        fitted = fit(_law(curves), late, one_decay=elsewhere)
        found = posterior(fitted, late)
    decays = [share for share in map(_decayed, curves) if share > 0]
    return Past(
        found=found,
        since=since,
        metric=metric,
        decays=tuple(decays),
        warnings=tuple(said()),
    )


def foresee(past: Past, plan: Plan, *, elsewhere: Elsewhere = "refuse") -> Prediction:
    """Return the loss curve that past runs lead to expect of a plan.

    Args:
        past: What they taught.
        plan: The run.
        elsewhere: What to do where the record of the fit does not reach.

    Raises:
        RecipeError: The plan is outside the record: another optimizer, text or parametrisation; a
            peak, batch or model 10 times away. Or shorter than what the law leaves out.
    """
    steps = plan.lr.size
    if steps <= past.since + 1:
        raise RecipeError(
            f"a run of {steps} steps",
            expected=f"more than the {past.since} first ones, of which no law knows anything",
            where="the plan",
            write=f"--steps {10 * past.since}",
        )
    at = np.unique(np.linspace(past.since, steps - 1, POINTS).astype(np.int64))
    with _heard() as said:
        crosses = past.fitted.law.crosses_peaks
        peak = float(plan.lr.max())
        check_use(past.fitted.record, peak, plan.origin, elsewhere, crosses=crosses)
    loss = past.found.mean(plan.lr, at)
    low, high = _interval(past, plan.lr, at, loss)
    return Prediction(
        step=at + 1,
        tokens=plan.tokens[at],
        loss=loss,
        low=low,
        high=high,
        level=LEVEL,
        metric=past.metric,
        runs=past.fitted.record.curves,
        law=past.law,
        warnings=(*past.warnings, *said(), *_doubts(past, plan), *plan.doubts),
    )


def advise(past: Past, rates: Callable[[float], Floats], warmup: int) -> Advice:
    """Return final losses of other budgets and schedules, and the decay the law likes best.

    Args:
        past: What past runs taught.
        rates: The recipe's rates at a budget, as a factor of the planned one.
        warmup: Steps of the rise, for the other schedules.
    """
    planned = rates(1.0)
    peak, steps = float(planned.max()), planned.size

    def final(lr: Floats) -> float:
        return float(past.found.mean(lr, np.array([lr.size - 1]))[0])

    table = {"this recipe": tuple(final(rates(budget)) for budget in BUDGETS)}
    for name, shape in _shapes(peak, warmup).items():
        table[name] = tuple(final(shape(max(round(b * steps), warmup + 2))) for b in BUDGETS)
    with _heard():  # the prediction has said it
        best = optimise(past.fitted, steps, peak=peak, warmup=warmup, elsewhere="warn")
    best = best._replace(loss=final(best.rates))
    now = table["this recipe"][1]
    return Advice(
        table=table,
        best=best,
        start=round(steps - best.cooldown * (steps - warmup)),
        doubling=now - table["this recipe"][2],
        tenth=now - final(rates(1.1)),
    )


def _shapes(peak: float, warmup: int) -> dict[str, Callable[[int], Floats]]:
    def wsd(share: float) -> Callable[[int], Floats]:
        return lambda steps: warmup_hold_decay(
            steps,
            peak=peak,
            warmup=warmup,
            decay=min(max(round(share * steps), 1), steps - warmup),
        )

    return {
        "cosine to a tenth": lambda steps: cosine(
            steps, peak=peak, warmup=warmup, floor=0.1 * peak
        ),
        "linear to 0": lambda steps: warmup_hold_decay(
            steps, peak=peak, warmup=warmup, decay=max(steps - warmup, 1)
        ),
        "WSD, last 10 %": wsd(0.1),
        "WSD, last 20 %": wsd(0.2),
    }


def _law(curves: Sequence[Curve]) -> CurveLaw:
    """Return the default law; effective rates are AdamW's, others keep the scheduled ones."""
    first = curves[0].origin
    if first.optimizer not in (None, "AdamW") or first.weight_decay == 0:
        return MultiPowerLaw(relaxation="steps")
    decay = first.weight_decay if first.weight_decay is not None else 0.1
    return MultiPowerLaw(rates=Effective(weight_decay=decay), relaxation="steps")


def _decayed(curve: Curve) -> float:
    return decay_share(curve.lr[: int(curve.steps[-1]) + 1])


def _interval(past: Past, lr: Floats, at: Ints, loss: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the interval for one measurement.

    Parameters that agree with the past runs; the noise of a measurement; what laws get wrong.
    """
    tail = (1 - LEVEL) / 2
    by_draws = past.found.losses(lr, at)
    low, high = past.found.quantiles(by_draws, (tail, 1 - tail))
    width = NormalDist().inv_cdf(1 - tail)
    noise = np.hypot(past.fitted.noise, MISFIT) * loss
    other = width * np.hypot(noise, _astray(past, lr, at, loss))
    below = np.hypot(np.maximum(loss - low, 0.0), other)
    return np.maximum(loss - below, 0.0), loss + np.hypot(np.maximum(high - loss, 0.0), other)


def _astray(past: Past, lr: Floats, at: Ints, loss: Floats) -> Floats:
    """Return the standard deviation of what laws get wrong far from their runs, nats."""
    longest = min(past.fitted.record.steps, lr.size) - 1
    there = float(past.found.mean(lr, np.array([longest]))[0])
    beyond = BEYOND * np.where(at > longest, np.maximum(there - loss, 0.0), 0.0)
    falling = at >= round((1 - decay_share(lr)) * lr.size)
    unlike = SHAPE * _doublings(past, lr) * falling * loss
    return np.asarray(np.hypot(beyond, unlike), dtype=np.float64)


def _doublings(past: Past, lr: Floats) -> float:
    """Return the factors of 2 between a plan's decay and the nearest of the past ones."""
    mine = decay_share(lr)
    return min((abs(math.log2(share / mine)) for share in past.decays if mine), default=0.0)


def _doubts(past: Past, plan: Plan) -> list[str]:
    """Return what a fit's record cannot know about a plan."""
    found = []
    longest = past.fitted.record.steps
    if plan.lr.size > FAR * longest:
        found.append(
            f"{plan.lr.size} steps are {plan.lr.size / longest:.0f} times the longest past run "
            f"({longest}): nobody has measured how far laws reach there"
        )
    mine = decay_share(plan.lr)
    if mine and not past.decays:
        found.append("no past run decays: what this one's decay gives is a guess")
    elif _doublings(past, plan.lr) > 1:
        found.append(
            f"the rate falls over {100 * mine:.0f} % of the run, in past runs over "
            + ", ".join(f"{100 * share:.0f} %" for share in past.decays)
            + ": laws do not carry over well"
        )
    if plan.readings > READINGS:
        found.append(
            f"text is read {plan.readings:.1f} times; laws know no repetition, and beyond "
            f"{READINGS:g} readings the loss falls less than they say"
        )
    if past.metric == "loss":
        found.append("training loss: not every past run measured a held-out one often enough")
    return found


@contextmanager
def _heard() -> Iterator[Callable[[], list[str]]]:
    """Collect the warnings of laws as texts; let others pass."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LawWarning)
        yield lambda: _texts(caught)
    for one in caught:
        if not issubclass(one.category, LawWarning):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _texts(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    """Return each warning of a law once: what was given, and what the law was fitted on."""
    found = [str(one.message) for one in caught if issubclass(one.category, LawWarning)]
    short = [", ".join(line.strip() for line in text.split("\n")[:2]) for text in found]
    return list(dict.fromkeys(short))
