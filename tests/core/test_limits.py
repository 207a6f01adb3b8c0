"""What a recipe asks of its sources and models is checked before anything is built."""

from dataclasses import replace
from pathlib import Path

import pytest

from data_helpers import pair_store, preference_store, text_store
from thalweg.controllers import Reached
from thalweg.core.moves import Learn
from thalweg.core.plan import plan
from thalweg.core.protocols import Context, Source
from thalweg.core.recipe import Phase, Recipe, check
from thalweg.core.time import Time, tokens
from thalweg.data import Corpus, Mixture, Ordered, Pairs, Preferences
from thalweg.errors import DataError, DialError, RecipeError
from thalweg.models import Transformer
from thalweg.monitors import HeldOut
from thalweg.objectives import NextToken
from thalweg.optim import SGD

MODEL = Transformer(vocabulary=257, width=8, layers=1, heads=1, positions=8)
LEARN = Learn("policy", NextToken(), SGD(lr=0.1))


@pytest.fixture
def text(tmp_path: Path) -> Corpus:
    return Corpus(text_store(tmp_path, ["some words " * 9], "text"), length=8, max_epochs=2)


def recipe(source: Source, **options: object) -> Recipe:
    return Recipe({"policy": MODEL}, (Phase(100, source, (LEARN,), rows=4, **options),))


def test_a_cap_on_epochs_that_the_run_breaks_is_refused_with_the_largest_run(text):
    for source in (text, Mixture({"a": text, "b": text}, {"a": 3, "b": 1})):
        most = int(source.most(0) * 8)
        with pytest.raises(DataError, match=f"{3200 - most:,} tokens short") as caught:
            plan(recipe(source))
        fits = recipe(source)
        plan(replace(fits, phases=(replace(fits.phases[0], steps=tokens(most), rows=1),)))
        steps = int(source.most(0)) // 4
        assert f"--steps {steps} (in Python steps={steps})" in caught.value.write


@pytest.mark.parametrize("size", [50, 56, 57, 70])
def test_the_length_that_a_refusal_names_is_one_that_is_not_refused(tmp_path, size):
    """Whole batches: rounded up, the last would lack rows and be refused with the same words."""
    source = Corpus(text_store(tmp_path, ["x" * size], "text"), length=8, max_epochs=2)
    with pytest.raises(DataError) as caught:
        plan(recipe(source))
    steps = int(caught.value.write.split("steps=")[1].split(")")[0])
    asked = recipe(source)
    plan(replace(asked, phases=(replace(asked.phases[0], steps=steps),)))
    with pytest.raises(DataError, match="tokens short"):
        plan(replace(asked, phases=(replace(asked.phases[0], steps=steps + 1),)))


def test_a_cap_without_end_is_refused_in_four_parts(text):
    with pytest.raises(DialError, match="None for no limit"):
        plan(recipe(replace(text, max_epochs=float("inf"))))


def test_a_source_without_end_and_a_phase_that_may_end_sooner_are_left_alone(text):
    endless = replace(text, max_epochs=None)
    plan(recipe(endless))
    plan(recipe(Mixture({"a": text, "b": endless}, {"a": 3, "b": 1})))
    plan(recipe(text, controllers=(Reached("loss", 1.0),)))


def test_a_monitor_of_no_model_is_refused(text):
    with pytest.raises(RecipeError, match="did you mean 'policy'"):
        check(recipe(text, monitors=(HeldOut({"a": text}, model="polcy"),)))


def test_two_monitors_of_one_name_are_refused(text):
    with pytest.raises(RecipeError, match="used once"):
        check(recipe(text, monitors=(HeldOut({"a": text}), HeldOut({"b": text}))))


def limited(folder: Path) -> list[Source]:
    """Return a source of each kind that gives one and a half of its epochs."""
    words = ["ab", "cde", "fg", "hij", "k"]
    pairs = pair_store(folder, list(zip(words, words[::-1], strict=True)))
    triples = preference_store(folder, list(zip(words, words[::-1], words, strict=True)))
    texts = text_store(folder, words, "words")
    return [
        Corpus(texts, length=4, max_epochs=1.5),
        Pairs(pairs, length=8, max_epochs=1.5),
        Preferences(triples, length=8, max_epochs=1.5),
        Ordered(texts, length=4, max_epochs=1.5),
    ]


def test_every_source_of_rows_knows_the_most_that_it_gives(tmp_path):
    for source in limited(tmp_path):
        most = int(source.most(0))
        run = recipe(source)
        fits = replace(run, phases=(replace(run.phases[0], steps=most, rows=1),))
        plan(fits)
        with pytest.raises(DataError, match="tokens short"):
            plan(replace(fits, phases=(replace(fits.phases[0], steps=most + 1),)))
        ctx = Context(Time(), 0, rows=1)
        state = source.start(ctx)
        for _ in range(most):
            _, state = source.next(state, ctx)
        with pytest.raises(DataError, match="no rows left"):
            source.next(state, ctx)
