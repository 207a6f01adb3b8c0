"""Rows whose ids lie in pieces all over a store: laid out once, then read column by column.

A row is addressed as epoch * 2^32 + its number in the epoch.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch

from thalweg.data.store import Store, opened

__all__ = [
    "EPOCH",
    "Documents",
    "Laid",
    "Layout",
    "Tokens",
    "Weights",
    "advance",
    "lay_out",
    "stretches",
]

EPOCH = 1 << 32


class Layout(NamedTuple):
    """Where each id of each row comes from."""

    place: np.ndarray
    """int64 [n, T]: index into the stream of ids; below 0 where the row is not filled."""
    document: np.ndarray
    """int32 [n, T]: 0 in a row's first piece, 1 in its second, ...; the rest is one more."""


class Laid(Hashable, Protocol):
    """The rows of a source by their addresses; equal ones lay their rows out alike."""

    @property
    def store(self) -> str:
        """Folder of the store."""
        ...

    def layout(self, store: Store, epoch: int, rows: np.ndarray) -> Layout:
        """Return the layout of rows of an epoch, int64 [n] numbers."""
        ...


def advance(
    epoch: int, row: int, rows: int, count: Callable[[int], int]
) -> tuple[np.ndarray, int, int]:
    """Return the addresses of the next rows, int64 [rows], and the epoch and row behind them.

    Args:
        epoch: Of the next row.
        row: Its number; from that of a row too many on, the first of the next epoch is meant.
        rows: How many.
        count: Epoch -> its rows.
    """
    addresses: list[int] = []
    while rows:
        if row >= count(epoch):
            epoch, row = epoch + 1, 0
        taken = min(rows, count(epoch) - row)
        addresses += range(epoch * EPOCH + row, epoch * EPOCH + row + taken)
        row, rows = row + taken, rows - taken
    return np.array(addresses, np.int64), epoch, row


def stretches(values: np.ndarray, first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return stretches of an array, one behind the other: [sum(counts)].

    Args:
        values: [m].
        first: int64 [n], where each stretch begins.
        counts: int64 [n], its length.

    Example:
        >>> stretches(np.arange(10), np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    bounds = zip(first.tolist(), (first + counts).tolist(), strict=True)
    return np.concatenate([values[:0], *(values[start:stop] for start, stop in bounds)])


def lay_out(starts: np.ndarray, sizes: np.ndarray, counts: np.ndarray, width: int) -> Layout:
    """Return the layout of rows that are filled with pieces from the left.

    Args:
        starts: int64 [pieces], where each begins in the stream.
        sizes: int64 [pieces], ids of each.
        counts: int64 [n], pieces of each row, one or more.
        width: Ids of a row; no row has more.

    Example:
        >>> lay_out(np.array([7, 0, 3]), np.array([2, 1, 4]), np.array([2, 1]), 4).document.tolist()
        [[0, 0, 1, 2], [0, 0, 0, 0]]
    """
    rows, filled = len(counts), 0
    size, shift, number = list[int](), list[int](), list[int]()
    pieces = zip(starts.tolist(), sizes.tolist(), strict=True)
    for row, count in enumerate(counts.tolist()):
        for start, ids in islice(pieces, count):
            size.append(ids)
            shift.append(start - filled)
            filled += ids
        size.append((row + 1) * width - filled)  # what is free is one more piece, from nowhere
        shift.append(-rows * width)
        number += range(count + 1)
        filled = (row + 1) * width
    place = np.repeat(np.array(shift, np.int64), size) + np.arange(filled)
    document = np.repeat(np.array(number, np.int32), size)
    return Layout(place.reshape(rows, width), document.reshape(rows, width))


@dataclass(frozen=True)
class Tokens:
    """Reads the ids of rows, int64 [n, T]: the end-of-text where a row is not filled."""

    rows: Laid

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        """Return the rows at some addresses."""
        store, layout = _laid(self.rows, address)
        ids = store.tokens[np.maximum(layout.place, 0)].astype(np.int64)
        ids[layout.place < 0] = store.end_id
        return torch.from_numpy(ids)


@dataclass(frozen=True)
class Documents:
    """Reads which piece of its row each id belongs to, int32 [n, T]."""

    rows: Laid

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        """Return the rows at some addresses."""
        return torch.from_numpy(_laid(self.rows, address)[1].document.copy())


@dataclass(frozen=True)
class Weights:
    """Reads which targets count, float32 [n, T - 1]: what is to be learned, but no piece's first.

    Of stores of answers.
    """

    rows: Laid

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        """Return the rows at some addresses."""
        store, (place, document) = _laid(self.rows, address)
        assert store.learned is not None  # refused where such sources start
        inside = (document[:, 1:] == document[:, :-1]) & (place[:, 1:] >= 0)
        learned = store.learned[np.maximum(place[:, 1:], 0)]
        return torch.from_numpy((learned * inside).astype(np.float32))


def _laid(rows: Laid, address: np.ndarray) -> tuple[Store, Layout]:
    store = opened(rows.store)
    return store, _layout(rows, store, address.tobytes())


@lru_cache(maxsize=16)  # the columns of a batch, and the sources of a mixture, ask in turn
def _layout(rows: Laid, store: Store, address: bytes) -> Layout:
    addresses = np.frombuffer(address, np.int64)
    epochs, numbers = addresses // EPOCH, addresses % EPOCH
    found = sorted(set(epochs.tolist())) or [0]
    if len(found) == 1:
        return rows.layout(store, found[0], numbers)
    where = [np.flatnonzero(epochs == epoch) for epoch in found]
    parts = [rows.layout(store, e, numbers[here]) for e, here in zip(found, where, strict=True)]
    back = np.argsort(np.concatenate(where))
    return Layout(*(np.concatenate(of)[back] for of in zip(*parts, strict=True)))
