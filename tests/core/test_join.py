"""Rows of several kinds in one batch: what is filled in, what stays unread, what is refused."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from thalweg.core.batch import COLUMNS, Batch
from thalweg.core.join import check_columns, filled, joined
from thalweg.core.lazy import Lazy
from thalweg.core.world import World
from thalweg.errors import ColumnError


@dataclass(eq=False)
class Shelf:
    """A reader of rows of some width that remembers what it was asked for."""

    width: int
    asked: list[int] = field(default_factory=list)

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        self.asked += address.tolist()
        return torch.from_numpy(address)[:, None] + torch.zeros(1, self.width, dtype=torch.int64)


def packed(*address: int, width: int = 4) -> Batch:
    """Return rows of a store: ids and documents unread."""
    lazy = {"tokens": Lazy.of(Shelf(width), np.array(address))}
    return Batch(
        {**lazy, "weight": torch.ones(len(address), width - 1), "id": torch.tensor(address)}
    )


def written(*ids: int, width: int = 3) -> Batch:
    """Return rows that a model wrote."""
    count = len(ids)
    return Batch(
        {
            "tokens": torch.tensor(ids)[:, None] + torch.zeros(1, width, dtype=torch.int64),
            "weight": torch.ones(count, width - 1),
            "old": -torch.ones(count, width - 1),
            "reward": torch.ones(count),
            "group": torch.zeros(count, dtype=torch.int64),
            "id": torch.tensor(ids),
        }
    )


def test_a_row_without_a_column_gets_what_the_table_says():
    both = joined([packed(7), written(1, 2)])
    assert both["old"].tolist() == [[0, 0, 0], [-1, -1, 0], [-1, -1, 0]]
    assert both["reward"].tolist() == [0, 1, 1]
    assert both["group"].tolist() == [-1, 0, 0]
    for name in both:
        assert both[name].dtype == getattr(torch, COLUMNS[name].dtype), name


def test_shorter_rows_go_on_with_their_last_id_and_count_nothing_there():
    both = joined([written(5, width=2), packed(9)])
    assert both["tokens"].tolist() == [[5, 5, 5, 5], [9, 9, 9, 9]]
    assert both["weight"].tolist() == [[1, 0, 0], [1, 1, 1]]
    turned = joined([packed(9, width=2), written(5, width=4)])
    assert turned["tokens"].tolist() == [[9, 9, 9, 9], [5, 5, 5, 5]]
    assert turned["weight"].tolist() == [[1, 0, 0], [1, 1, 1]]


def test_a_weight_of_a_part_of_a_loss_is_filled_with_0():
    some = packed(1).plus({"sft_weight": torch.ones(1, 3)})
    assert joined([some, packed(2)])["sft_weight"].tolist() == [[1, 1, 1], [0, 0, 0]]


def test_one_document_a_row_stands_beside_several():
    several = packed(1).plus({"document": torch.tensor([[0, 0, 1, 2]], dtype=torch.int32)})
    assert joined([written(2, width=4), several])["document"].tolist() == [[0] * 4, [0, 0, 1, 2]]


def test_nothing_is_read_by_joining_and_a_rank_reads_its_own_rows():
    shelf = Shelf(4)
    rows = Batch({"tokens": Lazy.of(shelf, np.arange(6)), "weight": torch.ones(6, 3)})
    answers = written(*range(50, 56)).take(range(6))
    both = joined(
        [rows, Batch({name: answers.column(name) for name in ("tokens", "weight", "old")})]
    )
    mixed = both.take([0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11])
    assert isinstance(mixed.column("tokens"), Lazy)
    assert shelf.asked == []
    mine = World(1, 2).mine(mixed).loaded()
    assert shelf.asked == [3, 4, 5]
    assert mine["tokens"][:, 0].tolist() == [3, 53, 4, 54, 5, 55]
    assert mine["old"][:, 0].tolist() == [0, -1, 0, -1, 0, -1]


def test_a_batch_alone_is_filled_too():
    alone = filled(packed(1, 2), ("tokens", "weight", "id", "old", "finished", "group"))
    assert alone["old"].shape == (2, 3)
    assert alone["finished"].tolist() == [True, True]
    assert filled(alone, ("old",)) is alone


def test_batches_of_one_kind_are_joined_as_they_are():
    both = joined([packed(1), packed(2, 3)])
    assert both["tokens"][:, 0].tolist() == [1, 2, 3]
    assert set(both) == {"tokens", "weight", "id"}


@pytest.mark.parametrize("column", ["label", "chosen", "x", "mine"])
def test_a_column_without_a_neutral_value_is_refused(column):
    other = packed(1).plus({column: torch.zeros(1, 3)})
    with pytest.raises(ColumnError, match=f"without '{column}'"):
        joined([packed(2), other])
    with pytest.raises(ColumnError, match=f"'a' makes no {column}, which others make"):
        check_columns({"a": ("tokens",), "b": ("tokens", column)}, "here")
