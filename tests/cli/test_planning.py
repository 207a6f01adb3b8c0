"""Plans from pilots and past runs, and the rates of branches, as a user types them."""

import json
import shutil
from dataclasses import replace

import pytest

from run_helpers import lab_recipe
from thalweg.errors import RecipeError
from thalweg.optim import AdamW, Groups
from thalweg.planning import _doubts, rates_of
from thalweg.schedules import Constant, Linear

TINY = (
    "--optimizer adamw --decay 0.2 --model 250k --tokenizer bytes --length 16 --batch 4 --quiet"
).split()
PLAN = ("pretrain", "--data", "a.txt", "--steps", "230", *TINY, "--run", "it")
PILOTS = ("it-pilot-1", "it-pilot-2")


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Return a folder for the texts and the pilots of PLAN, which later tests find there."""
    return tmp_path_factory.mktemp("planned")


@pytest.fixture
def desk(planned, shell, monkeypatch, capsys):
    """Return a shell whose runs hold the two pilots of PLAN, and nothing of other tests."""
    if not (planned / "a.txt").exists():
        shutil.copyfile(shell.folder / "a.txt", planned / "a.txt")
    desk = type(shell)(planned, monkeypatch, capsys)
    if not (planned / "out").exists():
        code, out, err = desk("plan", *PLAN, "--pilot")
        assert code == 0, err
        (planned / "out").write_text(out)
    yield desk
    shutil.rmtree(planned / "runs" / "it", ignore_errors=True)


def history(shell, run: str) -> list[dict]:
    lines = (shell.folder / "runs" / run / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_plan_without_past_runs_proposes_pilots_and_their_cost(shell):
    code, out, err = shell("plan", *PLAN)
    assert code == 0, err
    assert "pilots" in out
    assert "the rate held after the warm-up       69       69" in out
    assert "add --pilot" in out
    assert not list((shell.folder / "runs").glob("it*"))


def test_rates_and_doubts_of_phases_whose_optimizers_have_other_paths():
    adam = lab_recipe(20, lr=Constant(0.1)).phases[0]
    both = Groups({"*bias": AdamW(lr=0.1), "*": AdamW(lr=Linear(0.1, 0.0))})
    groups = lab_recipe(20, optimizer=both).phases[0]
    recipe = replace(lab_recipe(), phases=(replace(adam, name="a"), replace(groups, name="b")))
    assert rates_of(recipe).lr.size == 40
    said = _doubts(recipe)
    assert len(said) == 2
    assert "another shape than" in said[1]


def test_a_rate_of_0_is_no_plan_for_a_law():
    with pytest.raises(RecipeError, match="learning rate of 0"):
        rates_of(lab_recipe(20, lr=Constant(0.0)))


def test_a_run_too_short_for_pilots_says_why(shell):
    code, out, _ = shell("plan", "pretrain", "--data", "a.txt", "--steps", "30", *TINY)
    assert code == 0
    assert "pilots      none: a run of 30 steps" in out
    code, _, err = shell("plan", "pretrain", "--data", "a.txt", "--steps", "30", *TINY, "--pilot")
    assert code == 3
    assert "cheapest pilot" in err


def test_pilots_run_once_and_a_plan_follows(desk, planned):
    out = (planned / "out").read_text()
    assert "prediction  held-out loss" in out
    assert "final loss at a budget of" in out
    assert "decay       best from step" in out
    runs = desk.folder / "runs"
    before = [(runs / name / "history.jsonl").stat().st_mtime_ns for name in PILOTS]
    code, again, err = desk("plan", *PLAN, "--pilot")
    assert code == 0, err
    assert [(runs / name / "history.jsonl").stat().st_mtime_ns for name in PILOTS] == before
    assert again.splitlines()[-1] == out.splitlines()[-1]


def test_the_trunk_is_the_beginning_of_the_planned_run(desk):
    code, _, err = desk("train", *PLAN)
    assert code == 0, err
    read = [[row["loss"] for row in history(desk, name)] for name in ("it-pilot-1", "it")]
    assert read[0] == read[1][: len(read[0])]


def test_a_killed_pilot_goes_on_and_another_recipe_is_refused(desk):
    shutil.rmtree(desk.folder / "runs" / "it-pilot-2")
    code, out, err = desk("plan", *PLAN, "--pilot")
    assert code == 0, err
    assert "prediction" in out
    code, _, err = desk("plan", *PLAN, "--pilot", "--seed", "1")
    assert code == 3
    assert "the pilot of this very recipe" in err


def test_a_run_from_past_runs_holds_its_prediction_and_is_watched(desk):
    code, out, err = desk("train", *PLAN, "--from", *PILOTS)
    assert code == 0, err
    assert "prediction  held-out loss" in out
    run = desk.folder / "runs" / "it"
    found = json.loads((run / "plan.json").read_text())["prediction"]
    assert found["runs"] == list(PILOTS)
    assert found["step"][-1] == 230
    tree = json.loads((run / "recipe.json").read_text())["tree"]
    assert tree["phases"][0]["controllers"][0]["$"].endswith(":Watch")
    page = (run / "report.html").read_text()
    assert "Predicted loss" in page
    assert "predicted, 90 %" in page


def test_a_recipe_unlike_its_past_is_refused_with_the_reason(desk):
    code, _, err = desk("plan", *PLAN, "--optimizer", "muon", "--from", *PILOTS)
    assert code == 3
    assert "optimizer Muon" in err
    code, _, err = desk("plan", *PLAN, "--lr", "0.1", "--from", *PILOTS)
    assert code == 3
    assert "peak rate 0.1" in err
    code, out, err = desk("plan", *PLAN, "--lr", "0.1", "--elsewhere", "warn", "--from", *PILOTS)
    assert code == 0, err
    assert "warning: peak rate 0.1" in out


def test_a_past_run_with_a_loss_that_is_no_number_is_refused(desk):
    file = desk.folder / "runs" / "it-pilot-1" / "history.jsonl"
    whole = file.read_text()
    rows = [json.loads(line) for line in whole.splitlines()]
    at = next(k for k, row in enumerate(rows) if k > 30 and "heldout/loss" in row)
    rows[at]["heldout/loss"] = float("nan")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = desk("plan", *PLAN, "--from", *PILOTS)
    file.write_text(whole)
    assert code == 3
    assert "loss is nan" in err


@pytest.fixture
def trunk(shell):
    code, _, err = shell(
        "train", "pretrain", "--data", "a.txt", "--steps", "20", "--warmup", "0", *TINY
    )
    assert code == 0, err
    return shell


def rates(shell, run: str) -> dict[int, float]:
    return {row["step"]: row["dial/learn.policy.optimizer.lr"] for row in history(shell, run)}


def test_an_extension_keeps_its_rate_and_says_what_the_bound_proposes(trunk):
    code, out, err = trunk("extend", "pretrain-1", "--steps", "20", "--quiet")
    assert code == 0, err
    assert "rates kept; --rate proposed lowers them to x0.5" in out
    made = rates(trunk, "pretrain-1-plus-20")
    assert made[20] == made[32] == rates(trunk, "pretrain-1")[16]


def test_an_extension_takes_the_proposed_rate_or_a_number(trunk):
    code, out, err = trunk("extend", "pretrain-1", "--steps", "20", "--quiet", "--rate", "proposed")
    assert code == 0, err
    line = next(line for line in out.splitlines() if "rates: x" in line)
    factor = float(line.split("x")[1].split()[0])
    assert "20 -> 40 steps by the convex bound" in line
    made, before = rates(trunk, "pretrain-1-plus-20"), rates(trunk, "pretrain-1")
    leave = int(line.split("from step ")[1].split()[0])
    assert made[leave] == before[leave]
    assert made[leave + 1] == pytest.approx(factor * before[leave], rel=1e-3)
    assert 0.4 < factor < 0.65
    code, out, err = trunk("extend", "pretrain-1", "--steps", "20", "--quiet", "--rate", "0.25",
                           "--run", "quarter")  # fmt: skip
    assert code == 0, err
    assert "rates: x0.250 from step" in out
    assert rates(trunk, "quarter")[leave + 1] == pytest.approx(0.25 * before[leave])


def test_a_branch_that_decays_says_that_the_bound_asks_for_no_lower_rate(trunk):
    code, out, err = trunk("branch", "pretrain-1", "--at", "16", "--decay", "24", "--quiet",
                           "--rate", "proposed")  # fmt: skip
    assert code == 0, err
    assert "rates kept (20 -> 40 steps by the convex bound)" in out
    code, out, _ = trunk("branch", "pretrain-1", "--at", "8", "--decay", "4", "--quiet",
                         "--rate", "0.5")  # fmt: skip
    assert code == 0
    assert "rates: x0.500 from step 8 on (as asked; proposed x1.000: 20 -> 12 steps" in out


def test_a_rate_that_is_neither_is_refused(trunk):
    code, _, err = trunk("extend", "pretrain-1", "--steps", "20", "--rate", "half")
    assert code == 3
    assert "proposed, keep, or a factor above 0" in err
