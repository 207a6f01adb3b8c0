"""The schedule a fitted law likes best, within families that keep it honest.

Left free, the annealing law wants a cliff at the end and every law fits noise; so the default
family is warmup, hold and a decay (1 - x)^power of some length. `free` is any falling curve through
a dozen knots, for looking at. Laws flatter short and steep decays: on the 124M runs the one they
like best ends .002 to .01 nats higher than they say, so the family stops at power 1.5.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from thalweg.errors import DialError
from thalweg.laws.law import Fitted
from thalweg.laws.rates import warmup_hold_decay
from thalweg.laws.record import check_use

__all__ = ["Design", "optimise"]

Floats = NDArray[np.float64]

SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
POWERS = (0.5, 0.75, 1.0, 1.25, 1.5)
KNOTS = 12


class Design(NamedTuple):
    """A schedule and the loss the law expects of it."""

    rates: Floats
    """[T] rate of every update."""
    loss: float
    """Expected after the last update, nats per token."""
    peak: float
    cooldown: float
    """Share of the run; NaN for a free curve."""
    power: float
    """Of the decay (1 - x)^power; NaN for a free curve."""


def optimise(
    fitted: Fitted,
    steps: int,
    *,
    peak: float | None = None,
    warmup: int = 0,
    floor: float = 0.0,
    family: Literal["cooldown", "free"] = "cooldown",
    elsewhere: Literal["refuse", "warn"] = "refuse",
) -> Design:
    """Return the schedule with the smallest expected final loss.

    Args:
        fitted: A law with its numbers.
        steps: Horizon.
        peak: Peak rate. Left out: the record's, or between the record's peaks the best one, for a
            law that crosses peaks.
        warmup: Steps of the straight rise.
        floor: Final rate as a share of the peak.
        family: `cooldown`: hold and (1 - x)^power; `free`: any falling curve.
        elsewhere: What to do where the record does not reach.

    Raises:
        DialError: The horizon does not exceed the warmup.
        RecipeError: The law is used outside its record.
    """
    if steps <= warmup + 1 or not 0 <= floor < 1:
        raise DialError(
            f"{steps} steps, a warmup of {warmup}, a floor of {floor:g}",
            expected="more steps than the warmup, and a floor from 0 to below 1",
            where="laws.optimise",
            write="optimise(fitted, 20000, peak=1e-3, warmup=300)",
        )
    record = fitted.record
    peaks: tuple[float, ...] = (peak,) if peak is not None else (record.highest_peak,)
    if peak is None and fitted.law.crosses_peaks and record.lowest_peak < record.highest_peak:
        peaks = tuple(np.geomspace(record.lowest_peak, record.highest_peak, 7).tolist())
    check_use(record, peaks[-1], None, elsewhere, crosses=fitted.law.crosses_peaks)
    best = min((_cooldown(fitted, steps, top, warmup, floor) for top in peaks), key=_loss)
    return best if family == "cooldown" else _free(fitted, steps, best, warmup, floor)


def _loss(design: Design) -> float:
    return design.loss


def _cooldown(fitted: Fitted, steps: int, peak: float, warmup: int, floor: float) -> Design:
    def rates(share: float, power: float) -> Floats:
        decay = max(round(share * (steps - warmup)), 1)
        return warmup_hold_decay(
            steps, peak=peak, warmup=warmup, decay=decay, floor=floor * peak, power=power
        )

    def value(point: Floats) -> float:
        return fitted.final(rates(float(point[0]), float(np.exp(point[1]))))

    start = min(
        (np.array([share, np.log(power)]) for share in SHARES for power in POWERS), key=value
    )
    found = minimize(
        value,
        start,
        method="Nelder-Mead",
        bounds=[(SHARES[0], 1.0), (np.log(POWERS[0]), np.log(POWERS[-1]))],
        options={"maxfev": 60, "xatol": 2e-3, "fatol": 1e-6},
    )
    share, power = float(found.x[0]), float(np.exp(found.x[1]))
    return Design(rates(share, power), float(found.fun), peak, share, power)


def _free(fitted: Fitted, steps: int, start: Design, warmup: int, floor: float) -> Design:
    """Improve a design by moving knots that fall: shares of the fall by a softmax."""
    at = np.arange(steps)
    place = warmup + (steps - warmup) * (1 - (1 - np.linspace(0, 1, KNOTS)) ** 1.5)
    place[-1] = steps

    def rates(free: Floats) -> Floats:
        part = np.exp(free - free.max())
        height = 1 - (1 - floor) * np.concatenate([[0.0], np.cumsum(part / part.sum())])
        lr = start.peak * np.interp(at, place, height)
        return np.where(at < warmup, start.peak * (at + 1) / max(warmup, 1), lr)

    ended = np.append(start.rates, floor * start.peak)
    height = np.interp(place, np.arange(steps + 1), ended)
    height[0] = start.peak
    first = np.log(np.maximum(-np.diff(height) / start.peak, 1e-3))
    found = minimize(
        lambda free: fitted.final(rates(free)), first, method="L-BFGS-B", options={"maxiter": 25}
    )
    lr = rates(found.x)
    return Design(lr, fitted.final(lr), start.peak, float("nan"), float("nan"))
