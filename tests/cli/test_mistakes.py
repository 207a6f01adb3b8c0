"""Slips of the hand: each is told where it stands and what to write, and leaves nothing behind."""

import json
import re
import resource
from contextlib import contextmanager
from importlib.util import find_spec
from shutil import copytree, rmtree

import pytest

SMALL = "--model 250k --tokenizer bytes --length 16 --batch 4 --quiet".split()


@pytest.fixture
def refuse(shell):
    """Run a bad command; return its message after checking its form."""

    def run(*arguments: str, code: int = 3) -> str:
        before = sorted(path.parent.name for path in shell.folder.glob("runs/*/recipe.json"))
        found, _, err = shell(*arguments)
        assert found == code, err
        for part in ("error: ", "  expected: ", "  where:    ", "  write:    "):
            assert part in err or code != 3
        after = sorted(path.parent.name for path in shell.folder.glob("runs/*/recipe.json"))
        assert after == before, "nothing was made"
        return err

    return run


@pytest.fixture
def base(shell) -> str:
    """Train a run of six steps."""
    assert shell(*train("--run", "base", "--steps", "6"))[0] == 0
    return "base"


def train(*arguments: str, data: str = "a.txt") -> tuple[str, ...]:
    return ("train", "pretrain", "--data", data, *SMALL, *arguments)


@pytest.mark.parametrize("data", ["x=", "=a.txt", "", "a.b=a.txt"])
def test_a_source_without_a_name_or_a_path_is_refused(refuse, data):
    assert "where:    --data" in refuse(*train(data=data))


def test_rows_of_nothing_are_refused_by_the_options_name(refuse):
    assert "where:    --length" in refuse(*train("--length", "0"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--warmup", "2"), "(--warmup 2.0)"),
        (("--lr", "nan"), "(--lr nan)"),
        (("--micro", "0"), "(--micro 0)"),
        (("--batch", "-3"), "(--batch -3)"),
        (("--steps", "-5"), "(--steps -5)"),
    ],
)
def test_a_number_out_of_range_names_its_option(refuse, words, said):
    assert said in refuse(*train(*words))


def test_a_rate_that_is_refused_is_not_answered_with_a_rate_of_nothing(refuse):
    assert "write:    peak=0.001" in refuse(*train("--lr", "nan"))


@pytest.mark.parametrize("change", ["clip=-1", "learn.policy.micro=0", "minibatch=0", "passes=0"])
def test_a_learn_that_would_go_uphill_or_nowhere_is_refused(refuse, change):
    assert "or more" in refuse(*train(change))


def test_a_source_whose_weight_was_forgotten_is_named(refuse):
    words = ("--data", "b.txt", "--weights", "a=1")
    assert "no weight for 'b'" in refuse(*train(*words))
    assert "no weight for 'b'" in refuse(*train(*words, "--to", "a=3"))


def test_a_part_is_not_printed_whole_when_a_number_cannot_replace_it(refuse):
    err = refuse(*train("optimizer=3"))
    assert "expected: a value like the present one, Muon\n" in err


def test_a_sink_that_is_none_or_not_installed_leaves_no_folder(refuse):
    assert "did you mean 'tensorboard'?" in refuse(*train("--sink", "tensorbored"))
    if find_spec("wandb") is None:
        assert "pip install wandb" in refuse(*train("--sink", "wandb"))


def test_a_folder_that_is_no_run_is_not_offered_for_resuming(refuse, shell):
    (shell.folder / "notes").mkdir()
    err = refuse(*train("--run", "notes/"))
    assert "is no run" in err
    assert "resume" not in err


def test_a_run_elsewhere_or_with_a_space_is_named_so_that_the_next_commands_work(shell):
    _, out, _ = shell(*train("--run", "deep/in/here", "--steps", "2"))
    assert "thalweg sample deep/in/here --prompt" in out
    assert shell("data", "deep/in/here", "--step", "1")[0] == 0
    _, out, _ = shell(*train("--run", "my run", "--steps", "2"))
    assert "thalweg data 'my run' --step 1" in out


@pytest.mark.parametrize(
    "words",
    [
        ("branch", "base", "--at", "-3", "--decay", "2"),
        ("branch", "base", "--at", "3", "--decay", "0"),
        ("branch", "base", "--at", "3", "--decay", "-4"),
        ("branch", "base", "--at", "4", "steps=3"),
        ("extend", "base"),
        ("extend", "base", "--steps", "0"),
        ("extend", "base", "--steps", "-4"),
        ("extend", "base", "--tokens", "-4"),
        ("extend", "base", "--tokens", "nan"),
        ("data", "base", "--step", "0"),
        ("data", "base", "--step", "7"),
    ],
)
def test_steps_that_no_run_has_are_refused(refuse, base, words):
    err = refuse(*words)
    offered = err[err.index("write:") :].split()
    assert words[-1] not in offered or words[-1] == "base"


def test_a_place_that_cannot_be_written_is_one_error(refuse, base, shell):
    assert "a.txt" in refuse("export", base, "a.txt")
    (shell.folder / "folder").mkdir()
    assert "folder" in refuse("report", base, "--out", "folder")


def test_a_picture_of_another_kind_is_refused(refuse):
    plan = ("plan", *train("--steps", "4")[1:])
    assert "write:    --plot x.svg" in refuse(*plan, "--plot", "x.png")


ENDLESS = """
from thalweg.core.moves import Learn
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.time import share, steps
from thalweg.data import Corpus, build
from thalweg.models import size
from thalweg.objectives import NextToken
from thalweg.optim import AdamW
from thalweg.schedules import Constant, Warmup, Wsd

def recipe(wsd: bool = False) -> Recipe:
    corpus = Corpus(str(build("a.txt").train), length=16)
    rate = Wsd(1e-3, decay=share(0.2)) if wsd else Warmup(Constant(1e-3), over=steps(3))
    learn = Learn("policy", NextToken(), AdamW(lr=rate))
    return Recipe({"policy": size("250k", 320, 16)}, (Phase(None, corpus, (learn,), rows=4),))
"""


def test_the_plan_of_an_endless_run_speaks_of_steps(refuse, shell):
    (shell.folder / "endless.py").write_text(ENDLESS)
    code, out, _ = shell("plan", "endless.py")
    assert code == 0
    assert "tokens      64 a step" in out
    assert "in all" not in out
    assert "pilots      none: an endless phase; needed: phases with a length" in out
    assert "an endless phase" in refuse("plan", "endless.py", "--pilot")
    assert "needs to know the end" in refuse("plan", "endless.py", "--wsd")


def test_a_recipe_that_returns_something_else_is_told_so(refuse, shell):
    (shell.folder / "none.py").write_text("def recipe() -> None:\n    pass\n")
    assert "returned NoneType" in refuse("plan", "none.py")


def test_a_damaged_run_does_not_hide_the_others_in_the_list(shell, base):
    for name, file in (("bad", "recipe.json"), ("cut", "history.jsonl"), ("less", "plan.json")):
        copytree(shell.folder / "runs" / base, shell.folder / "runs" / name)
        (shell.folder / "runs" / name / file).write_text('{"step": 1, "lo\n')
    (shell.folder / "runs" / "less" / "plan.json").unlink()
    code, out, _ = shell("list")
    assert code == 0
    assert "6/6" in out
    assert out.count("damaged: ") == 2, "half a last line is no damage"


def test_a_run_without_a_whole_checkpoint_says_so(refuse, shell, base):
    run = shell.folder / "runs" / base
    for file in run.glob("checkpoints/*/state.json"):
        file.write_text("{}")
    assert "a backup" in refuse("branch", base, "--at", "3", "--decay", "2")
    assert "all damaged" in refuse("sample", base)
    rmtree(run / "checkpoints")
    for words in (("branch", base, "--decay", "2"), ("sample", base), ("resume", base)):
        assert "train again under another --run name" in refuse(*words)
    (run / "history.jsonl").write_text("")
    assert "thalweg resume base" in refuse("branch", base, "--decay", "2")
    assert "thalweg resume base" in refuse("sample", base)


def test_text_that_is_gone_is_told_by_its_place_and_how_it_comes_back(refuse, shell, base):
    rmtree(shell.folder / "runs" / "stores")
    for words in (("resume", base), ("sample", base), ("data", base, "--step", "1")):
        err = refuse(*words)
        assert "comes to the same place" in err
        assert "huggingface" not in err


def test_a_run_from_a_run_names_the_export_that_is_gone_and_how_it_comes_back(
    refuse, shell, base, monkeypatch
):
    code, _, err = shell(
        "train", "continue_pretrain", "--model", base, "--data", "b.txt", "--length", "16",
        "--batch", "4", "--steps", "2", "--run", "child", "--quiet",
    )  # fmt: skip
    assert code == 0, err
    (shell.folder / "away").mkdir()
    monkeypatch.chdir(shell.folder / "away")
    assert shell("sample", "child", "--tokens", "4")[0] == 0, "whatever folder it is called from"
    export = shell.folder / "runs" / base / "export"
    rmtree(export)
    for words in (("sample", "child"), ("resume", "child"), ("branch", "child", "clip=0.5")):
        assert f"write:    thalweg export base {export}" in refuse(*words)
    assert shell("export", base, str(export))[0] == 0
    assert shell("sample", "child", "--tokens", "4")[0] == 0


def test_a_record_that_was_edited_is_refused_by_every_verb_that_reads_weights(refuse, shell, base):
    file = shell.folder / "runs" / base / "recipe.json"
    whole = file.read_text()
    about = json.loads(whole)
    about["tree"]["seed"] = 7
    file.write_text(json.dumps(about))
    verbs = ("resume", "sample", "evaluate", "export out", "branch clip=0.5", "data --step 1")
    for verb, *words in (line.split() for line in verbs):
        err = refuse(verb, base, *words)
        assert "error: seed = 7\n  expected: 0, as when the checkpoint was written" in err
    file.write_text(whole)
    assert shell("sample", base, "--tokens", "4")[0] == 0


@pytest.mark.parametrize("text", ["[]", "{}", '{"tree": 3}', '{"tree": {"ph'])
def test_a_record_that_is_none_is_told_so_and_where_its_copy_is(refuse, shell, base, text):
    (shell.folder / "runs" / base / "recipe.json").write_text(text)
    for verb in ("resume", "sample"):
        err = refuse(verb, base)
        assert "error: recipe.json cannot be read" in err
        assert "checkpoints/*/state.json hold its tree" in err
    if text in ("[]", '{"tree": {"ph'):
        assert "checkpoints/*/state.json hold its tree" in refuse("report", base)


def test_a_plan_that_is_damaged_is_told_and_may_be_removed(refuse, shell, base):
    file = shell.folder / "runs" / base / "plan.json"
    file.write_text('{"steps": 6, "tok')
    write = f"write:    restore the file, or go on without the plan: rm {file}"
    assert write in refuse("resume", base)
    assert write in refuse("report", base)
    file.unlink()
    code, _, err = shell("resume", base)
    assert code == 0, err


@contextmanager
def files_of_at_most(size: int):
    """Let the system refuse larger files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_after_the_last_step_is_told_and_the_command_for_later(
    refuse, shell, base
):
    with files_of_at_most(100_000):
        assert "write:    make room, then: thalweg resume base" in refuse("resume", base)
        assert "write:    make room, then: thalweg export base out" in refuse("export", base, "out")
        assert "'page.html': File too large" in refuse("report", base, "--out", "page.html")
    assert not list(shell.folder.glob(".page*")), "no half page is left"
    code, _, err = shell("resume", base)
    assert code == 0, err


def test_a_prompt_that_is_no_text_is_refused(refuse, base):
    assert r"error: prompt '\udcff'" in refuse("sample", base, "--prompt", "\udcff")


def test_a_branch_where_every_rate_is_0_is_refused_and_the_step_before_the_decay_named(
    refuse, shell, base
):
    more = re.search("write:    (thalweg extend .*),", refuse("branch", base, "main.steps=9"))
    decay = re.search("write:    (thalweg branch .*)", refuse("branch", base, "--decay", "2"))
    for found in (more, decay):
        assert found is not None
        code, out, err = shell(*found[1].split()[1:], "--quiet")
        assert code == 0, err + out


def test_a_path_of_a_model_that_is_not_there_is_not_asked_of_the_hub(refuse):
    err = refuse("train", "continue_pretrain", "--model", "runs/none/export", "--data", "b.txt")
    assert "error: model 'runs/none/export', which is not there" in err
    assert "put the run 'none' back" in err
