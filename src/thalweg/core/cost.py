"""What models cost: parameters, and training FLOPs of a target token in each phase."""

from collections.abc import Mapping
from typing import Any

from thalweg.core.grow import Grow
from thalweg.core.learner import Learner
from thalweg.core.moves import Learn
from thalweg.core.protocols import Foreseen
from thalweg.core.recipe import Recipe
from thalweg.core.world import World

__all__ = ["flops_by_phase", "model_facts", "row_length"]


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


def _size(name: str, learner: Learner, recipe: Recipe) -> dict[str, float]:
    learns = {m.model for phase in recipe.phases for m in phase.do if isinstance(m, Learn)}
    flops = learner.flops(row_length(recipe)) if name in learns else 0.0
    return {"parameters": learner.parameter_count(), "flops_per_token": flops}
