"""A watch says when the loss leaves its interval, and never acts."""

from dataclasses import replace

import pytest

from thalweg.controllers import Watch
from thalweg.core.protocols import Context
from thalweg.core.time import Time
from thalweg.errors import RecipeError

FLAT = Watch((1, 100), (2.0, 2.0), (1.9, 1.9), (2.1, 2.1), metric="heldout/loss")


def heard(watch: Watch, losses: dict[int, float]) -> list[tuple[int, str]]:
    """Return what a watch says of held-out losses by step, checking that it never acts."""
    notes: list[tuple[int, str]] = []
    state = watch.start(Context(Time()))
    for step in range(1, max(losses) + 1):
        report = {"loss": 9.0}
        if step in losses:
            report["heldout/loss"] = losses[step]
        now = Context(
            Time(step - 1, 100, run_step=step - 1),
            last={"report": report},
            note=lambda kind, text, step=step: notes.append((step, text)),
        )
        actions, state = watch.act(state, now)
        assert actions == ()
    return notes


def test_a_loss_that_leaves_the_interval_is_said_once_with_how_much_and_since_when():
    notes = heard(FLAT, {10: 2.05, 20: 2.15, 30: 2.25, 40: 2.30, 50: 2.3})
    assert [step for step, _ in notes] == [30], "at the second measurement outside"
    assert "2.2500 is 0.150 above the interval, since step 20; +0.2500" in notes[0][1]


def test_one_measurement_outside_is_no_news():
    assert heard(FLAT, {10: 2.05, 20: 2.5, 30: 2.05, 40: 1.7, 50: 2.0}) == []


def test_a_return_is_said_and_the_other_side_is_a_new_excursion():
    notes = heard(FLAT, {10: 2.2, 20: 2.2, 30: 2.0, 40: 1.7, 50: 1.8})
    assert [step for step, _ in notes] == [20, 30, 50]
    assert "back inside" in notes[1][1]
    assert "0.100 below the interval, since step 40" in notes[2][1]


def test_a_law_that_says_nothing_yet_is_not_left():
    late = Watch((50, 100), (2.0, 2.0), (1.9, 1.9), (2.1, 2.1), metric="heldout/loss", patience=1)
    assert heard(late, {10: 9.0, 20: 9.0, 60: 2.0}) == []


def test_a_watch_is_silent_behind_the_step_at_which_a_branch_left():
    off = {10: 9.0, 20: 9.0, 30: 2.0, 40: 9.0, 50: 9.0}
    assert [step for step, _ in heard(FLAT, off)] == [20, 30, 50]
    assert [step for step, _ in heard(replace(FLAT, until=35), off)] == [20, 30]


def test_single_batches_are_smoothed():
    calm = Watch((1, 100), (9.0, 9.0), (8.8, 8.8), (9.2, 9.2), smoothing=0.95, patience=1)
    assert heard(calm, {60: 0.0}) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": (10, 10), "loss": (1.0, 1.0), "low": (1.0, 1.0), "high": (1.0, 1.0)},
        {"steps": (10,), "loss": (1.0, 1.0), "low": (1.0,), "high": (1.0,)},
        {"steps": (10,), "loss": (1.0,), "low": (1.0,), "high": (1.0,), "smoothing": 1.0},
    ],
)
def test_columns_that_do_not_fit_are_refused(bad):
    with pytest.raises(RecipeError, match="expected"):
        Watch(**bad)
