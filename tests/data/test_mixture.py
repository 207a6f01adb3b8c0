import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_helpers import ctx, states, text_store
from thalweg.core.freeze import at
from thalweg.core.protocols import Context
from thalweg.core.time import Time
from thalweg.data import Corpus, Mixture, Preferences
from thalweg.data.deficit import UNIT, share_rows, units
from thalweg.errors import ColumnError, DataError, DialError, RecipeError, StateError
from thalweg.schedules import Blend, Linear

WEIGHT = st.one_of(st.just(0.0), st.floats(1e-6, 1.0), st.floats(1e-3, 1e3))


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("stores")
    return [text_store(folder, [letter * 50] * 3, letter) for letter in "abcd"]


def mixture(stores: list[str], weights: object, **options: object) -> Mixture:
    names = ("a", "b", "c", "d")
    sources = {
        name: Corpus(store, length=8, **options)  # type: ignore[arg-type]
        for name, store in zip(names, stores, strict=False)
    }
    return Mixture(sources, weights)


def test_rows_come_in_the_order_they_are_decided(stores: list[str]):
    both = mixture(stores[:2], {"a": 2, "b": 1})
    batch, state = both.next(both.start(ctx()), ctx(6))
    assert batch["source"].tolist() == [0, 1, 0, 0, 1, 0]
    letters = [97 if 97 in row else 98 for row in batch["tokens"].tolist()]
    assert letters == [97, 98, 97, 97, 98, 97]
    assert batch["id"].tolist() == [0, 0, 1, 2, 1, 3]
    assert state["given"] == [4, 2]


@given(st.lists(WEIGHT, min_size=1, max_size=30).filter(any))
def test_integer_weights_sum_to_one_unit(weights: list[float]):
    found = units(weights)
    assert int(found.sum()) == UNIT
    exact = np.array(weights) / sum(weights) * UNIT
    assert np.all(np.abs(found - exact) <= 1)
    assert np.all(found[np.array(weights) == 0] == 0)


@settings(max_examples=60, deadline=None)
@given(
    ends=st.integers(1, 30).flatmap(
        lambda n: st.tuples(*[st.lists(WEIGHT, min_size=n, max_size=n).filter(any)] * 2)
    ),
    batches=st.lists(st.integers(1, 40), min_size=2, max_size=12),
)
def test_counts_follow_the_integral_of_ramped_weights(
    ends: tuple[list[float], list[float]], batches: list[int]
):
    first, last = (units(weights).astype(float) for weights in ends)
    count = len(first)
    owed, given_rows, target = [0] * count, np.zeros(count), [0] * count
    for step, rows in enumerate(batches):
        weights = units((first + (last - first) * step / (len(batches) - 1)).tolist())
        for _ in range(rows):  # row by row, to look at every moment
            order, _, owed = share_rows(weights, owed, 1, [9] * count)
            given_rows[order[0]] += 1
            target = [t + int(w) for t, w in zip(target, weights, strict=True)]
            gaps = [t / UNIT - g for t, g in zip(target, given_rows, strict=True)]
            assert min(gaps) > -1.0
            assert max(gaps) < 1.25
            assert sum(owed) == 0


@pytest.mark.parametrize("count", [2, 3, 5, 10, 30])
def test_constant_and_ramped_weights_stay_within_a_row(count: int):
    draw = np.random.default_rng(count)
    worst = 0.0
    for start, end in (draw.dirichlet(np.ones(count), size=(8, 2))).tolist():
        owed = [0] * count
        for t in np.linspace(0, 1, 300):
            weights = units(((1 - t) * np.array(start) + t * np.array(end)).tolist())
            owed = share_rows(weights, owed, 1, [9] * count).owed
            worst = max(worst, max(map(abs, owed)) / UNIT)
    assert worst < 1.0


def test_the_bound_for_weights_that_react_to_every_row_is_reached():
    owed, closed = [0] * 4, set[int]()
    for _ in range(3):  # weight only for those not served yet: 1/4 + 1/3 + 1/2 - ... = H_4 - 1
        weights = units([0.0 if s in closed else 1.0 for s in range(4)])
        order, _, owed = share_rows(weights, owed, 1, [9] * 4)
        closed.add(int(order[0]))
    assert max(owed) / UNIT == pytest.approx(1 / 4 + 1 / 3 + 1 / 2, abs=1e-6)


def test_the_size_of_batches_does_not_change_the_sequence():
    weights = units([0.5, 0.3, 0.2])
    whole = share_rows(weights, [0] * 3, 60, [99] * 3).order.tolist()
    owed, parts = [0] * 3, []
    for rows in (1, 2, 7, 20, 30):
        order, counts, owed = share_rows(weights, owed, rows, [99] * 3)
        parts += order.tolist()
        assert counts == np.bincount(order, minlength=3).tolist()
    assert parts == whole


def test_a_schedule_of_weights_is_followed(stores: list[str]):
    ramp = mixture(stores[:2], Blend({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}))
    numbers = mixture(stores[:2], {"a": Linear(1.0, 0.0), "b": Linear(0.0, 1.0)})
    for source in (ramp, numbers):
        state = source.start(ctx())
        target = 0.0
        for step in range(100):
            now = ctx(4, step=step)
            live = at(source, now.time)
            _, state = live.next(state, now)
            target += 4 * live.weights["a"] / sum(live.weights.values())
            assert abs(state["given"][0] - target) < 0.51
    planned = ramp.shares(Time(np.arange(100), 100))
    assert sum(4 * planned["a"]) == pytest.approx(target)


def test_a_state_survives_json_and_is_small(stores: list[str]):
    four = mixture(stores, dict(zip("abcd", (0.4, 0.3, 0.2, 0.1), strict=True)))
    seen = states(four, 9)
    for state in seen:
        read = json.loads(json.dumps(state))
        assert read == state
        one, two = four.next(state, ctx(5)), four.next(read, ctx(5))
        assert one[1] == two[1]
        assert one[0]["tokens"].tolist() == two[0]["tokens"].tolist()
    assert len(json.dumps(seen[-1])) < 600


def test_a_mixture_inside_a_mixture_has_leaf_names(stores: list[str]):
    inner = mixture(stores[1:3], {"a": 1, "b": 1})
    outer = Mixture({"web": Corpus(stores[0], length=8), "code": inner}, {"web": 1, "code": 1})
    assert outer.names == ("web", "code/a", "code/b")
    assert outer.sizes == {"web": 152, "code/a": 152, "code/b": 152}
    assert {k: float(v) for k, v in outer.shares(Time(0)).items()} == {
        "web": 0.5,
        "code/a": 0.25,
        "code/b": 0.25,
    }
    batch, _ = outer.next(outer.start(ctx()), ctx(8))
    assert np.bincount(batch["source"].numpy()).tolist() == [4, 2, 2]
    for row, source in zip(batch["tokens"].tolist(), batch["source"].tolist(), strict=True):
        assert set(row) <= {256, 97 + source}


def test_the_weight_of_an_exhausted_source_goes_to_the_others(stores: list[str]):
    sources = {
        "a": Corpus(stores[0], length=8, max_epochs=1.0),  # 19 windows
        "b": Corpus(stores[1], length=8),
        "c": Corpus(stores[2], length=8),
    }
    three = Mixture(sources, {"a": 2, "b": 1, "c": 1})
    state = three.start(ctx())
    for _ in range(20):
        _, state = three.next(state, ctx(7))
        assert sum(state["given"]) % 7 == 0
    given_a, given_b, given_c = state["given"]
    assert given_a == 19
    assert abs(given_b - given_c) <= 1


def test_a_mixture_with_nothing_left_says_so(stores: list[str]):
    both = mixture(stores[:2], {"a": 1, "b": 1}, max_epochs=1.0)
    state = both.start(ctx())
    assert both.room(state, ctx(100)) == 38
    _, state = both.next(state, ctx(38))
    with pytest.raises(DataError, match="every source with a weight above 0 has given all"):
        both.next(state, ctx(1))


@pytest.mark.parametrize(
    "weights",
    [
        {"a": -1, "b": 2},
        {"a": "2", "b": 1},
        {"a": None, "b": 1},
        [1, 2],
        {"a": float("nan"), "b": 1},
        {"a": float("inf"), "b": 1},
        {"a": 0, "b": 0},
        {"a": 1},
        {"a": 1, "bb": 1},
        {"a": 1, "b": 1, "c": 1},
        3.0,
    ],
)
def test_bad_weights_are_refused_at_the_start_in_next_and_in_plans(
    stores: list[str], weights: object
):
    good, bad = mixture(stores[:2], {"a": 1, "b": 1}), mixture(stores[:2], weights)
    with pytest.raises(DialError, match=r"Mixture\.weights"):
        bad.start(ctx())
    with pytest.raises(DialError, match=r"Mixture\.weights"):
        bad.next(good.start(ctx()), ctx())
    with pytest.raises(DialError, match=r"Mixture\.weights"):
        bad.shares(Time(np.arange(3), 3))


def test_a_plan_names_the_step_where_weights_go_bad(stores: list[str]):
    both = mixture(stores[:2], {"a": Linear(1.0, -1.0), "b": 1.0})
    with pytest.raises(DialError, match="planned step"):
        both.shares(Time(np.arange(100), 100))


def test_a_misspelt_name_is_suggested(stores: list[str]):
    sources = {"web": Corpus(stores[0]), "code": Corpus(stores[1])}
    with pytest.raises(DialError, match="for 'wbe' did you mean 'web'"):
        Mixture(sources, {"wbe": 1, "code": 1}).start(ctx())


def test_sources_that_do_not_fit_together_are_refused(stores: list[str]):
    for refuses in (lambda m: m.start(ctx()), lambda m: m.shares(Time(0, 1))):
        with pytest.raises(RecipeError, match="a mixture of nothing"):
            refuses(Mixture({}, {}))
    lengths = {"a": Corpus(stores[0], length=8), "b": Corpus(stores[1], length=9)}
    with pytest.raises(RecipeError, match="rows of different lengths"):
        Mixture(lengths, {"a": 1, "b": 1}).start(ctx())
    columns = {"a": Corpus(stores[0]), "b": Preferences(stores[1])}
    with pytest.raises(ColumnError, match="'a' makes no chosen, chosen_weight, rejected"):
        Mixture(columns, {"a": 1, "b": 1}).start(ctx())


def test_a_position_among_other_sources_is_refused(stores: list[str]):
    state = mixture(stores[:2], {"a": 1, "b": 1}).start(ctx())
    with pytest.raises(StateError, match="a position in a mixture of"):
        mixture(stores[:3], {"a": 1, "b": 1, "c": 1}).next(state, ctx())


def test_a_weight_may_be_zero_for_a_while(stores: list[str]):
    given_rows = []
    both = mixture(stores[:2], {"a": 1, "b": 1})
    state = both.start(ctx())
    for weights, _ in itertools.product(({"a": 1, "b": 0}, {"a": 0, "b": 1}), range(3)):
        _, state = Mixture(both.sources, weights).next(state, ctx(4))
        given_rows.append(list(state["given"]))
    assert given_rows == [[4, 0], [8, 0], [12, 0], [12, 4], [12, 8], [12, 12]]


def test_no_row_is_read_for_another_rank(stores: list[str]):
    four = mixture(stores, dict.fromkeys("abcd", 1.0))
    batch, _ = four.next(four.start(ctx()), ctx(8))
    mine = batch.take([1, 5])
    assert mine["tokens"].tolist() == [batch["tokens"].tolist()[row] for row in (1, 5)]


def test_a_run_of_one_context_needs_no_more_than_this(tmp_path: Path, stores: list[str]):
    alone = mixture(stores[:1], {"a": 1})
    batch, _ = alone.next(alone.start(Context(Time())), Context(Time(), rows=2))
    assert set(batch) == set(alone.makes)


def test_a_source_smaller_than_a_row_is_refused(stores: list[str], tmp_path: Path):
    small = text_store(tmp_path, ["tiny"], "small")
    sources = {"web": Corpus(stores[0], length=8), "small": Corpus(small, length=8)}
    with pytest.raises(DataError, match="source 'small' has 4 targets, less than one row of 8"):
        Mixture(sources, {"web": 1, "small": 1}).start(ctx())


def test_whole_groups_come_a_group_at_a_time():
    order, counts, owed = share_rows(units([1, 1]), [0, 0], 12, [99, 99], [1, 4])
    assert counts == [8, 4]
    assert order.tolist() == [0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]  # a second group does not fit
    assert owed == [-2 * UNIT, 2 * UNIT]
    assert share_rows(units([1, 1]), owed, 4, [99, 99], [1, 4]).order.tolist() == [1, 1, 1, 1]


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
    st.lists(st.integers(8, 20), min_size=1, max_size=30),
    st.sampled_from([2, 3, 8]),
)
def test_no_source_of_groups_gets_a_group_too_many(weights, batches, group):
    exact, total, counts = units(weights), 0, np.zeros(len(weights))
    owed, blocks = [0] * len(weights), [1, *[group] * (len(weights) - 1)]
    for rows in batches:
        order, _, owed = share_rows(exact, owed, rows, [999] * len(weights), blocks)
        for source, block in enumerate(blocks):
            places = np.flatnonzero(order == source)
            assert len(places) % block == 0
        counts += np.bincount(order, minlength=len(weights))
        total += rows
    assert counts.sum() == total
    too_many = counts - np.array(weights) / sum(weights) * total
    assert too_many[1:].max() <= group


def test_rows_that_no_group_fills_are_refused():
    with pytest.raises(DataError, match="4 rows left for sources that give"):
        share_rows(units([0, 1]), [0, 0], 12, [99, 99], [1, 8])
