import numpy as np
import pytest

from thalweg.errors import RecipeError
from thalweg.laws import (
    AnnealingLaw,
    BoundLaw,
    Curve,
    Effective,
    LawWarning,
    MultiPowerLaw,
    Origin,
    cosine,
    cross_validate,
    errors_of,
    fit,
    fit_sizes,
    rank,
    warmup_hold_decay,
)
from thalweg.laws.law import evaluate

T = 3000
SHAPES = {
    "cosine": cosine(T, peak=1e-3, warmup=100),
    "constant": warmup_hold_decay(T, peak=1e-3, warmup=100),
    "wsd": warmup_hold_decay(T, peak=1e-3, warmup=100, decay=800),
}
STEPS = np.arange(200, T, 50)
TRUTH = {
    AnnealingLaw(): ([2.5, 0.8, 0.4], [0.5]),
    AnnealingLaw(decay=None): ([2.5, 0.8, 0.4], [0.5, 0.998]),
    MultiPowerLaw(strength=0.0): ([2.5, 0.8, 300.0], [0.5, 1.2, 0.6, 0.4]),
    MultiPowerLaw(rates=Effective(), relaxation="steps", strength=0.0): (
        [2.5, 4.0, 17.0],
        [0.5, 0.03, 0.4],
    ),
}
ORIGIN = Origin(optimizer="AdamW", batch_tokens=1e5, parameters=1e8, parametrisation="standard")


def made(law, linear, shapes, *, noise=0.0, names=SHAPES, seed=0):
    point = np.concatenate([np.log(linear), law.free(shapes)])
    random = np.random.default_rng(seed)
    return [
        Curve(
            name=name,
            steps=STEPS,
            loss=evaluate(law, point, SHAPES[name], STEPS)
            * (1 + noise * random.normal(size=STEPS.size)),
            lr=SHAPES[name],
            origin=ORIGIN,
        )
        for name in names
    ]


@pytest.mark.parametrize("law", list(TRUTH), ids=lambda law: f"{law.name} {len(law.shapes)}")
def test_a_fit_recovers_the_numbers_the_curves_were_made_with(law):
    linear, shapes = TRUTH[law]
    fitted = fit(law, made(law, linear, shapes))
    values = [fitted.values[name] for name in (*law.coefficients, *law.shapes)]
    assert values == pytest.approx([*linear, *shapes], rel=0.02)
    assert fitted.error < 1e-4


def test_a_fit_forgives_a_few_wild_measurements():
    curves = made(AnnealingLaw(), [2.5, 0.8, 0.4], [0.5])
    loss = curves[0].loss.copy()
    loss[[10, 30]] *= 1.3
    curves[0] = Curve(name="wild", steps=STEPS, loss=loss, lr=curves[0].lr)
    assert fit(AnnealingLaw(), curves).values["asymptote"] == pytest.approx(2.5, abs=2e-3)


def test_the_interval_holds_the_share_of_measurements_it_says():
    law = AnnealingLaw()
    fitted = fit(law, made(law, [2.5, 0.8, 0.4], [0.5], noise=0.003))
    fresh = made(law, [2.5, 0.8, 0.4], [0.5], noise=0.003, seed=1)
    inside = []
    for curve in fresh:
        band = fitted.band(curve.lr, curve.steps, level=0.9)
        inside.append((curve.loss >= band.low) & (curve.loss <= band.high))
    assert 0.8 <= np.mean(inside) <= 0.98


def test_many_measurements_are_averaged_and_give_the_same_numbers():
    law = AnnealingLaw()
    point = np.log([2.5, 0.8, 0.4, 0.5])
    every = np.arange(200, T)
    curves = [
        Curve(name=name, steps=every, loss=evaluate(law, point, lr, every), lr=lr)
        for name, lr in SHAPES.items()
    ]
    assert fit(law, curves).values["exponent"] == pytest.approx(0.5, abs=0.01)


def test_one_cosine_alone_is_refused_with_the_reason():
    curves = made(AnnealingLaw(), [2.5, 0.8, 0.4], [0.5], names=["cosine"])
    with pytest.raises(RecipeError, match="one smooth decay and nothing else"):
        fit(AnnealingLaw(), curves)
    with pytest.warns(LawWarning, match="cannot tell"):
        fit(AnnealingLaw(), curves, one_decay="warn")


def test_one_run_with_a_hold_and_a_decay_is_enough():
    fitted = fit(AnnealingLaw(), made(AnnealingLaw(), [2.5, 0.8, 0.4], [0.5], names=["wsd"]))
    assert fitted.values["annealing"] == pytest.approx(0.4, rel=0.05)


def test_fewer_points_than_parameters_are_refused():
    curve = Curve(name="short", steps=[1, 2, 3], loss=[3.0, 2.9, 2.8], lr=[1e-3] * 4)
    with pytest.raises(RecipeError, match="3 measurements"):
        fit(AnnealingLaw(), [curve])


def test_curves_of_two_optimizers_are_refused():
    a, b = made(AnnealingLaw(), [2.5, 0.8, 0.4], [0.5], names=["wsd", "constant"])
    b = Curve(name="b", steps=b.steps, loss=b.loss, lr=b.lr, origin=Origin(optimizer="Muon"))
    with pytest.raises(RecipeError, match="different optimizer: AdamW, Muon"):
        fit(AnnealingLaw(), [a, b])


def fitted_here(law=None):
    law = law or AnnealingLaw()
    return fit(law, made(AnnealingLaw(), [2.5, 0.8, 0.4], [0.5]))


def test_a_fit_records_what_it_was_made_on():
    record = fitted_here().record
    assert record.origin == ORIGIN
    assert (record.lowest_peak, record.highest_peak, record.steps) == (1e-3, 1e-3, 2951)
    assert record.curves == ("cosine", "constant", "wsd")


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (Origin(optimizer="Muon"), "optimizer Muon"),
        (Origin(parametrisation="mup"), "parametrisation mup"),
        (Origin(parameters=2e9), "parameters 2e\\+09"),
        (Origin(batch_tokens=1e6), "tokens a batch 1e\\+06"),
    ],
)
def test_another_run_is_refused_and_can_be_asked_for(origin, text):
    lr = SHAPES["wsd"]
    with pytest.raises(RecipeError, match=text):
        fitted_here().predict(lr, [100], origin=origin)
    with pytest.warns(LawWarning, match=text):
        fitted_here().predict(lr, [100], origin=origin, elsewhere="warn")


def test_a_run_like_the_record_is_predicted_in_silence():
    assert np.isfinite(fitted_here().predict(SHAPES["wsd"], origin=ORIGIN)).all()


def test_ten_times_the_peak_is_refused_and_twice_is_warned_of():
    fitted = fitted_here()
    with pytest.raises(RecipeError, match=r"peak rate 0\.01"):
        fitted.predict(10 * SHAPES["wsd"])
    with pytest.warns(LawWarning, match=r"peak rate 0\.002"):
        fitted.predict(2 * SHAPES["wsd"])


def test_a_law_over_effective_rates_is_used_at_twice_the_peak_in_silence():
    fitted = fitted_here(MultiPowerLaw(rates=Effective(), relaxation="steps"))
    assert fitted.predict(2 * SHAPES["wsd"], [2999]).shape == (1,)


def test_steps_beyond_the_rates_are_refused():
    with pytest.raises(RecipeError, match="steps from 0 to 3000"):
        fitted_here().predict(SHAPES["wsd"], [0, 3000])


def test_errors_are_means_over_curves():
    law = AnnealingLaw()
    fitted = fitted_here()
    curve = made(law, [2.5, 0.8, 0.4], [0.5], names=["wsd"])[0]
    higher = Curve(name="higher", steps=STEPS, loss=curve.loss + 0.1, lr=curve.lr)
    found = errors_of(fitted, [curve, higher])
    assert found.mae == pytest.approx(0.05, abs=1e-3)
    assert found.largest == pytest.approx(0.1, abs=1e-3)


def test_cross_validation_ranks_the_law_the_curves_were_made_with_first():
    curves = made(AnnealingLaw(), [2.5, 0.8, 0.4], [0.5])
    order = rank({"bound": BoundLaw(), "annealing": AnnealingLaw()}, curves)
    assert [name for name, _ in order] == ["annealing", "bound"]
    with pytest.raises(RecipeError, match="2 curves"):
        cross_validate(AnnealingLaw(), curves[:2])


def test_a_loss_from_before_the_first_update_spoils_neither_fit_nor_comparison():
    lr = warmup_hold_decay(T, peak=1e-3, warmup=100, decay=800)
    lr[0] = 0.0  # the convention of transformers and nanoGPT
    late = evaluate(AnnealingLaw(), np.log([2.5, 0.8, 0.4, 0.5]), lr, STEPS)
    curve = Curve(name="a", steps=np.r_[0, STEPS], loss=np.r_[10.8, late], lr=lr)
    fitted = fit(AnnealingLaw(), [curve])
    assert fitted.values["asymptote"] == pytest.approx(2.5, abs=1e-3)
    assert fitted.record.points == STEPS.size
    assert errors_of(fitted, [curve]).largest < 1e-3


@pytest.mark.parametrize("bad", [MultiPowerLaw, "multi-power", None, Effective()])
def test_what_is_no_law_is_refused(bad):
    curves = made(BoundLaw(), [2.5, 1.0, 1.0], [])
    for use in (fit, fit_sizes, cross_validate):
        with pytest.raises(RecipeError, match=r"write: +MultiPowerLaw\(\)") as refused:
            use(bad, curves)
        assert refused.value.where == f"{use.__name__}(law)"


@pytest.mark.parametrize("many", [list, tuple])
def test_what_is_no_list_of_curves_is_refused(many):
    law, curves = AnnealingLaw(), made(AnnealingLaw(), *TRUTH[AnnealingLaw()])
    fitted = fit(law, many(curves))
    uses = ((fit, law), (fit_sizes, law), (cross_validate, law), (errors_of, fitted))
    for bad in (curves[0], [curves], None, "wsd"):
        for use, first in uses:
            with pytest.raises(RecipeError, match="a list of curves"):
                use(first, bad)
