"""Shapes: numbers worked out by hand, bad input, and agreement with the slow transcriptions."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.time import Span, Time, share, steps, tokens
from thalweg.errors import DialError
from thalweg.schedules import (
    Blend,
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    OneMinusSqrt,
    Polynomial,
    Staircase,
    Warmup,
)

slow = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "reference" / "schedules.py"))
)
values = st.floats(-10, 10)
rates = st.floats(1e-6, 10)
lengths = st.integers(1, 300)


def test_linear_by_hand() -> None:
    assert [Linear(8.0, 0.0)(Time(s, steps=4)) for s in range(6)] == [8, 6, 4, 2, 0, 0]


def test_cosine_by_hand() -> None:
    found = [Cosine(2.0, 1.0)(Time(s, steps=3)) for s in range(4)]
    assert found == pytest.approx([2.0, 1.75, 1.25, 1.0], abs=1e-15)


def test_polynomial_by_hand() -> None:
    assert [Polynomial(4.0, 0.0, power=2.0)(Time(s, steps=2)) for s in range(3)] == [4, 1, 0]


def test_exponential_by_hand_with_exact_ends() -> None:
    found = [Exponential(0.3, 0.003)(Time(s, steps=2)) for s in range(4)]
    assert found[0] == 0.3
    assert found[1] == pytest.approx(0.03, rel=1e-14)
    assert found[2:] == [0.003, 0.003]


def test_one_minus_sqrt_by_hand() -> None:
    assert [OneMinusSqrt(1.0)(Time(s, steps=4)) for s in (0, 1, 4)] == [1, 0.5, 0]


def test_staircase_changes_on_the_boundary_step() -> None:
    stairs = Staircase((3.0, 2.0, 1.0), at=(steps(2), steps(3)))
    assert stairs(Time(np.arange(5))).tolist() == [3, 3, 2, 1, 1]


def test_staircase_without_moments_is_constant() -> None:
    assert Staircase((3.0,), at=())(Time(9)) == 3.0


def test_blend_moves_every_key_and_holds_the_end() -> None:
    ramp = Blend({"a": 1.0, "b": 0.0}, {"b": 1.0, "a": 0.0}, over=steps(4))
    assert ramp(Time(1)) == {"a": 0.75, "b": 0.25}
    assert ramp(Time(np.array([0, 4, 9])))["b"].tolist() == [0, 1, 1]


def test_a_length_of_nothing_is_over_at_once() -> None:
    assert Linear(1.0, 0.5, over=steps(0))(Time(0)) == 0.5


def test_the_last_step_of_a_whole_phase_still_moves() -> None:
    assert Linear(1.0, 0.0)(Time(99, steps=100)) == pytest.approx(0.01)


def test_tokens_are_turned_into_steps() -> None:
    s = Linear(1.0, 0.0, over=tokens(1000))
    assert s(Time(5, batch_tokens=100)) == 0.5


def test_an_endless_phase_has_no_share() -> None:
    with pytest.raises(DialError, match="endless"):
        Linear(1.0, 0.0)(Time(0))
    assert Linear(1.0, 0.0, over=steps(10))(Time(5)) == 0.5


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constant(float("nan")),
        lambda: Linear(0.0, float("inf")),
        lambda: Polynomial(1.0, 0.0, power=0.0),
        lambda: Exponential(1.0, 0.0),
        lambda: Exponential(-1.0, 1.0),
        lambda: InverseSqrt(1.0, scale=steps(0)),
        lambda: Staircase((1.0, 2.0), at=()),
        lambda: Staircase((1.0, float("nan")), at=(steps(1),)),
        lambda: Blend({"a": 1.0}, {"b": 1.0}),
        lambda: Blend({}, {}),
        lambda: Blend(0.9, 0.1),
        lambda: Blend({"a": 1.0}, ["a"]),
        lambda: Blend({"a": float("nan")}, {"a": 1.0}),
        lambda: Linear(1.0, 0.0, over=steps(-1)),
    ],
)
def test_bad_numbers_are_refused_when_it_is_built(make) -> None:
    with pytest.raises(DialError) as caught:
        make()
    assert "expected:" in str(caught.value)


def test_moments_out_of_order_are_refused_on_the_clock_that_shows_it() -> None:
    stairs = Staircase((1.0, 2.0, 3.0), at=(share(0.5), steps(40)))
    assert stairs(Time(0, steps=60)) == 1.0
    with pytest.raises(DialError, match="in order"):
        stairs(Time(0, steps=100))


def test_a_scale_below_half_a_step_is_refused() -> None:
    with pytest.raises(DialError, match="scale"):
        InverseSqrt(1.0, scale=tokens(10))(Time(0, batch_tokens=100))


@given(s=st.integers(0, 400), n=lengths, start=values, end=values, power=st.floats(0.1, 4))
def test_shapes_are_the_slow_transcriptions(
    s: int, n: int, start: float, end: float, power: float
) -> None:
    time, over = Time(s, steps=7), steps(n)

    def close(found: float, expected: float) -> bool:
        return found == pytest.approx(expected, rel=1e-12, abs=1e-12)

    assert close(Linear(start, end, over)(time), slow.linear(s, n, start, end))
    assert close(Cosine(start, end, over)(time), slow.cosine(s, n, start, end))
    assert close(OneMinusSqrt(start, end, over)(time), slow.one_minus_sqrt(s, n, start, end))
    assert close(
        Polynomial(start, end, power, over)(time), slow.polynomial(s, n, start, end, power)
    )


@given(s=st.integers(0, 400), n=lengths, start=rates, end=rates)
def test_exponential_is_the_slow_transcription(s: int, n: int, start: float, end: float) -> None:
    found = Exponential(start, end, steps(n))(Time(s))
    assert found == pytest.approx(slow.exponential(s, n, start, end), rel=1e-12)


@given(s=st.integers(0, 4000), warmup=lengths, peak=rates)
def test_warmup_and_inverse_sqrt_are_the_transformers_schedule(
    s: int, warmup: int, peak: float
) -> None:
    found = Warmup(InverseSqrt(peak, scale=steps(warmup)), over=steps(warmup))(Time(s))
    assert found == pytest.approx(slow.transformer(s, warmup, peak), rel=1e-12)


@given(s=st.integers(0, 99), moments=st.lists(st.integers(0, 90), max_size=5))
def test_staircase_is_the_slow_transcription(s: int, moments: list[int]) -> None:
    moments = sorted(moments)
    stairs = tuple(float(i) for i in range(len(moments) + 1))
    found = Staircase(stairs, tuple(steps(m) for m in moments))(Time(s))
    assert found == slow.staircase(s, list(stairs), moments)


@given(
    start=values,
    end=values,
    over=st.one_of(
        st.integers(0, 300).map(steps), st.floats(0, 1).map(share), st.floats(0, 3e4).map(tokens)
    ),
)
def test_monotone_shapes_stay_between_their_ends(start: float, end: float, over: Span) -> None:
    time = Time(np.arange(-3, 250), steps=200, batch_tokens=100)
    low, high = min(start, end), max(start, end)
    for kind in (Linear, Cosine, Polynomial, OneMinusSqrt):
        found = kind(start, end, over=over)(time)
        moves = np.diff(found) * np.sign(end - start)
        assert found.min() >= low - 1e-12
        assert found.max() <= high + 1e-12
        assert moves.min() >= -1e-12
