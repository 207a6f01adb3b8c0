import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_helpers import ctx, text_store
from thalweg.data import (
    Between,
    Corpus,
    Folded,
    Mixture,
    Ordered,
    Shuffled,
    Sorted,
    Top,
    Views,
    WeightedSubset,
    open_store,
    ordered,
    write_scores,
)
from thalweg.data.orders import AsStored
from thalweg.data.pool import Pool, Turn
from thalweg.errors import DataError, DialError, RecipeError, StateError

TEXTS = ["abc", "de", "fghi", "v", "j", "klmnopqrstu"]
HARD = [5.0, 1.0, 4.0, 0.0, 3.0, 2.0]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ordered")


@pytest.fixture(scope="module")
def letters(home: Path) -> str:
    return text_store(home, TEXTS)


@pytest.fixture(scope="module")
def scores(home: Path, letters: str) -> str:
    folder = home / "scores"
    write_scores(open_store(letters), folder, {"hard": HARD, "copies": [0, 0, 1, 0, 0, 0]})
    return str(folder)


def text(rows: torch.Tensor) -> str:
    return "".join("|" if i == 256 else chr(i) for i in rows.flatten().tolist())


def test_rows_hold_the_documents_in_their_order(letters: str, scores: str):
    source = Ordered(letters, Sorted("hard"), scores=scores, length=5)
    batch, state = source.next(source.start(ctx()), ctx(6))
    assert [text(row) for row in batch["tokens"]] == [
        "|v|de|",
        "|klmno",
        "opqrst",
        "tu|j|f",
        "fghi|a",
        "abc|||",
    ]
    assert batch["weight"].sum(1).tolist() == [5, 5, 5, 5, 5, 2]
    assert batch["document"][0].tolist() == [0, 0, 1, 1, 1, 2]
    assert batch["document"][5].tolist() == [0, 0, 0, 1, 1, 1]
    assert batch["id"].tolist() == list(range(6))
    assert (state["epoch"], state["row"]) == (0, 6)
    assert source.documents(0, 0).tolist() == [3, 1, 5]
    assert source.size == 27


ORDERS = [AsStored(), Shuffled(), Folded("hard", 2), Views(2), WeightedSubset()]


@settings(max_examples=60, deadline=None)
@given(
    order=st.sampled_from(ORDERS),
    length=st.integers(1, 40),
    rows=st.integers(1, 7),
    seed=st.integers(0, 20),
)
def test_every_id_of_a_pass_but_the_first_is_a_target_once(
    letters: str, scores: str, order, length: int, rows: int, seed: int
):
    source = Ordered(letters, order, scores=scores, length=length)
    store = open_store(letters)
    state, targets, wanted = source.start(ctx(seed=seed)), "", ""
    for _ in range(12):
        batch, state = source.next(state, ctx(rows, seed=seed))
        for row, weight in zip(batch["tokens"], batch["weight"], strict=True):
            targets += text(row[1:][weight > 0])
    pool = Pool(6, {"hard": np.float32(HARD)})
    for epoch in range(90):
        documents = order(pool, Turn(epoch, seed, "text")).tolist()
        whole = "".join("|" + TEXTS[document] for document in documents)
        assert store.tokens[0] == 256
        wanted += whole[1:]
    assert wanted.startswith(targets)


def test_selections_follow_one_another(letters: str, scores: str):
    select = (Between("copies", high=0), Top("hard", 0.4))
    source = Ordered(letters, Sorted("hard"), select, scores, length=3)
    batch, _ = source.next(source.start(ctx()), ctx(2))
    assert [text(row) for row in batch["tokens"]] == ["|j|a", "abc|"]
    assert source.size == 5
    assert source.needs == ("copies", "hard")


def test_a_state_survives_json_and_any_resume_gives_the_same_rows(letters: str, scores: str):
    source = Ordered(letters, Shuffled(), scores=scores, length=4)
    whole, _ = source.next(source.start(ctx()), ctx(30))
    state, parts = source.start(ctx()), []
    for rows in (1, 2, 3, 7, 17):
        batch, state = source.next(json.loads(json.dumps(state)), ctx(rows))
        parts.append(batch["tokens"])
    assert torch.equal(torch.cat(parts), whole["tokens"])
    assert len(json.dumps(state)) < 120


def test_max_epochs_ends_the_rows(letters: str):
    source = Ordered(letters, length=4, max_epochs=1.5)
    state = source.start(ctx())
    assert source.room(state, ctx(99)) == 7 + 3
    _, state = source.next(state, ctx(10))
    with pytest.raises(DataError, match=r"no rows left: 1\.5 epochs"):
        source.next(state, ctx(1))


def test_scores_of_another_corpus_are_refused(home: Path, letters: str, scores: str):
    other = text_store(home, ["other", "text"], "b")
    with pytest.raises(DataError, match="scores of another corpus: 6 documents"):
        Ordered(other, Sorted("hard"), scores=scores).start(ctx())
    with pytest.raises(DataError, match="scores of another corpus"):
        write_scores(open_store(other), scores, {"hard": [1, 2]})


def test_other_scores_are_another_order_and_refused_on_resume(home: Path, letters: str):
    store = open_store(letters)
    write_scores(store, home / "s1", {"hard": HARD, "unused": HARD})
    write_scores(store, home / "s2", {"hard": HARD[::-1]})
    source = Ordered(letters, Sorted("hard"), scores=str(home / "s1"))
    state = source.start(ctx())
    with pytest.raises(StateError, match="a position in data"):
        replace(source, scores=str(home / "s2")).next(state, ctx())
    plain = Ordered(letters)
    assert plain.start(ctx())["fingerprint"] == store.fingerprint


def test_bad_sources_are_refused_at_the_start(letters: str, scores: str, tmp_path: Path):
    with pytest.raises(DialError, match="length=0"):
        Ordered(letters, length=0).start(ctx())
    with pytest.raises(RecipeError, match="did you mean 'hard'"):
        Ordered(letters, Sorted("herd"), scores=scores).start(ctx())
    with pytest.raises(RecipeError, match="no scores were given"):
        Ordered(letters, Sorted("hard")).start(ctx())
    with pytest.raises(DataError, match=r"no scores\.json"):
        Ordered(letters, Sorted("hard"), scores=str(tmp_path)).start(ctx())
    with pytest.raises(DataError, match=r"0 of 6 documents selected, 0 ids"):
        Ordered(letters, select=(Between("hard", high=-1),), scores=scores).start(ctx())


def test_it_mixes_with_other_sources(letters: str, scores: str):
    best = Ordered(letters, Folded("hard"), (Top("hard", 0.5),), scores, length=6)
    both = Mixture({"best": best, "all": Corpus(letters, length=6)}, {"best": 2, "all": 1})
    batch, _ = both.next(both.start(ctx()), ctx(9))
    assert torch.bincount(batch["source"]).tolist() == [6, 3]
    assert batch.take([4, 1])["tokens"].tolist() == batch["tokens"][[4, 1]].tolist()


def test_a_plan_in_blocks_is_the_same(letters: str, monkeypatch: pytest.MonkeyPatch, home: Path):
    texts = ["x" * (i % 5) for i in range(300)]
    many = text_store(home, texts, "many")
    source = Ordered(many, length=7, name="whole")
    whole, _ = source.next(source.start(ctx()), ctx(100))
    monkeypatch.setattr("thalweg.data.ordered.BLOCK", 64)
    again = replace(source, name="whole", mask_documents=False)
    ordered._plans.cache_clear()
    parts, _ = again.next(again.start(ctx()), ctx(100))
    assert torch.equal(whole["tokens"], parts["tokens"])
    assert torch.bincount(whole["document"][:, 0]).tolist() == [100]
