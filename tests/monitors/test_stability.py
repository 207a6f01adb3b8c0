"""When the stability monitor measures, what of, and that it sees the model before the run."""

import json
from pathlib import Path

import pytest

from data_helpers import text_store
from thalweg.core.moves import Learn
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.session import train
from thalweg.data import Corpus
from thalweg.errors import DialError
from thalweg.models import Transformer
from thalweg.monitors import HeldOut, Stability
from thalweg.objectives import NextToken
from thalweg.optim import SGD

MODEL = Transformer(vocabulary=257, width=16, layers=1, heads=2, positions=8)


def corpus(folder: Path, name: str, text: str) -> Corpus:
    return Corpus(text_store(folder, [text] * 4, name), length=8, shuffle=False, name=name)


def lines(folder: Path, *, rate: float, steps: int = 9) -> list[dict[str, float]]:
    old, new = corpus(folder, "old", "the old text, " * 4), corpus(folder, "new", "NEW WORDS " * 5)
    monitors = (
        Stability({"old": old}, {"new": new}, rows=4),
        HeldOut({"old": old}, every=1, most=4),
    )
    learn = Learn("policy", NextToken(), SGD(lr=rate))
    train(Recipe({"policy": MODEL}, (Phase(steps, new, (learn,), rows=4, monitors=monitors),)),
          folder / "run")  # fmt: skip
    return [json.loads(line) for line in (folder / "run/history.jsonl").read_text().splitlines()]


def test_it_measures_often_at_first_and_at_the_end(tmp_path):
    found = lines(tmp_path, rate=0.1)
    assert [line["step"] for line in found if "stability/old" in line] == [
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
    ]
    due = [done for done in range(1, 65) if Stability({"a": None}, {"b": None}, early=4).due(done)]
    assert due == [*range(1, 8), 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]


def test_the_model_before_the_first_step_stands_in_its_line_alone(tmp_path):
    found = lines(tmp_path, rate=0.0)
    before = found[0]["stability/old/before"]
    assert all(line["stability/old"] == before for line in found)
    assert not any("stability/old/before" in line for line in found[1:])


def test_its_losses_are_those_of_held_out_text(tmp_path):
    found = lines(tmp_path, rate=0.5)
    assert all(line["stability/old"] == line["heldout/loss"] for line in found)
    assert found[-1]["stability/new"] < found[0]["stability/new/before"]


def test_the_cost_is_under_2_percent_of_600_steps():
    monitor = Stability({"a": None}, {"b": None})
    for steps in (600, 1_000, 10_000):
        times = sum(monitor.due(done) for done in range(1, steps + 1)) + 2
        passes = times * 2 * monitor.rows / 32  # forward passes over a batch of 32 rows
        assert passes / 3 < 0.02 * steps  # a step is about three


@pytest.mark.parametrize("wrong", [{"old": {}}, {"rows": 0}, {"early": 0}])
def test_nothing_to_measure_is_refused(wrong):
    given = {"old": {"a": None}, "new": {"b": None}, **wrong}
    with pytest.raises(DialError, match="one or more of each"):
        Stability(**given)
