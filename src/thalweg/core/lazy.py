"""Lazy columns: where the rows of a batch lie, and what reads them when somebody asks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

__all__ = ["Lazy", "Places", "Reader", "rows_at"]

Reader: TypeAlias = Callable[[np.ndarray], torch.Tensor]
"""Reads rows: int64 addresses [n] -> values [n, ...]. Pure; equal readers compare equal."""


@dataclass(frozen=True, eq=False)
class Places:
    """Where the rows of a batch lie: for each reader, what it is to be asked for.

    The columns that come from one place share it, so that the order of rows is worked out once.
    """

    address: np.ndarray
    """int64 [R]: what to ask for; first all that the first reader is asked for, then the next."""
    counts: tuple[int, ...]
    """How many rows each reader is asked for."""
    row: torch.Tensor | None = None
    """int64 [R]: which of the addresses each row is at; None: they are in the order of rows."""

    @staticmethod
    def of(which: np.ndarray, address: np.ndarray, readers: int) -> "Places":
        """Return the places of rows that are given in their order.

        Args:
            which: int64 [R], the reader of each row.
            address: int64 [R], what to ask it for.
            readers: How many readers there are.
        """
        by_reader = which.argsort(kind="stable")
        counts = np.bincount(which, minlength=readers).tolist()
        row = torch.from_numpy(by_reader.argsort(kind="stable"))
        return Places(address[by_reader], tuple(counts), row)

    def unfolded(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the reader and the address of each row, both int64 [R]."""
        which = np.arange(len(self.counts)).repeat(self.counts)
        if self.row is None:
            return which, self.address
        row = self.row.numpy()
        return which[row], self.address[row]

    def take(self, index: np.ndarray) -> "Places":
        """Return the places of the rows at `index` [n]."""
        if len(self.counts) == 1 and self.row is None:
            return Places(self.address[index], (len(index),))
        which, address = self.unfolded()
        return Places.of(which[index], address[index], len(self.counts))

    def read(self, readers: Sequence[Reader]) -> torch.Tensor:
        """Read all rows: [R, ...]."""
        if len(readers) == 1 and self.row is None:
            return readers[0](self.address)
        parts, start = [], 0
        for reader, count in zip(readers, self.counts, strict=True):
            if count:
                parts.append(reader(self.address[start : start + count]))
            start += count
        values = torch.cat(parts or [readers[0](self.address)])
        return values if self.row is None else rows_at(values, self.row)


@dataclass(frozen=True)
class Lazy:
    """A column that knows where its rows lie and has not read them."""

    readers: tuple[Reader, ...]
    """What rows are read with."""
    places: Places
    """Where they lie."""

    @staticmethod
    def of(reader: Reader, address: np.ndarray) -> "Lazy":
        """Return a column that reads `address` [R] through one reader."""
        return Lazy((reader,), Places(np.asarray(address, np.int64), (len(address),)))

    def take(self, index: np.ndarray) -> "Lazy":
        """Return the rows at `index` [n], unread."""
        return Lazy(self.readers, self.places.take(index))

    def load(self) -> torch.Tensor:
        """Read all rows: [R, ...]."""
        return self.places.read(self.readers)

    @staticmethod
    def cat(columns: Sequence["Lazy"]) -> "Lazy":
        """Return the rows of all columns, in order; equal readers are merged."""
        readers: list[Reader] = []
        which, address = [], []
        for column in columns:
            readers += [reader for reader in column.readers if reader not in readers]
            new = np.array([readers.index(reader) for reader in column.readers], np.int64)
            of_row, at = column.places.unfolded()
            which.append(new[of_row])
            address.append(at)
        places = Places.of(np.concatenate(which), np.concatenate(address), len(readers))
        return Lazy(tuple(readers), places)


def rows_at(column: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return the rows at `index`, int64 [n]; takes less than `column[index]`."""
    return column.index_select(0, index if column.is_cpu else index.to(column.device))
