"""The batch of a step is found again: in later phases, behind early ends, beside trials."""

from dataclasses import replace
from pathlib import Path

import pytest

from core_helpers import LAB
from data_helpers import preference_store, text_store
from rollout_helpers import SOURCE, recipe
from run_helpers import lab, start
from thalweg.branches import branch
from thalweg.core.moves import Learn
from thalweg.core.names import finder
from thalweg.core.protocols import Action, Next, Set, Trial
from thalweg.core.recipe import Phase, Recipe, Saves
from thalweg.core.replay import batch_at
from thalweg.core.session import resume
from thalweg.core.time import steps as count
from thalweg.data import Corpus, Mixture, Ordered, Preferences
from thalweg.errors import StateError
from thalweg.finish import show_data
from thalweg.grafts import graft
from thalweg.models import Transformer
from thalweg.objectives import Logistic, NextToken, Preference
from thalweg.optim import SGD
from thalweg.report.read import read_lines

MODEL = Transformer(vocabulary=257, width=8, layers=1, heads=1, positions=32)
LEARN = Learn("policy", NextToken(), SGD(lr=0.1))
SAVES = Saves(every=count(5), last=9, milestone=count(1000))


@pytest.fixture
def text(tmp_path: Path) -> Corpus:
    return Corpus(text_store(tmp_path, ["some words " * 90], "text"), length=8)


def two_phases(text: Corpus, *script: tuple[int, tuple[Action, ...]]) -> Recipe:
    first = Phase(8, text, (LEARN,), rows=4, name="one", controllers=(lab.Script(script),))
    second = Phase(6, text, (LEARN,), rows=2, name="two")
    return Recipe({"policy": MODEL}, (first, second), saves=SAVES)


def shown(folder: Path, recipe: Recipe, step: int) -> int:
    """Return the first row that a step saw."""
    return int(batch_at(folder, recipe, step, finder(LAB))[0]["id"][0])


@pytest.mark.parametrize("last", [8, 6])
def test_steps_of_a_later_phase_are_shown_wherever_the_first_one_ended(text, tmp_path, last):
    recipe = two_phases(text, (last, (Set({"rows": 3}), Next())))
    start(tmp_path / "run", recipe)
    found = [shown(tmp_path / "run", recipe, step) for step in range(1, last + 7)]
    assert found == [4 * step for step in range(last)] + [2 * step for step in range(6)]
    with pytest.raises(StateError, match="a step of the run"):
        shown(tmp_path / "run", recipe, last + 7)


def test_a_step_behind_a_trial_that_kept_its_batches_is_refused_until_a_checkpoint(text, tmp_path):
    recipe = two_phases(text, (3, (Trial({"lr": 0.2}, 2, data="continue"),)))
    start(tmp_path / "run", recipe)
    assert shown(tmp_path / "run", recipe, 3) == 2 * 4
    with pytest.raises(StateError, match="a trial at step 3") as caught:
        shown(tmp_path / "run", recipe, 4)
    assert caught.value.write == "--step 3"
    with (tmp_path / "run" / "trials.jsonl").open("a") as file:
        file.write('{"parent": 7, "da')
    assert shown(tmp_path / "run", recipe, 6) == (5 + 2) * 4


def test_a_branch_with_other_weights_reads_on_where_its_parent_was(text, tmp_path):
    mixture = Mixture({"a": text, "b": replace(text, name="b")}, {"a": 1.0, "b": 1.0})
    recipe = Recipe({"policy": MODEL}, (Phase(10, mixture, (LEARN,), rows=4),), saves=SAVES)
    start(tmp_path / "run", recipe)
    graft(tmp_path / "run", tmp_path / "branch", branch(recipe, 7, {"weights.a": 3.0}))
    resume(tmp_path / "branch")
    parent, child = (read_lines(tmp_path / name / "history.jsonl") for name in ("run", "branch"))
    assert [row["loss"] for row in child[:2]] == [row["loss"] for row in parent[5:7]]
    assert child[-1]["tokens/a"] > child[-1]["tokens/b"]


def test_a_branch_with_other_rows_starts_its_source_anew(tmp_path):
    words = Ordered(text_store(tmp_path, [f"words {i}" for i in range(40)], "words"), length=16)
    recipe = Recipe({"policy": MODEL}, (Phase(12, words, (LEARN,), rows=2),), saves=SAVES)
    start(tmp_path / "run", recipe)
    graft(tmp_path / "run", tmp_path / "branch", branch(recipe, 10, {"length": 32}))
    resume(tmp_path / "branch")
    assert shown(tmp_path / "branch", recipe, 11) == 0


def test_rows_that_a_model_wrote_are_refused_wherever_they_stand(tmp_path):
    words = Corpus(text_store(tmp_path, ["some words " * 90], "text"), length=16)
    pairs = recipe(replace(SOURCE, template="{prompt}{answer}"), steps=2)
    mixture = Mixture({"words": words, "written": SOURCE}, {"words": 1.0, "written": 1.0})
    for source in (SOURCE, mixture):
        folder = tmp_path / type(source).__name__
        mixed = replace(pairs, phases=(replace(pairs.phases[0], source=source),))
        folder.mkdir()
        with pytest.raises(StateError, match="asks the model 'actor' for its rows"):
            shown(folder, mixed, 1)


def test_both_answers_of_a_pair_are_shown(tmp_path):
    folder = preference_store(tmp_path, [("why? ", "so it is", "no")] * 4)
    learn = Learn("policy", Preference(Logistic(1.0), reference=False), SGD(lr=0.1))
    phase = Phase(2, Preferences(folder, length=16), (learn,), rows=2)
    start(tmp_path / "run", Recipe({"policy": MODEL}, (phase,), saves=SAVES))
    page = show_data(tmp_path / "run", 1)
    assert "so it is" in page
    assert "why? no" in page
    assert "<|endoftext|>" in page
    assert 2 * "<|endoftext|>" not in page, "what fills a row is not shown"
