"""Curves as W&B, TensorBoard, pandas and spreadsheets write them; what is refused of them."""

from pathlib import Path

import numpy as np
import pytest

from thalweg.errors import DataError, RecipeError
from thalweg.laws import Curve, LawWarning, MultiPowerLaw, fit, warmup_hold_decay
from thalweg.laws.files import read, read_all
from thalweg.laws.verbs import fit_files, optimise_file, predict_file

STEPS = np.arange(100, 3000, 20)
FLAT = warmup_hold_decay(3000, peak=1e-3, warmup=50)
FALLING = warmup_hold_decay(3000, peak=1e-3, warmup=50, decay=1000)


def losses(lr: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 1e-3, STEPS.size)
    return 2.5 + 9 * STEPS**-0.4 - 100 * (1e-3 - lr[STEPS]) + noise


def table(file: Path, head: list[str], columns: list[np.ndarray], mark: str = ",") -> Path:
    rows = [mark.join(f"{value:.9g}" for value in row) for row in np.stack(columns, 1)]
    file.write_text("\n".join([mark.join(head), *rows]) + "\n")
    return file


@pytest.fixture
def panels(tmp_path) -> tuple[Path, Path]:
    """Write a loss and a rate panel of two runs, as W&B exports them."""

    def panel(name: str, metric: str, flat: np.ndarray, falling: np.ndarray) -> Path:
        head = ["Step"]
        for run in ("flat - 1", "falling"):
            head += [f"{run} - {metric}{end}" for end in ("", "__MIN", "__MAX")]
        return table(tmp_path / name, head, [STEPS, *[flat] * 3, *[falling] * 3])

    return (
        panel("loss.csv", "train/loss", losses(FLAT), losses(FALLING)),
        panel("lr.csv", "train/lr", FLAT[STEPS], FALLING[STEPS]),
    )


def test_a_panel_of_several_runs_is_several_curves(panels):
    loss, lr = panels
    falling, flat = read_all(loss, lr=str(lr), warmup=50)
    assert (falling.name, flat.name) == ("falling", "flat - 1")
    assert np.allclose(flat.loss, losses(FLAT))
    assert np.allclose(falling.lr[STEPS], FALLING[STEPS])
    assert np.allclose(flat.lr[STEPS], FLAT[STEPS])


def test_a_panel_is_fitted_in_one_command(panels, tmp_path):
    loss, lr = panels
    answer = fit_files([loss], lr=str(lr), warmup=50, out=tmp_path / "law.json")
    assert "on 2 curves" in answer.text


def test_one_run_of_a_panel_is_chosen_by_its_column(panels):
    loss, _ = panels
    [curve] = read_all(loss, loss="falling - train/loss", lr=1e-3, warmup=0)
    assert np.allclose(curve.loss, losses(FALLING))


def test_a_panel_of_rates_without_the_run_is_refused(panels, tmp_path):
    other = table(tmp_path / "other.csv", ["Step", "x - lr", "y - lr"], [STEPS, STEPS, STEPS])
    with pytest.raises(DataError, match="no column of run 'falling'"):
        read_all(panels[0], lr=str(other))


def test_one_file_of_rates_does_not_stand_for_several_runs(tmp_path):
    names = ["Wall time", "Step", "Value"]
    a, b = (table(tmp_path / f"{n}.csv", names, [STEPS, STEPS, losses(FLAT)]) for n in "ab")
    lr = table(tmp_path / "lr.csv", names, [STEPS, STEPS, FLAT[STEPS]])
    fall = table(tmp_path / "fall.csv", names, [STEPS, STEPS, FALLING[STEPS]])
    with pytest.raises(RecipeError, match="for 2 curves"):
        fit_files([a, b], lr=str(lr), warmup=50, out=tmp_path / "law.json")
    fit_files([a, b], lr=[str(lr), str(fall)], warmup=50, out=tmp_path / "law.json")


@pytest.mark.parametrize("comma", [False, True])
def test_semicolons_and_decimal_commas_are_read(tmp_path, comma):
    file = table(tmp_path / "a.csv", ["", "step", "lr", "loss"],
                 [STEPS, STEPS, FLAT[STEPS], losses(FLAT)], mark=";")  # fmt: skip
    if comma:
        file.write_text(file.read_text().replace(".", ","))
    assert np.allclose(read(file, warmup=50).loss, losses(FLAT))


def test_a_row_with_too_many_cells_is_named(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("step,lr,loss\n1,1e-3,5.0\n2,1e-3,4,9\n")
    with pytest.raises(DataError, match=r"(?s)more cells than columns.*a\.csv, line 3"):
        read(file)


def test_a_broken_line_is_named(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"step": 1, "loss": 5, "lr": 1}\n\n{bad\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 3"):
        read(file)


def test_messages_name_the_options_of_the_command_line(tmp_path):
    file = table(tmp_path / "a.csv", ["at", "loss"], [STEPS, losses(FLAT)])
    with pytest.raises(DataError, match="--step NAME"):
        read(file)
    with pytest.raises(DataError, match="--lr COLUMN"):
        read(file, step="at")


def test_rates_that_never_fall_are_said_to_leave_the_decay_open():
    curve = Curve(name="flat", steps=STEPS, loss=losses(FLAT), lr=FLAT)
    with pytest.warns(LawWarning, match="no rate falls"):
        fit(MultiPowerLaw(), [curve])


def test_one_smooth_decay_twice_is_still_one_smooth_decay():
    lr = warmup_hold_decay(3000, peak=1e-3, decay=2990)
    curve = Curve(name="line", steps=STEPS, loss=losses(lr), lr=lr)
    with pytest.raises(RecipeError, match="one smooth decay"):
        fit(MultiPowerLaw(), [curve, curve])


@pytest.mark.parametrize(
    "asked",
    [
        {"steps": -3},
        {"steps": 100, "warmup": 200},
        {"steps": 100, "warmup": 50, "decay": 80},
        {"steps": 100, "peak": -1.0},
        {"steps": 100, "peak": float("nan")},
        {"steps": 100, "floor": 2.0},
        {"steps": 100, "level": 90.0},
    ],
)
def test_numbers_that_make_no_schedule_are_refused(panels, tmp_path, asked):
    loss, lr = panels
    fit_files([loss], lr=str(lr), warmup=50, out=tmp_path / "law.json")
    with pytest.raises(RecipeError, match="--"):
        predict_file(tmp_path / "law.json", **asked)


def test_a_rate_below_zero_is_not_optimised(panels, tmp_path):
    loss, lr = panels
    fit_files([loss], lr=str(lr), warmup=50, out=tmp_path / "law.json")
    with pytest.raises(RecipeError, match="--peak -1"):
        optimise_file(tmp_path / "law.json", 1000, peak=-1.0)
