"""Wsdc, Infinite and Power: by hand, against the slow transcriptions, and what does not fit."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.time import Time, share, steps, tokens
from thalweg.errors import DialError
from thalweg.schedules import (
    Cosine,
    Infinite,
    InverseSqrtDecay,
    Linear,
    Power,
    Staircase,
    Wsdc,
)

slow = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "reference" / "schedules.py"))
)

TRUNK = Infinite(8.0, 4.0, 1.0, cooldown=steps(4), anneal=steps(2), warmup=steps(2))


def test_wsdc_by_hand() -> None:
    s = Wsdc(8.0, 2.0, steps(2), steps(3), steps(2), shape=Linear(1.0, 0.0))
    assert s(Time(np.arange(9))).tolist() == [4, 8, 8, 8, 8, 6, 4, 2, 2]


@given(
    s=st.integers(0, 400),
    warmup=st.integers(0, 60),
    stable=st.integers(0, 100),
    decay=st.integers(1, 100),
)
def test_wsdc_is_the_slow_transcription(s, warmup, stable, decay) -> None:
    found = Wsdc(0.7, 0.1, steps(stable), steps(decay), steps(warmup))(Time(s))
    expected = slow.wsdc(s, warmup, stable, decay, 0.7, 0.1)
    assert found == pytest.approx(expected, rel=1e-12)


def test_wsdc_must_fit_into_the_phase() -> None:
    s = Wsdc(1.0, 0.1, stable=steps(60), decay=steps(60))
    with pytest.raises(DialError, match="warmup, stable and decay of 120 steps in a phase of 100"):
        s(Time(0, steps=100))


def test_infinite_by_hand() -> None:
    trunk = replace(TRUNK, shape=Linear(1.0, 0.0))
    assert trunk(Time(np.arange(9))).tolist() == [4, 8, 8, 7, 6, 5, 4, 4, 4]
    annealed = replace(trunk, at=steps(7))
    assert annealed(Time(np.arange(6, 12))).tolist() == pytest.approx([4, 4, 2, 1, 1, 1])


@given(
    n=st.integers(0, 500),
    warmup=st.integers(0, 50),
    cooldown=st.integers(1, 100),
    more=st.integers(0, 200),
    anneal=st.integers(1, 100),
)
def test_infinite_is_the_slow_transcription(n, warmup, cooldown, more, anneal) -> None:
    end = warmup + cooldown
    schedule = Infinite(
        3e-4, 1.65e-4, 3e-5, steps(cooldown), steps(anneal), steps(warmup), at=steps(end + more)
    )
    expected = slow.infinite(n, warmup, end, end + more, end + more + anneal, (3e-4, 1.65e-4, 3e-5))
    assert schedule(Time(n)) == pytest.approx(expected, rel=1e-12)


def test_triggering_the_annealing_changes_nothing_before_it() -> None:
    t = Time(np.arange(50))
    assert np.array_equal(TRUNK(t), replace(TRUNK, at=steps(50))(t))


def test_annealing_starts_from_where_the_rate_is() -> None:
    s = replace(TRUNK, at=steps(4), shape=Linear(1.0, 0.0))
    assert s(Time(np.arange(3, 8))).tolist() == pytest.approx([7, 6, 6**0.5, 1, 1])


def test_annealing_from_below_its_end_is_refused() -> None:
    s = Infinite(8.0, 4.0, 3.0, steps(4), steps(2), steps(8), at=steps(1))
    with pytest.raises(DialError, match="annealing from 2 to floor = 3"):
        s(Time(5))


def test_annealing_must_end_with_the_phase() -> None:
    with pytest.raises(DialError, match="annealing up to the end of 12 steps in a phase of 11"):
        replace(TRUNK, at=steps(10))(Time(0, steps=11))


def test_infinite_takes_the_other_cooldown() -> None:
    shape = InverseSqrtDecay(1.0, 0.0, alpha=3.0)
    s = Infinite(2.0, 1.0, 0.1, cooldown=steps(12), anneal=steps(1), shape=shape)
    assert s(Time(5)) == pytest.approx(4 / 3)


@pytest.mark.parametrize(
    "rates", [(1.0, 2.0, 0.1), (1.0, 0.5, 0.6), (1.0, 0.5, 0.0), (float("nan"), 0.5, 0.1)]
)
def test_the_rates_of_infinite_go_down(rates) -> None:
    with pytest.raises(DialError):
        Infinite(*rates, cooldown=steps(1), anneal=steps(1))


def clock(step, end: int | None = None, width: int = 100) -> Time:
    return Time(step, end, tokens=width * step, batch_tokens=width)


def test_power_by_hand() -> None:
    s = Power(1.0, rows=2, a=10.0, b=-0.5)
    assert [s(clock(step)) for step in (0, 1, 4, 16)] == [1.0, 1.0, 1.0, 0.5]
    assert s(Time(5, tokens=10**6, batch_tokens=1)) == 0.02


@given(
    s=st.integers(0, 400),
    warmup=st.integers(0, 60),
    decay=st.integers(1, 140),
    rows=st.integers(1, 4096),
)
def test_power_is_the_slow_transcription(s, warmup, decay, rows) -> None:
    schedule = Power(0.02, rows, warmup=steps(warmup), decay=steps(decay))
    width = 512 * rows
    expected = slow.power_run(s, 300, width, rows, 0.02, (warmup, decay))
    assert schedule(clock(s, 300, width)) == pytest.approx(expected, rel=1e-12)


def test_power_follows_the_tokens_that_were_seen_and_not_the_plan() -> None:
    behind = Time(100, tokens=40_000, batch_tokens=1000)
    assert Power(1.0, rows=1)(behind) == pytest.approx(slow.power(40_000, 1, 1.0), rel=1e-12)


def test_power_takes_a_batch_that_grows_and_tokens_from_before() -> None:
    rows = Staircase((1.0, 4.0), at=(steps(10),))
    s = Power(9.0, rows=rows)
    assert s(clock(10)) / Power(9.0, rows=1)(clock(10)) == pytest.approx(4.0)
    assert Power(9.0, 1, before=500.0)(clock(5)) == Power(9.0, 1)(clock(10))


def test_power_is_the_same_for_any_length() -> None:
    t = np.arange(100)
    short, long = (Power(0.02, rows=8)(clock(t, end)) for end in (100, None))
    assert np.array_equal(short, long)


def test_power_needs_tokens() -> None:
    with pytest.raises(DialError, match="tokens of a step"):
        Power(0.02, rows=8)(Time(5))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Power(0.0, rows=8),
        lambda: Power(0.02, rows=0),
        lambda: Power(0.02, rows=8, b=0.5),
        lambda: Power(0.02, rows=8, before=-1.0),
        lambda: Power(0.02, rows=8, warmup=100),
        lambda: Power(0.02, rows=8, decay=steps(5))(clock(0)),
        lambda: Power(0.02, rows=8, warmup=steps(8), decay=steps(5))(clock(0, 10)),
        lambda: Power(0.02, rows=8, shape=Linear(0.5, 0.0)),
        lambda: Wsdc(0.1, 0.2, steps(1), steps(1)),
        lambda: Wsdc(0.2, 0.1, 1, steps(1)),
        lambda: Wsdc(0.2, 0.1, share(0.5), steps(1))(Time(0)),
        lambda: replace(TRUNK, at=5),
        lambda: replace(TRUNK, shape=Cosine(0.5)),
        lambda: replace(TRUNK, cooldown=tokens(5))(Time(0)),
    ],
)
def test_bad_endless_schedules_are_refused(make) -> None:
    with pytest.raises(DialError):
        make()
