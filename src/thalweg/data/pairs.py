"""Prompts and answers: several examples packed in a row, and only the answers count.

In each epoch the examples are shuffled and rows are filled in that order. The plan of an epoch is
a function of store, length, seed and epoch; it is computed when first needed and not saved.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np

from thalweg.core.batch import Batch
from thalweg.core.lazy import Reader
from thalweg.core.protocols import Context, State
from thalweg.core.time import Time
from thalweg.data.laid import Documents, Layout, Tokens, Weights, advance, lay_out, stretches
from thalweg.data.order import order_key, permute
from thalweg.data.pack import pack
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
from thalweg.data.store import Store, open_store, opened
from thalweg.data.unread import Unread
from thalweg.errors import DataError

__all__ = ["Pairs"]


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
    offline: ClassVar[bool] = True
    """No model writes its rows."""

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
        return self._examples.targets

    @property
    def sizes(self) -> Mapping[str, int]:
        """Targets that count in one epoch, by name."""
        return {self.name: self.size}

    def most(self, seed: int) -> float:
        """Return the most rows that it can give; infinite without `max_epochs`."""
        return most_in_epochs(self.max_epochs, self._rows(seed).count)

    def shares(self, time: Time) -> Mapping[str, float]:
        """Return the mean share of a row's places that hold a target that counts."""
        return {self.name: self._examples.targets / (self._rows(0).count(0) * self.length)}

    def start(self, ctx: Context) -> State:
        """Return the state before the first row.

        Raises:
            DialError: A length below 1, or a bad `max_epochs`.
            DataError: No store of answers, or examples longer than a row and `overlong="refuse"`.
        """
        check_length(self.length, f"Pairs '{self.name}'")
        check_epochs(self.max_epochs, self.name)
        check_sizes(self._examples.sizes, self.length, self.overlong, self.store)
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
        unread, after = self.unread(state, ctx, ctx.rows)
        return unread.batch(), after

    def unread(self, state: State, ctx: Context, rows: int) -> tuple[Unread, State]:
        """Return where the next `rows` rows lie, and the next state. Raises as `next` does."""
        check_fingerprint(state, opened(self.store).fingerprint, self.store)
        if self.max_epochs is not None and self.room(state, ctx) < rows:
            raise spent(self.name, self.max_epochs, self.store)
        plan = self._rows(ctx.seed)
        epoch, row = int(state["epoch"]), int(state["row"])
        address, epoch, row = advance(epoch, row, rows, plan.count)
        readers: dict[str, Reader] = {"tokens": Tokens(plan)}
        if self.mask_documents:
            readers["document"] = Documents(plan)
        first = int(state["id"])
        after = {**state, "epoch": epoch, "row": row, "id": first + rows}
        return Unread(readers, {"weight": Weights(plan)}, address, first), after

    @property
    def _examples(self) -> "_Examples":
        return _examples(open_store(self.store), self.length + 1, self.overlong == "cut")

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
    """What the rows of all epochs follow from."""

    store: str
    length: int
    overlong: Overlong
    shuffled: str | None
    seed: int

    def count(self, epoch: int) -> int:
        """Return the rows of an epoch."""
        return len(_plan(self, opened(self.store), epoch)[1]) - 1

    def layout(self, store: Store, epoch: int, rows: np.ndarray) -> Layout:
        """Return the layout of rows of an epoch."""
        known = _examples(store, self.length + 1, self.overlong == "cut")
        order, bounds = _plan(self, store, epoch)
        counts = bounds[rows + 1] - bounds[rows]
        shown = stretches(order, bounds[rows], counts)
        return lay_out(known.starts[shown], known.lengths[shown], counts, self.length + 1)


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
