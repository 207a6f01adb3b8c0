"""Rows that are known by their addresses: how sources of text make batches, alone and together.

A source says where its rows lie and what reads their columns. A mixture of such sources orders the
addresses and makes one batch of them, not one of each and then a joined one.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch

from thalweg.core.batch import Batch, Column
from thalweg.core.lazy import Lazy, Places, Reader
from thalweg.core.protocols import Context, Source, State

__all__ = ["Addressed", "Unread", "are_addressed", "together"]


class Unread(NamedTuple):
    """Consecutive rows of a source that nobody has read."""

    readers: Mapping[str, Reader]
    """What reads each column that stays unread."""
    weights: Mapping[str, Reader]
    """What reads the weights, which every rank needs of all rows."""
    address: np.ndarray
    """int64 [R]: what readers are to be asked for."""
    first: int
    """Number of the first row in its source; the others count on."""

    def batch(self) -> Batch:
        """Return the rows in a batch of their own."""
        rows = len(self.address)
        places = Places(self.address, (rows,))
        columns: dict[str, Column] = {name: Lazy((r,), places) for name, r in self.readers.items()}
        columns |= {name: reader(self.address) for name, reader in self.weights.items()}
        columns["source"] = torch.zeros(rows, dtype=torch.int64)
        columns["id"] = torch.arange(self.first, self.first + rows)
        return Batch(columns)


@runtime_checkable
class Addressed(Protocol):
    """A source of one name that can say where its next rows lie; they are all of one length."""

    def unread(self, state: State, ctx: Context, rows: int) -> tuple[Unread, State]:
        """Return what `next` returns, its rows unread; `rows` of them, at most `ctx.rows`."""
        ...


class _AddressedSource(Addressed, Source, Protocol): ...


def are_addressed(sources: Iterable[Source]) -> TypeGuard[Iterable[_AddressedSource]]:
    """Return whether all sources say where their rows lie, and make the same columns."""
    say = all(_has_unread(type(source)) for source in sources)
    return say and len({source.makes for source in sources}) == 1


def together(parts: Sequence[Unread], order: np.ndarray) -> Batch:
    """Return the rows of several sources in one batch, in an order.

    Args:
        parts: The rows of each source, with the same columns.
        order: [R], the source that each row is the next of.
    """
    counts = tuple(len(part.address) for part in parts)
    address = np.concatenate([part.address for part in parts])
    ids = np.concatenate([np.arange(part.first, part.first + len(part.address)) for part in parts])
    row = order.argsort(kind="stable").argsort(kind="stable")
    places = Places(address, counts, torch.from_numpy(row))
    columns: dict[str, Column] = {
        name: Lazy(tuple(part.readers[name] for part in parts), places) for name in parts[0].readers
    }
    for name in parts[0].weights:
        columns[name] = places.read([part.weights[name] for part in parts])
    columns["source"] = torch.from_numpy(order)
    columns["id"] = torch.from_numpy(ids[row])
    return Batch(columns)


@lru_cache(maxsize=256)
def _has_unread(kind: type) -> bool:
    return issubclass(kind, Addressed)
