"""A shuffle without state: a keyed permutation of 0..size-1 that is computed one index at a time.

Feistel network over Z_a x Z_b with a*b >= size and a, b about sqrt(size): each round adds a keyed
hash of one half to the other half, modulo its size, so every round can be undone. The few indices
that land outside 0..size-1 are sent through again until they land inside (cycle walking), which
keeps the map a bijection. O(1) memory and random access for any size up to 2^62, and nothing to
save: the order of a run follows from seed, name and epoch.

The order is part of every checkpoint's meaning. `ORDER_VERSION` goes into the key; the tests hold
golden hashes. Changing a constant here means a new version.

Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains" (cycle walking, FE1).
"""

from collections.abc import Sequence
from functools import lru_cache
from math import isqrt

import numpy as np

from thalweg.core.rng import key_seed

__all__ = ["ORDER_VERSION", "order_key", "permute", "shuffled"]

ORDER_VERSION = 1
"""Part of every key; orders of different versions have nothing in common."""

_ROUNDS = 8
_GOLDEN = 0x9E3779B97F4A7C15  # increment of splitmix64


def order_key(seed: int, name: str, epoch: int) -> int:
    """Return the 64-bit key of one epoch's order.

    Example:
        >>> order_key(0, "web", 0) != order_key(0, "web", 1)
        True
    """
    return key_seed(seed, "order", ORDER_VERSION, name, epoch)


def permute(index: Sequence[int] | np.ndarray, size: int, key: int) -> np.ndarray:
    """Return where each position of the order points: a bijection of 0..size-1.

    Args:
        index: int [n], positions, each in 0..size-1.
        size: Number of things, at least 1.
        key: 64 bits, see `order_key`.

    Returns:
        int64 [n].

    Example:
        >>> sorted(permute(range(7), 7, key=1).tolist())
        [0, 1, 2, 3, 4, 5, 6]
    """
    left = isqrt(max(size - 1, 0)) + 1
    right = -(-size // left)
    keys = _round_keys(key)
    out = _apply(np.array(index, np.uint64, ndmin=1), left, right, keys)
    outside = np.flatnonzero(out >= size)
    while len(outside):
        out[outside] = _apply(out[outside], left, right, keys)
        outside = outside[out[outside] >= size]
    return out.astype(np.int64)


def shuffled(rows: np.ndarray, size: int, seed: int, name: str | None) -> np.ndarray:
    """Return which of `size` things each row of a run shows: all of them in each epoch.

    Args:
        rows: int64 [n], from 0.
        size: Rows of an epoch.
        seed: Of the run.
        name: Part of the key of every epoch's order; None: as they lie.

    Returns:
        int64 [n].

    Example:
        >>> sorted(shuffled(np.arange(3, 6), 3, seed=0, name="web").tolist())
        [0, 1, 2]
    """
    epochs, places = np.divmod(rows, size)
    if name is None:
        return places
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        places[here] = permute(places[here], size, order_key(seed, name, epoch))
    return places


def _apply(index: np.ndarray, left: int, right: int, keys: Sequence[int]) -> np.ndarray:
    low: np.ndarray = index % np.uint64(left)
    high: np.ndarray = index // np.uint64(left)
    for r, key in enumerate(keys):
        if r % 2 == 0:
            low = (low + _mix(high, key) % np.uint64(left)) % np.uint64(left)
        else:
            high = (high + _mix(low, key) % np.uint64(right)) % np.uint64(right)
    whole: np.ndarray = high * np.uint64(left) + low
    return whole


def _mix(half: np.ndarray, key: int) -> np.ndarray:
    """Hash uint64 [n] with the finalizer of splitmix64; products wrap around."""
    z = half + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@lru_cache(maxsize=1024)
def _round_keys(key: int) -> tuple[int, ...]:
    """Return the key of each round: `_mix` of key + r * golden, in Python's integers."""
    return tuple(_mix_int((key + (r + 1) * _GOLDEN) % 2**64) for r in range(_ROUNDS))


def _mix_int(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)
