"""Documents that are selected and put in an order, laid end to end, and cut into rows.

A pass over the documents is a stream of its own: the documents of the order, one behind the other,
each with the end-of-text that opens it. Row k of length L holds places k*L .. k*L + L of that
stream, so every id but its very first is a target exactly once a pass, and documents keep their
order: a score sorts documents, not rows that hold pieces of several.

The plan of a pass is the order (4 bytes a document) and where every 32nd document begins. It is a
function of the store, its scores, and the pass; it is made when first needed and never saved. A
row is addressed as pass * 2^32 + row of the pass.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch

from thalweg.core.batch import Batch, Column, Lazy
from thalweg.core.protocols import Context, State
from thalweg.core.time import Time
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
from thalweg.data.store import Store, open_store
from thalweg.errors import DataError

__all__ = ["Ordered"]

_EPOCH = 1 << 32
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
        plans = self._documents(seed).plans
        return most_in_epochs(self.max_epochs, lambda epoch: plans(epoch).rows(self.length))

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
        documents = self._documents(ctx.seed)
        documents.plans(0)
        fingerprint = documents.selected.fingerprint
        return {"epoch": 0, "row": 0, "id": 0, "fingerprint": fingerprint}

    def room(self, state: State, ctx: Context) -> int:
        """Return how many of `ctx.rows` rows can still be given."""
        documents = self._documents(ctx.seed)
        return room_in_epochs(
            state, ctx.rows, self.max_epochs, lambda epoch: documents.plans(epoch).rows(self.length)
        )

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return `ctx.rows` rows and the next state.

        Raises:
            StateError: The state belongs to other data or other scores.
            DataError: `max_epochs` does not leave `ctx.rows` rows.
        """
        documents = self._documents(ctx.seed)
        check_fingerprint(state, documents.selected.fingerprint, self.store)
        if self.max_epochs is not None and self.room(state, ctx) < ctx.rows:
            raise spent(self.name, self.max_epochs, self.store)
        address = np.empty(ctx.rows, np.int64)
        weight = torch.ones(ctx.rows, self.length)
        plans, filled = documents.plans, 0
        epoch, row = int(state["epoch"]), int(state["row"])
        while filled < ctx.rows:
            count = plans(epoch).rows(self.length)
            taken = min(count - row, ctx.rows - filled)
            address[filled : filled + taken] = epoch * _EPOCH + np.arange(row, row + taken)
            filled, row = filled + taken, row + taken
            if row == count:
                last = plans(epoch).targets - (count - 1) * self.length
                weight[filled - 1, last:] = 0.0
                epoch, row = epoch + 1, 0
        first = int(state["id"])
        columns: dict[str, Column] = {
            "tokens": Lazy.of(_Tokens(documents, self.length), address),
            "weight": weight,
            "source": torch.zeros(ctx.rows, dtype=torch.int64),
            "id": torch.arange(first, first + ctx.rows),
        }
        if self.mask_documents:
            columns["document"] = Lazy.of(_Ordinals(documents, self.length), address)
        return Batch(columns), {**state, "epoch": epoch, "row": row, "id": first + ctx.rows}

    def documents(self, epoch: int, row: int, seed: int = 0) -> np.ndarray:
        """Return which documents of the store a row of a pass shows, int64, in order."""
        plan = self._documents(seed).plans(epoch)
        piece = plan.piece(open_store(self.store), row * self.length, self.length + 1)
        return piece.document[np.flatnonzero(np.diff(piece.ordinal, prepend=-1))]

    def _documents(self, seed: int) -> "_Documents":
        return _Documents(self.store, self.order, self.select, self.scores, self.name, seed)


class _Piece(NamedTuple):
    """Where the ids of a stretch of a stream lie."""

    place: np.ndarray
    """int64 [n], in the store; shorter than asked for at the end of the stream."""
    ordinal: np.ndarray
    """int32 [n]: 0 in the first document of the stretch, 1 in the second, ..."""
    document: np.ndarray
    """int64 [n], in the store."""


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

    def rows(self, length: int) -> int:
        return -(-self.targets // length)

    def piece(self, store: Store, start: int, length: int) -> _Piece:
        """Return where ids start .. start + length - 1 of the stream come from."""
        stop = min(start + length, int(self.begins[-1]))
        low, high = np.searchsorted(self.begins[:-1], [start, stop - 1], side="right") - 1
        documents = self.order[low * _EVERY : (high + 1) * _EVERY].astype(np.int64)
        first = np.array(store.documents[documents])
        sizes = store.documents[documents + 1] - first
        ends = int(self.begins[low]) + np.cumsum(sizes)
        stream = np.arange(start, stop)
        which = np.searchsorted(ends, stream, side="right")
        place = first[which] + stream - (ends - sizes)[which]
        ordinal = np.cumsum(np.diff(which, prepend=which[:1]) > 0, dtype=np.int32)
        return _Piece(place, ordinal, documents[which])


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
        return _selected(self, open_store(self.store))

    @property
    def plans(self) -> "Callable[[int], _Plan]":
        return _plans(self, open_store(self.store))


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


def _rows_of(documents: _Documents, length: int, address: np.ndarray) -> list[_Piece]:
    store, plans = open_store(documents.store), documents.plans
    epochs, rows = np.divmod(address, _EPOCH)
    return [
        plans(epoch).piece(store, row * length, length + 1)
        for epoch, row in zip(epochs.tolist(), rows.tolist(), strict=True)
    ]


@dataclass(frozen=True)
class _Tokens:
    """Reads the ids of rows: int64 [n, L + 1]; past the end, the end-of-text."""

    documents: _Documents
    length: int

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        store = open_store(self.documents.store)
        out = np.full((len(address), self.length + 1), store.end_id, np.int64)
        for row, piece in enumerate(_rows_of(self.documents, self.length, address)):
            out[row, : len(piece.place)] = store.tokens[piece.place]
        return torch.from_numpy(out)


@dataclass(frozen=True)
class _Ordinals:
    """Reads which document of its row each id belongs to: int32 [n, L + 1]."""

    documents: _Documents
    length: int

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        out = np.zeros((len(address), self.length + 1), np.int32)
        for row, piece in enumerate(_rows_of(self.documents, self.length, address)):
            out[row] = piece.ordinal[-1] + 1
            out[row, : len(piece.ordinal)] = piece.ordinal
        return torch.from_numpy(out)
