import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_helpers import REAL, ctx, text_store
from thalweg.data import Corpus, build, open_store
from thalweg.errors import DataError, DialError, StateError


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the stream END a b c END d e END f g h i: 12 ids, 11 targets."""
    return text_store(tmp_path_factory.mktemp("letters"), ["abc", "de", "fghi"])


def test_windows_follow_one_another_and_share_one_id(letters: str):
    corpus = Corpus(letters, length=4, shuffle=False)
    batch, state = corpus.next(corpus.start(ctx()), ctx(3))
    assert batch["tokens"].tolist() == [
        [256, 97, 98, 99, 256],
        [256, 100, 101, 256, 102],
        [102, 103, 104, 105, 256],
    ]
    assert batch["weight"].tolist() == [[1.0] * 4, [1.0] * 4, [1.0, 1.0, 1.0, 0.0]]
    assert batch["document"].tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]
    assert batch["source"].tolist() == [0, 0, 0]
    assert batch["id"].tolist() == [0, 1, 2]
    assert state == {"row": 3, "fingerprint": open_store(letters).fingerprint}


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 15),
    rows=st.integers(1, 7),
    seed=st.integers(0, 99),
    shuffle=st.booleans(),
)
def test_every_id_but_the_first_is_a_target_once_an_epoch(
    letters: str, length: int, rows: int, seed: int, shuffle: bool
):
    corpus = Corpus(letters, length=length, shuffle=shuffle)
    count = 2 * corpus.windows
    state, targets = corpus.start(ctx()), []
    while state["row"] < count:
        asked = min(rows, count - state["row"])
        batch, state = corpus.next(state, ctx(asked, seed=seed))
        kept = batch["weight"].numpy() > 0
        targets += batch["tokens"].numpy()[:, 1:][kept].tolist()
    stream = open_store(letters).tokens[1:].tolist()
    assert sorted(targets) == sorted(stream * 2)


def test_an_order_with_a_seed_of_its_own_is_that_of_every_run(tmp_path: Path):
    store = text_store(tmp_path, ["words and more of them " * 40])
    free, held = (Corpus(store, length=8, seed=seed) for seed in (None, 7))
    runs = [[c.window(row, seed) for row in range(40)] for c in (free, held) for seed in (7, 8)]
    assert runs[0] == runs[2] == runs[3] != runs[1]
    (one, _), (other, _) = (held.next(held.start(ctx()), ctx(4, seed=seed)) for seed in (3, 4))
    assert np.array_equal(one["tokens"], other["tokens"])


def test_epochs_come_in_different_orders_and_seeds_too(tmp_path: Path):
    corpus = Corpus(text_store(tmp_path, ["x" * 200]), length=5)
    orders = [
        [corpus.window(row + 40 * epoch, seed) for row in range(40)]
        for epoch, seed in [(0, 0), (1, 0), (0, 1)]
    ]
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == sorted(range(41)) or len(set(order)) > 38 for order in orders)


def test_a_batch_reads_nothing_until_asked(letters: str):
    corpus = Corpus(letters, length=4)
    batch, _ = corpus.next(corpus.start(ctx()), ctx(3))
    whole = batch["tokens"]
    assert np.array_equal(batch.take([2])["tokens"][0], whole[2])


def test_rows_may_leave_their_documents_unmasked(letters: str):
    corpus = Corpus(letters, length=4, mask_documents=False)
    batch, _ = corpus.next(corpus.start(ctx()), ctx(1))
    assert "document" not in batch
    assert "document" not in corpus.makes


def test_max_epochs_ends_the_rows(letters: str):
    corpus = Corpus(letters, length=4, max_epochs=1.5, name="web")
    state = corpus.start(ctx())
    assert corpus.room(state, ctx(9)) == 4
    _, state = corpus.next(state, ctx(3))
    with pytest.raises(DataError, match=r"source 'web' has no rows left: 1\.5 epochs"):
        corpus.next(state, ctx(2))


def test_a_position_in_other_data_is_refused(letters: str, tmp_path: Path):
    state = Corpus(letters).start(ctx())
    other = Corpus(text_store(tmp_path, ["other"]))
    with pytest.raises(StateError, match="files or tokenizer have changed"):
        other.next(state, ctx())


def test_bad_numbers_are_refused_at_the_start(letters: str):
    with pytest.raises(DialError, match="length=0"):
        Corpus(letters, length=0).start(ctx())
    for bad in (0, -1, float("nan")):
        with pytest.raises(DialError, match="max_epochs"):
            Corpus(letters, max_epochs=bad).start(ctx())


def test_what_a_plan_needs_is_known_without_reading(letters: str):
    corpus = Corpus(letters, length=4, name="web")
    assert (corpus.sizes, corpus.vocabulary, corpus.row_tokens) == ({"web": 11}, 257, 4)
    assert corpus.shares(ctx().time) == {"web": 1.0}


def test_a_batch_of_a_long_stream_is_read_in_a_millisecond(tmp_path: Path):
    ids = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint16, (5_000_000,))
    ids[:] = np.arange(5_000_000) % 997
    corpus = Corpus(str(tmp_path / "a.npy"), length=256)
    state = {**corpus.start(ctx()), "row": 10**9}
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        batch, _ = corpus.next(state, ctx(16))
        _ = batch["tokens"]
        times.append(time.perf_counter() - begin)
    assert min(times) < 1e-3


@pytest.mark.skipif(not REAL.is_dir(), reason="the texts beside the repository are not here")
def test_real_text_decodes_from_a_batch(tmp_path: Path):
    file = REAL / "domains" / "scripture-kjv.jsonl"
    corpus = Corpus(str(build(file, home=tmp_path, progress=False).train), length=100)
    batch, _ = corpus.next(corpus.start(ctx()), ctx(8))
    text = "".join(
        open_store(corpus.store).tokenizer.decode(row) for row in batch["tokens"].tolist()
    )
    assert " the " in text


def test_a_corpus_is_a_frozen_value(letters: str):
    assert dataclasses.replace(Corpus(letters), length=3) == Corpus(letters, length=3)
