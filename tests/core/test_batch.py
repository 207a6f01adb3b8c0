"""Batches: named columns, some of which nobody has read yet."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.batch import COLUMNS, Batch
from thalweg.core.lazy import Lazy, Places
from thalweg.core.world import World
from thalweg.errors import ColumnError


@dataclass(eq=False)
class Shelf:
    """A reader that remembers what it was asked for."""

    scale: int = 1
    asked: list[int] = field(default_factory=list)

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        self.asked += address.tolist()
        return torch.from_numpy(address)[:, None] * self.scale + torch.zeros(
            1, 2, dtype=torch.int64
        )


def lazy(shelf: Shelf, *address: int) -> Batch:
    return Batch({"tokens": Lazy.of(shelf, np.array(address)), "id": torch.tensor(address)})


def test_a_lazy_column_is_not_read_by_handling_its_batch():
    shelf = Shelf()
    batch = lazy(shelf, 5, 6, 7, 8)
    batch = Batch.cat([batch, batch]).take([3, 0, 5]).plus({"x": torch.zeros(3)})
    assert "tokens" in batch
    assert batch.split(2)[0].rows == 2
    assert shelf.asked == []
    assert batch["tokens"][:, 0].tolist() == [8, 5, 6]


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_rank_reads_its_own_rows_only(rank):
    shelf = Shelf()
    batch = lazy(shelf, *range(10, 22)).plus({"weight": torch.ones(12)})
    mine = World(rank, 3).mine(batch).loaded()
    assert mine["id"].tolist() == shelf.asked == list(range(10 + 4 * rank, 14 + 4 * rank))


def test_a_short_batch_is_padded_by_rows_that_weigh_nothing():
    batch = Batch({"x": torch.arange(5.0), "weight": torch.ones(5)})
    parts = [World(rank, 3).mine(batch) for rank in range(3)]
    assert [part.rows for part in parts] == [2, 2, 2]
    assert parts[2]["weight"].tolist() == [1.0, 0.0]
    assert sum(float((p["x"] * p["weight"]).sum()) for p in parts) == 10.0


def test_rows_of_different_readers_are_joined_in_order():
    one, ten = Shelf(), Shelf(10)
    both = Batch.cat([lazy(one, 1, 2), lazy(ten, 3), lazy(one, 4)]).take([2, 0, 3, 1])
    assert both["tokens"][:, 0].tolist() == [30, 1, 4, 2]
    assert (one.asked, ten.asked) == ([1, 4, 2], [3])


def test_a_lazy_and_a_read_column_are_joined_by_reading():
    both = Batch.cat([lazy(Shelf(), 1), lazy(Shelf(), 2).loaded()])
    assert both["tokens"][:, 0].tolist() == [1, 2]


@given(st.integers(1, 12), st.integers(1, 15), st.integers(1, 3))
def test_splitting_and_joining_gives_the_batch_back(rows, size, readers):
    shelves = [Shelf(n + 1) for n in range(readers)]
    which = np.arange(rows) % readers
    places = Places.of(which, np.arange(rows), readers)
    batch = Batch({"t": Lazy(tuple(shelves), places), "x": torch.arange(rows)})
    parts = batch.split(size)
    assert all(part.rows <= size for part in parts)
    again = Batch.cat(parts)
    assert torch.equal(again["t"], batch["t"])
    assert torch.equal(again["x"], batch["x"])


def test_a_batch_without_rows_is_a_batch():
    none = lazy(Shelf(), 1, 2).take([])
    assert none.rows == 0
    assert none["tokens"].shape == (0, 2)
    assert none.split(3) == []


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ColumnError, match="lengths"):
        Batch({"x": torch.ones(2), "y": torch.ones(3)})
    with pytest.raises(ColumnError):
        Batch({})


def test_an_unknown_column_is_answered_with_the_nearest():
    with pytest.raises(ColumnError, match="did you mean 'tokens'"):
        lazy(Shelf(), 1)["token"]


def test_batches_with_different_columns_are_not_joined():
    with pytest.raises(ColumnError, match="same columns"):
        Batch.cat([Batch({"x": torch.ones(1)}), Batch({"y": torch.ones(1)})])


def test_a_batch_is_not_changed_by_its_verbs():
    batch = Batch({"x": torch.ones(2)})
    batch.plus({"y": torch.ones(2)})
    assert list(batch) == ["x"]
    assert len(batch) == 1


def test_every_column_of_the_table_says_shape_type_meaning_and_maker():
    for spec in COLUMNS.values():
        assert spec.shape.startswith("[R")
        assert all((spec.dtype, spec.meaning, spec.maker))
