import numpy as np
import pytest

from thalweg.errors import DialError
from thalweg.laws import (
    best_cooldown,
    bound_parts,
    cosine,
    extend_schedule,
    last_iterate_bound,
    optimal_base_rate,
    transfer_rate,
    warmup_hold_decay,
)

T = 50_000


def wsd(share, steps=T):
    return warmup_hold_decay(steps, peak=1.0, decay=round(share * steps))


def one_minus_sqrt(share):
    decay = round(share * T)
    return 1 - np.sqrt(np.clip((np.arange(T) - (T - decay)) / decay, 0.0, 1.0))


PUBLISHED = {
    "constant": (np.ones(T), 0.284, 3.521),
    "cooldown .1": (wsd(0.1), 0.461, 2.282),
    "cooldown .2": (wsd(0.2), 0.514, 2.160),
    "1 - sqrt .2": (one_minus_sqrt(0.2), 0.543, 2.126),
    "cooldown .5": (wsd(0.5), 0.656, 2.033),
    "cosine": (cosine(T, peak=1.0), 0.971, 2.060),
    "linear": (wsd(1.0), 1.000, 2.000),
    "1 / sqrt t": (1 / np.sqrt(np.arange(1, T + 1)), 36.5, 3.070),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_bound_of_known_schedules_to_three_digits(name):
    shape, rate, bound = PUBLISHED[name]
    parts = bound_parts(shape)
    assert optimal_base_rate(shape) * T**0.5 == pytest.approx(rate, rel=1.5e-3, abs=6e-4)
    assert 2 * (parts.distance * parts.noise * T) ** 0.5 == pytest.approx(bound, abs=6e-4)


def test_a_constant_schedule_has_a_harmonic_sum():
    assert bound_parts(np.ones(6)).noise == pytest.approx(
        (1 + 1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 2
    )


def test_the_parts_make_up_the_bound():
    shape, gamma = wsd(0.3, 200), 0.05
    parts = bound_parts(shape)
    assert last_iterate_bound(gamma * shape, distance=2.0) == pytest.approx(
        4 * parts.distance / gamma + gamma * parts.noise
    )


def test_a_last_rate_of_zero_changes_nothing():
    assert last_iterate_bound([1.0, 0.5, 0.0]) == last_iterate_bound([1.0, 0.5])


@pytest.mark.parametrize(
    ("share", "ratio"),
    [(0.02, 0.391), (0.05, 0.425), (0.1, 0.461), (0.2, 0.515), (0.3, 0.561), (0.4, 0.608),
     (0.6, 0.708), (0.8, 0.832), (0.9, 0.909)],
)  # fmt: skip
def test_rates_move_between_cooldowns_as_published(share, ratio):
    assert transfer_rate(1.0, wsd(1.0), wsd(share)) == pytest.approx(ratio, abs=6e-4)


@pytest.mark.parametrize(
    ("longer", "factor", "wanted"),
    [(1.5, 0.637, 0.45), (2, 0.533, 0.63), (2.5, 0.473, 0.77), (3, 0.431, 0.88), (4, 0.375, 1.0)],
)
def test_an_extension_lowers_the_rate_or_lengthens_the_cooldown_as_published(
    longer, factor, wanted
):
    by_rate = extend_schedule(10_000, int(10_000 * longer), peak=1e-3)
    by_cooldown = extend_schedule(10_000, int(10_000 * longer), peak=1e-3, how="cooldown")
    assert by_rate.factor == pytest.approx(factor, abs=1.5e-3)
    assert by_cooldown.wanted == pytest.approx(wanted, abs=6e-3)


def test_an_extension_keeps_the_trunk():
    found = extend_schedule(1000, 2000, peak=1e-3, transition=100)
    assert found.keep == 800
    assert found.rates[:800].tolist() == [1e-3] * 800
    assert found.rates[950] == pytest.approx(found.factor * 1e-3)
    longer = extend_schedule(1000, 2000, peak=1e-3, how="cooldown")
    assert longer.rates[:800].tolist() == [1e-3] * 800
    assert longer.cooldown == pytest.approx(0.6)


def test_the_best_cooldown_depends_on_the_rate_one_is_stuck_with():
    assert best_cooldown(5000, 0.5) == pytest.approx(0.4, abs=0.011)
    assert best_cooldown(5000, 1.0) == 1.0
    assert best_cooldown(5000, 0.3) < 0.2


def test_nonsense_is_refused():
    with pytest.raises(DialError, match="every rate is 0"):
        last_iterate_bound([0.0, 0.0])
    with pytest.raises(DialError, match="smallest -1"):
        optimal_base_rate([1.0, -1.0])
    with pytest.raises(DialError, match="from 1000 to 900"):
        extend_schedule(1000, 900, peak=1e-3)
