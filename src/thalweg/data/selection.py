"""Our plan of a mixture as a map that other loaders can ask: row of the run -> source, row in it.

It is what Grain (0.2.18) takes as `selection_map` of a `MixedMapDataset`: an object with a length
and `[index]`, picklable, the same in every process. So a loop that reads with Grain gets weights
that are schedules, with counts that follow their integral, and rows in the order that `Corpus` and
`Mixture` give here. Nothing of Grain is imported.

Any row may be asked for first. Counts are remembered every 4,096 rows or so, as far as anything
was asked for; what lies between is decided again. Not in it: controllers, limits of epochs,
sources that give groups; those need a state, which a map has not.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from thalweg.core.protocols import Dial
from thalweg.core.time import Time
from thalweg.data.deficit import share_rows, units
from thalweg.data.mixture import weights_at
from thalweg.data.order import shuffled
from thalweg.errors import DialError

__all__ = ["SelectionMap"]

_BLOCK = 4096


class _Mark(NamedTuple):
    """What is owed and was given before a block."""

    owed: list[int]
    given: list[int]


class _Block(NamedTuple):
    """A few steps, decided."""

    source: np.ndarray
    """int64 [rows of the block]: which source each row comes from."""
    row: np.ndarray
    """int64 [rows of the block]: which row of its source."""
    after: _Mark


@dataclass(frozen=True, eq=False)
class SelectionMap:
    """Which source a row of a run comes from, and which row of the source it is.

    Example:
        >>> plan = SelectionMap({"web": 2, "code": 1}, {"web": 4, "code": 5}, steps=2, rows=3)
        >>> len(plan), [source for source, _ in plan]
        (6, [0, 1, 0, 0, 1, 0])
        >>> [row for source, row in plan if source == 0] == sorted(range(4))
        False
    """

    weights: Dial
    """As `Mixture.weights`: numbers or schedules by name, or a schedule of such a mapping."""
    sizes: Mapping[str, int]
    """Rows of one epoch of each source, in the order that the loader has them."""
    steps: int
    """Of the run."""
    rows: int
    """Of a step: weights are those of the step that a row belongs to."""
    seed: int = 0
    shuffle: bool = True
    """Whether rows of a source come in a new order each epoch, as those of a `Corpus` of that
    name do, or as they lie."""
    row_tokens: int = 0
    """Targets of a row, for schedules that count tokens."""

    def __post_init__(self) -> None:
        """Refuse sizes out of range and weights of other names.

        Raises:
            DialError: One of them.
        """
        counts = (self.steps, self.rows, *self.sizes.values())
        if not self.sizes or min(counts) < 1:
            raise DialError(
                f"sizes={dict(self.sizes)}, steps={self.steps}, rows={self.rows}",
                expected="one source or more, and 1 or more of everything",
                where="SelectionMap",
                write="SelectionMap({'web': 1.0}, {'web': 1000}, steps=100, rows=16)",
            )
        self._units(0)

    def __len__(self) -> int:
        """Return the rows of the run."""
        return self.steps * self.rows

    def __getitem__(self, index: int) -> tuple[int, int]:
        """Return the source of a row of the run, and which of its rows it is.

        Raises:
            IndexError: Outside the run.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        block, place = divmod(index, self._span * self.rows)
        while len(self._marks) <= block:
            self._marks.append(_decided(self, len(self._marks) - 1).after)
        found = _decided(self, block)
        return int(found.source[place]), int(found.row[place])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield every row of the run."""
        return (self[index] for index in range(len(self)))

    @property
    def _span(self) -> int:
        """Return the steps of a block."""
        return max(1, _BLOCK // self.rows)

    @cached_property
    def _marks(self) -> list[_Mark]:
        """Return what is known before each block; grows when later ones are asked for."""
        return [_Mark([0] * len(self.sizes), [0] * len(self.sizes))]

    def _units(self, step: int) -> np.ndarray:
        tokens = self.rows * self.row_tokens
        time = Time(step, self.steps, tokens * step, step, tokens)
        weights = weights_at(self.weights, time, tuple(self.sizes)).values()
        return units([float(weight) for weight in weights], tuple(self.sizes))

    def _rows_of(self, name: str, first: int, count: int) -> np.ndarray:
        """Return the rows that a source gives after its first ones, int64 [count]."""
        rows = np.arange(first, first + count)
        return shuffled(rows, self.sizes[name], self.seed, name if self.shuffle else None)


@lru_cache(maxsize=64)
def _decided(plan: SelectionMap, block: int) -> _Block:
    """Return a block, whose mark must be known."""
    owed, given = plan._marks[block]
    room, orders = [plan.rows] * len(plan.sizes), []
    first = block * plan._span
    for step in range(first, min(first + plan._span, plan.steps)):
        shared = share_rows(plan._units(step), owed, plan.rows, room)
        owed = shared.owed
        orders.append(shared.order)
    source = np.concatenate(orders)
    row = np.empty_like(source)
    counts = np.bincount(source, minlength=len(plan.sizes)).tolist()
    for one, name in enumerate(plan.sizes):
        row[source == one] = plan._rows_of(name, given[one], counts[one])
    after = [before + count for before, count in zip(given, counts, strict=True)]
    return _Block(source, row, _Mark(owed, after))
