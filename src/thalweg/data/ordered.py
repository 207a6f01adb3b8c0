"""Documents that are selected and put in an order, laid end to end, and cut into rows.

A pass over the documents is a stream of its own: the documents of the order, one behind the other,
each with the end-of-text that opens it. Row k of length L holds places k*L .. k*L + L of that
stream, so every id but its very first is a target exactly once a pass, and documents keep their
order: a score sorts documents, not rows that hold pieces of several.

The plan of a pass is the order (4 bytes a document) and where every 32nd document begins. It is a
function of the store, its scores, and the pass; it is made when first needed and never saved.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from thalweg.core.batch import Batch
from thalweg.core.lazy import Reader
from thalweg.core.protocols import Context, State
from thalweg.core.time import Time
from thalweg.data.laid import EPOCH, Documents, Layout, Tokens, advance, lay_out, stretches
from thalweg.data.orders import Order, Shuffled
from thalweg.data.pool import BLOCK, Pool, Turn
from thalweg.data.rows import (
    check_epochs,
    check_fingerprint,
    check_length,
    most_in_epochs,
    room_in_epochs,
    spent,
)
from thalweg.data.score import open_scores
from thalweg.data.select import Select
from thalweg.data.store import Store, open_store, opened
from thalweg.data.unread import Unread
from thalweg.errors import DataError

__all__ = ["Ordered"]

_EVERY = 32  # documents between two known places; divides BLOCK


@dataclass(frozen=True)
class Ordered:
    """Rows of the documents of a store that were selected, in the order of their scores.

    State: pass, row in it, rows given in all, and a fingerprint of the store and the scores.

    Example:
        >>> from thalweg.data import Folded, Top
        >>> best = Ordered("store", Folded("lqs"), (Top("lqs", 0.4),), scores="scores")
        >>> best.needs
        ('lqs',)
    """

    store: str
    """Folder of a store, a flat `.npy` of ids, or Megatron's `.bin`."""
    order: Order = Shuffled()
    """In which order the documents of a pass come."""
    select: tuple[Select, ...] = ()
    """Which documents are used, one selection after the other."""
    scores: str | None = None
    """Folder of scores of this store."""
    length: int = 256
    """Targets of a row; the row has one id more."""
    mask_documents: bool = True
    """Whether rows have a `document` column, which keeps attention inside each document."""
    name: str = "text"
    """What the log calls it when it stands alone; also part of the key of the order."""
    max_epochs: float | None = None
    """Passes after which it has no rows left; None: no limit."""
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
    def needs(self) -> tuple[str, ...]:
        """The columns of scores that the selections and the order read."""
        return _needs(self.select, self.order)

    @property
    def row_tokens(self) -> int:
        """Targets of a row."""
        return self.length

    @property
    def vocabulary(self) -> int:
        """Number of token ids; 0 when the store does not say."""
        return open_store(self.store).vocabulary

    @property
    def size(self) -> int:
        """Targets of all selected documents: of one pass, if its order gives each once."""
        return self._documents(0).selected.tokens - 1

    @property
    def sizes(self) -> Mapping[str, int]:
        """Targets of all selected documents, by name."""
        return {self.name: self.size}

    def most(self, seed: int) -> float:
        """Return the most rows that it can give; infinite without `max_epochs`."""
        return most_in_epochs(self.max_epochs, self._rows(seed).count)

    def shares(self, time: Time) -> Mapping[str, float]:
        """Return the share of rows of each name: all."""
        return {self.name: 1.0}

    def start(self, ctx: Context) -> State:
        """Return the state before the first row.

        Raises:
            DialError: A length below 1, or a bad `max_epochs`.
            DataError: No store, scores of another corpus, or nothing selected.
            RecipeError: A column of scores that is not there.
        """
        check_length(self.length, f"Ordered '{self.name}'")
        check_epochs(self.max_epochs, self.name)
        open_store(self.store)  # anew: it may have been built again
        documents = self._documents(ctx.seed)
        documents.plan(0)
        fingerprint = documents.selected.fingerprint
        return {"epoch": 0, "row": 0, "id": 0, "fingerprint": fingerprint}

    def room(self, state: State, ctx: Context) -> int:
        """Return how many of `ctx.rows` rows can still be given."""
        return room_in_epochs(state, ctx.rows, self.max_epochs, self._rows(ctx.seed).count)

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return `ctx.rows` rows and the next state.

        Raises:
            StateError: The state belongs to other data or other scores.
            DataError: `max_epochs` does not leave `ctx.rows` rows.
        """
        unread, after = self.unread(state, ctx, ctx.rows)
        return unread.batch(), after

    def unread(self, state: State, ctx: Context, rows: int) -> tuple[Unread, State]:
        """Return where the next `rows` rows lie, and the next state. Raises as `next` does."""
        plan = self._rows(ctx.seed)
        check_fingerprint(state, plan.documents.selected.fingerprint, self.store)
        if self.max_epochs is not None and self.room(state, ctx) < rows:
            raise spent(self.name, self.max_epochs, self.store)
        address, epoch, row = advance(int(state["epoch"]), int(state["row"]), rows, plan.count)
        readers: dict[str, Reader] = {"tokens": Tokens(plan)}
        if self.mask_documents:
            readers["document"] = Documents(plan)
        first = int(state["id"])
        after = {**state, "epoch": epoch, "row": row, "id": first + rows}
        return Unread(readers, {"weight": _Weights(plan)}, address, first), after

    def documents(self, epoch: int, row: int, seed: int = 0) -> np.ndarray:
        """Return which documents of the store a row of a pass shows, int64, in order."""
        store = open_store(self.store)
        return self._rows(seed).pieces(store, epoch, np.array([row])).document

    def _documents(self, seed: int) -> "_Documents":
        return _Documents(self.store, self.order, self.select, self.scores, self.name, seed)

    def _rows(self, seed: int) -> "_Rows":
        return _Rows(self._documents(seed), self.length)


class _Pieces(NamedTuple):
    """The parts of documents that rows show, in order."""

    document: np.ndarray
    """int64 [pieces], in the store."""
    start: np.ndarray
    """int64 [pieces], where each begins in the store's stream."""
    size: np.ndarray
    """int64 [pieces], ids of each."""
    counts: np.ndarray
    """int64 [n], pieces of each row."""


@dataclass(frozen=True, eq=False)
class _Plan:
    """The documents of a pass, and where every 32nd of them begins in its stream."""

    order: np.ndarray
    """uint32 [m]."""
    begins: np.ndarray
    """int64 [m / 32 + 1], then the end of the stream."""

    @property
    def targets(self) -> int:
        return int(self.begins[-1]) - 1

    def pieces(self, store: Store, start: np.ndarray, length: int) -> _Pieces:
        """Return where the ids start .. start + length - 1 of the pass come from, for each start.

        Behind the end of the pass there is nothing.
        """
        stop = np.minimum(start + length, self.begins[-1])
        low = np.searchsorted(self.begins[:-1], start, side="right") - 1
        high = np.searchsorted(self.begins[:-1], stop, side="left")
        counts = np.minimum(high * _EVERY, len(self.order)) - low * _EVERY
        row = np.repeat(np.arange(len(start)), counts)
        document = stretches(self.order, low * _EVERY, counts).astype(np.int64)
        first = store.documents[document]
        size = store.documents[document + 1] - first
        before = np.cumsum(size) - size  # ids of all the documents in front of each
        begin = before + (self.begins[low] - before[np.cumsum(counts) - counts])[row]
        cut = np.maximum(start[row] - begin, 0)
        shown = np.minimum(begin + size, stop[row]) - begin - cut
        kept = shown > 0
        of_row = np.bincount(row[kept], minlength=len(start))
        return _Pieces(document[kept], (first + cut)[kept], shown[kept], of_row)


@dataclass(frozen=True)
class _Documents:
    """What decides the documents of a pass; the key of its plans."""

    store: str
    order: Order
    select: tuple[Select, ...]
    scores: str | None
    name: str
    seed: int

    @property
    def selected(self) -> "_Selected":
        return _selected(self, opened(self.store))

    def plan(self, epoch: int) -> _Plan:
        return _plans(self, opened(self.store))(epoch)


@dataclass(frozen=True)
class _Rows:
    """Documents, and how long the rows are that they are cut into."""

    documents: _Documents
    length: int

    @property
    def store(self) -> str:
        """Folder of the store."""
        return self.documents.store

    def count(self, epoch: int) -> int:
        """Return the rows of a pass."""
        return -(-self.documents.plan(epoch).targets // self.length)

    def pieces(self, store: Store, epoch: int, rows: np.ndarray) -> _Pieces:
        """Return what rows of a pass show."""
        plan = _plans(self.documents, store)(epoch)
        return plan.pieces(store, rows * self.length, self.length + 1)

    def layout(self, store: Store, epoch: int, rows: np.ndarray) -> Layout:
        """Return the layout of rows of a pass."""
        found = self.pieces(store, epoch, rows)
        return lay_out(found.start, found.size, found.counts, self.length + 1)


@dataclass(frozen=True)
class _Weights:
    """Gives ones, float32 [n, length]; zeros behind the end of a pass."""

    rows: _Rows

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        length = self.rows.length
        weight = torch.ones(len(address), length)
        for epoch in {place // EPOCH for place in address.tolist()}:
            targets, last = self.rows.documents.plan(epoch).targets, self.rows.count(epoch) - 1
            for row in np.flatnonzero(address == epoch * EPOCH + last).tolist():
                weight[row, targets - last * length :] = 0.0
        return weight


class _Selected(NamedTuple):
    """What the selections leave."""

    pool: Pool
    tokens: int
    """Ids of its documents."""
    fingerprint: str
    """Of the store and of the scores that are used."""


@lru_cache(maxsize=256)
def _selected(of: _Documents, store: Store) -> _Selected:
    scores = {} if of.scores is None else open_scores(of.scores, store)
    pool = Pool(len(store.documents) - 1, scores)
    for part in of.select:
        found = part(pool)
        kept = found if pool.kept is None else pool.kept[found]
        pool = Pool(len(kept), scores, kept)
    tokens = int(store.documents[-1] - store.documents[0])
    if pool.kept is not None:
        tokens = sum(int(_sizes(store, part).sum()) for part in _blocks(pool.kept))
    if tokens < 2:
        raise DataError(
            f"{pool.count} of {len(store.documents) - 1} documents selected, {tokens} ids in all",
            expected="at least 2 ids: a token and its target",
            where=f"source '{of.name}', its selections {of.select}",
            write="a larger ratio or a wider band",
        )
    return _Selected(pool, tokens, _fingerprint(of, store))


def _fingerprint(of: _Documents, store: Store) -> str:
    """Return the store's fingerprint, or one of the store and the scores that are used."""
    used = _needs(of.select, of.order)
    if of.scores is None or not used:
        return store.fingerprint
    digests = open_scores(of.scores, store).digests
    text = " ".join([store.fingerprint, *(digests.get(name, "") for name in used)])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _needs(select: tuple[Select, ...], order: Order) -> tuple[str, ...]:
    names = [name for part in select for name in part.needs]
    return tuple(dict.fromkeys([*names, *order.needs]))


@lru_cache(maxsize=256)
def _plans(of: _Documents, store: Store) -> Callable[[int], _Plan]:
    """Return the maker of plans; it remembers two, for the batch where a pass ends."""
    return lru_cache(maxsize=2)(partial(_plan, of, store))


def _plan(of: _Documents, store: Store, epoch: int) -> _Plan:
    pool = of.selected.pool
    order = of.order(pool, Turn(epoch, of.seed, of.name))
    if pool.kept is not None:
        order = pool.kept[order]
    sizes = np.empty(len(store.documents) - 1, np.uint32)
    for start in range(0, len(sizes), BLOCK):
        sizes[start : start + BLOCK] = np.diff(store.documents[start : start + BLOCK + 1])
    starts = np.arange(0, BLOCK, _EVERY)
    sums = [
        np.add.reduceat(sizes[part], starts[: -(-len(part) // _EVERY)], dtype=np.int64)
        for part in _blocks(order)
    ]
    return _Plan(order, np.cumsum(np.concatenate([[0], *sums])))


def _sizes(store: Store, documents: np.ndarray) -> np.ndarray:
    where = documents.astype(np.int64)
    sizes: np.ndarray = store.documents[where + 1] - store.documents[where]
    return sizes


def _blocks(order: np.ndarray) -> list[np.ndarray]:
    return [order[start : start + BLOCK] for start in range(0, len(order), BLOCK)]
