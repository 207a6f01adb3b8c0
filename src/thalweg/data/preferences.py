"""Pairs of answers, one pair a row: the better and the worse, each with its prompt before it.

Row r of a run is pair `permute(r mod n, n, key(seed, name, r div n))` of the n pairs that fit.
Where a pair's second half begins is read off the flags of what is learned: they rise and fall
once in each half.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import ClassVar, NamedTuple

import numpy as np

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, State
from thalweg.core.time import Time
from thalweg.data.laid import Layout, Tokens, Weights, lay_out
from thalweg.data.order import shuffled
from thalweg.data.rows import (
    Overlong,
    Sizes,
    check_epochs,
    check_fingerprint,
    check_length,
    check_sizes,
    spent,
)
from thalweg.data.store import Store, open_store, opened
from thalweg.data.unread import Unread
from thalweg.errors import DataError

__all__ = ["Preferences"]


@dataclass(frozen=True)
class Preferences:
    """Rows of two answers, from a store made by `build_preferences`.

    State: the number of the next row and the fingerprint of the store.

    Example:
        >>> Preferences("runs/stores/abc/train").makes[:2]
        ('chosen', 'rejected')
    """

    store: str
    """Folder of a store of preferences."""
    length: int = 256
    """Targets of an answer with its prompt; a row has room for two, each with one id more."""
    overlong: Overlong = "refuse"
    """Pairs with a half of more than length + 1 ids: refuse them at the start, leave them out, or
    cut the half's end off (and leave out those of whose answers nothing is left)."""
    shuffle: bool = True
    """Whether pairs come in a new random order each epoch, or as they lie."""
    name: str = "preferences"
    """What the log calls it when it stands alone; also part of the key of the order."""
    max_epochs: float | None = None
    """Passes over the data after which it has no rows left; None: no limit."""
    offline: ClassVar[bool] = True
    """No model writes its rows."""

    @property
    def makes(self) -> tuple[str, ...]:
        """Columns of every batch."""
        return ("chosen", "rejected", "chosen_weight", "rejected_weight", "source", "id")

    @property
    def names(self) -> tuple[str, ...]:
        """One name, its own."""
        return (self.name,)

    @property
    def row_tokens(self) -> int:
        """Places of a row that could hold a target; those of prompts do not count."""
        return 2 * self.length

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return open_store(self.store).vocabulary

    @property
    def sizes(self) -> Mapping[str, int]:
        """Targets that count in one epoch, by name."""
        return {self.name: self._known.targets}

    @property
    def pairs(self) -> int:
        """Rows of one epoch."""
        return len(self._known.kept)

    def most(self, seed: int) -> float:
        """Return the most rows that it can give; infinite without `max_epochs`."""
        return inf if self.max_epochs is None else int(self.max_epochs * self.pairs)

    def shares(self, time: Time) -> Mapping[str, float]:
        """Return the mean share of a row's places that hold a target that counts."""
        return {self.name: self._known.targets / (self.pairs * self.row_tokens)}

    def start(self, ctx: Context) -> State:
        """Return the state before the first row.

        Raises:
            DialError: A length below 1, or a bad `max_epochs`.
            DataError: No store of preferences, or pairs longer than a row and `overlong="refuse"`.
        """
        check_length(self.length, f"Preferences '{self.name}'")
        check_epochs(self.max_epochs, self.name)
        store = open_store(self.store)
        check_sizes(self._known.sizes, self.length, self.overlong, self.store)
        return {"row": 0, "fingerprint": store.fingerprint}

    def room(self, state: State, ctx: Context) -> int:
        """Return how many of `ctx.rows` rows can still be given."""
        return int(max(0, min(ctx.rows, self.most(ctx.seed) - int(state["row"]))))

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return `ctx.rows` rows and the next state.

        Raises:
            StateError: The state belongs to other data.
            DataError: `max_epochs` does not leave `ctx.rows` rows.
        """
        unread, after = self.unread(state, ctx, ctx.rows)
        return unread.batch(), after

    def unread(self, state: State, ctx: Context, rows: int) -> tuple[Unread, State]:
        """Return where the next `rows` rows lie, and the next state. Raises as `next` does."""
        check_fingerprint(state, opened(self.store).fingerprint, self.store)
        if self.max_epochs is not None and self.room(state, ctx) < rows:
            raise spent(self.name, self.max_epochs, self.store)
        first = int(state["row"])
        numbers = np.arange(first, first + rows, dtype=np.int64)
        halves = {half: _Half(self.store, self.length, half) for half in ("chosen", "rejected")}
        readers = {half: Tokens(answers) for half, answers in halves.items()}
        weights = {f"{half}_weight": Weights(answers) for half, answers in halves.items()}
        shown = self._shown(numbers, ctx.seed)
        return Unread(readers, weights, shown, first), {**state, "row": first + rows}

    def _shown(self, rows: np.ndarray, seed: int) -> np.ndarray:
        """Return which pair of the store each row shows."""
        kept = self._known.kept
        places = shuffled(rows, len(kept), seed, self.name if self.shuffle else None)
        shown: np.ndarray = kept[places]
        return shown

    @property
    def _known(self) -> "_Pairs":
        return _pairs(opened(self.store), self.length + 1, self.overlong == "cut")


class _Pairs(NamedTuple):
    """The pairs of a store that fit rows of some length."""

    kept: np.ndarray
    targets: int
    sizes: Sizes


@lru_cache(maxsize=16)
def _bounds(store: Store) -> np.ndarray:
    """Return int64 [pairs, 3]: where each half begins in the stream, and where the second ends."""
    falls = np.zeros(0, np.int64)
    if store.learned is not None:
        falls = np.flatnonzero((store.learned[:-1] == 1) & (store.learned[1:] == 0)) + 1
        falls = np.setdiff1d(falls, store.documents)
    starts, ends = np.array(store.documents[:-1]), np.array(store.documents[1:])
    inside = np.searchsorted(falls, ends) - np.searchsorted(falls, starts)
    if not (len(falls) == len(starts) and (inside == 1).all()):
        raise DataError(
            "a store that does not hold pairs of answers",
            expected="a store made by build_preferences",
            where=str(store.path),
            write="build_preferences(sources, chosen='...', rejected='...')",
        )
    return np.stack([starts, falls, ends], 1)


@lru_cache(maxsize=16)
def _pairs(store: Store, capacity: int, cuts: bool) -> _Pairs:
    bounds = _bounds(store)
    lengths = np.diff(bounds, axis=1)
    used = np.minimum(lengths, capacity)
    assert store.learned is not None  # refused by _bounds
    until = np.concatenate([[0], np.cumsum(store.learned, dtype=np.int64)])
    targets = until[bounds[:, :2] + used] - until[bounds[:, :2]]
    fits: np.ndarray = np.all(lengths <= capacity, axis=1)
    keeps = np.all(targets > 0, axis=1) if cuts else fits
    kept = np.flatnonzero(keeps)
    sizes = Sizes(len(fits), len(kept), int((~fits).sum()), int(lengths.max(initial=0)))
    return _Pairs(kept, int(targets[kept].sum()), sizes)


@dataclass(frozen=True)
class _Half:
    """One answer of each pair; a row is addressed by its pair in the store."""

    store: str
    length: int
    which: str
    """`chosen` or `rejected`."""

    def layout(self, store: Store, epoch: int, rows: np.ndarray) -> Layout:
        """Return the layout of rows of one piece each, cut off where they are full."""
        first = 0 if self.which == "chosen" else 1
        bounds = _bounds(store)[rows, first : first + 2]
        sizes = np.minimum(bounds[:, 1] - bounds[:, 0], self.length + 1)
        return lay_out(bounds[:, 0], sizes, np.ones(len(rows), np.int64), self.length + 1)
