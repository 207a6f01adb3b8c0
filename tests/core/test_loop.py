"""The loop and what controllers may do in it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from core_helpers import line_recipe, play, resumed_equals_undisturbed, weights
from lab import Linear2, Lines, Script, Squared
from thalweg.core.batch import Batch
from thalweg.core.moves import AT_END, NEVER, Copy, Learn
from thalweg.core.protocols import Context, Next, Save, Set, Stop, Trial
from thalweg.core.recipe import CopyOf, Phase, Recipe, check
from thalweg.core.state import RunState
from thalweg.core.time import share
from thalweg.errors import ColumnError, DialError, Diverged, RecipeError
from thalweg.optim import SGD, AdamW
from thalweg.schedules import Linear

LR = "learn.policy.optimizer.lr"


def losses(recipe: Recipe) -> list[float]:
    return [row["loss"] for row in play(recipe)[2].history]


def rates(recipe: Recipe) -> list[float]:
    return [row[f"dial/{LR}"] for row in play(recipe)[2].history]


def scripted(*lines, steps: int = 12, lr=Linear(0.1, 0.0)) -> Recipe:
    return line_recipe(steps, lr, controllers=(Script(tuple(lines)),))


def test_a_run_learns_and_reports_every_step():
    end, _, memory = play(line_recipe(12))
    rows = memory.history
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["tokens"] == end.run_tokens == 96
    assert rows[0][f"dial/{LR}"] == 0.1
    assert end.phase == 1


def test_rows_of_a_scheduled_batch_are_rounded_as_they_are_planned():
    source = Lines()
    learn = Learn("policy", Squared(), SGD(0.1))
    phase = Phase(8, source, (learn,), rows=Linear(2.0, 5.0))
    history = play(Recipe({"policy": Linear2()}, (phase,)))[2].history
    given = [b["tokens"] - a for a, b in zip([0, *[r["tokens"] for r in history]], history)]  # noqa: B905
    assert given == [round(2 + 3 * step / 8) for step in range(8)]


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_a_run_stopped_anywhere_goes_on_bit_for_bit(stop):
    whole, learners, memory = play(line_recipe(12))
    part, half, first = play(scripted((stop, (Stop("for the test"),))))
    text = json.dumps(part.to_json())
    state = RunState.from_json({**json.loads(text), "stopped": "", "controllers": []})
    end, again, second = play(line_recipe(12), state, half)
    assert first.history + second.history == memory.history
    assert torch.equal(weights(again["policy"]), weights(learners["policy"]))
    assert (end.run_tokens, end.delivered) == (whole.run_tokens, whole.delivered)


def test_a_set_holds_from_the_next_step_on():
    assert rates(scripted((4, (Set({"lr": 0.5}),)), lr=0.1)) == [0.1] * 4 + [0.5] * 8


def test_a_set_schedule_gets_a_clock_that_starts_now():
    found = rates(scripted((4, (Set({"lr": Linear(1.0, 0.0)}),)), lr=0.1))
    assert found[4:] == pytest.approx([1 - i / 8 for i in range(8)])


def test_a_set_of_a_whole_place_replaces_what_was_set_inside_it():
    recipe = scripted((2, (Set({"lr.start": 0.4}),)), (4, (Set({"optimizer.lr": 0.3}),)))
    assert rates(recipe)[4:] == [0.3] * 8
    end, _, _ = play(recipe)
    assert len(end.journal) == 2


def test_a_set_length_is_the_length_of_the_phase():
    assert len(losses(scripted((4, (Set({"steps": 6}),))))) == 6


def test_an_unknown_path_of_a_set_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean"):
        play(scripted((1, (Set({"optimizer.lrr": 1.0}),))))


def test_a_trial_leaves_no_trace():
    plain, learners, memory = play(line_recipe(12))
    trials = tuple((step, (Trial({"lr": 5.0}, 3),)) for step in (1, 2, 6, 12))
    tried, again, noisy = play(scripted(*trials))
    assert noisy.history == memory.history
    assert torch.equal(weights(again["policy"]), weights(learners["policy"]))
    assert tried.source == plain.source
    assert tried.trial_tokens == 4 * 3 * 8
    assert len(noisy.trials) == 12


def test_a_trial_of_another_optimizer_gives_the_moments_back():
    _, learners, memory = play(line_recipe(12))
    trial = Trial({"learn.policy.optimizer": SGD(0.1, momentum=0.9)}, 3)
    _, again, noisy = play(scripted((5, (trial,))))
    assert noisy.history == memory.history
    assert torch.equal(weights(again["policy"]), weights(learners["policy"]))


def test_a_trial_rolls_back_the_models_that_moves_copy_to():
    def recipe(*controllers):
        learn = Learn("policy", Squared(), AdamW(lr=0.1))
        do = (learn, Copy("policy", "teacher", mix=0.5))
        phase = Phase(6, Lines(), do, rows=4, controllers=controllers)
        return Recipe({"policy": Linear2(), "teacher": CopyOf("policy")}, (phase,))

    _, still, _ = play(recipe())
    _, tried, _ = play(recipe(Script(((3, (Trial({"lr": 9.0}, 4),)),))))
    assert torch.equal(weights(tried["teacher"]), weights(still["teacher"]))


def test_a_trial_that_continues_leaves_its_batches_behind():
    stop = (6, (Stop("for the test"),))
    end, _, _ = play(scripted((4, (Trial({"lr": 0.2}, 3, data="continue"),)), stop))
    assert end.source == {"row": (6 + 3) * 8}


def test_a_trial_schedule_runs_on_the_clock_of_the_trial():
    _, _, memory = play(scripted((4, (Trial({"lr": Linear(1.0, 0.0)}, 4),))))
    assert [row[f"dial/{LR}"] for row in memory.trials] == [1.0, 0.75, 0.5, 0.25]


@dataclass(frozen=True)
class Daring:
    """Tries one absurd rate and remembers what it was told."""

    def start(self, ctx):
        return {}

    def act(self, state, ctx):
        if ctx.trial:
            return (), {"told": [row["loss"] for row in ctx.trial]}
        return ((Trial({"lr": 1e30}, 8),) if ctx.time.step == 3 else ()), state


def test_a_trial_that_diverges_is_told_to_its_controller_and_harms_nothing():
    _, learners, memory = play(line_recipe(8))
    end, again, noisy = play(line_recipe(8, Linear(0.1, 0.0), controllers=(Daring(),)))
    assert end.controllers is None or end.phase == 1
    assert len(noisy.trials) < 8
    assert noisy.history == [{**row} for row in memory.history]
    assert torch.equal(weights(again["policy"]), weights(learners["policy"]))


def test_next_ends_the_phase_and_the_next_one_starts():
    learn = Learn("policy", Squared(), SGD(0.1))
    one = Phase(9, Lines(), (learn,), rows=2, controllers=(Script(((4, (Next(),)),)),), name="one")
    two = Phase(3, Lines(name="more"), (learn,), rows=2, name="two")
    end, _, memory = play(Recipe({"policy": Linear2()}, (one, two)))
    assert [row["phase"] for row in memory.history] == ["one"] * 4 + ["two"] * 3
    assert (end.run_step, end.ended) == (7, False)
    assert end.delivered == {"lines": 8, "more": 6}


def test_stop_ends_the_run_and_says_why():
    end, _, memory = play(scripted((4, (Stop("enough"),))))
    assert (end.run_step, end.stopped) == (4, "enough")
    assert memory.events[-1] == (4, "stop", "enough")


def test_a_controller_that_saves_and_sets_is_saved_with_what_it_set():
    saved = []

    class Keeping(type(play(line_recipe(1))[2])):
        def save(self, state, learners, tags=()):
            saved.extend((tag, dict(state.overrides)) for tag in tags)

    from thalweg.core import loop
    from thalweg.core.names import finder
    from thalweg.core.session import build_learners
    from thalweg.core.world import World

    recipe = scripted((4, (Save("before"), Set({"lr": 0.5}), Save("after"))), lr=0.1)
    bench = loop.Bench(recipe, build_learners(recipe, World()), World(), Keeping(), finder())
    loop.run(bench, RunState())
    path = f"{LR}"
    assert saved[:2] == [("before", {path: 0.5}), ("after", {path: 0.5})]


def test_a_run_that_diverges_names_step_phase_and_model():
    with pytest.raises(Diverged) as caught:
        play(line_recipe(50, lr=1e30))
    assert "phase 'main', model 'policy', before its optimizer step" in caught.value.where
    assert caught.value.where.startswith("step ")


@dataclass(frozen=True)
class Counting:
    every: object
    seen: list
    name: str = "counting"

    def __call__(self, ctx: Context):
        self.seen.append(int(ctx.time.step) + 1)
        return {"seen": float(len(self.seen))}


@pytest.mark.parametrize(("every", "steps"), [(4, [4, 8, 10]), (share(0.5), [5, 10])])
def test_a_monitor_measures_at_its_distance_and_at_the_end(every, steps):
    seen: list[int] = []
    learn = Learn("policy", Squared(), SGD(0.1))
    phase = Phase(10, Lines(), (learn,), rows=2, monitors=(Counting(every, seen),))
    history = play(Recipe({"policy": Linear2()}, (phase,)))[2].history
    assert seen == steps
    assert [row["step"] for row in history if "seen" in row] == steps


def policy_recipe(**changes) -> Recipe:
    fields = {
        "steps": 3,
        "source": Lines(),
        "do": (Learn("policy", Squared(), SGD(0.1)),),
        "rows": 2,
    }
    return Recipe({"policy": Linear2()}, (Phase(**{**fields, **changes}),))


def plain_move(batch, ctx):
    return batch


@dataclass(frozen=True)
class Thirsty(Squared):
    needs = ("x", "y", "weight", "advantage")


@pytest.mark.parametrize(
    ("recipe", "kind", "text"),
    [
        (policy_recipe(do=(plain_move,)), DialError, "plain function"),
        (policy_recipe(do=(lambda batch, ctx: batch,)), DialError, "plain function"),
        (
            policy_recipe(do=(Learn("policy", Thirsty(), SGD(0.1)),)),
            ColumnError,
            "learn.policy needs column 'advantage'",
        ),
        (policy_recipe(do=(Learn("polcy", Squared(), SGD(0.1)),)), RecipeError, "did you mean"),
        (policy_recipe(do=(Learn("policy", Squared(), SGD(0.1)),) * 2), RecipeError, "used once"),
        (policy_recipe(rows=0), DialError, "rows = 0"),
        (policy_recipe(rows=lambda time: 3), DialError, "plain function"),
        (policy_recipe(steps=-1), DialError, "steps = -1"),
        (Recipe({}, policy_recipe().phases), RecipeError, "no models"),
        (Recipe({"policy": Linear2()}, ()), RecipeError, "one or more"),
        (
            Recipe({"ref": CopyOf("plicy"), "policy": Linear2()}, policy_recipe().phases),
            RecipeError,
            "copy of 'plicy'",
        ),
        (Recipe({"policy": Linear2()}, policy_recipe().phases * 2), RecipeError, "used once"),
    ],
)
def test_a_recipe_that_cannot_run_is_refused_before_anything_is_built(recipe, kind, text):
    with pytest.raises(kind, match=text) as caught:
        check(recipe)
    error = caught.value
    assert all((error.given, error.expected, error.where, error.write))


@dataclass(frozen=True)
class Mapped:
    """A move whose field is annotated as a function."""

    change: Callable[[Batch], Batch]
    name: str = "mapped"
    needs: ClassVar[tuple[str, ...]] = ()
    makes: ClassVar[tuple[str, ...]] = ()

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        return self.change(batch)


def test_a_field_that_is_annotated_as_a_function_may_hold_one():
    check(policy_recipe(do=(Mapped(lambda batch: batch),)))
    with pytest.raises(DialError, match="name is a plain function"):
        check(policy_recipe(do=(Mapped(lambda batch: batch, name=plain_move),)))


def closing(steps: int | None, end: int, mix: float = 1.0) -> Recipe:
    """Return a phase that copies at its end, which a controller sets, and one that learns on."""
    learn = Learn("policy", Squared(), AdamW(lr=0.1))
    until = Script(((end, (Next(),)),))
    last = Copy("policy", "actor", AT_END, mix)
    first = Phase(steps, Lines(), (learn, last), rows=8, controllers=(until,), name="first")
    then = Phase(2, Lines(), (learn, Copy("policy", "actor", NEVER)), rows=8, name="then")
    return Recipe({"policy": Linear2(), "actor": CopyOf("policy")}, (first, then))


@pytest.mark.parametrize(("steps", "end"), [(9, 4), (None, 4), (4, 4), (4, 99)])
def test_a_copy_at_the_end_comes_where_the_phase_ends(steps, end):
    _, learners, memory = play(closing(steps, end))
    alone = line_recipe(4, lr=0.1)
    assert torch.equal(weights(learners["actor"]), weights(play(alone)[1]["policy"]))
    assert [row["version/actor"] for row in memory.history[-2:]] == [4, 4]


def test_a_copy_at_the_end_comes_once_wherever_the_run_is_resumed():
    resumed_equals_undisturbed(closing(9, 4, mix=0.5), (3, 4, 5))


def test_a_run_that_is_stopped_has_no_end_of_a_phase():
    recipe = closing(9, 99)
    stopped = replace(recipe.phases[0], controllers=(Script(((4, (Stop("enough"),)),)),))
    _, learners, _ = play(replace(recipe, phases=(stopped,)))
    untouched = play(closing(0, 99))[1]["actor"]
    assert torch.equal(weights(learners["actor"]), weights(untouched))
