"""Judges, against numbers worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from thalweg.atlas.verdict import at_least, at_most, every, fact, higher, interval, lower, within
from thalweg.core.claim import Results
from thalweg.errors import RecipeError


def test_an_interval_is_students():
    values = [1.0, 2.0, 4.0, 4.5]
    found = interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert found == pytest.approx((np.mean(values), low, high))


def test_lower_pairs_the_seeds():
    apart = lower([1.0, 2.0, 3.0], [1.1, 2.11, 3.09], "x")  # unpaired, the spread would hide it
    assert apart.verdict == "reproduced"
    assert apart.effect == pytest.approx(-0.1)
    assert higher([1.0, 2.0, 3.0], [1.1, 2.11, 3.09], "x").verdict == "not reproduced"


def test_a_margin_asks_for_more_or_allows_more():
    a, b = [1.0, 1.0, 1.01], [1.1, 1.1, 1.1]
    assert lower(a, b, "x", by=0.05).verdict == "reproduced"
    assert lower(a, b, "x", by=0.2).verdict == "not reproduced"
    assert lower(b, a, "x", by=-0.2).verdict == "reproduced"
    assert higher(b, a, "x", by=0.05).verdict == "reproduced"


def test_an_interval_across_the_limit_is_inconclusive():
    assert at_most([0.0, 1.0], 0.6, "x").verdict == "inconclusive"
    assert at_least([0.0, 1.0], 0.4, "x").verdict == "inconclusive"


def test_within_wants_the_whole_interval_inside():
    assert within([0.9, 1.0, 1.1], 0.5, 1.5, "x").verdict == "reproduced"
    assert within([0.9, 1.0, 1.1], 1.05, 1.5, "x").verdict == "inconclusive"
    assert within([0.9, 1.0, 1.1], 2.0, 3.0, "x").verdict == "not reproduced"


@pytest.mark.parametrize("values", [[0.1], [0.1, math.inf], [0.1, math.nan]])
def test_one_seed_or_a_run_that_diverged_is_inconclusive(values):
    found = at_most(values, 1.0, "x")
    assert found.verdict == "inconclusive"
    assert math.isnan(found.low)


def test_equal_numbers_need_no_interval():
    assert at_most([1.0, 1.0], 1.0, "x").verdict == "reproduced"


def test_every_part_must_hold_and_the_worst_gives_the_numbers():
    good, bad, open_ = (
        fact(True, "good", 1.0),
        fact(False, "bad", 2.0),
        at_most([0.0, 1.0], 0.6, "o"),
    )
    assert every(good, good).verdict == "reproduced"
    assert every(good, open_).verdict == "inconclusive"
    assert every(open_, bad, good)[:3] == ("not reproduced", "bad", 2.0)
    assert every(good, bad).parts == (good, bad)


def test_an_unknown_arm_or_metric_is_said_with_a_suggestion():
    results = Results({"linear": ({"loss": 1.0},)})
    with pytest.raises(RecipeError, match="did you mean 'linear'"):
        results.of("liner", "loss")
    with pytest.raises(RecipeError, match="did you mean 'loss'"):
        results.of("linear", "los")
