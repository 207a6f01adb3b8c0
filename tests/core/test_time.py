"""The clock and lengths with a unit."""

import numpy as np
import pytest

from thalweg.core.time import Span, Time, share, steps, tokens
from thalweg.errors import DialError


def test_a_length_says_its_steps_on_any_clock():
    time = Time(0, 1000, batch_tokens=50)
    assert steps(200).of(time) == 200
    assert share(0.2).of(time) == 200
    assert tokens(10_000).of(time) == 200


def test_a_share_of_an_endless_phase_is_refused():
    with pytest.raises(DialError, match="endless"):
        share(0.5).of(Time(0, None))


def test_tokens_on_a_clock_that_counts_none_are_refused():
    with pytest.raises(DialError, match="tokens of a step"):
        tokens(100).of(Time(0, 10))


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("unit", [steps, share, tokens])
def test_a_length_that_means_nothing_is_refused(unit, bad):
    with pytest.raises(DialError):
        unit(bad)


@pytest.mark.parametrize("bad", ["100", None, True, [1], steps(1)])
@pytest.mark.parametrize("unit", [steps, share, tokens])
def test_a_length_that_is_no_number_is_refused(unit, bad):
    with pytest.raises(DialError, match=rf"^{unit.__name__}\("):
        unit(bad)


def test_a_share_above_one_is_refused():
    with pytest.raises(DialError, match="share <= 1"):
        share(1.1)


def test_a_length_prints_as_it_is_written():
    assert str(tokens(2e9)) == "tokens(2e+09)"
    assert str(Span(0.25, "share")) == "share(0.25)"


def test_a_later_clock_counts_steps_and_tokens_from_its_start():
    later = Time(30, 100, tokens=3000, run_step=70, batch_tokens=100).since(20)
    assert (later.step, later.steps, later.tokens, later.run_step) == (10, 80, 1000, 70)


def test_a_plan_is_a_clock_of_arrays():
    grid = np.arange(5)
    assert (Time(grid, 5).since(2).step == grid - 2).all()
