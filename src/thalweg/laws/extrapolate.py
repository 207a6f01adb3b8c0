"""Extrapolation of a metric from its own past: when to trust it, and when to stop.

`forecast` fits  y(x) = c - a x^-b  (or c + a x^-b, falling) to every prefix of the observations and
watches the asymptotes c. It knows nothing of the schedule: on a run whose rate decays it fails, and
the laws over rates are the tool. `exponential_forecast` is AutoLRS's, for a few hundred steps.

Deviation: the thresholds of the published algorithm could not be read; `working` and `ready` below
are our reading of its abstract and are arguments.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize_scalar

from thalweg.errors import RecipeError

__all__ = ["Forecast", "Trend", "exponential_forecast", "forecast", "trend"]

Floats = NDArray[np.float64]

LEAST_POINTS = 3


class Trend(NamedTuple):
    """y(x) = asymptote - sign gain x^-exponent."""

    asymptote: float
    gain: float
    exponent: float
    rising: bool

    def at(self, x: float) -> float:
        """Return the value at x."""
        return float(self.asymptote - (1 if self.rising else -1) * self.gain * x**-self.exponent)


class Forecast(NamedTuple):
    """What the observations so far say about the end."""

    trend: Trend
    """Fitted on all observations."""
    prediction: float
    """At the target."""
    remaining: float
    """Distance from the last observation to the prediction, never negative."""
    proximity: float
    """Distance from the prediction to the asymptote: the layer of convergence."""
    ready: bool
    """Whether the asymptotes have settled: before, the prediction is a guess."""
    stop: bool
    """Ready, and no more than tau remains."""


def trend(
    x: Sequence[float],
    y: Sequence[float],
    *,
    rising: bool = True,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    anchor: float | None = None,
) -> Trend:
    """Fit the power pattern by trust-region least squares.

    Args:
        x: [J] positive effort, for instance examples seen.
        y: [J] metric.
        rising: Accuracy rises, loss falls.
        bounds: Of the asymptote.
        anchor: One artificial observation at infinity, usually the previous asymptote.

    Example:
        >>> found = trend([1, 2, 4, 8], [90 - 30 / k for k in (1, 2, 4, 8)])
        >>> round(found.asymptote, 4), round(found.exponent, 4)
        (90.0, 1.0)
    """
    at, value = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if at.size < LEAST_POINTS or at.size != value.size or (at <= 0).any():
        raise RecipeError(
            f"{at.size} efforts and {value.size} values",
            expected=f"at least {LEAST_POINTS} of each, efforts above 0",
            where="laws.trend",
            write="one pair an observation",
        )
    sign = 1.0 if rising else -1.0
    scale = float(at[0])
    span = max(float(np.ptp(value)), 1e-9)

    def residual(point: Floats) -> Floats:
        miss = point[0] - sign * np.exp(point[1]) * (at / scale) ** -np.exp(point[2]) - value
        return miss if anchor is None else np.append(miss, point[0] - anchor)

    low, high = bounds
    end = float(np.clip(value[-1] + 0.1 * sign * span, low, high))
    best = None
    for exponent in (0.2, 0.5, 1.0):
        start = np.array([min(max(end, low + 1e-9), high - 1e-9), np.log(span), np.log(exponent)])
        found = least_squares(
            residual, start, bounds=([low, -30.0, -6.0], [high, 30.0, 3.0]), max_nfev=400
        )
        best = found if best is None or found.cost < best.cost else best
    assert best is not None
    exponent = float(np.exp(best.x[2]))
    return Trend(float(best.x[0]), float(np.exp(best.x[1])) * scale**exponent, exponent, rising)


def forecast(
    x: Sequence[float],
    y: Sequence[float],
    target: float,
    *,
    tau: float,
    rising: bool = True,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    anchored: Literal["yes", "no"] = "yes",
    settled: int = 3,
) -> Forecast:
    """Predict a metric at a later effort and say whether it pays to go on.

    Working level: the first prefix after which the observations take no step backward by more than
    tau. Ready: from there on the last `settled` asymptotes move one way by less each time, or by
    less than tau altogether, and stay inside the bounds.

    Args:
        x: [J] efforts, rising.
        y: [J] metric.
        target: Effort asked about.
        tau: What counts as nothing, in units of the metric.
        rising: Accuracy rises, loss falls.
        bounds: Of the asymptote; one outside them means not ready, it is not clipped.
        anchored: Whether each trend is tied to the asymptote before by an observation at infinity.
        settled: Number of trends that must agree.

    Example:
        >>> effort = [1, 2, 3, 4, 5, 6, 7, 8]
        >>> found = forecast(effort, [90 - 30 / k for k in effort], 100, tau=1.0)
        >>> round(found.prediction, 1), found.ready, found.stop
        (89.7, True, False)
    """
    trends: list[Trend] = []
    for count in range(min(LEAST_POINTS, len(x)), len(x) + 1):
        anchor = trends[-1].asymptote if trends and anchored == "yes" else None
        if anchor is not None and not bounds[0] <= anchor <= bounds[1]:
            anchor = None
        trends.append(trend(x[:count], y[:count], rising=rising, anchor=anchor))
    last, value = trends[-1], float(y[-1])
    prediction = last.at(target)
    remaining = max((prediction - value) * (1 if rising else -1), 0.0)
    ready = _settled([found.asymptote for found in trends[-settled:]], settled, tau, bounds)
    ready = ready and not _stumbles(y[-settled:], tau, rising)
    proximity = abs(last.asymptote - prediction)
    return Forecast(last, prediction, remaining, proximity, ready, ready and remaining <= tau)


def exponential_forecast(steps: Sequence[float], loss: Sequence[float], target: float) -> float:
    """Return a exp(b t) + c at `target`, fitted with b < 0; a and c by least squares.

    Args:
        steps: [J] steps since the start of the stage, J >= 3.
        loss: [J] losses.
        target: Step asked about.

    Source: arXiv:2105.10762, section 4.3.

    Example:
        >>> from math import exp
        >>> t = list(range(0, 50, 5))
        >>> round(exponential_forecast(t, [2 * exp(-k / 20) + 3 for k in t], 100), 4)
        3.0135
    """
    t, y = np.asarray(steps, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if t.size < LEAST_POINTS or t.size != y.size:
        raise RecipeError(
            f"{t.size} steps and {y.size} losses",
            expected=f"at least {LEAST_POINTS} of each",
            where="laws.exponential_forecast",
            write="one pair a measurement",
        )
    span = max(float(np.ptp(t)), 1e-12)

    def solve(log_rate: float) -> tuple[float, Floats]:
        column = np.exp(-np.exp(log_rate) * (t - t[0]) / span)
        rows = np.stack([column, np.ones_like(t)], 1)
        found, *_ = np.linalg.lstsq(rows, y, rcond=None)
        return float(((rows @ found - y) ** 2).sum()), found

    grid = np.linspace(-4.0, 4.0, 33)
    near = float(grid[int(np.argmin([solve(float(g))[0] for g in grid]))])
    rate = minimize_scalar(
        lambda g: solve(float(g))[0], bounds=(near - 0.3, near + 0.3), method="bounded"
    ).x
    gain, floor = solve(float(rate))[1].tolist()
    return float(gain * np.exp(-np.exp(rate) * (target - t[0]) / span) + floor)


def _settled(
    asymptotes: Sequence[float], count: int, tau: float, bounds: tuple[float, float]
) -> bool:
    """Say whether the last asymptotes lie inside the bounds and converge."""
    if len(asymptotes) < count or not all(bounds[0] <= a <= bounds[1] for a in asymptotes):
        return False
    moves = np.diff(asymptotes)
    shrinking = bool((np.abs(moves[1:]) <= np.abs(moves[:-1]) + 1e-12).all())
    one_way = bool((moves >= 0).all() or (moves <= 0).all())
    return bool(np.ptp(asymptotes) <= tau) or (shrinking and one_way and abs(moves[-1]) <= tau)


def _stumbles(values: Sequence[float], tau: float, rising: bool) -> bool:
    steps = np.diff(np.asarray(values, dtype=np.float64)) * (1 if rising else -1)
    return bool((steps < -tau).any())
