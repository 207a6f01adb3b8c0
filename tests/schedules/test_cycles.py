"""Cycles: by hand, against the slow transcriptions, other libraries, and what does not fit."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.time import Time, share, steps, tokens
from thalweg.errors import DialError
from thalweg.schedules import Cosine, Cyclic, Inverse, Linear, OneCycle, Rewarm, WsdS

slow = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "reference" / "schedules.py"))
)


def test_wsd_s_by_hand() -> None:
    s = WsdS(8.0, (steps(4), steps(8)), steps(2), steps(2), shape=Linear(1.0, 0.5))
    found = s(Time(np.arange(10), steps=8))
    assert found.tolist() == [4, 8, 8, 6, 8, 8, 8, 6, 4, 4]


@given(
    s=st.integers(0, 700),
    lengths=st.lists(st.integers(30, 200), min_size=1, max_size=4),
    warmup=st.integers(0, 20),
    floor=st.floats(0.01, 1),
)
def test_wsd_s_is_the_slow_transcription(s, lengths, warmup, floor) -> None:
    targets = np.cumsum(lengths).tolist()
    peak = 0.3
    schedule = WsdS(
        peak, tuple(map(steps, targets)), warmup=steps(warmup), shape=Inverse(1.0, floor)
    )
    expected = slow.wsd_s(s, targets, warmup, peak, floor * peak)
    assert schedule(Time(s)) == pytest.approx(expected, rel=1e-12)


def test_another_target_changes_nothing_before_it() -> None:
    t = Time(np.arange(300))
    short, long = (
        WsdS(1.0, (steps(100), steps(300))),
        WsdS(1.0, (steps(100), steps(300), steps(9e3))),
    )
    assert np.array_equal(short(t), long(t))


@pytest.mark.parametrize(
    "targets", [(steps(100), steps(100)), (steps(200), steps(100)), (steps(100), steps(104))]
)
def test_targets_rise_and_leave_room_for_a_decay(targets) -> None:
    with pytest.raises(DialError, match="targets in order"):
        WsdS(1.0, targets)(Time(0))


def test_a_target_behind_the_end_is_refused() -> None:
    with pytest.raises(DialError, match="the last target of 300 steps in a phase of 200"):
        WsdS(1.0, (steps(100), steps(300)))(Time(0, steps=200))


def test_a_warmup_longer_than_the_first_cycle_is_refused() -> None:
    with pytest.raises(DialError, match="95 steps of warmup"):
        WsdS(1.0, (steps(100),), warmup=steps(95))(Time(0))


def test_rewarm_by_hand() -> None:
    s = Rewarm(8.0, 2.0, (steps(4), steps(6)), steps(2), shape=Linear(1.0, 0.0))
    assert s(Time(np.arange(11))).tolist() == [4, 8, 8, 5, 5, 8, 8, 6.5, 5, 3.5, 2]
    assert Rewarm(8.0, 2.0, (steps(4),), steps(2), start=2.0)(Time(0)) == 5.0


@given(
    s=st.integers(0, 700),
    stages=st.lists(st.integers(30, 200), min_size=1, max_size=4),
    warmup=st.integers(0, 20),
    low=st.floats(0, 1),
)
def test_rewarm_is_the_slow_transcription(s, stages, warmup, low) -> None:
    schedule = Rewarm(2.0, 0.3, tuple(map(steps, stages)), steps(warmup), start=low)
    expected = slow.rewarm(s, stages, warmup, (2.0, 0.3, low))
    assert schedule(Time(s)) == pytest.approx(expected, rel=1e-12)


def test_a_share_as_warmup_is_one_of_each_stage() -> None:
    s = Rewarm(1.0, 0.0, (steps(10), steps(100)), share(0.1))
    assert [s(Time(step)) for step in (0, 10, 14, 19)] == pytest.approx([1.0, 0.1, 0.5, 1.0])


def test_shares_of_stages_may_round_beyond_the_phase() -> None:
    s = Rewarm(1.0, 0.0, (share(0.5), share(0.5)))
    assert s(Time(np.arange(7), steps=7))[4] == 1.0


def test_stages_longer_than_the_phase_are_refused() -> None:
    with pytest.raises(DialError, match="stages of 30 steps in a phase of 20"):
        Rewarm(1.0, 0.1, (steps(10), steps(20)))(Time(0, steps=20))
    with pytest.raises(DialError, match="warmup of 20 steps in a phase of 10"):
        Rewarm(1.0, 0.1, (steps(10),), warmup=steps(20))(Time(0))


def test_cyclic_by_hand() -> None:
    s = Cyclic(1.0, 5.0, half=steps(2), fade=0.5)
    assert s(Time(np.arange(-1, 9))).tolist() == [1, 1, 3, 5, 3, 1, 2, 3, 2, 1]


@given(
    s=st.integers(0, 500),
    half=st.integers(1, 60),
    fade=st.floats(0.1, 1),
    gamma=st.floats(0.9, 1),
)
def test_cyclic_is_the_slow_transcription(s, half, fade, gamma) -> None:
    found = Cyclic(0.1, 2.0, half=steps(half), fade=fade, gamma=gamma)(Time(s))
    expected = slow.cyclic(s, half, 0.1, 2.0, fade, gamma)
    assert found == pytest.approx(expected, rel=1e-12)


def test_one_cycle_by_hand() -> None:
    s = OneCycle(4.0, 2.0, 0.0, rise=steps(2), tail=steps(2))
    assert s(Time(np.arange(9), steps=8)).tolist() == [2, 3, 4, 3.5, 3, 2.5, 2, 1, 0]


@given(s=st.integers(0, 150), up=st.integers(1, 50), tail=st.integers(1, 49))
def test_one_cycle_is_the_slow_transcription(s: int, up: int, tail: int) -> None:
    found = OneCycle(1.0, 0.2, 0.001, steps(up), steps(tail))(Time(s, steps=100))
    expected = slow.one_cycle(s, 100, (0.2, 1.0, 0.001), up, tail)
    assert found == pytest.approx(expected, rel=1e-12)


def test_one_cycle_without_a_tail_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2.0, total_steps=101, pct_start=31 / 101, cycle_momentum=False
    )
    theirs = []
    for _ in range(101):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step() if len(theirs) < 101 else None
    ours = OneCycle(2.0, 2.0 / 25, 2.0 / 25 / 1e4, steps(30), steps(0), shape=Cosine(1.0))
    # Theirs reaches its end at the last step, ours at the step after it.
    assert ours(Time(np.arange(101), steps=100)) == pytest.approx(np.array(theirs), rel=1e-9)


def test_one_cycle_serves_momentum_too() -> None:
    s = OneCycle(0.85, 0.95, 0.95)
    assert [s(Time(step, steps=100)) for step in (0, 45, 90, 99)] == [0.95, 0.85, 0.95, 0.95]


def test_one_cycle_needs_an_end_and_room() -> None:
    with pytest.raises(DialError, match="endless"):
        OneCycle(1.0, 0.1, 0.0, steps(5), steps(5))(Time(0))
    with pytest.raises(DialError, match="rise and tail of 12 steps in a phase of 10"):
        OneCycle(1.0, 0.1, 0.0, steps(8), steps(4))(Time(0, steps=10))
    with pytest.raises(DialError, match=r"ends at 0\.5"):
        OneCycle(1.0, 0.1, 0.0, shape=Linear(1.0, 0.5))


@pytest.mark.parametrize(
    "make",
    [
        lambda: WsdS(1.0, ()),
        lambda: WsdS(1.0, [steps(10)]),
        lambda: WsdS(1.0, (100,)),
        lambda: WsdS(-1.0, (steps(100),)),
        lambda: WsdS(1.0, (steps(100),), shape=Linear(3e-4, 0.0)),
        lambda: WsdS(1.0, (steps(100),), decay=steps(0)),
        lambda: Rewarm(0.1, 1.0),
        lambda: Rewarm(1.0, 0.1, start=2.0),
        lambda: Rewarm(1.0, 0.1, stages=()),
        lambda: Cyclic(0.0, 1.0, half=steps(0)),
        lambda: Cyclic(0.0, 1.0, half=10),
        lambda: Cyclic(0.0, 1.0, half=steps(10), fade=1.5),
        lambda: Cyclic(0.0, 1.0, half=tokens(10))(Time(0, batch_tokens=1000)),
    ],
)
def test_bad_cycles_are_refused(make) -> None:
    with pytest.raises(DialError):
        make()
