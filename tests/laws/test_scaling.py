import numpy as np
import pytest

from thalweg.errors import DialError, RecipeError
from thalweg.laws import (
    Chinchilla,
    Kaplan,
    LawWarning,
    Sparsity,
    exponential_forecast,
    fit_batch_trade,
    fit_chinchilla,
    fit_kaplan_steps,
    fit_power_rate,
    fit_sparsity,
    forecast,
    knowledge_bits,
    power_rate,
    trend,
)
from thalweg.laws.capacity import BIOGRAPHY_BITS


@pytest.mark.parametrize(
    ("n", "d", "s", "loss"),
    [(1e9, 2e10, 0.0, 2.5657), (1e9, 2e10, 0.9, 2.7019), (18.8e9, 110.2e9, 0.98, 2.1693)],
)
def test_the_sparsity_law_gives_its_known_values(n, d, s, loss):
    assert float(Sparsity().loss(n, d, s)) == pytest.approx(loss, abs=5e-5)


@pytest.mark.parametrize(
    ("flops", "n", "best"),
    [(1e21, 1e9, 0.623), (1e21, 3e9, 0.844), (1e21, 1e10, 0.942), (1e21, 3e10, 0.978),
     (1e23, 1e9, 0.0), (1e23, 3e9, 0.281), (1e23, 1e10, 0.672), (1e23, 3e10, 0.845)],
)  # fmt: skip
def test_the_best_sparsity_of_a_budget_is_the_published_one(flops, n, best):
    assert Sparsity().best_sparsity(flops, n) == pytest.approx(best, abs=1e-3)


def test_sparsity_one_is_refused_and_far_sparsity_warned_of():
    with pytest.raises(DialError, match="sparsity from 1 to 1"):
        Sparsity().loss(1e9, 1e10, 1.0)
    with pytest.warns(LawWarning, match="beyond"):
        Sparsity().loss(1e9, 1e10, 0.99)


def test_a_sparsity_fit_recovers_losses_in_range():
    random = np.random.default_rng(0)
    n, d = 10 ** random.uniform(8, 10.5, 60), 10 ** random.uniform(9.5, 11.5, 60)
    s = random.choice([0.0, 0.25, 0.5, 0.75, 0.9, 0.95], 60)
    clean = Sparsity().loss(n, d, s)
    fitted = fit_sparsity(n, d, s, clean * (1 + 0.005 * random.normal(size=60)))
    assert np.sqrt(np.mean((fitted.loss(n, d, s) - clean) ** 2)) < 0.02
    with pytest.raises(RecipeError, match="2 runs"):
        fit_sparsity(n[:2], d[:2], s[:2], clean[:2])


def test_chinchilla_recovers_its_constants():
    n, d = np.meshgrid([1e8, 3e8, 1e9, 3e9], [2e9, 1e10, 5e10, 2e11])
    fitted = fit_chinchilla(n.ravel(), d.ravel(), Chinchilla().loss(n, d).ravel())
    assert fitted.asymptote == pytest.approx(1.69, abs=2e-3)
    assert (fitted.size_exponent, fitted.tokens_exponent) == pytest.approx((0.34, 0.28), abs=2e-3)


def test_the_best_split_is_a_minimum():
    n, d = Chinchilla().best_split(1e21)
    best = float(Chinchilla().loss(n, d))
    for factor in (0.9, 1.1):
        assert float(Chinchilla().loss(n * factor, d / factor)) > best


def test_a_batch_at_the_critical_size_doubles_the_steps():
    law = Kaplan()
    critical = law.critical_batch(3.0)
    assert critical == pytest.approx(2e8 / 3.0 ** (1 / 0.21))
    assert law.least_steps(1000, critical, 3.0) == pytest.approx(500)


def test_the_implicit_law_holds_where_it_was_solved():
    law = Kaplan(asymptote=0.3)
    loss = law.loss(1e8, 20_000, 5e5)
    reached = law.least_steps(20_000, 5e5, loss)
    assert loss == pytest.approx(law.min_loss(1e8) + (law.steps / reached) ** law.steps_exponent)
    falling = law.trajectory(1e8, [1000, 5000, 20_000], 5e5)
    assert (np.diff(falling) < 0).all()


def test_the_steps_of_kaplan_are_recovered():
    law = Kaplan()
    steps = np.array([1e4, 3e4, 1e5])
    loss = law.min_loss(1e8) + (law.steps / steps) ** law.steps_exponent
    found = fit_kaplan_steps(steps, loss, law.min_loss(1e8))
    assert found == pytest.approx((2.1e3, 0.76))


def test_a_trade_without_a_hyperbola_is_refused():
    with pytest.raises(RecipeError, match="S_min"):
        fit_batch_trade([100.0, 200.0], [1e6, 4e6])


def test_the_power_rate_is_capped_and_linear_in_the_batch():
    assert power_rate(0.0, 64) == 0.02
    assert float(power_rate(1e12, 1024)) == pytest.approx(4.6 * 1024 * 1e12**-0.51)
    assert float(power_rate(1e12, 512)) == pytest.approx(float(power_rate(1e12, 1024)) / 2)
    with pytest.raises(DialError, match="a batch of 0"):
        power_rate(1e9, 0)


def test_a_power_rate_is_recovered_from_tuned_runs():
    batch, tokens = np.array([16, 32, 64, 64]), np.array([1e7, 2e7, 4e7, 8e7])
    rates = [float(power_rate(n, b, cap=1e9)) for n, b in zip(tokens, batch, strict=True)]
    found = fit_power_rate(batch, tokens, rates)
    assert (found.a, found.b) == pytest.approx((4.6, -0.51))
    with pytest.raises(RecipeError, match="two different horizons"):
        fit_power_rate([8, 16], [1e6, 1e6], [1e-3, 2e-3])


def test_biographies_hold_the_published_bits():
    assert pytest.approx(47.59, abs=0.01) == BIOGRAPHY_BITS


def test_knowing_names_and_nothing_else_counts_the_names():
    found = knowledge_bits(1e4, 1e6, name_nats=np.log(1e4), value_nats=BIOGRAPHY_BITS * np.log(2))
    assert found.ratio == pytest.approx(1e4 * np.log2(1.6e8 / 1e4) / 1e6)
    assert found.ratio < found.most
    with pytest.raises(DialError, match="people"):
        knowledge_bits(1e9, 1e6, name_nats=0.0, value_nats=0.0)


def test_a_forecast_is_ready_when_asymptotes_settle_and_stops_when_little_remains():
    x = list(range(1, 13))
    y = [90 - 30 / k for k in x]
    early = forecast(x[:3], y[:3], 1000, tau=1.0)
    assert not early.ready
    late = forecast(x, y, 1000, tau=1.0)
    assert late.ready
    assert late.prediction == pytest.approx(89.97, abs=0.3)
    assert not late.stop
    assert forecast(x, y, 1000, tau=3.0).stop


def test_a_forecast_of_a_falling_loss_points_down():
    x = [1000.0 * k for k in range(1, 12)]
    found = forecast(x, [2 + 50 / v**0.5 for v in x], 1e5, tau=0.05, rising=False, bounds=(0, 9))
    assert found.prediction == pytest.approx(2 + 50 / 1e5**0.5, abs=0.02)


def test_an_asymptote_out_of_bounds_means_not_ready():
    x = list(range(1, 7))
    assert not forecast(x, [50 + 8 * k for k in x], 50, tau=1.0, bounds=(-np.inf, 100)).ready


def test_three_points_are_the_least():
    with pytest.raises(RecipeError, match="2 efforts"):
        trend([1, 2], [1.0, 2.0])
    with pytest.raises(RecipeError, match="2 steps"):
        exponential_forecast([1, 2], [1.0, 2.0], 3)
