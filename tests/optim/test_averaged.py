"""Averaged weights are what a model answers with, and nobody who asks moves the run."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from core_helpers import line_recipe, play, weights
from lab import Lines, Script, Squared
from run_helpers import history, lab_recipe, start, stop_after, tensors
from thalweg.core.learner import Learner
from thalweg.core.moves import Copy
from thalweg.core.protocols import Context, Set, Trial
from thalweg.core.recipe import CopyOf, Recipe
from thalweg.core.session import resume
from thalweg.core.time import Time
from thalweg.core.weigh import TokenMean
from thalweg.core.world import World
from thalweg.optim import (
    SGD,
    AdamW,
    DoG,
    Groups,
    Mechanic,
    NAdamW,
    OptimizerSpec,
    Prodigy,
    Projected,
    ScheduleFree,
)
from thalweg.schedules import Linear

FREE = ScheduleFree(AdamW(lr=Linear(0.1, 0.05), betas=(0.9, 0.99)))
SPECS = (
    FREE,
    ScheduleFree(SGD(lr=0.1, momentum=0.9)),
    Prodigy(d0=1e-2),
    DoG(first=1e-2),
    DoG(first=1e-2, layerwise=True),
    NAdamW(lr=0.05),
    Mechanic(AdamW(lr=1.0), first=1e-3),
    Projected(AdamW(lr=0.05)),
    Groups({"*bias": FREE, "*": Mechanic(SGD(lr=0.1))}),
)
EVERY = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)


def recipe_of(spec: OptimizerSpec, steps: int = 8, **options) -> Recipe:
    recipe = line_recipe(steps=steps, **options)
    (phase,) = recipe.phases
    learn = replace(phase.do[0], optimizer=spec)
    return replace(recipe, phases=(replace(phase, do=(learn, *phase.do[1:])),))


def learner_of(spec: OptimizerSpec, steps: int = 3) -> Learner:
    return play(recipe_of(spec, steps))[1]["policy"]


def error(model: nn.Module, batch) -> torch.Tensor:
    return (model(batch["x"]).squeeze(1) - batch["y"]) ** 2


def rows(count: int = 6):
    source, ctx = Lines(), Context(Time(0, 10), rows=count)
    return source.next(source.start(ctx), ctx)[0]


def test_scores_are_those_of_the_average():
    learner = learner_of(FREE)
    with learner.averaged():
        mean = weights(learner)
        expected = error(learner.module, rows()).detach()
    assert not torch.equal(weights(learner), mean)
    assert torch.equal(learner.score(error, rows()), expected)


def test_the_weights_come_back_bit_for_bit_even_after_an_error():
    learner = learner_of(FREE)
    before = weights(learner)
    with pytest.raises(ZeroDivisionError):
        learner.score(lambda model, batch: torch.ones(1) * (1 // 0), rows())
    with learner.evaluating(), learner.averaged():
        assert not torch.equal(weights(learner), before)
    assert torch.equal(weights(learner), before)


@dataclass(frozen=True)
class Asks:
    """A monitor that looks after every step."""

    every: int = 1
    name: str = "asks"

    def __call__(self, ctx: Context) -> dict[str, float]:
        return {"error": float(ctx.models["policy"].score(error, rows()).mean())}


@EVERY
def test_measuring_does_not_move_a_run(spec):
    recipe = recipe_of(spec)
    measured = replace(recipe, phases=(replace(recipe.phases[0], monitors=(Asks(),)),))
    _, learners, memory = play(measured)
    assert torch.equal(weights(learners["policy"]), weights(learner_of(spec, 8)))
    assert len({row["error"] for row in memory.history}) == 8


@EVERY
def test_a_resumed_run_is_the_run_bit_for_bit(tmp_path, spec):
    recipe = lab_recipe(8, optimizer=spec)
    start(tmp_path / "whole", recipe)
    start(tmp_path / "cut", recipe, stop_after(5))
    assert len(history(tmp_path / "cut").splitlines()) == 5
    resume(tmp_path / "cut")
    assert history(tmp_path / "whole") == history(tmp_path / "cut")
    assert tensors(tmp_path / "whole") == tensors(tmp_path / "cut")


@EVERY
def test_a_trial_leaves_no_trace(spec):
    script = Script(((3, (Trial({"clip": 0.1}, steps=2),)),))
    tried = play(recipe_of(spec, controllers=(script,)))[1]["policy"]
    assert torch.equal(weights(learner_of(spec, 8)), weights(tried))


def test_a_copy_is_of_the_average():
    recipe = recipe_of(FREE, steps=4, do=(Copy("policy", "actor"),))
    recipe = replace(recipe, models={**recipe.models, "actor": CopyOf("policy")})
    learners = play(recipe)[1]
    with learners["policy"].averaged():
        mean = weights(learners["policy"])
    assert torch.equal(weights(learners["actor"]), mean)


def test_another_optimizer_starts_from_the_average():
    learner = learner_of(FREE)
    with learner.averaged():
        mean = weights(learner)
    learner.learn(Squared(), TokenMean()(rows()), SGD(lr=0.0))
    assert torch.equal(weights(learner), mean)


def test_a_model_without_averages_answers_with_its_weights():
    learner = learner_of(AdamW(lr=0.1))
    before = weights(learner)
    with learner.averaged():
        assert torch.equal(weights(learner), before)
    fresh = Learner("policy", nn.Linear(3, 1), World())
    with fresh.averaged():
        assert np.isfinite(weights(fresh).numpy()).all()


def test_a_number_of_the_inner_spec_may_be_set():
    recipe = recipe_of(FREE, controllers=(Script(((2, (Set({"inner.lr": 0.5}),)),)),))
    _, _, memory = play(recipe)
    found = [row["dial/learn.policy.optimizer.inner.lr"] for row in memory.history]
    assert found[3] == 0.5
