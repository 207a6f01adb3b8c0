"""`thalweg laws` over files, as somebody who has exports and no runs would use it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from thalweg.laws import AnnealingLaw, Curve, fit, warmup_hold_decay


@pytest.fixture
def exports(shell):
    """Write two runs of a made-up model: a flat and a decayed one."""
    steps = np.arange(500, 8000, 50)
    for name, decay in (("flat", 0), ("falling", 3000), ("short", 1000)):
        lr = warmup_hold_decay(8000, peak=1e-3, warmup=200, decay=decay)
        area = np.cumsum(lr) / 1e-3
        loss = 2.5 + 9 * area[steps] ** -0.4 - 0.2 * (1e-3 - lr[steps]) / 1e-3
        rows = [f"{s},{y:.5f},{lr[s]:.6g}" for s, y in zip(steps, loss, strict=True)]
        (shell.folder / f"{name}.csv").write_text("step,loss,lr\n" + "\n".join(rows) + "\n")
    return shell


def test_a_fit_is_written_and_asked(exports):
    curves = ["flat.csv", "falling.csv", "--warmup", "200"]
    code, out, err = exports("laws", "fit", *curves, "--law", "annealing", "--out", "law.json")
    assert code == 0, err
    assert json.loads((exports.folder / "law.json").read_text())
    code, out, err = exports("laws", "predict", "law.json", "--steps", "8000", "--peak", "1e-3")
    assert code == 0, err
    assert " to " in out, "an interval"
    assert "best:" in exports("laws", "optimise", "law.json", "--steps", "8000")[1]
    code, out, err = exports(
        "laws", "compare", "short.csv", *curves, "--law", "annealing", "--law", "multi-power"
    )
    assert code == 0, err
    assert "multi-power" in out


def test_one_smooth_decay_and_bad_columns_are_refused(exports):
    steps = np.arange(0, 4000, 20)
    rows = [f"{s},{2 + 1 / (1 + s / 100):.5f},{np.cos(s / 4000 * np.pi / 2):.6f}" for s in steps]
    (exports.folder / "cosine.csv").write_text("step,loss,lr\n" + "\n".join(rows) + "\n")
    code, _, err = exports("laws", "fit", "cosine.csv")
    assert code == 3
    assert "write:" in err
    (exports.folder / "bad.csv").write_text("step,loss\n1,2.0\n2,nan\n")
    assert exports("laws", "fit", "bad.csv", "flat.csv")[0] == 3


def test_the_verbs_need_no_torch(exports):
    program = "import sys, thalweg.cli_laws; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_library_gives_what_the_verb_gives():
    lr = warmup_hold_decay(4000, peak=1e-3)
    steps = np.arange(100, 4000, 20)
    flat = Curve(name="a", steps=steps, loss=3 + 4 * steps**-0.5, lr=lr)
    low = warmup_hold_decay(4000, peak=1e-3, decay=2000)
    fallen = Curve(
        name="b", steps=steps, loss=3 + 4 * steps**-0.5 - 100 * (1e-3 - low[steps]), lr=low
    )
    fitted = fit(AnnealingLaw(), [flat, fallen])
    assert fitted.final(low) < fitted.final(lr)


def test_a_warning_is_one_sentence(exports):
    command = [sys.executable, "-m", "thalweg", "laws", "fit", "flat.csv", "--warmup", "200"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=exports.folder)
    assert done.stderr.startswith("warning: flat: no rate falls")
    assert ".py" not in done.stderr
