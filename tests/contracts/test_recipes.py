"""One battery over every recipe, at its smallest: it plans, trains, and is resumed exactly."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from data_helpers import write_lines
from run_helpers import history, stop_after, tensors
from test_laws import check_algorithm
from thalweg import finish, launch
from thalweg.core.names import finder
from thalweg.core.plan import plan
from thalweg.core.recipe import Recipe, check
from thalweg.core.session import Origin, resume, train
from thalweg.core.tree import read_record, record
from thalweg.data import byte_tokenizer
from thalweg.recipes import parts, summaries

STEPS = 6
TINY: Mapping[str, object] = {"steps": STEPS, "length": 16, "batch": 4}
SLOW = {"quickstart"}
"""Reads the whole standard library."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    words = " ".join(f"word{i % 97} and {i % 31}" for i in range(2000))
    (folder / "a.txt").write_text(words)
    (folder / "b.txt").write_text(words[::-1])
    pairs = [{"prompt": f"{i}+1=", "answer": str(i + 1)} for i in range(200)]
    write_lines(folder / "pairs.jsonl", pairs)
    preferences = [{"prompt": f"{i}+1=", "chosen": str(i + 1), "rejected": "?"} for i in range(99)]
    write_lines(folder / "preferences.jsonl", preferences)
    return folder


@pytest.fixture(scope="module")
def exported(texts) -> str:
    """A trained model in a folder, to start others from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THALWEG_HOME", str(texts / "home"))
        train(make("pretrain", texts, ""), texts / "run")
        return str(finish.export_run(texts / "run", texts / "export"))


def make(name: str, texts: Path, model: str) -> Recipe:
    function, _ = launch.find_recipe(name)
    files = ("a.txt", "b.txt", "pairs.jsonl", "preferences.jsonl")
    a, b, pairs, preferences = (str(texts / file) for file in files)
    asked = {"task": "Addition(digits=1)", "new_tokens": 3, "template": "{prompt}{answer}"}
    options = {
        "quickstart": {"model": "250k", "tokenizer": "bytes"},
        "pretrain": {"data": [a, b], "model": "250k", "tokenizer": "bytes", "weights": "a=3,b=1"},
        "continue_pretrain": {
            **{"model": model, "data": [a], "old": [b], "replay": 0.5, "replay_end": 0.25},
            "margin": 10.0,
        },
        "sft": {"model": model, "data": [pairs], "template": "{prompt}{answer}", "lora": 2},
        "preference": {"model": model, "data": [preferences]},
        "rl": {"model": model, **asked, "group": 2, "measure": 4, "every": 2},
        "distill": {"teacher": model, "model": "100k", "data": [a]},
        "sft_then_rl": {**asked, "steps": 4, "sft_steps": 2, "group": 2, "measure": 4},
        "self_improve": {**asked, "steps": 2, "base_steps": 2, "rounds": 2, "votes": 2},
    }[name]
    return function(**{**TINY, **options})


NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in summaries()
]
EVERY = pytest.mark.parametrize("name", NAMES)


@EVERY
def test_a_recipe_is_checked_planned_recorded_and_a_list_of_moves(name, texts, exported):
    recipe = make(name, texts, exported)
    check(recipe)
    check_algorithm(recipe)
    assert plan(recipe).steps == STEPS
    assert read_record(json.loads(json.dumps(record(recipe))), finder()) == recipe


@EVERY
def test_a_recipe_stopped_in_its_middle_goes_on_bit_for_bit(name, texts, exported, tmp_path):
    recipe = make(name, texts, exported)
    train(recipe, tmp_path / "whole", Origin(name))
    train(recipe, tmp_path / "cut", Origin(name), stop_after(3))
    resume(tmp_path / "cut")
    assert history(tmp_path / "cut") == history(tmp_path / "whole")
    assert tensors(tmp_path / "cut") == tensors(tmp_path / "whole")
    losses = [json.loads(line)["loss"] for line in history(tmp_path / "whole").splitlines()]
    assert len(losses) == STEPS


def test_held_out_text_costs_the_same_with_one_source_and_with_many():
    for count, each in ((1, 64), (2, 32), (8, 8), (21, 4)):
        held = {f"text{i}": Path("nowhere") for i in range(count)}
        (monitor,) = parts.held_out_monitor(parts.Text({}, held, byte_tokenizer()), length=16)
        assert monitor.most == each
