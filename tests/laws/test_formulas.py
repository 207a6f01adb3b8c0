import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import laws as slow
from thalweg.laws import (
    AnnealingLaw,
    BoundLaw,
    Effective,
    MultiPowerLaw,
    Scheduled,
    annealing_area,
    last_iterate_bound,
    warmup_hold_decay,
)
from thalweg.laws.law import evaluate
from thalweg.laws.rates import blocks

LR = warmup_hold_decay(40, peak=1e-3, warmup=5, decay=15, floor=1e-5)
STEPS = np.array([3, 17, 30, 39])
EVERY_LAW = pytest.mark.parametrize(
    "law",
    [
        AnnealingLaw(),
        AnnealingLaw(decay=None),
        AnnealingLaw(decay=None, rates=Effective()),
        MultiPowerLaw(),
        MultiPowerLaw(rates=Effective()),
        MultiPowerLaw(rates=Effective(), relaxation="steps"),
        BoundLaw(),
    ],
    ids=lambda law: f"{law.name} {len(law.shapes)}",
)


def point(law, linear, shapes):
    return np.concatenate([np.log(linear), law.free(shapes)])


def test_annealing_is_the_double_sum():
    law = AnnealingLaw(decay=0.9)
    fast = evaluate(law, point(law, [2.0, 0.1, 30.0], [0.5]), LR, STEPS)
    expected = [slow.annealing(LR.tolist(), s, 2.0, 0.1, 0.5, 30.0, 0.9) for s in STEPS]
    assert fast == pytest.approx(expected, rel=1e-9)


def test_multi_power_is_the_sum_over_steps():
    law = MultiPowerLaw()
    numbers = [2.0, 0.1, 300.0], [0.5, 1.5, 0.6, 0.4]
    fast = evaluate(law, point(law, *numbers), LR, STEPS)
    given_ = (2.0, 0.1, 0.5, 300.0, 1.5, 0.6, 0.4)
    expected = [slow.multi_power(LR.tolist(), LR.tolist(), s, given_) for s in STEPS]
    assert fast == pytest.approx(expected, rel=1e-9)


def test_multi_power_over_effective_rates_and_steps_is_the_sum_over_steps():
    law = MultiPowerLaw(rates=Effective(), relaxation="steps")
    rate = Effective().of(LR, np.ones(40)).tolist()
    fast = evaluate(law, point(law, [2.0, 0.1, 20.0], [0.5, 0.3, 0.6]), LR, STEPS)
    expected = [slow.multi_power_steps(rate, s, (2.0, 0.1, 0.5, 20.0, 0.3, 0.6)) for s in STEPS]
    assert fast == pytest.approx(expected, rel=1e-9)


def test_effective_rates_solve_the_equation_of_the_weights():
    lr = warmup_hold_decay(60, peak=0.3, warmup=4, decay=20)
    fast = Effective(weight_decay=0.2, init_rms=0.5, update_rms=0.7).of(lr, np.ones(60))
    assert fast == pytest.approx(slow.effective(lr.tolist(), 0.2, 0.5, 0.7), rel=5e-3)


def test_effective_rates_balance_at_the_root_of_twice_rate_times_decay():
    found = Effective(weight_decay=0.1).of(np.array([2e-3] * 4), np.array([1e5] * 4))
    assert found[-1] == pytest.approx((2 * 2e-3 * 0.1) ** 0.5)


def test_effective_rates_without_decay_fall_as_the_weights_grow():
    found = Effective(weight_decay=0.0, init_rms=1.0).of(np.full(3, 1.0), np.ones(3))
    assert found == pytest.approx([1.5**-0.5, 2.5**-0.5, 3.5**-0.5])


def test_the_area_under_a_lowered_rate_by_hand():
    # drops 0, 1, 0; momenta 0, 1, .5; sums 0, 1, 1.5; by lambda 0, 0, 1
    area, slope = annealing_area(np.array([3.0, 2.0, 2.0]), 0.5)
    assert area.tolist() == [0.0, 1.0, 1.5]
    assert slope.tolist() == [0.0, 0.0, 1.0]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=12), st.floats(0.1, 3.0))
def test_the_bound_in_one_pass_is_the_bound_in_three_sums(lr, distance):
    norm = [1.0 + 0.1 * k for k in range(len(lr))]
    assert last_iterate_bound(lr, norm, distance) == pytest.approx(
        slow.last_iterate_bound(lr, norm, distance), rel=1e-12
    )


@EVERY_LAW
def test_slopes_of_the_columns_are_their_differences(law):
    start = next(iter(law.starts()))
    free = law.free([0.9 * value for value in start])
    features = law.features(LR, STEPS)
    slope = law.columns(features, free).slope_JMP
    for p in range(free.size):
        step = np.zeros(free.size)
        step[p] = 1e-6
        up, down = (law.columns(features, free + s * step).value_JM for s in (1, -1))
        assert slope[:, :, p] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-9)


@EVERY_LAW
def test_shapes_survive_the_way_to_free_numbers_and_back(law):
    for start in law.starts():
        assert law.bound(law.free(start)) == pytest.approx(list(start))


def test_blocks_keep_the_sum_of_the_rates():
    lr = warmup_hold_decay(20_000, peak=1e-3, warmup=300, decay=4000)
    lr[9000:] *= 0.3
    cut = blocks(lr)
    assert 9000 in cut.edge_E
    assert (cut.lr_K * cut.length).sum() == pytest.approx(lr.sum())
    steps = np.array([0, 700, 8999, 15_000, 19_999])
    assert cut.integral(cut.lr_K, steps) == pytest.approx(np.cumsum(lr)[steps], rel=2e-3)


def test_blocks_change_a_prediction_by_less_than_the_noise():
    lr = warmup_hold_decay(3000, peak=1e-3, warmup=100, decay=600)
    law = MultiPowerLaw(rates=Effective(), relaxation="steps")
    at = point(law, [2.7, 5.0, 17.0], [0.5, 0.03, 0.4])
    steps = np.arange(300, 3000, 50)
    coarse = evaluate(law, at, lr, steps)
    rate = Effective().of(lr, np.ones(lr.size)).tolist()
    exact = [slow.multi_power_steps(rate, s, (2.7, 5.0, 0.5, 17.0, 0.03, 0.4)) for s in steps]
    assert np.abs(coarse - exact).max() < 3e-4


def test_joining_steps_costs_less_than_the_noise():
    lr = warmup_hold_decay(20_000, peak=1e-3, warmup=300, decay=4000)
    law = MultiPowerLaw(rates=Effective())
    at = point(law, [2.7, 4.0, 17.0], [0.5, 1.0, 0.5, 0.5])
    some = np.unique(np.geomspace(500, 19_999, 200).astype(int))
    assert evaluate(law, at, lr, np.arange(lr.size))[some] == pytest.approx(
        evaluate(law, at, lr, some), abs=1.5e-3
    )


def test_scheduled_rates_are_what_they_were():
    assert Scheduled().of(LR, np.ones(40)) is LR
