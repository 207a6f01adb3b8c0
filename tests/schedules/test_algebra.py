"""Algebra: clocks of the pieces, laws of the operations, and refusals."""

import runpy
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.time import Time, share, steps, tokens
from thalweg.errors import DialError
from thalweg.schedules import (
    Blend,
    By,
    Constant,
    Cosine,
    Least,
    Linear,
    OneMinusSqrt,
    Repeat,
    Rex,
    Sampled,
    Then,
    Times,
    Warmup,
)

slow = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "reference" / "schedules.py"))
)
numbers = st.floats(-5, 5)
shapes = st.one_of(
    st.builds(Constant, numbers),
    st.builds(Linear, numbers, numbers),
    st.builds(Cosine, numbers, numbers, st.integers(1, 80).map(steps)),
    st.builds(OneMinusSqrt, numbers, numbers, st.floats(0, 1).map(share)),
    st.builds(Rex, numbers, numbers, st.floats(0, 0.9)),
)
schedules = st.recursive(
    shapes,
    lambda part: st.one_of(
        st.builds(Then, part, part, st.integers(0, 120).map(steps)),
        st.builds(Times, part, part | numbers),
        st.builds(Least, part, part | numbers),
        st.builds(Repeat, part, st.integers(1, 50).map(steps)),
        st.builds(Sampled, part, st.integers(1, 50).map(steps)),
        st.builds(Warmup, part, st.integers(0, 10).map(steps)),
    ),
    max_leaves=4,
)


def whole(end: int = 100) -> Time:
    s = np.arange(end + 5)
    return Time(s, end, tokens=7 * s, run_step=s + 3, batch_tokens=7)


def clock(time: Time) -> float:
    """Return a number that names the step and the length of the phase that the part sees."""
    return 1000.0 * (time.steps or 0) + time.step


def consumed(time: Time) -> float:
    return float(time.tokens)


def run_step(time: Time) -> float:
    return float(time.run_step)


def growing(time: Time) -> dict[str, float]:
    return {"a": 1.0, "b": float(time.step)}


def jumping(first: object, second: object, time: Time) -> object:
    return first if time.step < 2 else second


def broken(time: Time) -> float:
    return float("nan") if time.step == 3 else 0.0


@given(schedule=schedules)
def test_any_tree_of_schedules_plans_what_it_runs(schedule) -> None:
    moments = [
        Time(s, 100, tokens=7 * s, run_step=s + 3, batch_tokens=7) for s in range(0, 105, 13)
    ]
    try:
        planned = schedule(whole())
    except DialError:  # a warmup inside a piece that is shorter than it
        return
    assert [schedule(moment) for moment in moments] == planned[::13].tolist()


@given(a=shapes, b=shapes, c=shapes)
def test_times_and_least_do_not_care_about_order_or_brackets(a, b, c) -> None:
    t = whole()
    assert np.array_equal(Times(a, b)(t), Times(b, a)(t))
    assert np.array_equal(Least(a, b)(t), Least(b, a)(t))
    assert np.array_equal(Least(Least(a, b), c)(t), Least(a, Least(b, c))(t))
    assert np.allclose(Times(Times(a, b), c)(t), Times(a, Times(b, c))(t), rtol=1e-12, atol=1e-12)


@given(a=shapes)
def test_one_and_a_large_number_change_nothing(a) -> None:
    t = whole()
    assert np.array_equal(Times(a, 1.0)(t), a(t))
    assert np.array_equal(Least(a, 1e9)(t), a(t))


@given(a=shapes, b=shapes, c=shapes, n=st.integers(0, 60), m=st.integers(0, 60))
def test_then_may_be_bracketed_either_way(a, b, c, n: int, m: int) -> None:
    right = Then(a, Then(b, c, steps(m)), steps(n))
    left = Then(Then(a, b, steps(n)), c, steps(n + m))
    t = whole(n + m + 20)
    assert np.array_equal(right(t), left(t))


@given(a=numbers, b=numbers, c=numbers, n=st.integers(1, 99))
def test_then_is_continuous_if_the_pieces_meet(a: float, b: float, c: float, n: int) -> None:
    found = Then(Linear(a, b), Linear(b, c), after=steps(n))(whole())
    steepest = max(abs(b - a) / n, abs(c - b) / (100 - n))
    assert np.abs(np.diff(found)).max() <= steepest + 1e-12
    assert found[n] == b


@given(a=shapes, n=st.integers(1, 40))
def test_repeat_has_its_period(a, n: int) -> None:
    found = Repeat(a, every=steps(n))(whole())
    assert np.array_equal(found[n:], found[:-n])
    assert found[0] == a(Time(0, n))


def test_then_gives_each_piece_its_own_clock() -> None:
    s = Then(By(clock), By(clock), after=share(0.4))
    assert [s(Time(step, steps=10)) for step in (0, 3, 4, 9)] == [4000, 4003, 6000, 6005]


def test_tokens_start_anew_in_the_second_piece_and_in_each_cycle() -> None:
    then = Then(By(consumed), By(consumed), after=steps(4))
    again = Repeat(By(consumed), every=steps(4))
    at_five = Time(5, steps=10, tokens=50, batch_tokens=10)
    assert then(at_five) == again(at_five) == 10.0


def test_a_second_piece_behind_the_end_has_no_steps_left() -> None:
    assert Then(Constant(1.0), Linear(1.0, 0.0), after=steps(20))(Time(25, steps=10)) == 0.0


def test_then_and_repeat_carry_mappings() -> None:
    rise = Blend({"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 0.0})
    fall = Blend({"b": 0.0, "a": 1.0}, {"b": 1.0, "a": 0.0})
    both = Then(rise, fall, after=steps(2))
    assert both(Time(np.arange(5), steps=4))["a"].tolist() == [0.0, 0.5, 1.0, 0.5, 0.0]
    assert Repeat(rise, every=steps(2))(Time(np.arange(4)))["a"].tolist() == [0, 0.5, 0, 0.5]


def test_pieces_with_other_keys_are_refused() -> None:
    other = Then(Blend({"a": 1.0}, {"a": 0.0}), Blend({"b": 1.0}, {"b": 0.0}), after=steps(2))
    with pytest.raises(DialError, match="same keys"):
        other(Time(np.arange(4), steps=4))
    with pytest.raises(DialError, match="a mapping of"):
        Then(Constant(1.0), Blend({"a": 1.0}, {"a": 0.0}), steps(2))(Time(np.arange(4), steps=4))


def test_a_mapping_has_no_product() -> None:
    with pytest.raises(DialError, match="numbers"):
        Times(Blend({"a": 1.0}, {"a": 0.0}), 2.0)(Time(0, steps=4))


@pytest.mark.parametrize("kind", [Times, Least])
def test_operands_are_schedules_or_finite_numbers(kind) -> None:
    for bad in (float("nan"), "0.1", abs, None):
        with pytest.raises(DialError, match="second"):
            kind(Constant(1.0), bad)


def test_pieces_are_schedules_and_not_numbers() -> None:
    with pytest.raises(DialError, match="a schedule"):
        Then(Constant(1.0), 0.1, after=steps(1))
    with pytest.raises(DialError, match="a schedule"):
        Repeat(0.1, every=steps(1))


def test_a_cycle_of_no_steps_is_refused() -> None:
    with pytest.raises(DialError, match="at least one step"):
        Repeat(Constant(1.0), every=tokens(10))(Time(0, batch_tokens=1000))


def test_a_sample_is_held_until_the_next_one() -> None:
    every = Sampled(Linear(10.0, 0.0), every=steps(4))
    assert every(Time(np.arange(11), steps=10)) == pytest.approx([10] * 4 + [6] * 4 + [2] * 3)
    once = Sampled(Linear(10.0, 0.0), at=(share(0.5), share(0.7)))
    assert once(Time(np.arange(11), steps=10)) == pytest.approx([10] * 5 + [5] * 2 + [3] * 4)


def test_a_sample_at_every_step_is_the_profile_itself() -> None:
    t = whole()
    assert np.array_equal(Sampled(Cosine(1.0), every=steps(1))(t), Cosine(1.0)(t))


def test_a_sample_holds_the_whole_clock() -> None:
    at_seven = Time(7, steps=10, tokens=70, run_step=107, batch_tokens=10)
    assert Sampled(By(consumed), every=steps(5))(at_seven) == 50.0
    assert Sampled(By(run_step), every=steps(5))(at_seven) == 105.0
    assert Sampled(By(growing), every=steps(5))(at_seven) == {"a": 1.0, "b": 5.0}


@given(s=st.integers(0, 120), moments=st.lists(st.integers(1, 99), min_size=1, unique=True))
def test_samples_are_the_slow_transcription(s: int, moments: list[int]) -> None:
    moments = sorted(moments)
    found = Sampled(Linear(1.0, 0.0), at=tuple(map(steps, moments)))(Time(s, steps=100))
    assert found == pytest.approx(slow.sampled_line(s, 100, moments), rel=1e-12, abs=1e-12)


def test_a_rhythm_is_one_of_two_and_makes_sense() -> None:
    for every, at in ((None, ()), (steps(2), (steps(3),))):
        with pytest.raises(DialError, match="one of the two"):
            Sampled(Constant(1.0), every, at)
    with pytest.raises(DialError, match="in order"):
        Sampled(Constant(1.0), at=(share(0.5), steps(1)))(Time(0, steps=10))
    with pytest.raises(DialError, match="at least one step"):
        Sampled(Constant(1.0), every=tokens(10))(Time(0, batch_tokens=1000))
    with pytest.raises(DialError, match="with its unit"):
        Sampled(Constant(1.0), every=100)


def test_by_plans_a_mapping_moment_by_moment() -> None:
    found = By(growing)(Time(np.arange(3)))
    assert {key: value.tolist() for key, value in found.items()} == {"a": [1, 1, 1], "b": [0, 1, 2]}


def test_by_names_the_step_at_which_its_function_fails() -> None:
    with pytest.raises(DialError, match=r"broken gave nan(.|\n)*at step 3"):
        By(broken)(Time(np.arange(5)))
    with pytest.raises(DialError, match="a function of Time"):
        By(0.1)


def test_by_refuses_a_plan_of_different_kinds_of_values() -> None:
    for late in ({"b": 1.0}, {"a": 1.0, "b": 0.0}, {}, 1.0):
        for first, second in (({"a": 1.0}, late), (late, {"a": 1.0})):
            changes = By(partial(jumping, first, second))
            with pytest.raises(DialError, match="at all times"):
                changes(Time(np.arange(5)))


def test_by_names_a_function_without_a_name() -> None:
    with pytest.raises(DialError, match=r"partial\(.*gave 'fast'"):
        By(partial(jumping, "fast", 1.0))(Time(0))


def test_by_compares_by_its_function() -> None:
    assert By(clock) == By(clock)
    assert By(clock) != By(consumed)
