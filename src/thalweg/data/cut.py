"""Sequence length as a dial: rows of the source are cut into shorter ones.

A row of L targets becomes ceil(L / l) rows of l, so the tokens of a step stay what they were and
more, shorter rows hold them; each piece begins with the last id of the one before, so that no
target is lost or doubled. It is a move, not a source: there is nothing to remember, and a length
that changes in the middle of a run has no place to go wrong.

    do = (Cut(Staircase((32, 64, 128, 256), at=...)), Learn(...))
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from thalweg.core.batch import COLUMNS, Batch, Column
from thalweg.core.lazy import Lazy, Places, Reader
from thalweg.core.protocols import Context, Dial
from thalweg.errors import DialError

__all__ = ["Cut"]


@dataclass(frozen=True)
class Cut:
    """Cut every row into pieces of `length` targets; the last piece may be filled up.

    What is filled has weight 0. Attention ends at the cut, since a piece is a row of its own.

    Example:
        >>> whole = Batch({"tokens": torch.arange(6)[None], "weight": torch.ones(1, 5)})
        >>> short = Cut(2)(whole, Context(None))
        >>> short["tokens"].tolist(), short["weight"].sum().item()
        ([[0, 1, 2], [2, 3, 4], [4, 5, 5]], 5.0)
    """

    length: Dial
    """Targets of a row; from the row's own length on, rows stay whole."""

    @property
    def name(self) -> str:
        """Return `cut`, its place in paths."""
        return "cut"

    @property
    def needs(self) -> tuple[str, ...]:
        """Rows of text."""
        return ("tokens", "weight")

    @property
    def makes(self) -> tuple[str, ...]:
        """Nothing new."""
        return ()

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch of the pieces, those of a row one after the other.

        Raises:
            DialError: A length below 1.
        """
        length, whole = round(self.length), batch["weight"].shape[1]
        if length < 1:
            raise DialError(
                f"length={self.length}",
                expected="at least 1 target a row",
                where="Cut.length",
                write="length=Staircase((64, 128, 256), at=(share(0.3), share(0.6)))",
            )
        if length >= whole:
            return batch
        count = -(-whole // length)
        return Batch({n: _cut(n, batch.column(n), count, length, whole) for n in batch})


def _cut(name: str, column: Column, count: int, length: int, whole: int) -> Column:
    """Return a column of `count` pieces a row: repeated, or cut along its positions."""
    shape = COLUMNS[name].shape if name in COLUMNS else "[R]"
    if "T" not in shape:
        if isinstance(column, Lazy):
            return column.take(np.repeat(np.arange(len(column.places.address)), count))
        return column.repeat_interleave(count, 0)
    shared = 0 if "T-1" in shape else 1  # ids that a piece has in common with the next
    if isinstance(column, Lazy):
        readers = tuple(_Piece(reader, count, length, shared) for reader in column.readers)
        which, row = column.places.unfolded()
        address = row[:, None] * count + np.arange(count)
        return Lazy(readers, Places.of(which.repeat(count), address.ravel(), len(readers)))
    return _pieces(column, count, length, shared)


def _pieces(values: torch.Tensor, count: int, length: int, shared: int) -> torch.Tensor:
    """Return [R * count, length + shared] of [R, whole + shared]; the last value fills the end."""
    missing = count * length + shared - values.shape[1]
    if missing:
        last = values[:, -1:] if shared else torch.zeros_like(values[:, -1:])
        values = torch.cat([values, last.expand(-1, missing)], 1)
    return values.unfold(1, length + shared, length).flatten(0, 1)


@dataclass(frozen=True)
class _Piece:
    """Reads pieces of rows; an address is row's address * count + number of the piece."""

    reader: Reader
    count: int
    length: int
    shared: int

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        rows, numbers = np.divmod(address, self.count)
        each, where = np.unique(rows, return_inverse=True)
        cut = partial(_pieces, count=self.count, length=self.length, shared=self.shared)
        return cut(self.reader(each))[torch.from_numpy(where * self.count + numbers)]
