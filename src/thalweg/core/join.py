"""Rows of several kinds in one batch: demonstrations beside answers, packed rows beside short ones.

A row that lacks a column gets the column's neutral value (the table in `core.batch`), a row that is
shorter is filled behind its end. Every weight's neutral value is 0, so nothing that was filled in
counts: the gradient of a joined batch is the sum of those of its parts. What was lazy stays so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from thalweg.core.batch import Batch, Column, is_weight, spec_of
from thalweg.core.lazy import Lazy, Reader
from thalweg.core.moves import Learn
from thalweg.core.protocols import Move, Source
from thalweg.errors import ColumnError

__all__ = ["Joined", "check_columns", "check_counts", "filled", "joined"]


@runtime_checkable
class Joined(Protocol):
    """A source whose rows are of several kinds."""

    @property
    def partial(self) -> tuple[str, ...]:
        """Columns that only some rows have; in the others nothing may count them."""
        ...


def joined(batches: Sequence[Batch]) -> Batch:
    """Return the rows of all batches, in order, with the columns of any of them.

    Rows are as wide as the widest. Behind the end of others stand their last id, and 0 for what
    belongs to targets.

    Raises:
        ColumnError: A batch lacks a column that has no neutral value.

    Example:
        >>> one = Batch({"weight": torch.ones(1, 2)})
        >>> two = Batch({"weight": torch.ones(1, 3), "old": -torch.ones(1, 3)})
        >>> both = joined([one, two])
        >>> both["weight"].tolist(), both["old"].tolist()
        ([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0], [-1.0, -1.0, -1.0]])
    """
    positions = [_positions(batch) for batch in batches]
    if len({frozenset(batch) for batch in batches}) > 1 or len(set(positions)) > 1:
        names = tuple(dict.fromkeys(name for batch in batches for name in batch))
        batches = [_like(batch, names, max(positions)) for batch in batches]
    return Batch.cat(batches)


def filled(batch: Batch, names: Sequence[str]) -> Batch:
    """Return the batch with these columns: neutral values where it has none.

    Raises:
        ColumnError: It lacks a column that has no neutral value.
    """
    missing = [name for name in names if name not in batch]
    return _like(batch, (*batch, *missing), _positions(batch)) if missing else batch


def check_columns(makes: Mapping[str, Sequence[str]], where: str) -> None:
    """Refuse kinds of rows that cannot stand in one batch.

    Args:
        makes: The columns of each kind, by its name.
        where: What the error names.

    Raises:
        ColumnError: A kind lacks a column that has no neutral value.
    """
    every = {column for columns in makes.values() for column in columns}
    for name, columns in makes.items():
        bare = sorted(column for column in every - set(columns) if _neutral_of(column) is None)
        if bare:
            raise ColumnError(
                f"'{name}' makes no {', '.join(bare)}, which others make",
                expected="such columns in every row: they have no neutral value",
                where=where,
                write="text with text, pairs with pairs, tables with tables; or a phase for each",
            )


def check_counts(source: Source, do: Sequence[Move], phase: str) -> None:
    """Refuse an objective that counts all rows and reads what only some of them have.

    Args:
        source: Of a phase.
        do: Its moves, in order.
        phase: Its name.

    Raises:
        ColumnError: Such an objective.
    """
    partial = set(source.partial) if isinstance(source, Joined) else set()
    for move in do:
        needs = move.objective.needs if isinstance(move, Learn) else ()
        read = [name for name in needs if name in partial and not is_weight(name)]
        if read and "weight" in needs:
            raise ColumnError(
                f"{move.name} counts every row by 'weight' and reads '{read[0]}'",
                expected=f"a weight that is 0 in the rows of the mixture that have no '{read[0]}'",
                where=f"{phase}.{move.name}",
                write="WeightOf('rl_weight', values=(0,)) before it, an objective with "
                "weight='rl_weight', and weigh=Each({'rl_weight': TokenMean('rl_weight')})",
            )
        partial -= set(move.makes)


def _neutral_of(name: str) -> float | None:
    return spec.neutral if (spec := spec_of(name)) is not None else None


@lru_cache(maxsize=1024)
def _shorter(name: str) -> int | None:
    """Return how many places a column of text has fewer than its row has ids; None: no text."""
    shape = spec.shape if (spec := spec_of(name)) is not None else ""
    return (1 if "T-1" in shape else 0) if "T" in shape else None


def _positions(batch: Batch) -> int:
    """Return T, the ids of a row; 0 where there is no text. Reads a row where nothing else says."""
    texts = {name: less for name in batch if (less := _shorter(name)) is not None}
    for name, less in texts.items():
        column = batch.column(name)
        if isinstance(column, torch.Tensor) and column.dim() > 1:
            return int(column.shape[1]) + less
    if not texts or not batch.rows:
        return 0
    name, less = next(iter(texts.items()))
    one = batch.take([0])[name]
    return int(one.shape[1]) + less if one.dim() > 1 else 0


def _like(batch: Batch, names: Sequence[str], positions: int) -> Batch:
    """Return the batch with all these columns, those of text for rows of `positions` ids."""
    narrow = 0 < _positions(batch) < positions
    made: dict[str, Column] = {}
    for name in names:
        less = _shorter(name)
        if name not in batch:
            made[name] = _neutral(batch.rows, name, positions)
            continue
        made[name] = column = batch.column(name)
        if narrow and less is not None:
            widen = _Widen(positions - less, repeats=less == 0)
            made[name] = _through(column, widen) if isinstance(column, Lazy) else widen(column)
    return Batch(made)


def _neutral(rows: int, name: str, positions: int) -> torch.Tensor:
    """Return a column of neutral values."""
    spec, value, less = spec_of(name), _neutral_of(name), _shorter(name)
    if spec is None or value is None or (less is not None and not positions):
        raise ColumnError(
            f"rows without '{name}' beside rows that have it",
            expected="a column that every row has: this one has no neutral value",
            where="the columns of a batch",
            write="sources that all make it, or a phase for each",
        )
    shape = (rows,) if less is None else (rows, positions - less)
    return torch.full(shape, value, dtype=getattr(torch, spec.dtype))


@dataclass(frozen=True)
class _Widen:
    """Fills rows behind their end: ids by the last one, what belongs to targets by 0."""

    width: int
    repeats: bool

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        last = values[:, -1:] if self.repeats else torch.zeros_like(values[:, -1:])
        missing = self.width - values.shape[1]
        return torch.cat([values, last.expand(-1, missing, *last.shape[2:])], 1)


@dataclass(frozen=True)
class _Through:
    """Reads rows and changes them."""

    reader: Reader
    change: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        return self.change(self.reader(address))


def _through(column: Lazy, change: Callable[[torch.Tensor], torch.Tensor]) -> Lazy:
    """Return the column with its rows changed when they are read."""
    readers = tuple(_Through(reader, change) for reader in column.readers)
    return Lazy(readers, column.places)
