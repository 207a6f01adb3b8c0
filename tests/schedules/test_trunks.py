"""Stable pieces and decays: as one schedule, as phases, as forks."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.time import Time, share, steps
from thalweg.errors import DialError
from thalweg.schedules import WsdS, forks, legs, stable_then_decay

slow = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "reference" / "schedules.py"))
)


@given(
    lengths=st.lists(st.integers(30, 90), min_size=1, max_size=4),
    warmup=st.integers(0, 20),
)
def test_the_legs_are_the_schedule_piece_by_piece(lengths, warmup) -> None:
    targets = np.cumsum(lengths).tolist()
    whole = WsdS(0.3, tuple(map(steps, targets)), warmup=steps(warmup))
    found = legs(whole, Time())
    assert sum(leg.steps for leg in found) == targets[-1]
    rates = [leg.rate(Time(np.arange(leg.steps), leg.steps)) for leg in found]
    assert np.concatenate(rates) == pytest.approx(whole(Time(np.arange(targets[-1]))), rel=1e-12)


def test_legs_know_shares_of_the_whole_run() -> None:
    whole = WsdS(0.3, (share(0.5), share(1.0)), warmup=share(0.1))
    found = legs(whole, Time(0, steps=100))
    assert [(leg.name, leg.steps) for leg in found] == [
        ("stable1", 45),
        ("decay1", 5),
        ("stable2", 45),
        ("decay2", 5),
    ]
    assert found[0].rate(Time(4, steps=45)) == pytest.approx(0.15)


def test_forks_end_at_their_targets() -> None:
    found = forks((100, 250), decay=0.2)
    assert [fork.step + fork.steps for fork in found] == [100, 250]
    assert [fork.steps for fork in found] == [20, 50]


@pytest.mark.parametrize(
    ("targets", "decay"), [((), 0.1), ((200, 100), 0.1), ((4,), 0.1), ((100,), 0.0), ((100,), 2.0)]
)
def test_forks_that_cannot_be_are_refused(targets, decay) -> None:
    with pytest.raises(DialError, match="forks"):
        forks(targets, decay=decay)


@given(s=st.integers(0, 300), decay=st.integers(1, 200))
def test_stable_then_decay_is_the_slow_transcription(s: int, decay: int) -> None:
    found = stable_then_decay(2e-5, decay=steps(decay))(Time(s, steps=220))
    assert found == pytest.approx(slow.stable_then_decay(s, 220, decay, 2e-5), rel=1e-12)


def test_a_trunk_has_no_decay_and_needs_no_end() -> None:
    assert stable_then_decay(2e-5, decay=steps(0))(Time(10**6)) == 2e-5


def test_a_last_rate_above_the_first_is_refused() -> None:
    with pytest.raises(DialError, match=r"stable_then_decay\.end"):
        stable_then_decay(2e-5, end=1.5)
