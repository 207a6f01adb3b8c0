"""Every verb on a tiny run, as a user types it."""

import json
import re

import pytest

TINY = "--model 250k --tokenizer bytes --length 16 --batch 4 --quiet".split()


def history(shell, run: str) -> list[dict]:
    lines = (shell.folder / "runs" / run / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_is_trained_listed_sampled_measured_exported_and_reported(shell):
    code, out, err = shell("train", "pretrain", "--data", "a.txt", "--steps", "4", *TINY)
    assert code == 0, err
    assert "pretrain-1: 4 steps, 256 tokens" in out
    run = shell.folder / "runs" / "pretrain-1"
    assert {"recipe.json", "plan.json", "history.jsonl", "report.html", "export"} <= {
        path.name for path in run.iterdir()
    }
    assert "pretrain-1" in shell("list")[1]
    assert "--- 'ab'" in shell("sample", "pretrain-1", "--prompt", "ab", "--tokens", "4")[1]
    assert "no further positions" in shell("sample", "pretrain-1", "--tokens", "4000")[2]
    assert "nats per token" in shell("evaluate", "pretrain-1", "--data", "b.txt")[1]
    assert shell("export", "pretrain-1", "out")[0] == 0
    assert (shell.folder / "out" / "model.safetensors").exists()
    assert shell("report", "pretrain-1", "--out", "page.html")[1].strip() == "page.html"
    assert (shell.folder / "page.html").stat().st_size > 1e6


def test_data_shows_what_a_step_saw(shell):
    shell("train", "pretrain", "--data", "a.txt", "--steps", "3", *TINY)
    code, out, _ = shell("data", "pretrain-1", "--step", "2", "--rows", "1")
    assert code == 0
    assert "step 2: 4 rows, 64 target tokens" in out
    assert "row 0: a #4" in out, "rows are numbered through the run: step 2 starts at row 4"


def test_a_ramp_delivers_what_was_planned(shell):
    ramp = ["--weights", "a=1", "--to", "b=1", "--steps", "64"]
    code, _, err = shell("train", "pretrain", "--data", "a.txt", "--data", "b.txt", *ramp, *TINY)
    assert code == 0, err
    run = shell.folder / "runs" / "pretrain-1"
    planned = json.loads((run / "plan.json").read_text())["sources"]
    last = history(shell, "pretrain-1")[-1]
    for name in ("a", "b"):
        assert last[f"tokens/{name}"] == pytest.approx(planned[name]["tokens"], abs=16)
    assert last["dial/source.weights.b"] == pytest.approx(63 / 64)


def test_shares_move_on_lines_whatever_the_weights_sum_to(shell):
    def planned(run, *options):
        ramp = ["--data", "a.txt", "--data", "b.txt", "--steps", "64", "--run", run, *options]
        assert shell("train", "pretrain", *ramp, *TINY)[0] == 0
        sources = json.loads((shell.folder / "runs" / run / "plan.json").read_text())["sources"]
        return {name: found["tokens"] / (64 * 4 * 16) for name, found in sources.items()}

    sizes = planned("sized")  # a source's share is by size
    mean = 0.5 * sizes["a"] + 0.5 * 0.25
    for run, to in (("low", "a=1,b=3"), ("high", "a=1000,b=3000")):
        assert planned(run, "--to", to)["a"] == pytest.approx(mean, abs=0.01)
    assert planned("tens", "--weights", "a=9,b=1", "--to", "a=1")["a"] == pytest.approx(0.95, 0.01)


def test_weights_may_come_from_a_rule(shell):
    both = ["plan", "pretrain", "--data", "a.txt", "--data", "b.txt", "--steps", "2", *TINY]
    for rule in ("unimax:4", "temperature:1e9"):
        code, out, err = shell(*both, "--weights", rule)
        assert code == 0, err
        assert re.search(r"\na +64 ", out), out
        assert re.search(r"\nb +64 ", out), out


def test_a_decay_branch_agrees_with_its_trunk_and_ends_low(shell):
    shell("train", "pretrain", "--data", "a.txt", "--steps", "8", "--decay", "0", *TINY)
    code, out, err = shell("branch", "pretrain-1", "--at", "5", "--decay", "3", "--quiet")
    assert code == 0, err
    assert "leaves pretrain-1 at step 5" in out
    trunk = {row["step"]: row["loss"] for row in history(shell, "pretrain-1")}
    branch = {row["step"]: row for row in history(shell, "pretrain-1-at-5")}
    assert branch[5]["loss"] == trunk[5]
    assert branch[6]["loss"] == trunk[6], "the rate first differs in the update of step 6"
    rates = [branch[step]["dial/learn.policy.optimizer.lr"] for step in (6, 7, 8)]
    assert rates[0] > rates[1] > rates[2] > 0


def test_a_changed_branch_changes_at_its_step_and_not_before(shell):
    shell("train", "pretrain", "--data", "a.txt", "--steps", "8", "--decay", "0", *TINY)
    code, _, err = shell("branch", "pretrain-1", "--at", "5", "--quiet", "lr.peak=0.001")
    assert code == 0, err
    trunk = {row["step"]: row["loss"] for row in history(shell, "pretrain-1")}
    branch = {row["step"]: row for row in history(shell, "pretrain-1-at-5")}
    assert [branch[step]["loss"] for step in (5, 6)] == [trunk[5], trunk[6]]
    rates = [branch[step]["dial/learn.policy.optimizer.lr"] for step in (5, 6, 8)]
    assert rates == [pytest.approx(0.005, abs=0.004), 0.001, 0.001]
    assert rates[0] > 0.002, "the trunk's rate up to the step"


def test_weights_and_a_decay_change_at_the_step_of_a_branch_and_not_before(shell):
    ramp = ["--data", "a.txt", "--data", "b.txt", "--weights", "a=1,b=1", "--to", "b=1"]
    shell("train", "pretrain", *ramp, "--steps", "16", *TINY)
    trunk = {row["step"]: row for row in history(shell, "pretrain-1")}
    leave = ["branch", "pretrain-1", "--at", "8", "--quiet", 'source.weights={"a": 3, "b": 1}']
    for options in ([], ["--decay", "4"]):
        run = f"b{len(options)}"
        code, _, err = shell(*leave, *options, "policy.clip=0.5", "--run", run)
        assert code == 0, err
        branch = {row["step"]: row for row in history(shell, run)}
        assert all(branch[step]["loss"] == trunk[step]["loss"] for step in (7, 8))
        assert branch[9]["dial/source.weights.a"] == 3
        assert branch[9]["dial/learn.policy.clip"] == 0.5
    code, _, err = shell("branch", "pretrain-1", "--at", "8", "--decay", "4", "--quiet", "rows=8")
    assert code == 3
    assert "write:    --at 6" in err


def test_a_change_that_is_no_dial_needs_a_checkpoint_at_its_step(shell):
    shell("train", "pretrain", "--data", "a.txt", "--steps", "40", *TINY)
    code, _, err = shell("branch", "pretrain-1", "--at", "39", "--quiet", "seed=3")
    assert code == 3
    assert "write:    --at 38" in err


def test_an_extension_leaves_the_run_where_its_decay_began(shell):
    shell("train", "pretrain", "--data", "a.txt", "--steps", "10", "--decay", "0.5", *TINY)
    code, out, err = shell("extend", "pretrain-1", "--steps", "10", "--quiet")
    assert code == 0, err
    assert "pretrain-1-plus-10: leaves pretrain-1 at step 6" in out
    assert history(shell, "pretrain-1-plus-10")[-1]["step"] == 20


def test_a_plan_says_what_a_recipe_would_do_and_writes_no_run(shell):
    code, out, _ = shell("plan", "pretrain", "--data", "a.txt", "--steps", "8", *TINY)
    assert code == 0
    assert "parameters  policy" in out
    assert "learn.policy.optimizer.lr" in out
    assert not (shell.folder / "runs" / "pretrain-1").exists()


def test_an_override_reaches_its_place_and_is_recorded(shell):
    code, _, err = shell(
        "train", "pretrain", "--data", "a.txt", "--steps", "2", *TINY, "lr.peak=0.25", "clip=0.5"
    )
    assert code == 0, err
    about = json.loads((shell.folder / "runs" / "pretrain-1" / "recipe.json").read_text())
    assert about["overrides"] == {"lr.peak": 0.25, "clip": 0.5}
    assert about["tree"]["phases"][0]["do"][0]["optimizer"]["lr"]["peak"] == 0.25


def test_compare_prints_both_runs_and_their_difference(shell):
    for seed in ("0", "1"):
        shell("train", "pretrain", "--data", "a.txt", "--steps", "2", "--seed", seed, *TINY)
    code, out, _ = shell("compare", "pretrain-1", "pretrain-2")
    assert code == 0
    assert "pretrain-1" in out
    assert "seed: 0 | 1" in out


def test_a_recipe_file_of_ones_own_is_trained_and_resumed_from_its_copy(shell):
    (shell.folder / "mine.py").write_text(
        "from thalweg.core.recipe import Phase, Recipe\n"
        "from thalweg.recipes.pretrain import recipe as base\n"
        "def recipe(steps: int = 3) -> Recipe:\n"
        "    '''Mine.\n\n    Args:\n        steps: Of the run.\n    '''\n"
        "    return base(data=['a.txt'], model='250k', tokenizer='bytes', length=16, batch=4,\n"
        "                steps=steps)\n"
    )
    code, _, err = shell("train", "mine.py", "--steps", "2", "--quiet")
    assert code == 0, err
    (shell.folder / "mine.py").unlink()
    code, out, err = shell("resume", "mine-1", "--quiet")
    assert code == 0, err
    assert "mine-1: 2 steps" in out


def test_sft_trains_on_answers_only_and_continues_from_a_run(shell):
    rows = [{"q": f"what is {i}?", "a": f"it is {i}"} for i in range(60)]
    (shell.folder / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shell(
        "train",
        "pretrain",
        "--data",
        "a.txt",
        "--steps",
        "2",
        "--length",
        "64",
        *TINY[:4],
        "--quiet",
    )
    fields = [
        "--prompt",
        "q",
        "--answer",
        "a",
        "--length",
        "64",
        "--batch",
        "2",
        "--steps",
        "2",
        "--held-out",
        "0.2",
    ]
    code, out, err = shell(
        "train", "sft", "--model", "pretrain-1", "--data", "chat.jsonl", *fields, "--quiet"
    )
    assert code == 0, err
    assert "sft-1: 2 steps" in out
    assert "thalweg sample sft-1 --prompt 'what is " in out
    code, out, err = shell(
        "train", "continue_pretrain", "--model", "pretrain-1", "--data", "b.txt", "--old", "a.txt",
        "--replay", "0.25", "--length", "16", "--batch", "4", "--steps", "4", "--quiet",
    )  # fmt: skip
    assert code == 0, err
    last = history(shell, "continue_pretrain-1")[-1]
    assert last["tokens/old-a"] == 64, "a quarter of 16 rows of 16"
    code, out, err = shell(
        "train", "continue_pretrain", "--model", "pretrain-1", "--data", "b.txt", "--old", "a.txt",
        "--replay", "0.5", "--replay-end", "0", "--margin", "100", "--length", "16", "--batch",
        "4", "--steps", "4", "--quiet",
    )  # fmt: skip
    assert code == 0, err
    rows = history(shell, "continue_pretrain-2")
    assert rows[0]["margin"] == 0.0, "no hidden state has moved yet"
    weights = [row["dial/source.weights.old-a"] for row in rows]
    assert weights == [0.5, 0.375, 0.25, 0.125]


def test_train_without_a_recipe_lists_them(shell):
    code, out, _ = shell("train")
    assert code == 0
    for name in ("quickstart", "pretrain", "continue_pretrain", "sft"):
        assert name in out
    assert "--steps" in shell("train", "quickstart", "--help")[1]
