"""A recipe trained in memory: no folder, no checkpoints, the history as a list."""

from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.core.claim import Metrics
from thalweg.core.loop import Bench, Memory, run
from thalweg.core.names import finder
from thalweg.core.recipe import Recipe, check
from thalweg.core.session import build_learners
from thalweg.core.state import RunState
from thalweg.core.world import open_world
from thalweg.errors import Diverged

__all__ = ["final", "history"]

FINAL_SHARE = 0.05
"""Share of the steps whose mean is the final training loss."""


def history(recipe: Recipe) -> list[dict[str, Any]]:
    """Train a recipe and return its history, one row a step.

    A run that diverges ends there; its last row says `"loss": inf`.

    Raises:
        RecipeError: The recipe cannot run.
    """
    check(recipe)
    memory = Memory()
    with open_world(recipe.compute.device, recipe.compute.shard) as world:
        bench = Bench(recipe, build_learners(recipe, world), world, memory, finder())
        try:
            run(bench, RunState())
        except Diverged:
            memory.history.append({"loss": float("inf"), "heldout/loss": float("inf")})
    return memory.history


def final(rows: Sequence[Mapping[str, Any]]) -> Metrics:
    """Return the last value of every number; `loss` is the mean of the last 5 % of the steps.

    Args:
        rows: What `history` returns.

    Example:
        >>> final([{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}])
        {'step': 2.0, 'loss': 2.0}
    """
    last: dict[str, float] = {}
    for row in rows:
        last |= {name: float(value) for name, value in row.items() if _is_number(value)}
    losses = [float(row["loss"]) for row in rows if "loss" in row]
    if losses:
        tail = losses[-max(round(FINAL_SHARE * len(losses)), 1) :]
        last["loss"] = sum(tail) / len(tail)
    return last


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
