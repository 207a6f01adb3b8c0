"""The map against the mixture whose plan it is, and Grain asking it."""

import pickle
from importlib.util import find_spec

import numpy as np
import pytest

from data_helpers import text_store
from thalweg.core.freeze import at
from thalweg.core.protocols import Context
from thalweg.core.time import Time, share, tokens
from thalweg.data import Corpus, Mixture
from thalweg.data.selection import SelectionMap
from thalweg.errors import DialError
from thalweg.schedules import Blend, Constant, Linear, Then

SIZES = {"a": 7, "b": 30, "c": 400}
RAMP = {"a": 1.0, "b": Linear(0.0, 2.0), "c": Then(Constant(3.0), Constant(0.5), after=share(0.5))}


def plan(rows: int = 6, length: int = 50, **more) -> SelectionMap:
    return SelectionMap(RAMP, SIZES, steps=length, rows=rows, seed=3, **more)


def test_it_is_the_plan_of_the_mixture(tmp_path):
    texts = {"a": "x" * 40, "b": "y" * 90, "c": "z" * 300}
    stores = {}
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        stores[name] = str(text_store(tmp_path / name, [text]))
    corpora = {name: Corpus(store, length=8, name=name) for name, store in stores.items()}
    sizes = {name: corpus.windows for name, corpus in corpora.items()}
    found = SelectionMap(RAMP, sizes, steps=40, rows=5, seed=11)
    mixture = Mixture(corpora, RAMP)
    ctx = Context(Time(0, 40), 11, rows=5)
    state = mixture.start(ctx)
    for step in range(40):
        time = Time(step, 40, run_step=step)
        batch, state = at(mixture, time).next(state, Context(time, 11, rows=5))
        for place in range(5):
            source, row = found[step * 5 + place]
            assert source == int(batch["source"][place])
            corpus = list(corpora.values())[source]
            assert row == corpus.window(int(batch["id"][place]), 11)


def test_any_row_may_be_asked_for_first():
    there = plan(rows=500, length=20)
    backwards = [there[index] for index in range(len(there) - 1, -1, -97)]
    fresh = plan(rows=500, length=20)
    assert [fresh[index] for index in range(len(there) - 1, -1, -97)] == backwards
    forwards = list(plan(rows=500, length=20))
    assert [forwards[index] for index in range(len(there) - 1, -1, -97)] == backwards


def test_another_process_finds_the_same():
    there = plan(rows=100)
    before = [there[index] for index in (4999, 0, 2500)]
    again = pickle.loads(pickle.dumps(there))
    assert [again[index] for index in (4999, 0, 2500)] == before


def test_every_row_of_an_epoch_comes_once():
    rows = [row for source, row in plan() if source == 0]
    assert len(rows) > 14
    for epoch in (rows[:7], rows[7:14]):
        assert sorted(epoch) == list(range(7))
    assert rows[:7] != rows[7:14]
    assert [row for source, row in plan(shuffle=False) if source == 0][:9] == [*range(7), 0, 1]


def test_counts_follow_the_integral_of_the_weights():
    there = plan(rows=64, length=300)
    sources = np.array([source for source, _ in there])
    owed = np.zeros(3)
    for step in range(300):
        values = np.array([1.0, RAMP["b"](Time(step, 300)), 3.0 if step < 150 else 0.5])
        owed += 64 * values / values.sum()
        given = np.bincount(sources[: 64 * (step + 1)], minlength=3)
        assert np.abs(given - owed).max() < 1.0


def test_schedules_may_count_tokens():
    blend = Blend({"a": 1, "b": 0}, {"a": 0, "b": 1}, over=tokens(320))  # 10 steps
    there = SelectionMap(blend, {"a": 5, "b": 5}, steps=30, rows=4, row_tokens=8)
    assert [source for source, _ in there][:4] == [0] * 4
    assert {there[index][0] for index in range(48, 120)} == {1}


def test_what_is_outside_the_run_or_cannot_be_is_refused():
    for index in (-1, 300):
        with pytest.raises(IndexError):
            plan()[index]
    with pytest.raises(DialError, match="1 or more"):
        SelectionMap({"a": 1}, {"a": 0}, steps=1, rows=1)
    with pytest.raises(DialError, match="one number or schedule for each"):
        SelectionMap({"a": 1}, {"b": 4}, steps=1, rows=1)


@pytest.mark.skipif(find_spec("grain") is None, reason="grain is not installed")
def test_grain_reads_by_it():
    import grain
    from grain._src.python.dataset.transformations.mix import MixedMapDataset

    parents = [
        grain.MapDataset.source([(name, row) for row in range(size)])
        for name, size in SIZES.items()
    ]
    there = plan()
    mixed = MixedMapDataset(parents, selection_map=there)
    names = list(SIZES)
    assert len(mixed) == len(there) == 300
    assert [mixed[i] for i in range(300)] == [(names[source], row) for source, row in there]
    assert len({row for row in mixed.to_iter_dataset()}) > 100
