"""Decays with a curve of their own: by hand, against the slow transcriptions, and bad input."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.time import Time, share, steps, tokens
from thalweg.errors import DialError
from thalweg.schedules import Inverse, InverseSqrtDecay, Linear, Rex, Wsd

slow = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "reference" / "schedules.py"))
)
values = st.floats(-10, 10)
rates = st.floats(1e-6, 10)
lengths = st.integers(1, 300)
moments = st.integers(0, 400)


def test_rex_by_hand() -> None:
    found = [Rex(3.0)(Time(s, steps=2)) for s in range(4)]
    assert found == pytest.approx([3.0, 2.0, 0.0, 0.0])
    assert Rex(1.0, bend=0.9)(Time(1, steps=2)) == pytest.approx(10 / 11)


def test_rex_without_a_bend_is_a_line() -> None:
    t = Time(np.arange(12), steps=10)
    assert Rex(1.0, 0.2, bend=0.0)(t) == pytest.approx(Linear(1.0, 0.2)(t), abs=1e-15)


def test_inverse_by_hand_with_exact_ends() -> None:
    s = Inverse(0.3, 0.1)
    found = [s(Time(step, steps=2)) for step in range(4)]
    assert found[0] == 0.3
    assert found[1] == pytest.approx(0.15)
    assert found[2:] == [0.1, 0.1]


def test_inverse_sqrt_decay_by_hand() -> None:
    s = InverseSqrtDecay(1.0, 0.0, alpha=3.0)  # h(1) = -1/2, h(5/12) = -1/3
    assert [s(Time(step, steps=12)) for step in (0, 5, 12)] == pytest.approx([1.0, 1 / 3, 0.0])


def test_a_gentle_inverse_sqrt_decay_is_a_line() -> None:
    t = Time(np.arange(12), steps=10)
    found = InverseSqrtDecay(1.0, 0.0, alpha=1e-13)(t)
    assert found == pytest.approx(Linear(1.0, 0.0)(t), abs=1e-12)


@given(s=moments, n=lengths, start=values, end=values, bend=st.floats(0, 0.99))
def test_rex_is_the_slow_transcription(s, n, start, end, bend) -> None:
    found = Rex(start, end, bend=bend)(Time(s, n))
    assert found == pytest.approx(slow.rex(s, n, start, end, bend), rel=1e-12, abs=1e-12)


@given(s=moments, n=lengths, start=rates, end=rates)
def test_inverse_is_the_slow_transcription(s, n, start, end) -> None:
    found = Inverse(start, end)(Time(s, n))
    assert found == pytest.approx(slow.inverse(s, n, start, end), rel=1e-12)


@given(s=moments, n=lengths, start=values, end=values, alpha=st.floats(0.1, 1000))
def test_inverse_sqrt_decay_is_the_slow_transcription(s, n, start, end, alpha) -> None:
    found = InverseSqrtDecay(start, end, alpha=alpha)(Time(s, n))
    expected = slow.inverse_sqrt_decay(s, n, start, end, alpha)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("shape", [Rex(1.0), Inverse(1.0, 0.1), InverseSqrtDecay(1.0, 0.0, 8.0)])
def test_each_can_be_the_decay_of_a_family(shape) -> None:
    s = Wsd(2.0, decay=steps(10), shape=shape)
    assert s(Time(10, steps=20)) == 2.0
    assert s(Time(15, steps=20)) == 2.0 * shape(Time(5, steps=10))


def test_a_length_has_a_unit() -> None:
    for unit in (share(0.5), steps(5), tokens(50)):
        assert Rex(1.0, over=unit)(Time(5, 10, batch_tokens=10)) == 0.0
    with pytest.raises(DialError, match="with its unit"):
        Rex(1.0, over=0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rex(1.0, bend=1.0),
        lambda: Rex(1.0, bend=-0.1),
        lambda: Rex(float("nan")),
        lambda: Inverse(1.0, 0.0),
        lambda: Inverse(-1.0, 1.0),
        lambda: InverseSqrtDecay(1.0, 0.0, alpha=0.0),
    ],
)
def test_numbers_out_of_range_are_refused(make) -> None:
    with pytest.raises(DialError):
        make()
