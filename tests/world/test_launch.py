"""The command line under torchrun, as a person types it."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from thalweg import recipes
from thalweg.cli import TRAIN

RECIPES = [getattr(recipes, name) for name in recipes.__all__]
OPTIONS = {name for recipe in RECIPES for name in inspect.signature(recipe).parameters}


@pytest.mark.parametrize("option", sorted((OPTIONS | {*TRAIN, "name"}) - {"run"}))
def test_torchrun_leaves_our_options_to_us(option):
    words = ["train", "pretrain", f"--{option.replace('_', '-')}", "1"]
    found = get_args_parser().parse_args(["-m", "thalweg", *words])
    assert found.training_script_args == words


def command(folder: Path, *words: str) -> None:
    """Run the command line in two processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    here = {"OMP_NUM_THREADS": "1", "THALWEG_HOME": str(folder / "runs")}
    done = subprocess.run(
        [sys.executable, *launcher, "thalweg", *words], cwd=folder, capture_output=True,
        text=True, timeout=150, check=False, env={**os.environ, **here},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


def test_runs_are_trained_named_and_branched_under_torchrun(tmp_path: Path):
    (tmp_path / "text.txt").write_text("some words to learn from, again and again. " * 200)
    small = ["--model", "250k", "--tokenizer", "bytes", "--length", "32", "--batch", "4"]
    command(
        tmp_path, "train", "pretrain", "--data", "text.txt", *small, "--steps", "3",
        "--name", "two", "--shard", "full",
    )  # fmt: skip
    command(tmp_path, "branch", "two", "--at", "2", "--decay", "2", "--name", "lower")
    for name, last in (("two", 3), ("lower", 4)):
        run = tmp_path / "runs" / name
        assert json.loads((run / "history.jsonl").read_text().splitlines()[-1])["step"] == last
        assert json.loads((run / "recipe.json").read_text())["versions"]["processes"] == "2"
