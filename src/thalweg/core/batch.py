"""The batch: named columns, one row a sample. And the one table of what a column may be called.

A column is a tensor, or *lazy* (`core.lazy`): row addresses into a memory-mapped store. It is read
only when somebody asks for its values, which the learner does after it has taken its own rows, so
no rank ever reads the tokens of another.

Rows of several kinds stand in one batch (`core.join`): where a row lacks a column it has the
column's neutral value, and every weight's is 0, so what was filled in counts nowhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from thalweg.core.lazy import Lazy, Places, rows_at
from thalweg.errors import ColumnError, did_you_mean

__all__ = [
    "COLUMNS",
    "PAIR_WEIGHTS",
    "Batch",
    "Column",
    "ColumnSpec",
    "is_weight",
    "places_of",
    "spec_of",
    "targets_of",
]


@dataclass(frozen=True)
class ColumnSpec:
    """One line of the table below."""

    shape: str
    dtype: str
    meaning: str
    maker: str
    neutral: float | None = None
    """What a row has that lacks the column; None: every row must have it."""


# R rows, T positions of a row (so T - 1 targets), D width, V vocabulary, L layers, E experts.
COLUMNS: Mapping[str, ColumnSpec] = {
    "tokens": ColumnSpec("[R, T]", "int64", "token ids", "text sources, rollouts", 0),
    "weight": ColumnSpec(
        "[R, T-1]", "float32", "weight of target t+1: 1 counts, 0 does not", "text sources", 0
    ),
    "*_weight": ColumnSpec(
        "[R, T-1]",
        "float32",
        "weights of one component of a loss",
        "WeightOf, Learn(weigh=Each)",
        0,
    ),
    "document": ColumnSpec(
        "[R, T]", "int32", "attention stays inside equal ids", "text sources", 0
    ),
    "source": ColumnSpec("[R]", "int64", "index into the source's names", "every source"),
    "id": ColumnSpec("[R]", "int64", "number of the sample in its source", "every source"),
    "group": ColumnSpec(
        "[R]", "int64", "rows of one prompt share it; below 0: nobody drew it", "Rollouts", -1
    ),
    "reward": ColumnSpec("[R]", "float32", "outcome of the row", "Rollouts", 0),
    "advantage": ColumnSpec("[R, T-1]", "float32", "credit of each target", "Advantages", 0),
    "finished": ColumnSpec("[R]", "bool", "whether the answer ended by itself", "Rollouts", 1),
    "guided": ColumnSpec("[R]", "bool", "whether it was written with a hint", "Rollouts", 0),
    "version": ColumnSpec("[R]", "int64", "step of the run its writer is from", "Rollouts", 0),
    "old": ColumnSpec(
        "[R, T-1]", "float32", "log-prob under the sampler, nats", "Rollouts, Score", 0
    ),
    "ref": ColumnSpec("[R, T-1]", "float32", "log-prob under the reference, nats", "Score", 0),
    "prm": ColumnSpec("[R, T-1]", "float32", "log-prob under the reward model, nats", "Score", 0),
    "teacher": ColumnSpec("[R, T-1]", "float32", "log-prob under the teacher, nats", "Score", 0),
    "teacher_top": ColumnSpec(
        "[R, T-1, K, 2]", "float32", "the teacher's likeliest: id and log-prob", "TopTokens"
    ),
    "current": ColumnSpec("[R, T-1]", "float32", "log-prob before this step, nats", "Score", 0),
    "sampler": ColumnSpec(
        "[R, T-1]", "float32", "log-prob by a foreign engine, where `old` is ours", "Rollouts", 0
    ),
    "rate": ColumnSpec("[R]", "float32", "share of right answers in the group", "Rates", 0.5),
    "process": ColumnSpec("[R, T-1]", "float32", "reward of each target", "ImplicitRewards", 0),
    "segment": ColumnSpec("[R, T-1]", "int64", "macro action of each target", "MacroActions", 0),
    "value": ColumnSpec("[R, T-1]", "float32", "expected return before the target", "Score", 0),
    "target_value": ColumnSpec("[R, T-1]", "float32", "what `value` should have been", "Gae", 0),
    "chosen": ColumnSpec("[R, T]", "int64", "token ids of the better answer", "Preferences"),
    "rejected": ColumnSpec("[R, T]", "int64", "token ids of the worse answer", "Preferences"),
    "chosen_weight": ColumnSpec(
        "[R, T-1]", "float32", "which targets of `chosen` count; not normalised", "Preferences"
    ),
    "rejected_weight": ColumnSpec(
        "[R, T-1]", "float32", "which targets of `rejected` count", "Preferences"
    ),
    "ref_chosen": ColumnSpec("[R, T-1]", "float32", "as `ref`, for `chosen`", "Score", 0),
    "ref_rejected": ColumnSpec("[R, T-1]", "float32", "as `ref`, for `rejected`", "Score", 0),
    "load": ColumnSpec("[R, L, E]", "float32", "tokens of a row by layer and expert", "Score"),
    "load_share": ColumnSpec(
        "[R, L, E]", "float32", "shares that a row's routing is held against", "Load, LaggedLoad"
    ),
    "hidden": ColumnSpec("[R, D]", "float32", "stored features of a row", "Score"),
    "label": ColumnSpec("[R]", "int64", "class of the row", "tables"),
    "x": ColumnSpec("[R, ...]", "float32", "input of a model that reads no text", "tables"),
}


Column: TypeAlias = "torch.Tensor | Lazy"


class Batch(Mapping[str, torch.Tensor]):
    """Named columns with the same number of rows. Immutable: every verb returns a new batch.

    ``batch["tokens"]`` reads the column if it is lazy.

    Args:
        columns: Tensors [R, ...] or `Lazy` columns of R rows.

    Raises:
        ColumnError: No columns, or columns of different lengths.

    Example:
        >>> b = Batch({"x": torch.arange(6.0).view(3, 2)})
        >>> b.rows, b.take([2, 0])["x"][0].tolist()
        (3, [4.0, 5.0])
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = dict(columns)
        rows = {_rows(column) for column in self._columns.values()}
        if len(rows) != 1:
            lengths = {name: _rows(column) for name, column in self._columns.items()}
            raise ColumnError(
                f"columns of lengths {lengths}",
                expected="one or more columns, all with the same number of rows",
                where="Batch",
                write="one row a sample in every column",
            )
        self.rows: int = rows.pop()

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return the values of a column, reading it if it is lazy."""
        column = self.column(name)
        return column.load() if isinstance(column, Lazy) else column

    def __contains__(self, name: object) -> bool:
        """Return whether there is such a column, without reading it."""
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Return the number of columns; `rows` is the number of samples."""
        return len(self._columns)

    def column(self, name: str) -> Column:
        """Return a column as it is, unread if lazy.

        Raises:
            ColumnError: There is no such column.
        """
        if name not in self._columns:
            raise ColumnError(
                f"column '{name}'",
                expected="a column of this batch: " + ", ".join(self._columns),
                where="Batch",
                write=did_you_mean(name, self._columns),
            )
        return self._columns[name]

    def take(self, index: Sequence[int] | np.ndarray | torch.Tensor) -> "Batch":
        """Return the rows at `index`, in that order. Lazy columns stay unread."""
        rows = np.asarray(index, np.int64).copy()  # torch takes no array that runs backwards
        same = torch.from_numpy(rows)
        taken: dict[str, Column] = {}
        moved: dict[Places, Places] = {}
        for name, column in self._columns.items():
            if isinstance(column, torch.Tensor):
                taken[name] = rows_at(column, same)
                continue
            if column.places not in moved:
                moved[column.places] = column.places.take(rows)
            taken[name] = Lazy(column.readers, moved[column.places])
        return _of_rows(taken, len(rows))

    def split(self, rows: int) -> list["Batch"]:
        """Return consecutive batches of at most `rows` rows."""
        starts = range(0, self.rows, max(rows, 1))
        return [self.take(np.arange(i, min(i + rows, self.rows))) for i in starts]

    def plus(self, columns: Mapping[str, Column]) -> "Batch":
        """Return the batch with these columns added or replaced."""
        together = {**self._columns, **columns}
        if all(_rows(column) == self.rows for column in columns.values()):
            return _of_rows(together, self.rows)
        return Batch(together)

    def loaded(self, device: torch.device | None = None) -> "Batch":
        """Return the batch with every lazy column read, on `device` if one is given."""
        values: dict[str, Column] = {}
        for name in self._columns:
            value = self[name]
            moves = device is not None and value.device != device
            values[name] = value.to(device, non_blocking=True) if moves else value
        return _of_rows(values, self.rows)

    @staticmethod
    def cat(batches: Sequence["Batch"]) -> "Batch":
        """Return the rows of all batches, in order. What is lazy in one of them is not read.

        Raises:
            ColumnError: The batches do not have the same columns.
        """
        names = batches[0]._columns.keys()
        for batch in batches[1:]:
            if batch._columns.keys() != names:
                raise ColumnError(
                    f"columns {sorted(names)} and {sorted(batch)}",
                    expected="batches with the same columns",
                    where="Batch.cat",
                    write="core.join.joined, which fills what is missing",
                )
        joined = {name: _cat([batch._columns[name] for batch in batches]) for name in names}
        return _of_rows(joined, sum(batch.rows for batch in batches))


PAIR_WEIGHTS = ("chosen_weight", "rejected_weight")
"""Of pairs: they say which targets are meant; `weight` [R] is what a pair counts."""


def is_weight(name: str) -> bool:
    """Return whether a column says what counts: `weight`, `sft_weight`, ..."""
    return name == "weight" or name.endswith("_weight")


def targets_of(batch: Batch) -> torch.Tensor:
    """Return how many targets of each row count, int64 [R]; without any weights a row counts once.

    Of a pair, both answers count.
    """
    names = [name for name in PAIR_WEIGHTS if name in batch] or ["weight"]
    if names == ["weight"] and "weight" not in batch:
        return torch.ones(batch.rows, dtype=torch.int64)
    counts = [(batch[name].flatten(1) > 0).sum(1) for name in names]
    return sum(counts[1:], counts[0])


def places_of(batch: Batch) -> int:
    """Return how many targets a row has room for; 1 where it holds no text."""
    names = [name for name in ("weight", *PAIR_WEIGHTS) if name in batch]
    widths = [batch[name].shape[1] for name in names if batch[name].dim() > 1]
    return max(sum(widths), 1)


def spec_of(name: str) -> ColumnSpec | None:
    """Return the line of the table about a column; None: it is not in the table.

    Example:
        >>> spec_of("sft_weight") is COLUMNS["*_weight"]
        True
    """
    return COLUMNS.get(name, COLUMNS["*_weight"] if is_weight(name) else None)


def _rows(column: Column) -> int:
    return len(column.places.address) if isinstance(column, Lazy) else column.shape[0]


def _of_rows(columns: dict[str, Column], rows: int) -> Batch:
    """Return a batch of columns that are known to have so many rows, without asking each."""
    batch = Batch.__new__(Batch)
    batch._columns, batch.rows = columns, rows
    return batch


@dataclass(frozen=True, eq=False)
class _Held:
    """Gives rows that were read already."""

    values: torch.Tensor

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        return rows_at(self.values, torch.from_numpy(address))


def _cat(columns: Sequence[Column]) -> Column:
    read = [column for column in columns if isinstance(column, torch.Tensor)]
    if len(read) == len(columns):
        return torch.cat(read)
    return Lazy.cat([_unread(column) for column in columns])


def _unread(column: Column) -> Lazy:
    """Return a column as a lazy one, so that joining it to lazy ones reads none."""
    if isinstance(column, Lazy):
        return column
    return Lazy.of(_Held(column), np.arange(len(column)))
