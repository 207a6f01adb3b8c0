"""AutoLRS: the learning rate, or any other dial, searched while the run goes on.

A run is cut into stages. At the start of each, some values are tried for a tenth of its length
from the same weights; each try's loss at the end of the stage is forecast; the value with the best
forecast is used for the whole stage. Trying costs about as many steps as training.

It is greedy: a small rate looks good over a short horizon, because annealing lowers the loss at
once and what it costs comes later (the river valley of WSD). Long stages are the remedy; a decay
at the end of the run is not something this finds early, but something it finds too early.

Deviations: candidates see the same batches (`data="continue"` is the authors' behaviour), the
exponential is fitted by a bounded search, the acquisition is minimised on a grid, and where the
authors smooth with a spline whose default smoothing leaves one piece (losses within 1 of a
parabola), we take the parabola. Forecasts are held above what a loss can be (`floor`): ten times
the length of what was seen is far, and a spike that subsides points far below zero.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thalweg.controllers.gaussian import fit_process, lowest_bound
from thalweg.core.protocols import Action, Context, Set, State, Trial
from thalweg.errors import RecipeError
from thalweg.laws.extrapolate import exponential_forecast
from thalweg.schedules.clock import check_number

__all__ = ["AutoLrs", "smoothed", "stage_forecast"]

Floats = NDArray[np.float64]

DIVERGED = 1e6
"""The forecast of a try whose loss became infinite or not a number; the authors' value."""
LEAST = 4
"""Losses that a forecast needs: a parabola through fewer says nothing."""


@dataclass(frozen=True)
class AutoLrs:
    """Search a dial on the fly: Bayesian optimisation over short trials, one search a stage.

    A stage of tau steps begins with `tries` trials of `probe` tau steps. Candidates are drawn on a
    logarithmic scale: the first at random, the others where mean - kappa deviation of a Gaussian
    process over the forecasts is least. The candidate with the least forecast is Set. tau doubles
    from stage to stage up to `longest`. A stage that the phase cuts short is searched for the
    steps that are left.

    Source: arXiv:2105.10762 and its code.
    """

    low: float
    """Least value that is tried, above 0."""
    high: float
    """Largest value that is tried. Values that diverge are found out and not taken."""
    path: str = "lr"
    """The dial: a path of the phase, or the unique ending of one."""
    stage: int = 1000
    """Steps of the first stage."""
    longest: int = 8000
    """Steps of a stage after doublings."""
    tries: int = 10
    """Values tried before each stage."""
    probe: float = 0.1
    """Length of a trial as a share of its stage. tries * probe is the price of the search."""
    kappa: float = 1000.0
    """Weight of what is not known. The paper's; nearly a space-filling design."""
    data: Literal["rewind", "continue"] = "rewind"
    """Whether every trial sees the batches that the run will see, or new ones."""
    begin: int = 1
    """Steps before the first search; a warmup in the recipe's own schedule belongs there."""
    floor: float = 0.0
    """Least forecast: losses of likelihoods have 0. -inf takes them as they come, like the paper.

    Between equal forecasts the lower mean over the last tenth of the trial decides.
    """
    late: str = ""
    """What is forecast once stages no longer grow, such as `heldout/loss`; the loss if empty.

    The paper measures 16 times a trial: ``HeldOut(every=steps(longest * probe / 16))``. The first
    trials must hold one measurement too; those that the phase cuts short are judged by the loss.
    """

    def __post_init__(self) -> None:
        """Refuse ranges and lengths that cannot be searched.

        Raises:
            DialError: A number is out of range.
        """
        check_number(self, "low", self.low, above=0.0)
        check_number(self, "high", self.high, above=float(self.low))
        check_number(self, "tries", self.tries, low=2)
        check_number(self, "probe", self.probe, above=0.0, high=1.0)
        check_number(self, "stage", self.stage, low=math.ceil(LEAST / self.probe))
        check_number(self, "longest", self.longest, low=self.stage)
        check_number(self, "kappa", self.kappa, low=0.0)
        check_number(self, "begin", self.begin, low=1)

    def start(self, ctx: Context) -> State:
        """Return {tau, until: step of the next search, full, asked, tried}.

        `tried` has [value, forecast, mean of the last tenth] of each try of this search.
        """
        first = {"tau": self.stage, "until": self.begin, "full": False}
        return {**first, "asked": None, "tried": []}

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Search when a stage begins; otherwise do nothing."""
        if not ctx.trial:
            due = int(ctx.time.step) + 1 >= state["until"] and self._horizon(state, ctx) >= LEAST
            return self._ask(state, ctx) if due else ((), state)
        tried = [*state["tried"], [state["asked"], *self._forecast(state, ctx)]]
        state = {**state, "tried": tried}
        return self._ask(state, ctx) if len(tried) < self.tries else self._choose(state, ctx)

    def _horizon(self, state: State, ctx: Context) -> int:
        """Return the steps of the stage that the phase has room for."""
        tau: int = state["tau"]
        left = tau if ctx.time.steps is None else ctx.time.steps - int(ctx.time.step) - 1
        return min(tau, left)

    def _ask(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        steps = min(round(self.probe * state["tau"]), self._horizon(state, ctx))
        span = math.log(self.high / self.low)
        if state["tried"]:
            known = [math.log(value / self.low) / span for value, _, _ in state["tried"]]
            process = fit_process(known, [forecast for _, forecast, _ in state["tried"]])
            place = lowest_bound(process, self.kappa)
        else:
            place = float(ctx.rng("autolrs", self.path, int(ctx.time.run_step)).uniform())
        value = self.low * math.exp(span * place)
        return (Trial({self.path: value}, steps, self.data),), {**state, "asked": value}

    def _choose(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        best = min(state["tried"], key=lambda row: (row[1], row[2], row[0]))[0]
        tau = state["tau"]
        until = int(ctx.time.step) + 1 + tau
        full = tau == self.longest
        state = {**state, "tau": min(2 * tau, self.longest), "until": until, "full": full}
        return (Set({self.path: best}),), {**state, "asked": None, "tried": []}

    def _forecast(self, state: State, ctx: Context) -> tuple[float, float]:
        """Return the forecast for the end of the stage, and where the trial itself ended."""
        if not all(math.isfinite(row["loss"]) for row in ctx.trial):
            return DIVERGED, DIVERGED
        whole = self._horizon(state, ctx) >= round(self.probe * state["tau"])
        late = bool(self.late) and state["full"] and whole
        measured = self._measured(ctx.trial, late=late) if whole else 0
        name = self.late if late else "loss"
        steps = [number for number, row in enumerate(ctx.trial) if name in row]
        values = [row[name] for row in ctx.trial if name in row]
        rounds, drop = (1, 1 / measured) if late else (10, 0.03)
        found = stage_forecast(steps, values, self._horizon(state, ctx), rounds=rounds, drop=drop)
        last = values[-max(1, len(values) // 10) :]
        return max(found, self.floor), sum(last) / len(last)

    def _measured(self, rows: Sequence[Mapping[str, Any]], *, late: bool) -> int:
        """Return how often `late` was measured; a name nobody reports is found in the first trial.

        Raises:
            RecipeError: Too seldom for a forecast.
        """
        count = sum(self.late in row for row in rows)
        often = min(self.stage, self.longest / 16)
        if self.late and count < (LEAST if late else 1):
            raise RecipeError(
                f"'{self.late}' measured {count} times in a trial of {len(rows)} steps",
                expected=f"a number of the report, at least {LEAST} times in the longest trials "
                "and once in the first",
                where="AutoLrs.late",
                write=f"HeldOut(..., every={max(1, int(self.probe * often))})",
            )
        return count


def smoothed(
    steps: Sequence[float], loss: Sequence[float], *, rounds: int = 10, drop: float = 0.03
) -> Floats:
    """Return the losses on a parabola fitted without outliers.

    Each round fits a parabola and drops the share `drop` with the largest residuals, but only from
    the first half of the window.

    Args:
        steps: [N] steps, rising, N >= 3.
        loss: [N] losses.
        rounds: Rounds of dropping.
        drop: Share dropped in a round, rounded to whole points.

    Returns:
        [N] values at all steps, dropped ones included.

    Source: the code of arXiv:2105.10762.
    """
    whole = np.asarray(steps, np.float64)
    x, y = whole, np.asarray(loss, np.float64)
    half = (x.size - 1) // 2
    for _ in range(rounds):
        count = round(drop * x.size)
        residual = np.abs(y - _parabola(x, y, x))
        worst = np.argsort(residual, kind="stable")[x.size - count :]
        kept = np.setdiff1d(np.arange(x.size), worst[worst < half])
        x, y = x[kept], y[kept]
    return _parabola(x, y, whole)


def stage_forecast(
    steps: Sequence[float],
    loss: Sequence[float],
    horizon: float,
    *,
    rounds: int = 10,
    drop: float = 0.03,
) -> float:
    """Return the loss expected at step `horizon` of a stage whose first steps are known.

    a exp(b t) + c, b < 0, fitted to the losses after `smoothed`.

    Args:
        steps: [N] steps since the start of the stage, N >= 4.
        loss: [N] losses.
        horizon: Step asked about.
        rounds: As `smoothed`.
        drop: As `smoothed`.

    Source: arXiv:2105.10762.

    Example:
        >>> losses = [3 + 2 * math.exp(-t / 40) for t in range(100)]
        >>> round(stage_forecast(range(100), losses, 1000), 1)
        2.8
    """
    clean = smoothed(steps, loss, rounds=rounds, drop=drop).tolist()
    return exponential_forecast(steps, clean, horizon)


def _parabola(x: Floats, y: Floats, at: Floats) -> Floats:
    """Return the least-squares parabola of (x, y) at other places."""
    fitted = np.polynomial.Polynomial.fit(x, y, min(2, x.size - 1))
    values: Floats = fitted(at)
    return values
