"""What sources of text share: how many rows are left, the first of them, and what they refuse."""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypeGuard, runtime_checkable

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, Source, State
from thalweg.errors import DataError, DialError, StateError

__all__ = [
    "Limited",
    "Overlong",
    "Sizes",
    "block_of",
    "check_epochs",
    "check_fingerprint",
    "check_length",
    "check_rows",
    "check_sizes",
    "first_batches",
    "first_rows",
    "is_limited",
    "most_in_epochs",
    "room_in_epochs",
    "spent",
]

Overlong: TypeAlias = Literal["refuse", "drop", "cut"]
"""What is done with examples that are longer than a row."""


class Sizes(NamedTuple):
    """How the examples of a store fit rows of some length."""

    total: int
    """Examples of the store."""
    kept: int
    """Of them, those that are given."""
    overlong: int
    """Of all, those longer than a row."""
    longest: int
    """Ids of the longest."""


@runtime_checkable
class Limited(Protocol):
    """A source that may come to an end."""

    def room(self, state: State, ctx: Context) -> int:
        """Return how many of `ctx.rows` rows can still be given."""
        ...


def block_of(source: Source) -> int:
    """Return how many rows a source must be asked for, or a multiple: its `block`, or any number.

    Some give rows in whole blocks only, such as groups of answers to one prompt.
    """
    block: int = getattr(source, "block", 1)
    return block


class _LimitedSource(Limited, Source, Protocol): ...


def is_limited(source: Source) -> TypeGuard[_LimitedSource]:
    """Return whether a source can say how many rows are left; asked once for each class."""
    return _has_room(type(source))


def first_batches(source: Source, rows: int, ctx: Context, *, batch: int = 32) -> Iterator[Batch]:
    """Yield the first rows of a source, `batch` at a time; the last batch may be smaller."""
    state = source.start(replace(ctx, rows=batch))
    for first in range(0, rows, batch):
        part, state = source.next(state, replace(ctx, rows=min(batch, rows - first)))
        yield part


def check_rows(rows: int, where: str) -> None:
    """Refuse a measurement on no rows.

    Raises:
        DialError: Below 1.
    """
    if rows < 1:
        raise DialError(f"rows={rows}", expected="1 row or more", where=where, write="rows=32")


def first_rows(source: Source, rows: int, ctx: Context) -> Batch:
    """Return the first rows of a source in one batch."""
    return next(first_batches(source, rows, ctx, batch=rows))


def room_in_epochs(
    state: State, rows: int, max_epochs: float | None, count: Callable[[int], int]
) -> int:
    """Return how many of `rows` rows a source can still give whose epochs differ in length.

    Args:
        state: Has `epoch` and `row`, the rows that were given of it.
        rows: That are asked for.
        max_epochs: Of the source.
        count: Epoch -> its rows.
    """
    if max_epochs is None:
        return rows
    epoch, left = int(state["epoch"]), -int(state["row"])
    while left < rows and epoch < max_epochs:
        left += int(count(epoch) * min(1.0, max_epochs - epoch))
        epoch += 1
    return max(0, min(left, rows))


def most_in_epochs(max_epochs: float | None, count: Callable[[int], int]) -> float:
    """Return the rows of all epochs of a source whose epochs differ in length.

    Args:
        max_epochs: Of the source; None: infinitely many.
        count: Epoch -> its rows.
    """
    if max_epochs is None:
        return math.inf
    return room_in_epochs({"epoch": 0, "row": 0}, sys.maxsize, max_epochs, count)


def check_epochs(max_epochs: float | None, name: str) -> None:
    """Refuse a number of epochs that is not positive or has no end.

    Raises:
        DialError: It is zero, negative, infinite or NaN.
    """
    if max_epochs is not None and not 0 < max_epochs < math.inf:
        raise DialError(
            f"max_epochs={max_epochs}",
            expected="a finite number above 0, or None for no limit",
            where=f"source '{name}'",
            write="max_epochs=4",
        )


def check_fingerprint(state: State, fingerprint: str, store: str) -> None:
    """Refuse a state that was made on other data.

    Raises:
        StateError: The fingerprints differ.
    """
    if state["fingerprint"] != fingerprint:
        raise StateError(
            f"a position in data {state['fingerprint']}, but this store holds {fingerprint}",
            expected="the data the run was started with: files or tokenizer have changed",
            where=store,
            write="bring the old data back, or start a new run (or a new phase) on the new data",
        )


def check_length(length: int, where: str) -> None:
    """Refuse rows without a target.

    Raises:
        DialError: A length below 1.
    """
    if length < 1:
        raise DialError(
            f"length={length}",
            expected="at least 1 target a row",
            where=where,
            write="length=256",
        )


def check_sizes(sizes: Sizes, length: int, overlong: Overlong, store: str) -> None:
    """Refuse examples that do not fit a row of `length` targets.

    Raises:
        DataError: Some are longer and are to be refused, or none fits.
    """
    if overlong == "refuse" and sizes.overlong:
        raise DataError(
            f"{sizes.overlong} of {sizes.total} examples are longer than a row of "
            f"{length + 1} ids; the longest has {sizes.longest}",
            expected="examples that fit a row",
            where=store,
            write=f'length={sizes.longest - 1}, or overlong="drop", or overlong="cut"',
        )
    if not sizes.kept:
        raise DataError(
            f"none of {sizes.total} examples fits a row of {length + 1} ids",
            expected="at least one",
            where=store,
            write=f"length={sizes.longest - 1}",
        )


def spent(name: str, max_epochs: float | None, store: str) -> DataError:
    """Return the error of a source that has given all its epochs."""
    return DataError(
        f"source '{name}' has no rows left: {max_epochs:g} epochs are given",
        expected="at most max_epochs passes over the data",
        where=store,
        write="fewer steps or rows, a larger max_epochs, max_epochs=None, or more data",
    )


@lru_cache(maxsize=256)
def _has_room(kind: type) -> bool:
    return issubclass(kind, Limited)
