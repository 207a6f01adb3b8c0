"""Models that begin where a run in memory ended: a base that several arms go on from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from thalweg.core.loop import Bench, Memory, run
from thalweg.core.names import finder
from thalweg.core.protocols import ModelSpec
from thalweg.core.recipe import CopyOf, Recipe, check
from thalweg.core.session import build_learners
from thalweg.core.state import RunState
from thalweg.core.world import open_world

__all__ = ["Ended", "Trained", "ended"]


@dataclass(frozen=True)
class Trained:
    """A model with these weights, whatever the seed."""

    base: ModelSpec
    weights: Mapping[str, torch.Tensor]

    @property
    def vocabulary(self) -> int:
        """Token ids it accepts."""
        return self.base.vocabulary

    @property
    def positions(self) -> int:
        """Longest row it accepts."""
        return self.base.positions

    def build(self, seed: int) -> nn.Module:
        """Return the module."""
        module = self.base.build(seed)
        module.load_state_dict(dict(self.weights))
        return module


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    rows: list[dict[str, Any]]
    """Its history."""
    policy: Trained
    """What the model `policy` became."""


def ended(recipe: Recipe) -> Ended:
    """Train a recipe in memory; return its history and the policy.

    Raises:
        RecipeError: The recipe cannot run.
        Diverged: A loss is not finite.
    """
    check(recipe)
    memory = Memory()
    with open_world(recipe.compute.device, recipe.compute.shard) as world:
        learners = build_learners(recipe, world)
        run(Bench(recipe, learners, world, memory, finder()), RunState())
    spec = recipe.models["policy"]
    assert not isinstance(spec, CopyOf)  # what it is a copy of is the base
    weights = learners["policy"].module.state_dict()
    kept = {name: tensor.detach().clone() for name, tensor in weights.items()}
    return Ended(memory.history, Trained(spec, kept))
