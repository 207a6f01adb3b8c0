import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_helpers import text_store
from thalweg.controllers import IdleExperts
from thalweg.core.moves import Learn
from thalweg.core.protocols import Context, Objective
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.session import train
from thalweg.core.time import Time
from thalweg.data import Corpus
from thalweg.errors import DialError, RecipeError
from thalweg.models import Moe, Transformer
from thalweg.objectives import Balanced, NextToken
from thalweg.optim import AdamW


def told(loads: list[list[float]], patience: int) -> list[str]:
    """Return the notes of steps whose experts received these tokens."""
    notes: list[str] = []
    controller = IdleExperts(patience=patience)
    ctx = Context(Time(0, 9), note=lambda kind, text: notes.append(text))
    state = controller.start(ctx)
    for step, row in enumerate(loads):
        report = {f"load/2/{expert}": tokens for expert, tokens in enumerate(row)}
        now = replace(ctx, time=Time(step, 9, run_step=step), last={"report": report})
        actions, state = controller.act(state, now)
        assert actions == ()
    return notes


def test_an_expert_without_tokens_is_named_once_with_the_step_since_when():
    loads = [[5, 5], [9, 1], [10, 0], [10, 0], [10, 0], [10, 0]]
    assert told(loads, 3) == ["expert 1 of layer 2 has received no token since step 3"]


def test_an_expert_that_wakes_up_is_named_again():
    loads = [[10, 0], [10, 0], [9, 1]]
    assert told(loads, 2)[1] == "expert 1 of layer 2 receives tokens again, the first since step 1"


def test_a_short_pause_is_no_news():
    assert told([[10, 0], [9, 1], [10, 0], [9, 1]], 2) == []


def test_no_patience_is_refused():
    with pytest.raises(DialError):
        IdleExperts(patience=0)


MOE = Transformer(
    vocabulary=257, width=8, layers=1, heads=1, positions=8, moe=Moe(experts=32, top=1)
)


def events(folder: Path, objective: Objective) -> list[str]:
    """Return what a run of rows of 8 tokens says of its 32 experts."""
    text = Corpus(text_store(folder, ["some words " * 9], "text"), length=8)
    learn = Learn("policy", objective, AdamW(lr=1e-3))
    watch = (IdleExperts(patience=2),)
    train(Recipe({"policy": MOE}, (Phase(3, text, (learn,), rows=1, controllers=watch),)),
          folder / "run")  # fmt: skip
    lines = (folder / "run" / "events.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]


def test_a_run_names_the_experts_that_no_token_chose(tmp_path):
    found = events(tmp_path, Balanced(NextToken(), balance=None))
    named = [text for text in found if text.endswith("has received no token since step 1")]
    assert len(named) >= 32 - 2 * 8  # two steps of 8 tokens


def test_it_is_refused_where_nobody_counts(tmp_path):
    with pytest.raises(RecipeError, match="no load/LAYER/EXPERT"):
        events(tmp_path, NextToken())
