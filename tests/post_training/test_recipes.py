"""The post-training recipes from the command line, small: what they print, refuse, and show."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest
import torch
from transformers import AutoModelForCausalLM

from run_helpers import history, stop_after, tensors
from thalweg.core.session import Origin, resume, train
from thalweg.data.tokenizer import byte_tokenizer
from thalweg.errors import DataError, RecipeError
from thalweg.launch import find_recipe
from thalweg.models import Transformer, export
from thalweg.recipes.answers import Algorithm, method
from thalweg.recipes.named import file_of, reward_of, task_of

SMALL = "--task Addition(digits=1) --new-tokens 3 --length 16 --group 2 --batch 4 --quiet".split()
RL = [*SMALL, "--steps", "3", "--measure", "2", "--template", "{prompt}{answer}"]
MINE = """
import time
from dataclasses import dataclass
from thalweg import Problem

def short(prompt, answer, problem):
    return 1.0 if len(answer) < 2 else 0.0

def raising(prompt, answer, problem):
    raise KeyError("no such thing")

def nothing(prompt, answer, problem):
    return float("nan")

def sometimes(prompt, answer, problem):
    return 1.0 / (len(answer) % 2)

def uneven(prompt, answer, problem):
    return float(sum(map(ord, answer)) % 7)

def two(prompt, answer):
    return 1.0
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with a model of bytes and a file of rewards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THALWEG_HOME", str(tmp_path / "runs"))
    spec = Transformer(vocabulary=257, width=16, layers=1, heads=2, positions=32)
    (tmp_path / "bytes").mkdir()
    byte_tokenizer().save(tmp_path / "bytes")
    export(spec.build(0), spec, tmp_path / "model", tmp_path / "bytes")
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def rl(*words: str) -> list[str]:
    return ["train", "rl", "--model", "model", *RL, *words]


def rows(folder: Path, name: str) -> list[dict]:
    lines = (folder / "runs" / name / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_says_what_it_chose_and_ends_with_an_export_and_a_report(run, folder):
    code, said = run(*rl("--run", "one"))
    assert code == 0, said
    for line in ("group=2", "0.04 * KlToReference", "copy.actor", "entropy bonus: none"):
        assert line in said
    assert "the tokenizer has none for chats" not in said
    assert (folder / "runs/one/export/config.json").exists()
    page = (folder / "runs/one/report.html").read_text()
    names = ("reward", "pass@1", "entropy", "length", "mismatch_kl", "clip", "heldout/pass@1")
    for name in names:
        assert f">{name}<" in page, name
    assert "Solved (pass@1)" in page
    assert rows(folder, "one")[0]["mismatch_kl"] < 1e-6
    assert re.search(r"thalweg sample one --prompt '?\d+\+\d+='?\n", said), "a prompt of its own"


def test_without_a_chat_template_prompts_are_plain_and_the_run_says_so(run):
    words = rl("--run", "plain")
    place = words.index("--template")
    del words[place : place + 2]
    code, said = run(*words)
    assert code == 0, said
    assert "the tokenizer has none for chats" in said


def test_online_semi_online_and_offline_are_one_number(run, folder):
    for name, every in (("online", 1), ("semi", 2), ("offline", 0)):
        code, said = run(*rl("--every", str(every), "--run", name))
        assert code == 0, said
    versions = {
        name: [row["staleness"] for row in rows(folder, name)]
        for name in ("online", "semi", "offline")
    }
    assert versions == {"online": [0, 0, 0], "semi": [0, 1, 0], "offline": [0, 1, 2]}
    code, said = run("compare", "online", "semi", "offline")
    assert code == 0
    assert ".every: 1 | 2 | 0" in said
    assert "pass@1" in said


def test_an_rl_run_is_resumed_in_its_middle_bit_for_bit(folder):
    recipe = find_recipe("rl")[0](
        model="model", task="Addition(digits=1)", reward="mine.py:short",
        new_tokens=3, length=16, group=2, batch=4, steps=5, every=2, measure=2, minibatch=2,
    )  # fmt: skip
    origin = Origin("rl", file=folder / "mine.py")
    train(recipe, folder / "whole", origin)
    train(recipe, folder / "cut", origin, stop_after(3))
    (folder / "mine.py").write_text("def short(prompt, answer, problem):\n    return 9.0\n")
    resume(folder / "cut")
    assert history(folder / "cut") == history(folder / "whole")
    assert tensors(folder / "cut") == tensors(folder / "whole")


def test_a_reward_of_ones_own_is_a_function_of_a_file(run, folder):
    code, said = run(*rl("--reward", "mine.py:short", "--run", "own"))
    assert code == 0, said
    kept = folder / "runs" / "own" / "recipe.py"
    assert kept.read_text() == MINE


def test_a_reward_that_sometimes_fails_is_counted_and_one_that_always_does_stops(run, folder):
    code, said = run(*rl("--reward", "mine.py:sometimes", "--run", "some"))
    assert code == 0, said
    assert sum(row["reward_failures"] for row in rows(folder, "some")) > 0
    code, said = run(*rl("--reward", "mine.py:raising", "--measure", "0", "--run", "never"))
    assert code == 3
    assert "KeyError" in said
    code, said = run(*rl("--reward", "mine.py:nothing", "--measure", "0", "--run", "nan"))
    assert code == 3
    assert "not finite" in said


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--reward", "mine.py:two"], "(prompt, answer, problem) -> float"),
        (["--reward", "absent.py:two"], "no file 'absent.py'"),
        (["--model", "100k"], "'100k', a fresh model"),
        (["--task", "Adition(digits=2)"], "did you mean 'Addition'"),
        (["--task", "absent.jsonl"], "no file absent.jsonl"),
        (["--algorithm", "dapo", "--kl", "0.1"], "a KL to a reference is part of grpo"),
        (["--batch", "5"], "a multiple of group"),
        (["--group", "0"], "group=0 is too small"),
        (["--kl", "-1"], "--kl -1.0"),
        (["--every", "-1"], "--every -1"),
        (["--new-tokens", "0"], "--new-tokens 0"),
        (["--length", "0"], "--length 0"),
        (["--length", "3"], "prompts of at most 3 tokens"),
        (["--length", "64"], "a model of 32 positions"),
    ],
)
def test_what_cannot_run_is_refused_in_four_parts(run, words, part):
    code, said = run(*rl(*words))
    assert code == 3
    assert part in said
    assert "  write:    " in said


ALONE = ("reinforce_plus_plus",)


@pytest.mark.parametrize("name", get_args(Algorithm))
def test_only_what_compares_no_answers_learns_from_one_to_a_problem(name):
    if name in ALONE:
        method(name, None, new_tokens=4, group=1)
    else:
        with pytest.raises(RecipeError, match=f"--group 1 with {name}"):
            method(name, None, new_tokens=4, group=1)
    method(name, None, new_tokens=4, group=2)


def test_a_reference_of_another_vocabulary_is_refused(run, folder):
    spec = Transformer(vocabulary=300, width=16, layers=1, heads=2, positions=32)
    export(spec.build(0), spec, folder / "other")
    code, said = run(*rl("--reference", "other"))
    assert code == 3
    assert "a model of 300 token ids beside one of 257" in said


def test_tasks_and_rewards_have_names(folder):
    assert task_of("Choices(Addition(digits=2))").task.digits == 2
    Path("p.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')
    assert task_of("p.jsonl").size == 1
    with pytest.raises(DataError, match="no file q"):
        _ = task_of("q.jsonl").size
    assert reward_of("mine.py:short")("", "1", None) == 1.0
    with pytest.raises(RecipeError, match="which is no task"):
        task_of("3")
    with pytest.raises(RecipeError, match="two files"):
        file_of({"task": "a.py:T", "reward": "b.py:f"})
    assert file_of({"reward": "mine.py:short", "steps": 3}) == Path("mine.py")


def test_npo_unlearns_some_answers_and_keeps_others(folder):
    for name, word in (("forget", "no"), ("retain", "yes")):
        lines = [json.dumps({"prompt": f"{i}", "answer": word * (i % 3 + 1)}) for i in range(8)]
        Path(f"{name}.jsonl").write_text("\n".join(lines))
    recipe = find_recipe("preference")[0](
        model="model", data=["forget.jsonl"], retain=["retain.jsonl"],
        algorithm="npo", steps=6, length=16, batch=4, lr=3e-2,
    )  # fmt: skip
    train(recipe, folder / "npo")
    first, *_, last = map(json.loads, history(folder / "npo").splitlines())
    forgotten = next(name for name in last if name.endswith("forgotten"))
    kept = next(name for name in last if "retain" in name and "loss" in name)
    assert last[forgotten] > first[forgotten]
    assert last[kept] < first[kept]


def test_a_student_learns_what_it_writes_from_a_teacher(folder):
    recipe = find_recipe("distill")[0](
        teacher="model", model="100k", task="Addition(digits=1)", steps=2, length=16, batch=4,
        group=2, new_tokens=3,
    )  # fmt: skip
    assert "divergence" in train(recipe, folder / "own").last["report"]


@pytest.mark.parametrize("algorithm", ["grpo", "gspo", "rloo", "nft"])
def test_at_another_temperature_sampler_and_loss_still_agree(run, folder, algorithm):
    words = rl("--temperature", "0.6", "--algorithm", algorithm, "--run", "warm")
    code, said = run(*words, "--every", "1", "--reward", "mine.py:uneven")
    assert code == 0, said
    assert "temperature=0.6" in said
    assert max(row["mismatch_kl"] for row in rows(folder, "warm")) < 1e-6


def test_at_another_temperature_the_writer_of_pairs_is_compared_at_it_too(run, folder):
    words = rl("--temperature", "0.6", "--algorithm", "dpo", "--run", "warm")
    code, said = run(*words, "--every", "1", "--reward", "mine.py:uneven")
    assert code == 0, said
    assert rows(folder, "warm")[0]["engine_kl"] < 1e-6


def test_adapters_learn_from_rewards_on_a_folder_of_transformers(run, folder):
    words = rl("--lora", "2", "--lr", "1e-2", "--reward", "mine.py:uneven", "--run", "lora")
    code, said = run(*words)
    assert code == 0, said
    trained = tensors(folder / "runs/lora")
    assert any("lora" in name for name in trained)
    assert rows(folder, "lora")[0]["mismatch_kl"] < 1e-6
    before, after = (
        AutoModelForCausalLM.from_pretrained(folder / p) for p in ("model", "runs/lora/export")
    )
    changed = {
        name for (name, one), (_, other) in zip(
            before.named_parameters(), after.named_parameters(), strict=True
        ) if not torch.equal(one, other)
    }  # fmt: skip
    assert changed
    assert not any("embed" in name or "norm" in name for name in changed)
