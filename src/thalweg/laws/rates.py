"""Learning rates as laws see them: cut into blocks, and as effective rates.

AdamW moves a matrix that a normalisation follows by a *relative* amount per step, rate over size of
the weights. The size is no constant: updates make the weights grow, decay shrinks them, and the
two balance only after 1 / (2 rate decay) steps, which is most of a short run. With the mean
square n of the weights, the root mean square u of an update per unit of rate (1: sign-like
updates) and the decoupled decay w,

    n[0] = init_rms^2,   n[i+1] = n[i] (1 - 2 w lr[i]) + (u lr[i])^2
    rate[i] = u lr[i] / sqrt(n[i])

In balance the effective rate is sqrt(2 w lr): a peak twice as high moves sqrt(2) as far. Laws over
these rates hold across peaks where laws over the scheduled rate do not (docs/log.md has numbers).
Nothing in it is fitted.
"""

from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import DialError

__all__ = ["Blocks", "Effective", "Scheduled", "blocks", "cosine", "warmup_hold_decay"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCKS = 512
"""Blocks of equal length a run is cut into, beside short ones at its start and at jumps."""
EARLY = 16
"""Early blocks are this many times shorter than the steps before them."""
JUMP = 0.01
"""A change of the rate within one step by this share of the peak is a jump."""
MOST_JUMPS = 256


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """The rate as it stands in the schedule.

    Example:
        >>> Scheduled().of(np.array([0.1, 0.2]), np.array([1.0, 1.0])).tolist()
        [0.1, 0.2]
    """

    def of(self, lr_K: Floats, length_K: Floats) -> Floats:
        """Return the mean rate of every block."""
        return lr_K


@dataclass(frozen=True, kw_only=True)
class Effective:
    """Relative movement per step under decoupled weight decay: rate over size of the weights.

    Raises:
        DialError: A field is negative, or the weights start at 0.

    Example:
        >>> even = Effective(weight_decay=0.1).of(np.full(9, 1e-3), np.full(9, 1e5))
        >>> round(float(even[-1]), 4), round((2 * 0.1 * 1e-3) ** 0.5, 4)
        (0.0141, 0.0141)
    """

    weight_decay: float = 0.1
    """Decoupled decay per unit of rate."""
    init_rms: float = 0.02
    """Root mean square of the weights at the start; 0.02 is GPT-2's and Llama's initial value."""
    update_rms: float = 1.0
    """Root mean square of an update per unit of rate; 1 bounds Adam's from above."""

    def __post_init__(self) -> None:
        """Refuse what has no size."""
        for name, least in (("weight_decay", 0.0), ("init_rms", 1e-12), ("update_rms", 1e-12)):
            value = getattr(self, name)
            if not np.isfinite(value) or value < least:
                raise DialError(
                    f"{name} is {value!r}",
                    expected=f"a number of at least {least:g}",
                    where=f"Effective.{name}",
                    write="Effective(weight_decay=0.1, init_rms=0.02)",
                )

    def of(self, lr_K: Floats, length_K: Floats) -> Floats:
        """Return the effective rate of every block, from the weights at its middle.

        Args:
            lr_K: Mean rate of each block.
            length_K: Steps in each block.
        """
        fall_K = self.weight_decay * lr_K * length_K
        keep_K = np.exp(-fall_K)
        ratio_K = np.where(fall_K > 1e-12, -np.expm1(-fall_K) / np.maximum(fall_K, 1e-300), 1.0)
        gain_K = 0.5 * (self.update_rms * lr_K) ** 2 * length_K * ratio_K
        size, middle = self.init_rms**2, np.empty(lr_K.size)
        for k, (keep, gain) in enumerate(zip(keep_K.tolist(), gain_K.tolist(), strict=True)):
            middle[k] = size * keep + gain
            size = middle[k] * keep + gain
        return np.asarray(self.update_rms * lr_K / np.sqrt(middle), dtype=np.float64)


class Blocks(NamedTuple):
    """A schedule cut into blocks of nearly constant rate."""

    edge_E: Ints
    """[K + 1] first step of each block, and the number of steps."""
    lr_K: Floats
    """Mean scheduled rate."""

    @property
    def length(self) -> Floats:
        """Steps in each block."""
        return np.diff(self.edge_E).astype(np.float64)

    def integral(self, rate_K: Floats, steps_J: Ints) -> Floats:
        """Return the sum of a rate over the updates 0 to s, for every s."""
        total_E = np.concatenate([[0.0], np.cumsum(rate_K * self.length)])
        return np.asarray(np.interp(steps_J + 1.0, self.edge_E, total_E), dtype=np.float64)


def blocks(lr_T: Floats, most: int = BLOCKS) -> Blocks:
    """Cut rates into blocks: short ones at the start and at jumps, equal ones elsewhere.

    Args:
        lr_T: Rate of every update.
        most: Blocks of equal length; runs no longer than that get one block a step.

    Example:
        >>> blocks(np.array([1.0, 1.0, 2.0])).edge_E.tolist()
        [0, 1, 2, 3]
    """
    count = lr_T.size
    length = -(-count // most)
    edge = np.append(np.arange(0, count, length), count)
    if length > 1:
        early = np.exp(np.arange(0, np.log(EARLY * length), np.log1p(1 / EARLY)))
        edge = np.union1d(edge, early.astype(np.int64))
        edge = edge[edge <= count]
        edge = np.union1d(edge, _jumps(lr_T, edge))
    edge = edge.astype(np.int64)
    return Blocks(edge, np.add.reduceat(lr_T, edge[:-1]) / np.diff(edge))


def _jumps(lr_T: Floats, edge_E: Ints) -> Ints:
    """Return the steps at which the rate jumps: looked for only where means of blocks differ."""
    least = JUMP * lr_T.max()
    mean_K = np.add.reduceat(lr_T, edge_E[:-1]) / np.diff(edge_E)
    found = [np.zeros(0, dtype=np.int64)]
    for k in (np.flatnonzero(np.abs(np.diff(mean_K)) > 0.2 * least) + 1).tolist():
        first = int(edge_E[k - 1])
        found.append(
            first + 1 + np.flatnonzero(np.abs(np.diff(lr_T[first : edge_E[k + 1]])) > least)
        )
    jumps = np.unique(np.concatenate(found))
    return jumps if jumps.size <= MOST_JUMPS else found[0]


def warmup_hold_decay(
    steps: int,
    *,
    peak: float,
    warmup: int = 0,
    decay: int = 0,
    floor: float = 0.0,
    power: float = 1.0,
) -> Floats:
    """Return the rates of a warmup, a hold and a decay (1 - x)^power, for `steps` updates.

    Args:
        steps: Number of updates.
        peak: Rate of the hold.
        warmup: Steps of the straight rise; the first has peak / warmup.
        decay: Steps of the fall; the last update has the rate one step before the floor.
        floor: Rate the fall aims at.
        power: 1: a straight line; 0.5 and 1.5 stay above and below it.

    Raises:
        DialError: Lengths that are no whole numbers, or longer than the run.

    Example:
        >>> warmup_hold_decay(5, peak=1.0, warmup=2, decay=2).tolist()
        [0.5, 1.0, 1.0, 1.0, 0.5]
    """
    _check_lengths("warmup_hold_decay", steps, warmup, decay)
    at = np.arange(steps, dtype=np.float64)
    lr = np.full(steps, float(peak))
    if decay:
        left = np.clip((steps - at) / decay, 0.0, 1.0)
        lr = floor + (peak - floor) * left**power
    if warmup:
        lr = np.where(at < warmup, peak * (at + 1) / warmup, lr)
    return lr


def cosine(steps: int, *, peak: float, warmup: int = 0, floor: float = 0.0) -> Floats:
    """Return the rates of a warmup and half a cosine, for `steps` updates.

    Raises:
        DialError: Lengths that are no whole numbers, or a warmup longer than the run.

    Example:
        >>> cosine(4, peak=1.0).round(3).tolist()
        [1.0, 0.854, 0.5, 0.146]
    """
    _check_lengths("cosine", steps, warmup)
    at = np.arange(steps, dtype=np.float64)
    x = np.clip((at - warmup) / max(steps - warmup, 1), 0.0, 1.0)
    lr = floor + 0.5 * (peak - floor) * (1.0 + np.cos(np.pi * x))
    return np.where(at < warmup, peak * (at + 1) / max(warmup, 1), lr)


def _check_lengths(where: str, steps: int, warmup: int, decay: int = 0) -> None:
    """Refuse what is not counted in whole steps, and pieces longer than the whole."""
    given = {"steps": steps, "warmup": warmup, "decay": decay}
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) for n in given.values())
    if not whole or min(given.values()) < 0 or warmup + decay > steps:
        raise DialError(
            ", ".join(f"{name} = {n!r}" for name, n in given.items()),
            expected="whole numbers of steps, at least 0, together no longer than the run",
            where=where,
            write="steps=1000, warmup=100" + (", decay=200" if "decay" in where else ""),
        )
