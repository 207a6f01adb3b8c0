"""Families: warmup convention, WSD against the slow transcription, and what does not fit."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.time import Time, share, steps, tokens
from thalweg.errors import DialError
from thalweg.schedules import By, Constant, Cosine, Exponential, Linear, Then, Warmup, Wsd

slow = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "reference" / "schedules.py"))
)


def where(time: Time) -> float:
    return float(time.run_step)


def test_no_warmup_step_has_a_rate_of_nothing_and_the_last_one_is_full() -> None:
    found = Warmup(Constant(8.0), over=steps(4))(Time(np.arange(6)))
    assert found.tolist() == [2, 4, 6, 8, 8, 8]


def test_a_number_may_follow_a_warmup() -> None:
    assert Warmup(8.0, over=steps(4))(Time(0)) == 2.0


def test_warmup_of_nothing_is_the_schedule_itself() -> None:
    t = Time(np.arange(10), steps=10)
    assert np.array_equal(Warmup(Cosine(1.0), over=steps(0))(t), Cosine(1.0)(t))


def test_a_warmup_that_is_the_whole_phase_rises_to_the_start_all_the_same() -> None:
    s = Warmup(Cosine(1.0), over=share(1.0))
    assert [s(Time(step, steps=4)) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert Warmup(Linear(1.0, 0.0), over=steps(1))(Time(0, steps=1)) == 1.0


def test_the_schedule_behind_a_warmup_has_its_own_clock() -> None:
    s = Warmup(Linear(1.0, 0.0), over=steps(4))
    assert [s(Time(step, steps=12)) for step in (3, 4, 8, 12)] == [1, 1, 0.5, 0]


def test_a_warmup_rises_to_the_value_at_the_schedules_own_start() -> None:
    s = Warmup(By(where), over=steps(2))
    assert s(Time(np.arange(3), run_step=100 + np.arange(3))).tolist() == [51.0, 102.0, 102.0]
    assert s(Time(0, run_step=100)) == 51.0


def test_wsd_by_hand() -> None:
    s = Wsd(8.0, warmup=steps(2), decay=steps(4))
    found = s(Time(np.arange(12), steps=10))
    assert found[:7].tolist() == [4, 8, 8, 8, 8, 8, 8]
    assert found[7] == 4.0  # 8 (1 - sqrt(1 / 4))
    assert found[10:].tolist() == [0, 0]


def test_wsd_without_decay_needs_no_end() -> None:
    assert Wsd(1.0, warmup=steps(2))(Time(np.arange(4))).tolist() == [0.5, 1, 1, 1]


def test_wsd_without_end_cannot_decay() -> None:
    for decay in (steps(10), share(0.1)):
        with pytest.raises(DialError, match="endless"):
            Wsd(1.0, warmup=steps(2), decay=decay)(Time(0))


def test_a_decay_may_have_any_shape_from_one() -> None:
    s = Wsd(2.0, decay=steps(4), shape=Cosine(1.0), floor=1.0)
    assert s(Time(np.arange(8, 14), steps=12)) == pytest.approx(
        1.0 + 0.5 * (1.0 + np.cos(np.pi * np.array([0, 1, 2, 3, 4, 4]) / 4))
    )
    assert Wsd(2.0, decay=steps(4), shape=Exponential(1.0, 0.01))(Time(9, steps=9)) == 0.02


def test_a_shape_in_the_wrong_unit_is_refused() -> None:
    with pytest.raises(DialError, match="goes from 1 to 0"):
        Wsd(3e-4, decay=share(0.1), shape=Linear(3e-4, 0.0))


def test_a_floor_above_the_peak_is_refused() -> None:
    with pytest.raises(DialError, match="floor"):
        Wsd(3e-4, floor=0.1)


@pytest.mark.parametrize("bad", [-1e-3, float("nan"), "3e-4"])
def test_a_bad_peak_is_refused(bad) -> None:
    with pytest.raises(DialError, match="peak"):
        Wsd(bad)


def test_warmup_and_decay_must_fit_into_the_phase() -> None:
    with pytest.raises(DialError, match="warmup and decay of 12 steps in a phase of 10"):
        Wsd(1.0, warmup=steps(8), decay=steps(4))(Time(0, steps=10))
    with pytest.raises(DialError, match="warmup of 20 steps in a phase of 10"):
        Warmup(1.0, over=steps(20))(Time(0, steps=10))


@pytest.mark.parametrize(
    ("warmup", "decay"), [(share(0.5), share(0.5)), (tokens(350), tokens(350))]
)
def test_rounding_alone_is_no_reason_to_refuse(warmup, decay) -> None:
    s = Wsd(1.0, warmup=warmup, decay=decay, shape=Linear(1.0, 0.0))
    found = s(Time(np.arange(7), steps=7, batch_tokens=100))
    assert found == pytest.approx([0.25, 0.5, 0.75, 1, 1, 2 / 3, 1 / 3])


@given(
    s=st.integers(0, 250),
    warmup=st.integers(1, 60),
    decay=st.integers(1, 140),
    peak=st.floats(1e-5, 1),
    floor=st.floats(0, 1),
)
def test_wsd_is_the_slow_transcription(
    s: int, warmup: int, decay: int, peak: float, floor: float
) -> None:
    floor *= peak
    found = Wsd(peak, steps(warmup), steps(decay), floor=floor)(Time(s, steps=200))
    expected = slow.wsd(s, 200, warmup, decay, peak, floor)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(s=st.integers(0, 250), warmup=st.integers(1, 60), decay=st.integers(1, 140))
def test_wsd_with_a_line_is_the_trapezoid(s: int, warmup: int, decay: int) -> None:
    found = Wsd(0.7, steps(warmup), steps(decay), shape=Linear(1.0, 0.0))(Time(s, steps=200))
    expected = slow.wsd_linear(s, 200, warmup, decay, 0.7)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(warmup=st.integers(0, 50), decay=st.integers(0, 50))
def test_wsd_is_what_the_algebra_says(warmup: int, decay: int) -> None:
    t = Time(np.arange(110), steps=100)
    whole = Wsd(1.0, steps(warmup), steps(decay), shape=Cosine(1.0))
    stable = 100 - warmup - decay
    parts = Warmup(Then(Constant(1.0), Cosine(1.0), after=steps(stable)), over=steps(warmup))
    # Only inside the phase: behind it a decay of no steps has ended in the parts, not in Wsd.
    assert whole(t)[:100] == pytest.approx(parts(t)[:100], rel=1e-12)
