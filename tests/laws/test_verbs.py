import csv
import json

import numpy as np
import pytest

from thalweg.errors import DataError, DialError, RecipeError
from thalweg.laws import (
    AnnealingLaw,
    Effective,
    LawWarning,
    MultiPowerLaw,
    cosine,
    fit,
    from_json,
    load,
    optimise,
    read,
    save,
    to_json,
    warmup_hold_decay,
)
from thalweg.laws.law import evaluate
from thalweg.laws.verbs import compare_files, fit_files, optimise_file, predict_file

T = 2000
LAW = MultiPowerLaw(rates=Effective(), relaxation="steps")
POINT = np.concatenate([np.log([2.5, 4.0, 17.0]), LAW.free([0.5, 0.03, 0.4])])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves")
    shapes = {
        "cosine": cosine(T, peak=1e-3, warmup=50),
        "constant": warmup_hold_decay(T, peak=1e-3, warmup=50),
        "wsd": warmup_hold_decay(T, peak=1e-3, warmup=50, decay=500),
    }
    for name, lr in shapes.items():
        steps = np.arange(0, T, 10)
        loss = evaluate(LAW, POINT, lr, np.maximum(steps, 1))
        rows = zip(steps, lr[steps], loss, strict=True)
        text = "".join(f"{s},{r:.9g},{y:.6f}\n" for s, r, y in rows)
        (folder / f"{name}.csv").write_text("step,lr,loss\n" + text)
    return [folder / f"{name}.csv" for name in shapes]


@pytest.fixture(scope="module")
def fit_file(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("fit") / "fit.json"
    answer = fit_files(files, out=out, since=100)
    assert "multi-power (effective) on 3 curves" in answer.text
    return out


def test_a_fit_survives_its_file(fit_file, tmp_path):
    fitted = load(fit_file)
    again = load(save(fitted, tmp_path / "again.json"))
    lr = cosine(T, peak=1e-3)
    assert again.law == fitted.law
    assert again.record == fitted.record
    assert again.predict(lr).tolist() == fitted.predict(lr).tolist()
    assert again.band(lr).low.tolist() == fitted.band(lr).low.tolist()
    json.dumps(to_json(fitted))


def test_what_is_no_fit_is_refused(tmp_path):
    file = tmp_path / "x.json"
    file.write_text("[1, 2")
    with pytest.raises(DataError, match="cannot be read"):
        load(file)
    with pytest.raises(DataError, match="no fitted law"):
        from_json({"law": {"$": "Magic", "rates": {}}})


def test_prediction_prints_an_interval_and_writes_a_table(fit_file, tmp_path):
    out = tmp_path / "p.csv"
    answer = predict_file(fit_file, steps=T, warmup=50, decay=400, out=out)
    assert "90 % of measurements" in answer.text
    rows = list(csv.DictReader(out.read_text().splitlines()))
    last = {key: float(value) for key, value in rows[-1].items()}
    exact = evaluate(
        LAW, POINT, warmup_hold_decay(T, peak=1e-3, warmup=50, decay=400), np.array([T - 1])
    )
    assert last["step"] == T - 1
    assert last["low"] <= last["loss"] <= last["high"]
    assert last["loss"] == pytest.approx(exact[0], abs=0.01)


def test_prediction_of_a_run_reads_its_schedule(fit_file, files):
    assert predict_file(fit_file, schedule=files[0]).text.count("\n") == 12
    with pytest.raises(RecipeError, match="neither a schedule"):
        predict_file(fit_file)


def test_a_schedule_that_optimise_wrote_can_be_predicted(fit_file, tmp_path):
    made = optimise_file(fit_file, 1000, peak=1e-3, warmup=50, out=tmp_path / "best.csv")
    out = predict_file(fit_file, schedule=made.file, out=tmp_path / "loss.csv").file
    last = list(csv.DictReader(out.read_text().splitlines()))[-1]
    assert int(last["step"]) == 999
    assert f"expected final loss      {float(last['loss']):.4f}" in made.text


def test_optimising_beats_the_usual_schedules(fit_file):
    fitted = load(fit_file)
    best = optimise(fitted, T, peak=1e-3, warmup=50)
    for lr in (
        cosine(T, peak=1e-3, warmup=50, floor=1e-4),
        warmup_hold_decay(T, peak=1e-3, warmup=50, decay=T // 5),
        warmup_hold_decay(T, peak=1e-3, warmup=50),
    ):
        assert best.loss < fitted.final(lr)
    assert best.rates.shape == (T,)
    assert fitted.final(best.rates) == pytest.approx(best.loss)


def test_a_free_curve_is_no_worse_than_the_family(fit_file):
    fitted = load(fit_file)
    family = optimise(fitted, T, peak=1e-3, warmup=50)
    free = optimise(fitted, T, peak=1e-3, warmup=50, family="free")
    assert free.loss <= family.loss + 5e-3
    assert (np.diff(free.rates[50:]) <= 1e-15).all()


def test_optimising_is_checked_against_the_record(fit_file):
    with pytest.raises(RecipeError, match=r"peak rate 0\.1"):
        optimise(load(fit_file), T, peak=0.1)
    with pytest.raises(DialError, match="50 steps"):
        optimise(load(fit_file), 50, peak=1e-3, warmup=50)


def test_the_recommendation_is_printed_and_written(fit_file, tmp_path):
    out = tmp_path / "lr.csv"
    text = optimise_file(fit_file, T, warmup=50, out=out).text
    assert "decay from step" in text
    assert len(out.read_text().splitlines()) == T + 1


def test_a_long_warmup_leaves_the_usual_decay_what_is_left(fit_file):
    assert "decay from step" in optimise_file(fit_file, 1000, peak=1e-3, warmup=900).text


def test_laws_are_compared_on_curves_left_out(files):
    text = compare_files(files, laws=["effective", "annealing"], since=100).text
    assert text.splitlines()[2].startswith("effective ")
    held = compare_files(files[:2], laws=["effective"], held=files[2:], since=100).text
    assert "1 held-out curves" in held


def test_an_unknown_law_suggests_one(files, tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'annealing'"):
        fit_files(files, out=tmp_path / "f.json", law="anealing")


def test_a_single_cosine_is_refused_on_the_command_line_too(files, tmp_path):
    with pytest.raises(RecipeError, match="one smooth decay"):
        fit_files(files[:1], out=tmp_path / "f.json", since=100)


def test_twice_the_peak_is_predicted_by_effective_laws_only(files):
    curves = [read(file).since(100) for file in files]
    lr = 2 * curves[0].lr
    assert np.isfinite(fit(LAW, curves).predict(lr, [1990])).all()
    with pytest.warns(LawWarning, match="Effective"):
        fit(AnnealingLaw(), curves).predict(lr, [1990])
