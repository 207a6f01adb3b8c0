"""What a step says of its gradient when asked: its l1 norm, and whether it agrees with the last."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from core_helpers import line_recipe, play, weights
from lab import Linear2, Lines, Squared
from run_helpers import start, stop_after
from thalweg.core.learner import Learner
from thalweg.core.moves import Learn
from thalweg.core.protocols import Context
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.session import resume
from thalweg.core.time import Time
from thalweg.core.weigh import TokenMean
from thalweg.core.world import World
from thalweg.errors import RecipeError
from thalweg.optim import SGD, AdamW, Muon, OptimizerSpec

SPECS = {"sgd": SGD(lr=0.05, momentum=0.9), "adamw": AdamW(lr=0.05, betas=(0.8, 0.95), eps=1e-6)}


def history(optimizer: OptimizerSpec, steps: int = 5, watch: tuple[str, ...] = ()) -> list[dict]:
    learn = Learn("policy", Squared(), optimizer, watch=watch)
    recipe = Recipe({"policy": Linear2(hidden=4)}, (Phase(steps, Lines(), (learn,), rows=8),))
    return play(recipe)[2].history


def slow(kind: str, steps: int = 5) -> list[tuple[float, float, float]]:
    """Return (l1, dot, cos) of each step, from gradients and updates written out in numpy."""
    learner = Learner("policy", Linear2(hidden=4).build(0), World())
    module = play(Recipe({"policy": Linear2(hidden=4)}, (Phase(0, Lines(), (
        Learn("policy", Squared(), SGD(lr=0.1)),), rows=8),)))[1]["policy"].module  # fmt: skip
    learner.module.load_state_dict(module.state_dict())
    names = [name for name, _ in learner.module.named_parameters()]
    size = sum(p.numel() for p in learner.module.parameters())
    m, v, u, found = np.zeros(size), np.zeros(size), np.zeros(size), []
    for step in range(steps):
        batch, _ = Lines().next({"row": 8 * step}, Context(Time(step), rows=8))
        grads = learner.gradient(Squared(), TokenMean()(batch))
        g = torch.cat([grads[name].flatten() for name in names]).double().numpy()
        lengths = np.linalg.norm(g) * np.linalg.norm(u)
        found.append((np.abs(g).sum(), g @ u, g @ u / lengths if lengths else 0.0))
        g = g * min(1.0, 1.0 / (np.linalg.norm(g) + 1e-6))  # Learn's clip
        if kind == "sgd":
            u = m = 0.9 * m + g
        else:
            m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
            t = step + 1
            u = (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-6)
        moved = torch.from_numpy(-0.05 * u).float()
        with torch.no_grad():
            for p, part in zip(
                learner.module.parameters(),
                moved.split([p.numel() for p in learner.module.parameters()]),
                strict=True,
            ):
                p.add_(part.view_as(p))
    return found


@pytest.mark.parametrize("kind", list(SPECS))
def test_the_products_are_those_of_the_gradient_and_the_last_step(kind):
    spec = SPECS[kind] if kind == "sgd" else replace(SPECS[kind], weight_decay=0.0)
    rows = history(spec, watch=("grad_l1", "grad_dot"))
    for row, (l1, dot, cos) in zip(rows, slow(kind), strict=True):
        assert row["grad_l1"] == pytest.approx(l1, rel=1e-4)
        assert row["grad_dot"] == pytest.approx(dot, rel=1e-3, abs=1e-5)
        assert row["grad_cos"] == pytest.approx(cos, rel=1e-3, abs=1e-4)
    assert rows[0]["grad_cos"] == 0.0, "there was no step before"


@pytest.mark.parametrize("kind", list(SPECS))
def test_watching_changes_nothing_and_costs_nothing_when_it_is_off(kind):
    plain, seen = history(SPECS[kind]), history(SPECS[kind], watch=("grad_l1", "grad_dot"))
    keys = {"grad_l1", "grad_dot", "grad_cos"}
    assert not keys & set(plain[0])
    assert plain == [{k: v for k, v in row.items() if k not in keys} for row in seen]


def test_several_steps_in_one_move_report_their_mean():
    learn = Learn("policy", Squared(), SPECS["sgd"], minibatch=4, watch=("grad_l1",))
    recipe = Recipe({"policy": Linear2()}, (Phase(1, Lines(), (learn,), rows=8),))
    (both,) = play(recipe)[2].history
    assert both["grad_l1"] > 0
    assert "grad_l1/count" not in both


def test_a_resumed_run_watches_on_bit_for_bit(tmp_path):
    recipe = line_recipe(9, watch=("grad_dot",))
    from run_helpers import lab

    learn = replace(recipe.phases[0].do[0], objective=lab.Squared())
    phase = replace(recipe.phases[0], source=lab.Lines(), do=(learn,))
    recipe = replace(recipe, models={"policy": lab.Linear2()}, phases=(phase,))
    start(tmp_path / "whole", recipe)
    start(tmp_path / "cut", recipe, stop_after(4))
    resume(tmp_path / "cut")
    lines = [(tmp_path / n / "history.jsonl").read_text() for n in ("whole", "cut")]
    assert lines[0] == lines[1]
    assert json.loads(lines[0].splitlines()[-1])["grad_cos"] != 0.0


def test_optimizers_that_forget_their_direction_are_refused():
    with pytest.raises(RecipeError, match="SGD"):
        history(SGD(lr=0.1), watch=("grad_dot",))
    with pytest.raises(RecipeError, match="Muon"):
        history(Muon(lr=0.1, adam=AdamW(lr=0.1)), watch=("grad_dot",))
    assert history(SGD(lr=0.1), watch=("grad_l1",))[0]["grad_l1"] > 0


def test_unknown_things_to_watch_are_refused_when_the_recipe_is_written():
    with pytest.raises(RecipeError, match="grad_dot"):
        Learn("policy", Squared(), SGD(lr=0.1), watch=("grad_dto",))


def test_a_rollback_to_before_the_first_step_watches_no_phantom():
    _, learners, _ = play(line_recipe(0))
    learner = learners["policy"]
    before = learner.snapshot()
    batch, _ = Lines().next({"row": 0}, Context(Time(), rows=8))
    for _ in range(2):
        learned = learner.learn(Squared(), TokenMean()(batch), AdamW(lr=0.1), watch=("grad_dot",))
        assert learned.sums["grad_cos"] == 0.0
        learner.restore(before)
    assert torch.isfinite(weights(learner)).all()
