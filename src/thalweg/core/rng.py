"""Randomness is a function: the same seed and key give the same draws. No state to save."""

import hashlib

import numpy as np

__all__ = ["key_seed", "rng"]


def key_seed(seed: int, *key: str | int) -> int:
    """Return 64 bits that depend on the seed and on every part of the key.

    Example:
        >>> key_seed(0, "shuffle", 1) == key_seed(0, "shuffle", 1)
        True
        >>> key_seed(0, "shuffle", 1) == key_seed(0, "shuffle", 2)
        False
    """
    text = "\x1f".join([f"{int(seed)}", *(f"{type(part).__name__}:{part}" for part in key)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def rng(seed: int, *key: str | int) -> np.random.Generator:
    """Return a fresh generator for this seed and key.

    Args:
        seed: The run's seed.
        key: Names and numbers that say what is drawn, e.g. ``("dropout", step)``.

    Example:
        >>> int(rng(0, "doc", 3).integers(10)) == int(rng(0, "doc", 3).integers(10))
        True
    """
    return np.random.Generator(np.random.Philox(key=key_seed(seed, *key)))
