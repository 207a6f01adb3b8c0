"""`thalweg synthesise`: who writes, what comes out, what is refused."""

import json
import re

import pytest

from chat_server import serving
from thalweg.data.tokenizer import byte_tokenizer
from thalweg.models import Transformer, export

ANY = """
from thalweg.core.protocols import Grade, Problem

class Anything:
    def make(self, draw, level):
        return Problem(f"{int(draw.integers(100))}: ", "x")

    def verify(self, problem, answer):
        return Grade(float(answer != ""))
"""
PROBLEMS = """{"question": "Eve has 3 figs and finds 4.", "answer": "#### 7"}
{"question": "Max has 5 stones and picks up 6.", "answer": "#### 11"}
"""


def reply(prompt: str, seed: int) -> str:
    if "inspired by it" in prompt:
        return f"Ann has {seed % 7} pears and buys {seed % 5}."
    numbers = map(int, re.findall(r"\d+", prompt.split("\n")[0]))
    return f"so it is\n#### {sum(numbers)}"


@pytest.fixture
def folder(shell):
    (shell.folder / "problems.jsonl").write_text(PROBLEMS)
    (shell.folder / "any.py").write_text(ANY)
    return shell.folder


def test_a_server_makes_a_file_that_sft_takes(shell, folder):
    with serving(reply) as server:
        words = ["synthesise", "more.jsonl", "--task", "problems.jsonl", "--model", "m"]
        words += ["--url", server.url, "--solutions", "2", "--votes", "2"]
        code, out, err = shell(*words)
        asked = len(server.bodies)
        assert code == 0, err
        assert shell(*words)[0] == 0
        assert len(server.bodies) == asked  # all in the ledger
    rows = [json.loads(line) for line in (folder / "more.jsonl").read_text().splitlines()]
    assert {row["round"] for row in rows} == {0, 1}
    assert all(row["answer"].endswith(f"#### {row['label']}") for row in rows)
    assert "thalweg train sft --model RUN --data more.jsonl" in out
    sft = "train sft --model 100k --data more.jsonl --steps 1 --batch 2 --length 128"
    assert shell(*sft.split(), "--held-out", "0", "--quiet")[0] == 0


def test_a_model_of_ours_solves_problems_that_are_drawn(shell, folder):
    (folder / "bytes").mkdir()
    byte_tokenizer().save(folder / "bytes")
    spec = Transformer(vocabulary=257, width=16, layers=1, heads=2, positions=32)
    export(spec.build(0), spec, folder / "model", folder / "bytes")
    words = "synthesise own.jsonl --model model --new-tokens 24 --seeds 3 --solutions 40".split()
    code, out, err = shell(*words, "--task", "any.py:Anything", "--rounds", "0")
    assert code == 0, err
    assert "round 0: 3 problems, 120 solutions" in out
    assert (folder / "own.jsonl").exists()
    code, out, err = shell(*words, "--task", "Addition()", "--draw", "4", "--votes", "2")
    assert code == 3
    assert "no solution stayed" in err
    assert "4 proposed" in err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--task", "problems.jsonl", "--draw", "3"], "--draw 3 from a file of problems"),
        (["--task", "Addition()"], "1 or more: a generated task has no end"),
        (["--task", "Addition()", "--seeds", "2", "--benchmark", "Addition()"], "a generated task"),
        (["--task", "problems.jsonl", "--solve", "think"], "{problem} in solve"),
        (["--task", "problems.jsonl", "--agree", "2"], "agree in (0, 1]"),
    ],
)
def test_what_cannot_be_made_is_refused_in_four_parts(shell, folder, words, part):
    code, _, err = shell("synthesise", "o.jsonl", "--model", "m", "--url", "http://x/v1", *words)
    assert code == 3
    assert part in err
    assert "  write:    " in err


def test_a_fresh_size_writes_nothing(shell, folder):
    code, _, err = shell("synthesise", "o.jsonl", "--model", "1m", "--task", "problems.jsonl")
    assert code == 3
    assert "'1m', a fresh model" in err
