"""Prompts and answers: several examples packed in a row, and only the answers count.

In each epoch the examples are shuffled and rows are filled in that order. The plan of an epoch is
a function of store, length, seed and epoch; it is computed when first needed and not saved. A row
is addressed as epoch * 2^32 + row of the epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from thalweg.core.batch import Batch, Column, Lazy
from thalweg.core.protocols import Context, State
from thalweg.core.time import Time
from thalweg.data.order import order_key, permute
from thalweg.data.pack import Layout, lay_out, pack
from thalweg.data.rows import (
    Overlong,
    Sizes,
    check_epochs,
    check_fingerprint,
    check_length,
    check_sizes,
    most_in_epochs,
    room_in_epochs,
    spent,
)
from thalweg.data.store import Store, open_store
from thalweg.errors import DataError

__all__ = ["Pairs"]

_EPOCH = 1 << 32


@dataclass(frozen=True)
class Pairs:
    """Packed rows of prompts and answers, from a store made by `build_pairs`.

    State: epoch, row in it, rows given in all, and the fingerprint of the store.

    Example:
        >>> Pairs("runs/stores/abc/train", length=512, overlong="drop").makes
        ('tokens', 'weight', 'document', 'source', 'id')
    """

    store: str
    """Folder of a store of answers."""
    length: int = 256
    """Targets of a row; the row has one id more."""
    overlong: Overlong = "refuse"
    """Examples of more than length + 1 ids: refuse them at the start, leave them out, or cut
    their end off (and leave out those of whose answer nothing is left)."""
    shuffle: bool = True
    """Whether examples come in a new random order each epoch, or as they lie."""
    mask_documents: bool = True
    """Whether rows have a `document` column, which keeps attention inside each example."""
    name: str = "pairs"
    """What the log calls it when it stands alone; also part of the key of the order."""
    max_epochs: float | None = None
    """Passes over the data after which it has no rows left; None: no limit."""

    @property
    def makes(self) -> tuple[str, ...]:
        """Columns of every batch."""
        document = ("document",) if self.mask_documents else ()
        return ("tokens", "weight", *document, "source", "id")

    @property
    def names(self) -> tuple[str, ...]:
        """One name, its own."""
        return (self.name,)

    @property
    def row_tokens(self) -> int:
        """Places of a row that could hold a target; those of prompts do not count."""
        return self.length

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return open_store(self.store).vocabulary

    @property
    def size(self) -> int:
        """Targets that count in one epoch."""
        return self._rows(0).examples.targets

    @property
    def sizes(self) -> Mapping[str, int]:
        """Targets that count in one epoch, by name."""
        return {self.name: self.size}

    def most(self, seed: int) -> float:
        """Return the most rows that it can give; infinite without `max_epochs`."""
        return most_in_epochs(self.max_epochs, self._rows(seed).count)

    def shares(self, time: Time) -> Mapping[str, float]:
        """Return the mean share of a row's places that hold a target that counts."""
        rows = self._rows(0)
        return {self.name: rows.examples.targets / (rows.count(0) * self.length)}

    def start(self, ctx: Context) -> State:
        """Return the state before the first row.

        Raises:
            DialError: A length below 1, or a bad `max_epochs`.
            DataError: No store of answers, or examples longer than a row and `overlong="refuse"`.
        """
        check_length(self.length, f"Pairs '{self.name}'")
        check_epochs(self.max_epochs, self.name)
        sizes = self._rows(ctx.seed).examples.sizes
        check_sizes(sizes, self.length, self.overlong, self.store)
        return {"epoch": 0, "row": 0, "id": 0, "fingerprint": open_store(self.store).fingerprint}

    def room(self, state: State, ctx: Context) -> int:
        """Return how many of `ctx.rows` rows can still be given."""
        return room_in_epochs(state, ctx.rows, self.max_epochs, self._rows(ctx.seed).count)

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return `ctx.rows` rows and the next state.

        Raises:
            StateError: The state belongs to other data.
            DataError: `max_epochs` does not leave `ctx.rows` rows.
        """
        check_fingerprint(state, open_store(self.store).fingerprint, self.store)
        if self.max_epochs is not None and self.room(state, ctx) < ctx.rows:
            raise spent(self.name, self.max_epochs, self.store)
        rows = self._rows(ctx.seed)
        epoch, row, address = int(state["epoch"]), int(state["row"]), np.zeros(ctx.rows, np.int64)
        for place in range(ctx.rows):
            if row == rows.count(epoch):
                epoch, row = epoch + 1, 0
            address[place] = epoch * _EPOCH + row
            row += 1
        first = int(state["id"])
        columns: dict[str, Column] = {
            "tokens": Lazy.of(_Tokens(rows), address),
            "weight": _Weights(rows)(address),
            "source": torch.zeros(ctx.rows, dtype=torch.int64),
            "id": torch.arange(first, first + ctx.rows),
        }
        if self.mask_documents:
            columns["document"] = Lazy.of(_Documents(rows), address)
        return Batch(columns), {**state, "epoch": epoch, "row": row, "id": first + ctx.rows}

    def _rows(self, seed: int) -> "_Rows":
        shuffled = self.name if self.shuffle else None
        return _Rows(self.store, self.length, self.overlong, shuffled, seed)


class _Examples(NamedTuple):
    """The examples of a store that fit rows of some length."""

    kept: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    targets: int
    sizes: Sizes


@dataclass(frozen=True)
class _Rows:
    """From addresses to rows of examples."""

    store: str
    length: int
    overlong: Overlong
    shuffled: str | None
    seed: int

    @property
    def examples(self) -> _Examples:
        return _examples(open_store(self.store), self.length + 1, self.overlong == "cut")

    def count(self, epoch: int) -> int:
        return len(_plan(self, open_store(self.store), epoch)[1]) - 1

    def layout(self, address: np.ndarray) -> tuple[Store, Layout]:
        store = open_store(self.store)
        chosen = []
        for epoch, row in zip(*(part.tolist() for part in np.divmod(address, _EPOCH)), strict=True):
            order, bounds = _plan(self, store, epoch)
            chosen.append(order[bounds[row] : bounds[row + 1]])
        known = self.examples
        return store, lay_out(chosen, known.starts, known.lengths, self.length + 1)


@lru_cache(maxsize=16)
def _examples(store: Store, capacity: int, cuts: bool) -> _Examples:
    if store.learned is None:
        raise DataError(
            "a store of running text where answers are needed",
            expected="a store made by build_pairs",
            where=str(store.path),
            write="build_pairs(sources, prompt='...', answer='...'), or Corpus for running text",
        )
    starts, lengths = np.array(store.documents[:-1]), np.diff(store.documents)
    long = np.flatnonzero(lengths > capacity)
    used = np.minimum(lengths, capacity)
    keeps = lengths <= capacity
    targets = int(store.learned.sum(dtype=np.int64))
    for example in long.tolist():
        flags = store.learned[starts[example] : starts[example] + lengths[example]]
        inside = int(flags[:capacity].sum()) if cuts else 0
        keeps[example] = inside > 0
        targets -= int(flags.sum()) - inside
    kept = np.flatnonzero(keeps)
    sizes = Sizes(len(lengths), len(kept), len(long), int(lengths.max(initial=0)))
    return _Examples(kept, starts, used, targets, sizes)


@lru_cache(maxsize=8)
def _plan(rows: _Rows, store: Store, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the examples of an epoch in order, and where each row of them begins."""
    known = _examples(store, rows.length + 1, rows.overlong == "cut")
    order = known.kept
    if rows.shuffled is not None:
        key = order_key(rows.seed, rows.shuffled, epoch)
        order = order[permute(np.arange(len(order)), len(order), key)]
    return order, pack(known.lengths[order], rows.length + 1)


@dataclass(frozen=True)
class _Tokens:
    """Reads the ids of rows: int64 [n, L + 1]."""

    rows: _Rows

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        store, layout = self.rows.layout(address)
        ids = store.tokens[np.maximum(layout.place, 0)].astype(np.int64)
        return torch.from_numpy(np.where(layout.place >= 0, ids, store.end_id))


@dataclass(frozen=True)
class _Documents:
    """Reads which example of its row each id belongs to: int32 [n, L + 1]."""

    rows: _Rows

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.rows.layout(address)[1].document)


@dataclass(frozen=True)
class _Weights:
    """Reads which targets count: float32 [n, L]."""

    rows: _Rows

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        store, layout = self.rows.layout(address)
        assert store.learned is not None  # refused in start
        flags = store.learned[np.maximum(layout.place, 0)] * (layout.place >= 0)
        first = np.diff(layout.document, axis=1, prepend=-1) != 0
        return torch.from_numpy((flags * ~first)[:, 1:].astype(np.float32))
