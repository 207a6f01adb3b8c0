"""One battery over every public source of text; the first test fails if one has no example here."""

import copy
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import thalweg.data as room
from data_helpers import ctx, pair_store, preference_store, states, text_store
from thalweg.core.ahead import is_offline
from thalweg.core.batch import COLUMNS
from thalweg.core.protocols import Foreseen, Source, State

Make = Callable[[Path], Source]


def texts(folder: Path) -> str:
    return text_store(folder, ["the first document", "a second", "and one more that is longer"])


def pairs(folder: Path) -> str:
    return pair_store(folder, [(f"question {i}", "yes" * (1 + i % 3)) for i in range(13)])


def preferences(folder: Path) -> str:
    triples = [(f"question {i}", "yes" * (1 + i % 3), "no") for i in range(13)]
    return preference_store(folder, triples)


def scored(folder: Path) -> Source:
    store = texts(folder)
    scores = room.write_scores(room.open_store(store), folder / "scores", {"s": [3.0, 1.0, 2.0]})
    best, order = (room.Top("s", 0.6),), room.WeightedSubset("s")
    return room.Ordered(store, order, best, str(scores.path), length=20, max_epochs=90.5)


def answers(source: Source) -> list[tuple[str, str]]:
    """Return the columns of ids and what says which of their targets count."""
    if "tokens" in source.makes:
        return [("tokens", "weight")]
    return [(name, f"{name}_weight") for name in ("chosen", "rejected")]


EXAMPLES: Mapping[str, Make] = {
    "Biographies": lambda folder: room.Biographies(people=7),
    "Lives": lambda folder: room.Lives(people=7),
    "Corpus": lambda folder: room.Corpus(texts(folder), length=7),
    "Corpus in order": lambda folder: room.Corpus(
        texts(folder), length=20, shuffle=False, mask_documents=False, max_epochs=90.5
    ),
    "Ordered": lambda folder: room.Ordered(texts(folder), length=7),
    "Ordered by score": lambda folder: scored(folder),
    "Pairs": lambda folder: room.Pairs(pairs(folder), length=30),
    "Pairs cut": lambda folder: room.Pairs(pairs(folder), length=15, overlong="cut"),
    "Preferences": lambda folder: room.Preferences(preferences(folder), length=30),
    "Preferences cut": lambda folder: room.Preferences(
        preferences(folder), length=12, overlong="cut", max_epochs=90.5
    ),
    "Mixture": lambda folder: room.Mixture(
        {
            "web": room.Corpus(texts(folder), length=30),
            "chat": room.Mixture(
                {
                    "a": room.Pairs(pairs(folder), length=30),
                    "b": room.Corpus(texts(folder), length=30, max_epochs=1.0),
                },
                {"a": 1, "b": 3},
            ),
        },
        {"web": 0.7, "chat": 0.3},
    ),
}

EVERY = pytest.mark.parametrize("name", list(EXAMPLES))
ROWS = (3, 5, 1, 8, 2, 13, 4)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Source]:
    return {name: make(tmp_path_factory.mktemp("source")) for name, make in EXAMPLES.items()}


def columns(source: Source, state: State, rows: int) -> tuple[dict[str, list[object]], State]:
    batch, after = source.next(state, ctx(rows, seed=3))
    return {name: batch[name].tolist() for name in batch}, after


def test_every_public_source_has_an_example(sources: Mapping[str, Source]):
    public = {
        name
        for name in room.__all__
        if inspect.isclass(getattr(room, name))
        and {"start", "next", "makes"} <= set(dir(getattr(room, name)))
    }
    assert public == {type(source).__name__ for source in sources.values()}


@EVERY
def test_the_same_state_gives_the_same_batch(sources: Mapping[str, Source], name: str):
    for state in states(sources[name], 5):
        assert columns(sources[name], state, 4) == columns(sources[name], state, 4)


@EVERY
def test_an_offline_source_sees_nothing_but_its_state_the_seed_and_the_clock(
    sources: Mapping[str, Source], name: str
):
    class Closed(Mapping[str, object]):
        def __getitem__(self, key: str) -> object:
            raise AssertionError(f"asked for {key}")

        __iter__ = __len__ = __getitem__

    source = sources[name]
    assert is_offline(source)
    for state in states(source, 5):
        near = replace(ctx(4, seed=3), models=Closed(), last=Closed(), trial=Closed())
        batch, after = source.next(state, near)
        assert ({n: batch[n].tolist() for n in batch}, after) == columns(source, state, 4)


@EVERY
def test_a_state_survives_json(sources: Mapping[str, Source], name: str):
    for state in states(sources[name], 5):
        read = json.loads(json.dumps(state))
        assert read == state
        assert columns(sources[name], read, 4) == columns(sources[name], state, 4)


@EVERY
def test_the_state_before_is_not_changed(sources: Mapping[str, Source], name: str):
    for state in states(sources[name], 5):
        before = copy.deepcopy(state)
        sources[name].next(state, ctx(6))
        assert state == before


@EVERY
def test_resuming_after_k_batches_equals_running_through(sources: Mapping[str, Source], name: str):
    source = sources[name]
    for stop in range(1, len(ROWS)):
        state, whole = source.start(ctx()), []
        for rows in ROWS:
            batch, state = columns(source, state, rows)
            whole.append(batch)
        state, again = source.start(ctx()), []
        for step, rows in enumerate(ROWS):
            if step == stop:
                state = json.loads(json.dumps(state))
            batch, state = columns(source, state, rows)
            again.append(batch)
        assert again == whole


@EVERY
def test_a_batch_has_the_rows_and_columns_promised(sources: Mapping[str, Source], name: str):
    source = sources[name]
    state = source.start(ctx())
    for rows in ROWS:
        batch, state = source.next(state, ctx(rows))
        assert batch.rows == rows
        assert set(batch) == set(source.makes)
        for column in batch:
            assert batch[column].dtype == getattr(torch, COLUMNS[column].dtype), column
        for ids, weight in answers(source):
            assert batch[weight].shape == (rows, batch[ids].shape[1] - 1)
            assert set(batch[weight].unique().tolist()) <= {0.0, 1.0}
        assert 0 <= int(batch["source"].min())
        assert int(batch["source"].max()) < len(source.names)


@EVERY
def test_rows_taken_before_reading_are_the_rows_read(sources: Mapping[str, Source], name: str):
    source = sources[name]
    batch, _ = source.next(source.start(ctx()), ctx(9))
    part = batch.take([7, 0, 4])
    for column in batch:
        assert torch.equal(part[column], batch[column][[7, 0, 4]])


@EVERY
def test_what_is_foreseen_is_what_comes(sources: Mapping[str, Source], name: str):
    source = sources[name]
    assert isinstance(source, Foreseen)
    state = source.start(ctx())
    batch, _ = source.next(state, ctx(8))
    assert sum(batch[ids].shape[1] - 1 for ids, _ in answers(source)) == source.row_tokens
    assert all(int(batch[ids].max()) < source.vocabulary for ids, _ in answers(source))
    assert tuple(source.sizes) == source.names
    assert tuple(source.shares(ctx().time)) == source.names
    assert 0 < sum(float(share) for share in source.shares(ctx().time).values()) <= 1 + 1e-9


@EVERY
def test_another_seed_is_another_order_but_the_same_state(sources: Mapping[str, Source], name: str):
    source = sources[name]
    _, one = source.next(source.start(ctx()), ctx(4, seed=1))
    _, two = source.next(source.start(ctx()), ctx(4, seed=1))
    assert one == two
