"""The last-iterate bound of convex optimisation: a ranking of schedules, without any run.

For subgradient descent on a convex function with gradients of size G and a start at distance D
from the optimum, after T updates with rates lr[1..T],

    Omega_T = D^2 / (2 S_1) + Q_1 / (2 S_1) + 1/2 sum_{k=1}^{T-1} lr[k] Q_k / (S_{k+1} S_k)
    S_k = sum_{t=k}^T lr[t],  Q_k = sum_{t=k}^T lr[t]^2 G[t]^2

With lr = gamma shape it is D^2 t1 / gamma + gamma t23, so the best base rate is D sqrt(t1 / t23).
For Adam neither D nor G means anything: only ratios of rates between schedules carry over. It is
the shape of real curves, not their height (mean error .037 nats against .005 of the laws).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from thalweg.errors import DialError
from thalweg.laws.rates import warmup_hold_decay

__all__ = [
    "BoundParts",
    "Extension",
    "best_cooldown",
    "bound_parts",
    "extend_schedule",
    "extension_factor",
    "last_iterate_bound",
    "optimal_base_rate",
    "transfer_rate",
]

Floats = NDArray[np.float64]


class BoundParts(NamedTuple):
    """The bound's two terms for a schedule's shape: D^2 distance / gamma + gamma noise."""

    distance: float
    """t1 = 1 / (2 sum of the shape)."""
    noise: float
    """t23, the rest."""


class Extension(NamedTuple):
    """How to continue a finished run to a longer horizon."""

    rates: Floats
    """[T1] the whole schedule; until `keep` it is the old one."""
    keep: int
    """Updates of the old run that stay."""
    factor: float
    """The rate after `keep` over the old peak; 1: the same."""
    cooldown: float
    """Share of the new horizon."""
    wanted: float
    """The cooldown the bound asks for, where it would have to begin before `keep`."""


def last_iterate_bound(lr: ArrayLike, grad_norm: ArrayLike = 1.0, distance: float = 1.0) -> float:
    """Return Omega_T in O(T).

    Args:
        lr: [T] rate of every update. Zeros at the end move nothing and are dropped.
        grad_norm: Size of the gradients, one number or [T].
        distance: D.

    Raises:
        DialError: Rates that are negative, not finite, or all 0.

    Source: Theorem 10 of arXiv:2310.07831.

    Example:
        >>> round(last_iterate_bound([1.0, 1.0]), 4)  # 1/4 + 2/4 + 1/2 (1/1) (2/2)
        1.25
    """
    shape_T = _rates(lr)
    norm_T = np.broadcast_to(np.asarray(grad_norm, dtype=np.float64), np.shape(lr))
    parts = _parts(shape_T, norm_T[: shape_T.size])
    return distance**2 * parts.distance + parts.noise


def bound_parts(shape: ArrayLike, grad_norm: ArrayLike = 1.0) -> BoundParts:
    """Return t1 and t23 of a schedule's shape.

    Example:
        >>> bound_parts([1.0, 1.0])  # constant: t23 = (1 + H_{T-1}) / 2
        BoundParts(distance=0.25, noise=1.0)
    """
    shape_T = _rates(shape)
    norm_T = np.broadcast_to(np.asarray(grad_norm, dtype=np.float64), np.shape(shape))
    return _parts(shape_T, norm_T[: shape_T.size])


def optimal_base_rate(shape: ArrayLike, grad_norm: ArrayLike = 1.0, distance: float = 1.0) -> float:
    """Return gamma* = D sqrt(t1 / t23): the factor of the shape that makes the bound smallest.

    Example:
        >>> optimal_base_rate([1.0, 1.0])
        0.5
    """
    parts = bound_parts(shape, grad_norm)
    return distance * float(np.sqrt(parts.distance / parts.noise))


def transfer_rate(rate: float, from_: ArrayLike, to: ArrayLike) -> float:
    """Return the base rate for another schedule, from one tuned for this one.

    Args:
        rate: Tuned base rate.
        from_: Shape it was tuned for.
        to: Shape it is wanted for.

    Example:
        >>> transfer_rate(0.1, [1.0, 1.0], [1.0, 1.0])
        0.1
    """
    return rate * optimal_base_rate(to) / optimal_base_rate(from_)


def best_cooldown(steps: int, ratio: float, *, least: float = 0.01) -> float:
    """Return the cooldown, as a share, that the bound likes best at a rate one is stuck with.

    Args:
        steps: Horizon.
        ratio: The rate over the best one of linear decay; from 1 on the answer is 1.
        least: Smallest share looked at.

    Example:
        >>> round(best_cooldown(2000, 0.5), 1), best_cooldown(2000, 1.0)
        (0.4, 1.0)
    """
    rate = ratio * optimal_base_rate(_wsd(steps, 1.0))
    shares = np.linspace(least, 1.0, 100)

    def value(share: float) -> float:
        parts = bound_parts(_wsd(steps, share))
        return parts.distance / rate + rate * parts.noise

    place = int(np.argmin([value(float(share)) for share in shares]))
    return float(shares[place])


def extend_schedule(
    steps: int,
    new_steps: int,
    *,
    peak: float,
    cooldown: float = 0.2,
    how: Literal["rate", "cooldown"] = "rate",
    transition: int = 0,
) -> Extension:
    """Continue a finished warmup-stable-decay run to a longer horizon, from before its decay.

    The rate that was best for the old horizon is too high for the new one. Either it is lowered
    where the old decay began (`rate`), or kept with a longer decay (`cooldown`): by so much that
    the old base rate is the bound's best one for the new schedule.

    Args:
        steps: Horizon of the finished run.
        new_steps: Horizon wanted.
        peak: Its peak rate.
        cooldown: Share of its decay, straight to 0.
        how: What to change.
        transition: Steps over which the rate falls to the new one; a line.

    Raises:
        DialError: The new horizon is not longer, or no rate or cooldown answers.

    Source: arXiv:2501.18965, section on continued training.

    Example:
        >>> found = extend_schedule(1000, 2000, peak=1e-3)
        >>> round(found.factor, 1), found.keep
        (0.5, 800)
    """
    if new_steps <= steps or not 0 < cooldown < 1 or peak <= 0:
        raise DialError(
            f"from {steps} to {new_steps} steps with a cooldown of {cooldown:g}",
            expected="a longer horizon and a cooldown between 0 and 1",
            where="extend_schedule",
            write="extend_schedule(1000, 2000, peak=1e-3, cooldown=0.2)",
        )
    keep = steps - round(cooldown * steps)
    aim = optimal_base_rate(_wsd(steps, cooldown))

    def shape(factor: float, share: float) -> Floats:
        whole = _wsd(new_steps, share)
        at = np.arange(whole.size)
        fall = np.clip((at - keep) / max(transition, 1), 0.0, 1.0) if transition else at >= keep
        return np.asarray(whole * (1 - (1 - factor) * fall), dtype=np.float64)

    if how == "rate":
        factor = _first(lambda f: optimal_base_rate(shape(f, cooldown)) - aim)
        return Extension(
            peak * shape(factor, cooldown)[:new_steps], keep, factor, cooldown, cooldown
        )
    wanted = _first(lambda share: optimal_base_rate(_wsd(new_steps, share)) - aim)
    share = min(wanted, 1 - keep / new_steps)
    return Extension(peak * _wsd(new_steps, share), keep, 1.0, share, wanted)


def extension_factor(old: ArrayLike, new: ArrayLike, keep: int) -> float:
    """Return by how much to lower the rates of a longer schedule from step `keep` on.

    The base rate of `old` is taken to have been its best one; the factor is the one at which it is
    the best one of the new schedule too. At most 1: the rule lowers rates.

    Args:
        old: [T0] rates of the finished schedule.
        new: [T1] rates of the longer one; the same as `old` before `keep`.
        keep: Steps that stay.

    Raises:
        DialError: Rates that are negative, not finite, or all 0.

    Source: arXiv:2501.18965, section on continued training.

    Example:
        >>> old, new = _wsd(1000, 0.2), _wsd(2000, 0.2)
        >>> round(extension_factor(old, new, 800), 2), extension_factor(old, old, 800)
        (0.54, 1.0)
    """
    aim = optimal_base_rate(old)
    shape_T = np.asarray(new, dtype=np.float64)
    later_T = np.arange(shape_T.size) >= keep

    def gap(factor: float) -> float:
        return optimal_base_rate(np.where(later_T, factor * shape_T, shape_T)) - aim

    return 1.0 if gap(1.0) >= 0 else _first(gap)


def _first(gap: Callable[[float], float]) -> float:
    """Return the largest number below 1 where the gap is 0; where it is smallest if it never is."""
    grid = np.linspace(1.0, 0.02, 50)
    values = [gap(float(x)) for x in grid]
    for high, low, at_high, at_low in zip(grid, grid[1:], values, values[1:], strict=False):
        if at_high == 0 or at_high * at_low < 0:
            return float(brentq(gap, low, high, xtol=1e-6))
    return float(grid[int(np.argmin(np.abs(values)))])


def _wsd(steps: int, cooldown: float) -> Floats:
    """Return a hold and a straight decay over `steps` updates, none of them at 0."""
    return warmup_hold_decay(steps, peak=1.0, decay=max(round(cooldown * steps), 1))


def _rates(lr: ArrayLike) -> Floats:
    rates_T = np.asarray(lr, dtype=np.float64)
    if rates_T.ndim != 1 or not np.isfinite(rates_T).all() or (rates_T < 0).any():
        raise DialError(
            f"rates of the shape {rates_T.shape}, smallest {rates_T.min(initial=0.0):g}",
            expected="a list of finite rates, none negative",
            where="laws.convex",
            write="the rate of every update",
        )
    above = np.flatnonzero(rates_T > 0)
    if above.size == 0:
        raise DialError(
            "every rate is 0",
            expected="a rate above 0",
            where="laws.convex",
            write="the rate of every update",
        )
    return rates_T[: above[-1] + 1]


def _parts(shape_T: Floats, norm_T: Floats) -> BoundParts:
    tail_T = np.cumsum(shape_T[::-1])[::-1]
    square_T = np.cumsum(((shape_T * norm_T) ** 2)[::-1])[::-1]
    later = shape_T[:-1] / tail_T[1:] * square_T[:-1] / tail_T[:-1]
    return BoundParts(
        float(0.5 / tail_T[0]), float(0.5 * square_T[0] / tail_T[0] + 0.5 * later.sum())
    )
