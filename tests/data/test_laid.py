"""Rows of pieces: laid out as a slow transcription does it, once for all columns."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_helpers import text_store
from thalweg.core.batch import Batch
from thalweg.core.lazy import Lazy
from thalweg.data.laid import EPOCH, Documents, Layout, Tokens, advance, lay_out
from thalweg.data.store import Store, open_store

PIECE = st.tuples(st.integers(0, 99), st.integers(1, 5))


@given(st.lists(st.lists(PIECE, min_size=1, max_size=4), max_size=6), st.integers(20, 24))
def test_pieces_fill_rows_from_the_left(rows: list[list[tuple[int, int]]], width: int):
    flat = [piece for row in rows for piece in row]
    starts, sizes = (np.array([piece[i] for piece in flat], np.int64) for i in (0, 1))
    found = lay_out(starts, sizes, np.array([len(row) for row in rows], np.int64), width)
    for row, place, document in zip(rows, *found, strict=True):
        ids = [start + i for start, size in row for i in range(size)]
        of = [number for number, (_, size) in enumerate(row) for _ in range(size)]
        assert place[: len(ids)].tolist() == ids
        assert (place[len(ids) :] < 0).all()
        assert document.tolist() == of + [len(row)] * (width - len(of))
    assert found.place.shape == found.document.shape == (len(rows), width)


@given(st.integers(0, 3), st.lists(st.integers(0, 12), max_size=6))
def test_rows_go_on_from_epoch_to_epoch(first: int, batches: list[int]):
    sizes = [3, 1, 5, 2]
    every = [epoch * EPOCH + row for epoch in range(99) for row in range(sizes[epoch % 4])]
    epoch, row, found = 0, first, []
    for rows in batches:
        address, epoch, row = advance(epoch, row, rows, lambda e: sizes[e % 4])
        found += address.tolist()
    assert found == every[first : first + sum(batches)]


@dataclass(frozen=True)
class Letters:
    """One id a row, counted from 2 * epoch; notes whenever it lays out."""

    store: str
    asked: dict[int, int]

    def layout(self, store: Store, epoch: int, rows: np.ndarray) -> Layout:
        self.asked[epoch] = self.asked.get(epoch, 0) + 1
        ones = np.ones(len(rows), np.int64)
        return lay_out(2 * epoch + rows, ones, ones, 2)

    def __hash__(self) -> int:
        return hash(self.store)


def test_the_columns_of_a_batch_lay_out_once_and_rows_of_epochs_may_be_mixed(tmp_path: Path):
    store = text_store(tmp_path, ["abcdefghij"])
    rows = Letters(store, {})
    address = np.array([EPOCH, 0, 2 * EPOCH + 1, EPOCH + 1, 1])
    columns = {
        "tokens": Lazy.of(Tokens(rows), address),
        "document": Lazy.of(Documents(rows), address),
    }
    batch = Batch(columns).loaded()
    stream = open_store(store).tokens
    assert batch["tokens"][:, 0].tolist() == stream[[2, 0, 5, 3, 1]].tolist()
    assert (batch["tokens"][:, 1] == open_store(store).end_id).all()
    assert batch["document"].tolist() == [[0, 1]] * 5
    assert rows.asked == {0: 1, 1: 1, 2: 1}


def test_what_was_read_is_the_readers_own(tmp_path: Path):
    rows = Letters(text_store(tmp_path, ["abcdefghij"]), {})
    read = Documents(rows)
    read(np.array([0]))[:] = 7
    assert torch.equal(read(np.array([0])), torch.tensor([[0, 1]], dtype=torch.int32))


def test_a_row_that_this_epoch_does_not_have_stands_for_the_next_epoch():
    address, epoch, row = advance(4, 9, 3, lambda _: 2)
    assert [divmod(one, EPOCH) for one in address.tolist()] == [(5, 0), (5, 1), (6, 0)]
    assert (epoch, row) == (6, 1)
