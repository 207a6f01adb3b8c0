"""One battery over every entry of the atlas, at its smallest: it runs, repeats, and is judged."""

import math
import time
from dataclasses import replace
from pathlib import Path

import pytest

from thalweg.atlas import Outcome, entries, measure, open_claim, reproduce
from thalweg.core.claim import Size
from thalweg.core.recipe import Recipe, check

ENTRIES = entries()
EVERY = pytest.mark.parametrize("name", list(ENTRIES))
SIZES = (Size("tiny"), Size("small"))
LIMIT_SECONDS = 12.0
"""Of one core. An entry should take 3 at its tiny size; the rest is for slow machines."""

_ran: dict[str, tuple[Outcome, float]] = {}


def ran(name: str) -> Outcome:
    if name not in _ran:
        begin = time.process_time()
        _ran[name] = reproduce(name, Size("tiny")), time.process_time() - begin
    return _ran[name][0]


def test_the_folder_is_the_list():
    assert "rex" in ENTRIES
    assert not {"kit", "harness", "race"} & set(ENTRIES)


@EVERY
def test_an_entry_says_what_it_tests_and_how_it_differs(name):
    claim = open_claim(ENTRIES[name])
    assert (claim.paper, claim.statement) == (ENTRIES[name].paper, ENTRIES[name].statement)
    assert claim.paper
    assert claim.statement
    assert "\n" not in claim.statement
    assert "|" not in claim.statement
    assert claim.deviations
    assert claim.seeds >= 1


@EVERY
def test_an_entry_is_a_small_file(name):
    lines = Path(ENTRIES[name].file).read_text().splitlines()
    assert len(lines) <= 160
    assert max(map(len, lines)) <= 100


@EVERY
def test_an_entry_has_the_same_arms_at_every_size(name):
    tiny, small = (open_claim(ENTRIES[name]).arms(size) for size in SIZES)
    assert list(tiny) == list(small)
    for arm in (*tiny.values(), *small.values()):
        if isinstance(arm, Recipe):
            check(arm)


@EVERY
def test_an_entry_runs_in_seconds_and_is_judged(name):
    found = ran(name)
    assert _ran[name][1] < LIMIT_SECONDS
    assert all(
        math.isfinite(value) or math.isinf(value)
        for rows in found.results.arms.values()
        for metrics in rows
        for value in metrics.values()
    )
    for part in (found.verdict, *found.verdict.parts):
        assert part.verdict in ("reproduced", "not reproduced", "inconclusive")
        assert part.what
        assert "|" not in part.what


@EVERY
def test_an_arm_gives_the_same_numbers_again(name):
    found = ran(name)
    arm, what = next(iter(open_claim(ENTRIES[name]).arms(Size("tiny")).items()))
    again = dict(measure(what, 0))
    before = dict(found.results.arms[arm][0])
    assert again.keys() == before.keys()
    for metric, value in again.items():
        assert value == pytest.approx(before[metric], rel=1e-5, abs=1e-7, nan_ok=True), metric


@EVERY
def test_a_judge_says_the_same_whatever_the_order_of_the_seeds(name):
    found = ran(name)
    turned = {arm: rows[::-1] for arm, rows in found.results.arms.items()}
    verdict = open_claim(ENTRIES[name]).judge(replace(found.results, arms=turned))
    assert verdict.verdict == found.verdict.verdict
    assert verdict.effect == pytest.approx(found.verdict.effect, rel=1e-6, nan_ok=True)
