"""What models cost: parameters, memory, and training FLOPs of a target token in each phase."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from thalweg.core.dials import phase_length
from thalweg.core.freeze import at
from thalweg.core.grow import Grow
from thalweg.core.learner import Learner
from thalweg.core.moves import Learn
from thalweg.core.protocols import Foreseen
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.time import Time
from thalweg.core.world import World

__all__ = [
    "activation_bytes",
    "flops_by_phase",
    "model_facts",
    "row_length",
    "state_bytes",
    "strain",
]


def row_length(recipe: Recipe) -> int:
    """Return the targets of the longest rows of a recipe; 0 where no source says."""
    sources = [phase.source for phase in recipe.phases]
    return max((s.row_tokens for s in sources if isinstance(s, Foreseen)), default=0)


def model_facts(name: str, learner: Learner, recipe: Recipe) -> dict[str, Any]:
    """Return what a model costs, and what it costs from each phase on in which it grows.

    Args:
        name: Of the model.
        learner: As the recipe starts with it.
        recipe: Says where it learns and grows.

    Returns:
        `parameters` and `flops_per_token` (0 if it never learns); if it grows also `stages`, each
        with the same and its `phase`.
    """
    stages = [
        {"phase": phase.name, **_size(name, Learner(name, move.to.build(0), World()), recipe)}
        for phase in recipe.phases
        for move in phase.do
        if isinstance(move, Grow) and move.model == name
    ]
    return _size(name, learner, recipe) | ({"stages": stages} if stages else {})


def flops_by_phase(models: Mapping[str, Mapping[str, Any]], recipe: Recipe) -> dict[str, float]:
    """Return the training FLOPs of a target token in each phase, of the models that learn there.

    Args:
        models: Name -> `model_facts`.
        recipe: Says which learn where.
    """
    learns = {p.name: {m.model for m in p.do if isinstance(m, Learn)} for p in recipe.phases}
    totals = dict.fromkeys(learns, 0.0)
    for name, facts in models.items():
        now = float(facts["flops_per_token"])
        grown = {stage["phase"]: stage["flops_per_token"] for stage in facts.get("stages", ())}
        for phase in totals:
            now = float(grown.get(phase, now))
            totals[phase] += now * (name in learns[phase])
    return totals


def state_bytes(recipe: Recipe, name: str, learner: Learner) -> int:
    """Return what weights take, and the gradient and two moments of those that learn: float32."""
    weights = [*learner.module.parameters()] if _lessons(recipe, name) else []
    learning = sum(weight.numel() for weight in weights if weight.requires_grad)
    return 4 * learner.parameter_count() + 12 * learning


def activation_bytes(recipe: Recipe, name: str, learner: Learner, ranks: int = 1) -> int:
    """Return roughly what a rank keeps of a micro-batch for the backward pass.

    Three numbers for each that a matrix reads or writes, the smaller of both; attention's scores
    and what an operator makes for itself are not counted.
    """
    most = 0.0
    for phase, learn in _lessons(recipe, name):
        steps = phase_length(phase)[0] or 10_000
        grid = np.unique(np.linspace(0, steps - 1, 256).astype(int))
        rows = max(np.atleast_1d(at(phase.rows, Time(grid, steps, run_step=grid))).tolist())
        tokens = -(-round(rows) // ranks) * max(row_length(recipe), 1)
        most = max(most, min(tokens, learn.micro) if isinstance(learn.micro, int) else tokens)
    widths = sum(min(p.shape) for p in learner.module.parameters() if p.ndim == 2)
    low = recipe.compute.dtype == "bfloat16" or torch.cuda.is_available()
    return int(most * widths * (2 if low else 4) * 3)


def strain(recipe: Recipe, learners: Mapping[str, Learner], world: World) -> str | None:
    """Return what to tell a person whose run will need more memory than there is; None if not.

    Args:
        recipe: The recipe.
        learners: Its models.
        world: The ranks.
    """
    state = sum(state_bytes(recipe, name, one) for name, one in learners.items())
    kept = sum(activation_bytes(recipe, n, one, world.size) for n, one in learners.items())
    need, has = world.held(state) + kept, world.memory
    if need <= has:
        return None
    return (
        f"warning: about {need / 2**30:,.1f} GiB will be needed where there are "
        f"{has / 2**30:,.1f}: fewer or shorter rows, or micro=TOKENS of a forward pass"
    )


def _lessons(recipe: Recipe, name: str) -> list[tuple[Phase, Learn]]:
    """Return where a model learns."""
    return [
        (phase, move)
        for phase in recipe.phases
        for move in phase.do
        if isinstance(move, Learn) and move.model == name
    ]


def _size(name: str, learner: Learner, recipe: Recipe) -> dict[str, float]:
    flops = learner.flops(row_length(recipe)) if _lessons(recipe, name) else 0.0
    return {"parameters": learner.parameter_count(), "flops_per_token": flops}
