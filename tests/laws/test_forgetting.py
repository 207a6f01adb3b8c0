"""Hand-made curves, and windows against a slow transcription of the definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import RecipeError
from thalweg.laws.forgetting import (
    gap,
    learning_area,
    minimum_score,
    windowed_forgetting,
    windowed_plasticity,
    worst_case_score,
)

CURVES = st.lists(st.floats(0, 1, allow_nan=False), max_size=30)


def slow_forgetting(scores: list[float], window: int) -> float:
    """Every window, every pair in it."""
    largest = 0.0
    for start in range(len(scores)):
        inside = scores[start : start + window]
        pairs = [(a, b) for a in range(len(inside)) for b in range(a + 1, len(inside))]
        largest = max([largest, *(inside[a] - inside[b] for a, b in pairs)])
    return largest


@given(CURVES, st.integers(2, 12))
def test_windows_are_those_of_the_definition(scores, window):
    assert windowed_forgetting(scores, window) == slow_forgetting(scores, window)
    rises = slow_forgetting([-score for score in scores], window)
    assert windowed_plasticity(scores, window) == rises


def test_a_slow_fall_shows_only_in_a_long_window():
    scores = [1.0, 0.875, 0.75, 0.625, 0.5, 0.9]
    assert windowed_forgetting(scores, 2) == 0.125
    assert windowed_forgetting(scores, 5) == 0.5
    assert windowed_plasticity(scores, 2) == pytest.approx(0.4)


def test_what_only_rises_forgets_nothing():
    assert windowed_forgetting([0.1, 0.2, 0.3], 10) == 0.0
    assert windowed_forgetting([], 10) == 0.0


def test_a_window_of_one_is_refused():
    with pytest.raises(RecipeError, match="2 measurements"):
        windowed_forgetting([1.0], 1)


def test_the_minimum_leaves_out_the_task_being_learned_and_all_before_a_task_ended():
    first = [0.0, 0.9, 0.3, 0.7, 0.6]  # ends at 1: its 0 does not count
    second = [0.0, 0.0, 0.1, 0.8, 0.5]  # ends at 3
    third = [0.0, 0.0, 0.0, 0.0, 0.4]
    assert minimum_score([first, second, third], [1, 3]) == pytest.approx((0.3 + 0.5) / 2)
    found = worst_case_score([first, second, third], [1, 3])
    assert found == pytest.approx(0.4 / 3 + 2 / 3 * 0.4)


def test_with_one_task_the_worst_case_is_the_score_itself():
    assert worst_case_score([[0.2, 0.7]], []) == 0.7
    assert np.isnan(minimum_score([[0.2, 0.7]], []))


@pytest.mark.parametrize("ends", [[0, 1], [1], [-1]])
def test_ends_that_leave_nothing_to_measure_are_refused(ends):
    with pytest.raises(RecipeError, match="one end for each task but the last"):
        minimum_score([[0.1, 0.2], [0.3, 0.4]], ends)


def test_a_gap_that_closes():
    found = gap([1, 2, 3, 8, 16], [2.25, 3.0, 2.5, 2.0, 1.5], 2.0)
    assert (found.depth, found.worst_step, found.recovered) == (1.0, 2, 8)
    assert (found.forgotten, found.hidden) == (-0.5, 1.5)


def test_a_gap_that_stays_open_and_none_at_all():
    assert gap([1, 2], [2.5, 2.25], 2.0).recovered is None
    falling = gap([1, 2], [1.75, 1.5], 2.0)
    assert (falling.depth, falling.worst_step, falling.recovered) == (0.0, 0, 0)


def test_the_area_is_over_the_first_scores():
    assert learning_area([0.0, 1.0, 9.0], 2) == 0.5
