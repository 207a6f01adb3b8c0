"""Running text: a store cut into windows, in an order that is a function of seed and epoch.

Window k of length L holds ids k*L .. k*L + L, so that every id but the very first of the stream is
a target exactly once an epoch. What is left at the end is one window filled up with end-of-text at
weight 0. Row r of a run is window `permute(r mod n, n, key(seed, name, r div n))` of n windows.

A batch is made without touching the tokens: its lazy columns know where their rows begin in the
stream, and each rank reads its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from thalweg.core.batch import Batch
from thalweg.core.lazy import Reader
from thalweg.core.protocols import Context, State
from thalweg.core.time import Time
from thalweg.data.order import shuffled
from thalweg.data.rows import check_epochs, check_fingerprint, check_length, spent
from thalweg.data.store import Store, open_store, opened
from thalweg.data.unread import Unread
from thalweg.errors import DataError

__all__ = ["Corpus"]

_BLOCK = 256  # rows whose windows are looked up at once


@dataclass(frozen=True)
class Corpus:
    """Windows of running text.

    State: the number of the next row and the fingerprint of the store.

    Example:
        >>> import tempfile; from pathlib import Path; from thalweg.data import build
        >>> folder = Path(tempfile.mkdtemp()); _ = (folder / "a.txt").write_text("abcdefgh")
        >>> text = Corpus(str(build(folder, home=folder / "h", progress=False).train), length=4)
        >>> batch, _ = text.next(text.start(Context(Time())), Context(Time(), rows=2))
        >>> sorted(batch["tokens"].tolist())
        [[100, 101, 102, 103, 104], [256, 97, 98, 99, 100]]
    """

    store: str
    """Folder of a store, a flat `.npy` of ids, or Megatron's `.bin`."""
    length: int = 256
    """Targets of a row; the row has one id more."""
    shuffle: bool = True
    """Whether windows come in a new random order each epoch, or as they lie."""
    mask_documents: bool = True
    """Whether rows have a `document` column, which keeps attention inside each document."""
    name: str = "text"
    """What the log calls it when it stands alone; also part of the key of the order."""
    max_epochs: float | None = None
    """Passes over the data after which it has no rows left; None: no limit."""
    seed: int | None = None
    """Of the order; None: the run's. With one of its own, runs of all seeds read the same rows."""
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
        """Targets of a row."""
        return self.length

    @property
    def size(self) -> int:
        """Target tokens of one epoch."""
        return len(open_store(self.store).tokens) - 1

    @property
    def sizes(self) -> Mapping[str, int]:
        """Target tokens of one epoch, by name."""
        return {self.name: self.size}

    def shares(self, time: Time) -> Mapping[str, float]:
        """Return the share of rows of each name: all."""
        return {self.name: 1.0}

    @property
    def windows(self) -> int:
        """Rows of one epoch."""
        return -(-self.size // self.length)

    def most(self, seed: int) -> float:
        """Return the most rows that it can give; infinite without `max_epochs`."""
        return inf if self.max_epochs is None else int(self.max_epochs * self.windows)

    @property
    def vocabulary(self) -> int:
        """Number of token ids; 0 when the store does not say."""
        return open_store(self.store).vocabulary

    def start(self, ctx: Context) -> State:
        """Return the state before the first row.

        Raises:
            DialError: A length below 1, or a bad `max_epochs`.
            DataError: No store, or one without a single target.
        """
        check_length(self.length, f"Corpus '{self.name}'")
        check_epochs(self.max_epochs, self.name)
        store = open_store(self.store)
        if len(store.tokens) < 2:
            raise DataError(
                f"a store of {len(store.tokens)} tokens",
                expected="at least 2: a token and its target",
                where=self.store,
                write="a store with text",
            )
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
        store = opened(self.store)
        check_fingerprint(state, store.fingerprint, self.store)
        if self.max_epochs is not None and self.room(state, ctx) < rows:
            raise spent(self.name, self.max_epochs, self.store)
        first = int(state["row"])
        after = first + rows
        seed = ctx.seed if self.seed is None else self.seed
        starts = self._windows(store, first, after, seed) * self.length
        readers, weights = _readers(store, self.length, self.mask_documents)
        return Unread(readers, weights, starts, first), {**state, "row": after}

    def window(self, row: int, seed: int) -> int:
        """Return which window of the stream a row of the run shows; the `id` column is the row."""
        store, own = open_store(self.store), seed if self.seed is None else self.seed
        return int(self._windows(store, row, row + 1, own)[0])

    def _windows(self, store: Store, first: int, after: int, seed: int) -> np.ndarray:
        """Return the windows that rows `first` to `after` of a run show, int64 [after - first]."""
        order = _Order(-(-(len(store.tokens) - 1) // self.length), seed, self._shuffled)
        block = first // _BLOCK
        parts = [_block(order, n) for n in range(block, max(first, after - 1) // _BLOCK + 1)]
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return whole[first - block * _BLOCK : after - block * _BLOCK]

    @property
    def _shuffled(self) -> str | None:
        return self.name if self.shuffle else None


class _Order(NamedTuple):
    """What the windows of a run's rows follow from."""

    windows: int
    seed: int
    name: str | None


@lru_cache(maxsize=256)
def _block(order: _Order, block: int) -> np.ndarray:
    """Return the windows of a block of rows; together, since a call costs more than rows."""
    rows = np.arange(block * _BLOCK, (block + 1) * _BLOCK, dtype=np.int64)
    return shuffled(rows, order.windows, order.seed, order.name)


@dataclass(frozen=True)
class _Tokens:
    """Reads ids, int64 [n, width], of rows by where they begin."""

    store: Store
    width: int

    def __call__(self, starts: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.store.read(starts, self.width))


@dataclass(frozen=True)
class _Documents:
    """Reads which document of its row each id belongs to, int32 [n, width]."""

    store: Store
    width: int

    def __call__(self, starts: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.store.ordinals(starts, self.width))


@dataclass(frozen=True)
class _Weights:
    """Gives ones, float32 [n, length]; zeros behind the end of the stream."""

    size: int
    """Targets of the stream."""
    length: int

    def __call__(self, starts: np.ndarray) -> torch.Tensor:
        weight = torch.ones(len(starts), self.length)
        if starts.max(initial=0) > self.size - self.length:  # the one row that ends the stream
            for row, start in enumerate(starts.tolist()):
                weight[row, max(self.size - start, 0) :] = 0.0
        return weight


@lru_cache(maxsize=256)
def _readers(
    store: Store, length: int, documents: bool
) -> tuple[Mapping[str, Reader], Mapping[str, Reader]]:
    """Return what reads the columns of rows, and their weights."""
    readers: dict[str, Reader] = {"tokens": _Tokens(store, length + 1)}
    if documents:
        readers["document"] = _Documents(store, length + 1)
    return readers, {"weight": _Weights(len(store.tokens) - 1, length)}
