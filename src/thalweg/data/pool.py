"""What orders and selections see: documents with scores, and which pass over them it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from thalweg.errors import RecipeError, did_you_mean

__all__ = ["BLOCK", "Pool", "Turn", "ascending"]

BLOCK = 1 << 18
"""Documents worked on at once, where all of them would take too much memory."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Documents to choose from or to order."""

    count: int
    columns: Mapping[str, np.ndarray]
    """Scores of all documents by name, float32 [n]."""
    kept: np.ndarray | None = None
    """uint32 [count]: which of the n are in the pool; None: all."""

    @staticmethod
    def of(columns: Mapping[str, np.ndarray]) -> "Pool":
        """Return the pool of all documents of some columns of scores.

        Example:
            >>> Pool.of({"loss": np.array([2.0, 1.0])}).count
            2
        """
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            raise RecipeError(
                f"columns of {sorted(lengths)} scores",
                expected="one number for each document in every column",
                where="Pool.of",
                write="Pool.of({'loss': losses})",
            )
        return Pool(lengths.pop(), columns)

    def score(self, name: str) -> np.ndarray:
        """Return a column for the documents of the pool, [count].

        Raises:
            RecipeError: There is none of this name.
        """
        if name not in self.columns:
            raise RecipeError(
                f"score '{name}'",
                expected="a column: " + (", ".join(self.columns) or "no scores were given"),
                where="an order or a selection",
                write=did_you_mean(name, self.columns) if self.columns else 'scores="FOLDER"',
            )
        column = self.columns[name]
        return column if self.kept is None else column[self.kept]


class Turn(NamedTuple):
    """Which pass over the documents it is."""

    epoch: int = 0
    seed: int = 0
    name: str = "text"
    """Of the source; part of every key."""


def ascending(score: np.ndarray) -> np.ndarray:
    """Return uint32 [n]: the positions from the lowest score to the highest; ties as they lie.

    Sorts (score, position) as one 64-bit integer, in place: 8 bytes a score, and 4 are kept.

    Args:
        score: [n], taken as float32; no NaN.

    Example:
        >>> ascending(np.array([0.5, -1.0, 0.5, 0.0])).tolist()
        [1, 3, 0, 2]
    """
    keys = np.empty(len(score), np.uint64)
    for start in range(0, len(score), BLOCK):
        part = np.asarray(score[start : start + BLOCK], np.float32) + np.float32(0)  # no -0
        bits = part.view(np.uint32)
        flipped = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
        places = np.arange(start, start + len(part), dtype=np.uint64)
        keys[start : start + BLOCK] = flipped << np.uint64(32) | places
    keys.sort()
    for start in range(0, len(score), BLOCK):  # the low halves, moved to the front of the buffer
        low = keys[start : start + BLOCK] & np.uint64(0xFFFFFFFF)
        keys.view(np.uint32)[start : start + len(low)] = low
    keys.resize((len(score) + 1) // 2, refcheck=False)
    return keys.view(np.uint32)[: len(score)]
