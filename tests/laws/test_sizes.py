import warnings

import numpy as np
import pytest

from laws.loss_curves import A_SMALL, ROOT, WHY_NOT, larger, sized
from thalweg.errors import DataError, DialError, RecipeError
from thalweg.laws import (
    AnnealingLaw,
    BoundLaw,
    Curve,
    Effective,
    LawWarning,
    MultiPowerLaw,
    Origin,
    cosine,
    errors_of,
    fit_sizes,
    from_json,
    load,
    save,
    sizes_from_json,
    to_json,
    warmup_hold_decay,
)
from thalweg.laws.sizes import sizes_of
from thalweg.laws.verbs import fit_files, optimise_file, predict_file

T = 3000
STEPS = np.arange(200, T, 40)
SHAPES = {
    "cosine": cosine(T, peak=1e-3, warmup=100),
    "constant": warmup_hold_decay(T, peak=1e-3, warmup=100),
    "wsd": warmup_hold_decay(T, peak=1e-3, warmup=100, decay=800),
}
DEFAULT = MultiPowerLaw(rates=Effective(), relaxation="steps")
TRUTH = {
    AnnealingLaw(): ([1.4, 1.5, 0.8, 0.4], [0.5]),
    DEFAULT: ([1.4, 1.5, 4.0, 17.0], [0.5, 0.02, 0.5]),
}
GROWTH = (0.05, 0.15)


def truth(law, n, lr, steps=STEPS, p=0.12):
    """Return the losses of a model of n parameters, from the formula of the page."""
    (floor, asymptote, progress, annealing), shapes = TRUTH[law]
    column = law.columns(law.features(lr, steps), law.free(shapes)).value_JM
    return (
        floor
        + asymptote * n**-p
        + progress * n ** GROWTH[0] * column[:, 1]
        + annealing * n ** GROWTH[1] * column[:, 2]
    )


def runs(law, sizes, *, noise=0.0, dataset=None):
    draw = np.random.default_rng(0)
    unit = np.exp(np.mean(np.log(sizes)))
    return [
        Curve(
            name=f"{name} of {size:g}",
            steps=STEPS,
            loss=truth(law, size / unit, lr) * (1 + noise * draw.normal(size=STEPS.size)),
            lr=lr,
            origin=Origin(parameters=size, weight_decay=0.1, dataset=dataset),
        )
        for size in sizes
        for name, lr in SHAPES.items()
    ]


@pytest.mark.parametrize("law", list(TRUTH), ids=lambda law: law.name)
def test_the_numbers_the_curves_were_made_with_come_out(law):
    fitted = fit_sizes(law, runs(law, (1e7, 2e7, 4e7)))
    names = ("floor", *law.coefficients, *law.shapes, "progress_growth", "annealing_growth")
    linear, shapes = TRUTH[law]
    for name, value in zip(names, (*linear, *shapes, *GROWTH), strict=True):
        assert fitted.values[name] == pytest.approx(value, rel=0.05), name
    assert fitted.reference == pytest.approx(2e7)


@pytest.mark.parametrize("law", list(TRUTH), ids=lambda law: law.name)
def test_a_model_of_twice_the_size_is_predicted_under_a_schedule_of_its_own(law):
    sizes = (1e7, 2e7, 4e7)
    at = fit_sizes(law, runs(law, sizes, noise=2e-4)).at(8e7)
    lr = warmup_hold_decay(2 * T, peak=1e-3, warmup=100, decay=2500, power=0.5)
    steps = np.arange(200, 2 * T, 100)
    loss = truth(law, 4.0, lr, steps)
    assert np.abs(at.predict(lr, steps) - loss).max() < 0.005
    band = at.band(lr, steps)
    assert np.mean((band.low < loss) & (loss < band.high)) > 0.95


def test_the_interval_widens_away_from_the_sizes():
    fitted = fit_sizes(DEFAULT, runs(DEFAULT, (1e7, 2e7, 4e7), noise=1e-3))
    wide = []
    for size in (4e7, 6e7, 1.2e8):
        band = fitted.at(size).band(SHAPES["wsd"], [T - 1])
        wide.append(float(band.high[0] - band.low[0]))
    assert wide[0] < wide[1] < wide[2]


def test_the_covariance_at_a_size_is_that_of_draws():
    fitted = fit_sizes(DEFAULT, runs(DEFAULT, (1e7, 4e7), noise=1e-3))
    draw = np.random.default_rng(0)
    spread = 1e-4 * np.eye(9)
    known = [np.log(fitted.values[n]) for n in ("floor", "asymptote", "progress", "annealing")]
    growth = [fitted.values[n] for n in ("progress_growth", "annealing_growth")]
    centre = np.array([*known, 0.0, 0.0, 0.0, *growth])
    points = draw.multivariate_normal(centre, spread, 20000)
    log_n = np.log(3e7 / 2e7)
    asymptote = np.log(np.exp(points[:, 0]) + np.exp(points[:, 1] - 0.12 * log_n))
    progress = points[:, 2] + points[:, 7] * log_n
    plain = fit_sizes(DEFAULT, runs(DEFAULT, (1e7, 4e7), noise=1e-3))
    object.__setattr__(plain, "covariance", spread)
    found = plain.at(3e7).covariance
    away = 0.003 * np.log2(4 / 3)
    assert found[0, 0] - away**2 == pytest.approx(asymptote.var(), rel=0.05)
    assert found[1, 1] == pytest.approx(progress.var(), rel=0.05)


def test_more_than_three_times_the_largest_size_is_refused():
    fitted = fit_sizes(DEFAULT, runs(DEFAULT, (1e7, 2e7)))
    assert fitted.at(6e7).record.origin.parameters == 6e7
    for size in (6.1e7, 3e6, 0.0, float("nan")):
        with pytest.raises(RecipeError, match="within 3 times"):
            fitted.at(size)
    with pytest.warns(LawWarning, match="within 3 times"):
        fitted.at(1e8, elsewhere="warn")


def test_another_text_is_refused():
    at = fit_sizes(DEFAULT, runs(DEFAULT, (1e7, 2e7), dataset="web")).at(4e7)
    with pytest.raises(RecipeError, match="dataset books"):
        at.predict(SHAPES["wsd"], origin=Origin(dataset="books"))
    mixed = runs(DEFAULT, (1e7,), dataset="web") + runs(DEFAULT, (2e7,), dataset="books")
    with pytest.raises(RecipeError, match="different dataset"):
        fit_sizes(DEFAULT, mixed)


def test_what_cannot_be_fitted_is_refused():
    curves = runs(DEFAULT, (1e7, 2e7))
    with pytest.raises(RecipeError, match="models of 1 size"):
        fit_sizes(DEFAULT, curves[:3])
    unknown = Curve(name="x", steps=STEPS, loss=STEPS * 0 + 3.0, lr=SHAPES["wsd"])
    with pytest.raises(RecipeError, match="unknown size: x"):
        fit_sizes(DEFAULT, [*curves, unknown])
    with pytest.raises(RecipeError, match="an asymptote, progress and annealing"):
        fit_sizes(BoundLaw(), curves)
    with pytest.raises(DialError, match="exponent"):
        fit_sizes(DEFAULT, curves, exponent=0.0)


def test_sizes_within_two_percent_are_one():
    lr = SHAPES["wsd"]
    curves = [
        Curve(name=str(n), steps=[1], loss=[3.0], lr=lr, origin=Origin(parameters=n))
        for n in (2e7, 1e7, 1.01e7, None)
    ]
    assert sizes_of(curves) == (1e7, 2e7)


def test_a_fit_over_sizes_survives_its_file(tmp_path):
    fitted = fit_sizes(DEFAULT, runs(DEFAULT, (1e7, 2e7, 4e7)))
    file = save(fitted, tmp_path / "sizes.json")
    assert load(file, parameters=8e7).values == fitted.at(8e7).values
    again = sizes_from_json(to_json(fitted))
    assert again.sizes == fitted.sizes
    assert np.array_equal(again.covariance, fitted.covariance)
    with pytest.raises(DataError, match="several sizes"):
        from_json(to_json(fitted))
    with pytest.raises(DataError, match="several sizes"):
        load(file)
    with pytest.raises(DataError, match="no fitted law"):
        sizes_from_json({"sizes": [1, 2]})
    alone = save(fitted.at(4e7), tmp_path / "one.json")
    with pytest.raises(RecipeError, match="a law of one size"):
        load(alone, parameters=8e7)


def test_the_verbs_take_a_size_a_file(tmp_path):
    files, sizes = [], []
    for curve in runs(DEFAULT, (1e7, 2e7)):
        file = tmp_path / f"{curve.name}.csv"
        rows = zip(curve.steps, curve.lr[curve.steps], curve.loss, strict=True)
        file.write_text("step,lr,loss\n" + "".join(f"{s},{r:.9g},{y:.6f}\n" for s, r, y in rows))
        files.append(file)
        sizes.append(curve.origin.parameters)
    out = tmp_path / "sizes.json"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LawWarning)  # rates before the first logged step
        answer = fit_files(files, out=out, parameters=sizes)
        assert "models of 1e+07, 2e+07 parameters" in answer.text
        assert "annealing_growth" in answer.text
        with pytest.raises(RecipeError, match="2 sizes for 6 curves"):
            fit_files(files, out=out, parameters=[1e7, 2e7])
        one = fit_files(files[:3], out=tmp_path / "one.json", parameters=[1e7])
    assert "growth" not in one.text
    assert "90 % of measurements" in predict_file(out, steps=T, parameters=4e7).text
    assert "best: peak" in optimise_file(out, T, parameters=4e7).text
    with pytest.raises(RecipeError, match="within 3 times"):
        predict_file(out, steps=T, parameters=4e8)


@pytest.mark.skipif(not ROOT.is_dir(), reason=WHY_NOT)
def test_curves_of_124m_are_predicted_from_33m_to_93m():
    fitted = fit_sizes(DEFAULT, [c for heads in A_SMALL for c in sized(heads)])
    held = larger()
    assert len(held) == 14
    at = fitted.at(held[0].origin.parameters)
    assert errors_of(at, held).mae <= 0.0065
    inside = []
    for curve in held:
        band = at.band(curve.lr, curve.steps)
        inside.append(np.mean((band.low <= curve.loss) & (curve.loss <= band.high)))
    assert np.mean(inside) >= 0.85


@pytest.mark.skipif(not ROOT.is_dir(), reason=WHY_NOT)
def test_curves_of_166m_are_predicted_from_60m_and_93m_on_another_text():
    text = "openwebtext2"
    fitted = fit_sizes(DEFAULT, [c for heads in A_SMALL[2:] for c in sized(heads, text)])
    held = sized("L12H14", text)
    assert errors_of(fitted.at(held[0].origin.parameters), held).mae <= 0.0065
