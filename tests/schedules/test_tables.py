"""Tables, and the schedule that gradient norms ask for."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.time import Time, steps
from thalweg.errors import DialError
from thalweg.schedules import Linear, Table, refine

slow = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "reference" / "schedules.py"))
)
norms = st.lists(st.floats(0.1, 10), min_size=3, max_size=60)


def test_a_table_by_hand() -> None:
    s = Table((2.0, 4.0, 0.0), at=(0.0, 0.25, 1.0))
    assert s(Time(np.arange(-1, 6), steps=4)).tolist() == pytest.approx(
        [2, 2, 4, 8 / 3, 4 / 3, 0, 0]
    )
    assert Table((1.0, 0.0, 1.0), over=steps(4))(Time(np.arange(5))).tolist() == [1, 0.5, 0, 0.5, 1]


@given(u=st.integers(-5, 105), values=st.lists(st.floats(-5, 5), min_size=2, max_size=9))
def test_a_table_is_the_slow_transcription(u: int, values: list[float]) -> None:
    places = [i / (len(values) - 1) for i in range(len(values))]
    found = Table(tuple(values), at=tuple(places))(Time(u, steps=100))
    assert found == pytest.approx(slow.table(u / 100, places, values), rel=1e-12, abs=1e-12)
    assert Table(tuple(values))(Time(u, steps=100)) == pytest.approx(found, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("values", "at"),
    [
        ((1.0,), ()),
        ((1.0, 0.0), (0.0, 0.5, 1.0)),
        ((1.0, 0.0, 1.0), (0.0, 0.0, 1.0)),
        ((1.0, 0.0), (0.0, 0.9)),
        ((1.0, 0.0), (0.1, 1.0)),
        ((1.0, float("nan")), ()),
        ([1.0, 0.0], ()),
        (np.ones(3), ()),
    ],
)
def test_bad_tables_are_refused(values, at) -> None:
    with pytest.raises(DialError):
        Table(values, at=at)


def test_equal_norms_ask_for_a_straight_line() -> None:
    t = Time(np.arange(120), steps=100)
    for optimizer in ("adam", "sgd"):
        found = refine(np.full(37, 3.0), optimizer=optimizer)(t)
        assert found == pytest.approx(Linear(1.0, 0.0)(t), abs=1e-12)


def test_refine_by_hand() -> None:
    # w = 1/2, 1, 1: eta ~ (1/2) 2, 1 * 1, 0
    assert refine([2.0, 1.0, 1.0], smooth=0.0).values == (1.0, 1.0, 0.0)
    # w = 1/4, 1, 1: eta ~ (1/4) 2, 1 * 1, 0
    assert refine([2.0, 1.0, 1.0], optimizer="sgd", smooth=0.0).values == (0.5, 1.0, 0.0)


@given(norms=norms, optimizer=st.sampled_from(["adam", "sgd"]), smooth=st.floats(0, 1))
def test_refine_is_the_slow_transcription(norms, optimizer, smooth) -> None:
    found = refine(norms, optimizer=optimizer, smooth=smooth)
    expected = slow.refined(norms, optimizer, smooth)
    assert found.values == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_median_is_scipys() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    logged = np.random.default_rng(0).lognormal(size=400)
    window = 2 * int(0.1 * 400 / 2) + 1
    longer = np.pad(logged, (0, 2 * window), mode="reflect")
    smoothed = ndimage.median_filter(longer, window, mode="nearest")[:400]
    assert refine(logged).values == pytest.approx(refine(smoothed, smooth=0.0).values, rel=1e-12)


def test_one_spike_leaves_no_trace() -> None:
    calm = np.linspace(1.0, 2.0, 100)
    spiked = calm.copy()
    spiked[50] = 1e6
    assert refine(spiked).values == pytest.approx(refine(calm).values, rel=0.02, abs=1e-3)


def test_the_peak_is_the_largest_value_and_the_scale_of_the_norms_is_nothing() -> None:
    logged = np.random.default_rng(1).lognormal(size=50)
    found = refine(logged, peak=3e-4)
    assert max(found.values) == pytest.approx(3e-4)
    tiny = refine(1e-200 * logged, peak=3e-4, optimizer="sgd")
    assert tiny.values == pytest.approx(refine(logged, peak=3e-4, optimizer="sgd").values)


def test_falling_norms_ask_for_a_warmup_and_rising_ones_for_an_early_decay() -> None:
    falling = refine(1.0 + 9.0 * np.exp(-np.linspace(0, 20, 200)))
    assert 0.05 < np.argmax(falling.values) / 200 < 0.4
    rising = refine(np.linspace(1.0, 4.0, 200))
    assert rising(Time(50, steps=100)) < 0.5


def test_norms_at_uneven_steps_are_read_at_even_ones() -> None:
    every = np.arange(101)
    shape = 1.0 + np.exp(-every / 20.0)
    kept = np.r_[0:50, 51:101]
    t = Time(np.arange(100), steps=100)
    found = refine(shape[kept], steps=every[kept])(t)
    assert found == pytest.approx(refine(shape, steps=every)(t), abs=0.01)


def test_a_long_log_makes_a_table_of_the_wanted_size() -> None:
    logged = 1.0 + np.exp(-np.linspace(0.0, 20.0, 5000))
    t = Time(np.arange(500), steps=500)
    short, long = refine(logged, points=200), refine(logged, points=10_000)
    assert (len(short.values), len(long.values)) == (200, 5000)
    assert short(t) == pytest.approx(long(t), abs=2e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: refine([1.0, 2.0]),
        lambda: refine([1.0, 0.0, 1.0]),
        lambda: refine([1.0, float("nan"), 1.0]),
        lambda: refine([1.0, float("inf"), 1.0]),
        lambda: refine(np.ones((3, 3))),
        lambda: refine([1.0] * 5, optimizer="lion"),
        lambda: refine([1.0] * 5, smooth=1.5),
        lambda: refine([1.0] * 5, points=2),
        lambda: refine([1.0] * 3, steps=[0, 1]),
        lambda: refine([1.0] * 3, steps=[0, 2, 1]),
    ],
)
def test_bad_norms_are_refused(make) -> None:
    with pytest.raises(DialError, match="refine"):
        make()


def test_a_bad_norm_is_named_with_its_place() -> None:
    with pytest.raises(DialError, match="nan at place 2"):
        refine([1.0, 1.0, float("nan"), 1.0])
