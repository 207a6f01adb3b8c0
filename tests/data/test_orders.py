import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.data.orders import (
    AsStored,
    Folded,
    Order,
    Shuffled,
    SoftSorted,
    Sorted,
    Stages,
    Views,
    WeightedSubset,
    cycle,
)
from thalweg.data.pool import Pool, Turn, ascending
from thalweg.data.select import Band, Between, PerGroup, Top
from thalweg.errors import DialError, RecipeError

SCORES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40).map(np.array)
PERMUTATIONS = [
    AsStored(),
    Shuffled(),
    Sorted("s"),
    Sorted("s", descending=True),
    Folded("s", 3),
    Stages("s", 4),
    SoftSorted("s", 0.2),
    WeightedSubset(fractions=(1.0,)),
]


def place(order: Order, score: np.ndarray, epoch: int = 0, seed: int = 0) -> list[int]:
    return order(Pool.of({"s": np.float32(score)}), Turn(epoch, seed)).tolist()


@pytest.mark.parametrize("order", PERMUTATIONS, ids=lambda order: type(order).__name__)
@settings(max_examples=20, deadline=None)
@given(score=SCORES, epoch=st.integers(0, 3))
def test_each_document_comes_once(order: Order, score: np.ndarray, epoch: int):
    found = place(order, score, epoch)
    assert sorted(found) == list(range(len(score)))
    assert found == place(order, score, epoch)


@given(SCORES)
def test_the_sort_is_stable_and_of_float32(score: np.ndarray):
    wanted = np.argsort(np.float32(score) + 0.0, kind="stable")
    assert np.array_equal(ascending(score), wanted)


def test_the_sort_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch):
    score = np.random.default_rng(0).normal(size=1001)
    whole = ascending(score)
    monkeypatch.setattr("thalweg.data.orders.BLOCK", 7)
    monkeypatch.setattr("thalweg.data.pool.BLOCK", 7)
    assert np.array_equal(ascending(score), whole)
    assert sorted(place(Shuffled(), score)) == list(range(1001))


def folded(score: np.ndarray, folds: int) -> list[int]:
    """Return what the paper's code does, one document at a time."""
    by_score = sorted(range(len(score)), key=lambda i: (np.float32(score[i]), i))
    return [by_score[i] for fold in range(folds) for i in range(len(score)) if i % folds == fold]


@given(SCORES, st.integers(1, 45))
def test_folding_is_the_loop_of_the_paper(score: np.ndarray, folds: int):
    assert place(Folded("s", folds), score) == folded(score, folds)


@given(SCORES)
def test_one_fold_and_as_many_folds_as_documents_are_sorting(score: np.ndarray):
    plain = place(Sorted("s"), score)
    assert place(Folded("s", 1), score) == plain
    assert place(Folded("s", len(score)), score) == plain


def test_passes_and_seeds_shuffle_differently():
    score = np.zeros(50)
    for order in (Shuffled(), Stages("s", 2), SoftSorted("s", 0.1), WeightedSubset()):
        found = [tuple(place(order, score, *turn)) for turn in [(0, 0), (1, 0), (0, 1)]]
        assert len(set(found)) == 3


def test_stages_go_from_low_to_high():
    score = np.random.default_rng(1).permutation(30)
    found = score[place(Stages("s", 3), score)]
    assert [set(part) for part in np.split(found, 3)] == [
        set(range(10)),
        set(range(10, 20)),
        set(range(20, 30)),
    ]


def test_a_soft_sort_without_spread_is_sorted_and_with_it_nearly():
    score = np.random.default_rng(2).permutation(2000)
    assert place(SoftSorted("s", 0.0), score) == place(Sorted("s"), score)
    ranks = score[place(SoftSorted("s", 0.05), score)]
    assert 0.02 < np.std(ranks - np.arange(2000)) / 2000 < 0.08


def test_the_cycle_is_the_one_of_the_paper():
    assert cycle(0.25) == (0.25, 0.5, 1.0, 0.5)
    sizes = [0.25]  # utils.py of the authors, written out
    growing = True
    while len(sizes) < 12:
        if sizes[-1] == 0.25:
            growing = True
        elif sizes[-1] == 1.0:
            growing = False
        sizes.append(min(sizes[-1] / 0.5, 1.0) if growing else max(sizes[-1] * 0.5, 0.25))
    assert [cycle(0.25)[i % 4] for i in range(12)] == sizes
    assert cycle(0.3) == (0.3, 0.6, 1.0, 0.5)


def one_after_the_other(weight: np.ndarray, many: int, draw: np.random.Generator) -> list[int]:
    """Draw without replacement as it is defined: again and again among those that are left."""
    left, out = list(range(len(weight))), []
    for _ in range(many):
        share = weight[left] / weight[left].sum()
        out.append(left.pop(int(draw.choice(len(left), p=share))))
    return out


@pytest.mark.parametrize("favour", ["low", "high"])
def test_weighted_subsets_are_drawn_as_one_after_the_other(favour: str):
    score = np.array([1.0, 2.0, 3.0, 6.0])
    weight = 1 / score if favour == "low" else score
    order = WeightedSubset("s", (0.5,), favour=favour)  # type: ignore[arg-type]
    draw, turns = np.random.default_rng(0), 3000
    ours, slow = np.zeros(4), np.zeros(4)
    for epoch in range(turns):
        ours[place(order, score, epoch)] += 1
        slow[one_after_the_other(weight, 2, draw)] += 1
    assert ours / turns == pytest.approx(slow / turns, abs=0.05)


def test_weighted_subsets_come_shuffled():
    score = np.array([1e-3, 1e3] * 20)
    first = [place(WeightedSubset("s", (1.0,)), score, epoch)[0] % 2 for epoch in range(60)]
    assert 15 < sum(first) < 45  # else the light ones would always come first


@pytest.mark.parametrize("copies", [1, 2, 4, 7])
def test_views_follow_the_authors_sampler(copies: int):
    score, count = np.zeros(10), 10
    for number in range(2):
        rows: list[int] = []
        for part in range(copies):
            found = place(Views(copies), score, number * copies + part)
            assert len(found) == count
            rows += found
        assert np.bincount(rows).tolist() == [copies] * count
        order = rows[::copies]
        assert rows == [document for document in order for _ in range(copies)]


def test_selections_on_numbers_worked_out_by_hand():
    pool = Pool.of({"s": np.float32([3, 1, 4, 1, 5, 9, 2, 6]), "g": np.float32([0, 1] * 4)})
    assert Top("s", 0.25)(pool).tolist() == [5, 7]
    assert Top("s", 0.3)(pool).tolist() == [4, 5, 7]
    assert Top("s", 0.25, lowest=True)(pool).tolist() == [1, 3]
    assert Band("s", 0.25, 0.5)(pool).tolist() == [0, 6]
    assert Between("s", 2, 4)(pool).tolist() == [0, 2, 6]
    assert Between("s", low=6)(pool).tolist() == [5, 7]
    assert PerGroup("g", 1, by="s")(pool).tolist() == [4, 5]
    assert PerGroup("g", 2, by="s", lowest=True)(pool).tolist() == [0, 1, 3, 6]


@given(SCORES, st.integers(1, 5), st.integers(0, 9))
def test_a_cap_per_group_keeps_the_best_of_each(score: np.ndarray, most: int, seed: int):
    group = np.random.default_rng(seed).integers(0, 4, len(score)).astype(np.float32)
    pool = Pool.of({"s": np.float32(score), "g": group})
    wanted: list[int] = []
    for number in range(4):
        members = [i for i in range(len(score)) if group[i] == number]
        wanted += sorted(members, key=lambda i: (-np.float32(score[i]), i))[:most]
    assert PerGroup("g", most, by="s")(pool).tolist() == sorted(wanted)


def test_a_pool_that_is_part_of_the_documents_sees_its_own_scores():
    pool = Pool(2, {"s": np.float32([5, 1, 3])}, np.array([0, 2], np.uint32))
    assert pool.score("s").tolist() == [5, 3]
    assert Sorted("s")(pool, Turn()).tolist() == [1, 0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Folded("s", 0),
        lambda: Stages("s", 0),
        lambda: Views(0),
        lambda: SoftSorted("s", -1),
        lambda: WeightedSubset(fractions=()),
        lambda: WeightedSubset(fractions=(0.0,)),
        lambda: cycle(0.0),
        lambda: cycle(0.5, factor=1.0),
        lambda: Top("s", 0.0),
        lambda: Top("s", 1.1),
        lambda: Band("s", 0.5, 0.5),
        lambda: Between("s", 2, 1),
        lambda: PerGroup("g", 0, by="s"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(make):
    with pytest.raises(DialError):
        make()


def test_a_score_that_is_not_there_is_named():
    with pytest.raises(RecipeError, match="did you mean 'loss'"):
        Sorted("los")(Pool.of({"loss": np.zeros(2)}), Turn())
    with pytest.raises(RecipeError, match="no scores were given"):
        Folded("lqs")(Pool(3, {}), Turn())
    with pytest.raises(RecipeError, match="one number for each document"):
        Pool.of({"a": np.zeros(2), "b": np.zeros(3)})


def test_weights_must_be_positive():
    with pytest.raises(RecipeError, match="scores above 0"):
        place(WeightedSubset("s"), np.array([0.0, 1.0]))


GOLDEN = {
    "Shuffled": [5, 6, 9, 11],
    "Stages": [11, 10, 9, 8],
    "SoftSorted": [11, 10, 7, 9],
    "WeightedSubset": [8, 3, 5, 10],
    "Views": [3, 3, 3, 8],
}


def test_orders_are_what_they_were():
    score = np.arange(12.0)[::-1] + 1
    orders = [Shuffled(), Stages("s"), SoftSorted("s"), WeightedSubset("s"), Views(3)]
    found = {type(order).__name__: place(order, score, 1, 5)[:4] for order in orders}
    assert found == GOLDEN
