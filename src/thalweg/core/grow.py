"""A model that becomes a larger one between two steps: the architecture as part of the plan.

`Grow` stands among the moves of a phase, usually first, and acts in the phase's first step. What
computes the same with more weights is the model's own business (`Growable`); where old numbers
stand in the new tensors (`Place`) is all that the optimizer's moments need. Which architecture a
step has follows from the recipe alone, so nothing about it is saved.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch

from thalweg.core.batch import Batch
from thalweg.core.moves import Copy, Learn
from thalweg.core.protocols import Context, ModelSpec
from thalweg.core.recipe import Phase, Recipe, origin
from thalweg.core.rng import key_seed
from thalweg.errors import RecipeError
from thalweg.optim import SGD, AdamW, Muon, NAdamW, OptimizerSpec
from thalweg.optim.assign import leaves

__all__ = ["Grow", "Growable", "Growth", "Place", "check_growth", "models_at", "moments"]

_KINDS = (AdamW, NAdamW, SGD, Muon)
"""Optimizers whose state is a gradient's mean or mean square, entry by entry."""


class Place(NamedTuple):
    """Where a tensor's old entries stand in the new one."""

    name: str
    """What it was called."""
    axes: tuple[torch.Tensor, ...]
    """Of each axis: where its old entries are now, int64."""
    factor: float = 1.0
    """What the old entries are multiplied by."""

    def put(self, old: torch.Tensor, into: torch.Tensor, power: int = 1) -> torch.Tensor:
        """Return `into` with the old entries, times factor^power, at their places.

        Example:
            >>> place = Place("w", (torch.tensor([0, 2]),), 0.5)
            >>> place.put(torch.tensor([4.0, 6.0]), torch.ones(3)).tolist()
            [2.0, 1.0, 3.0]
        """
        there = torch.meshgrid(*self.axes, indexing="ij")
        return into.index_put(there, old * self.factor**power)


class Growth(Protocol):
    """A way from one architecture to a larger one."""

    @property
    def places(self) -> Mapping[str, Place]:
        """Where every tensor that there was stands, by the name it has now."""
        ...

    def weights(
        self, old: Mapping[str, torch.Tensor], fresh: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Return weights that compute what the old ones did; new entries are fresh, or zero."""
        ...


@runtime_checkable
class Growable(Protocol):
    """A model, or its spec, that can become a larger one without a change of what it computes."""

    def growth(self, to: ModelSpec) -> Growth:
        """Return the way to a larger architecture.

        Raises:
            RecipeError: There is none that keeps the function.
        """
        ...


@dataclass(frozen=True)
class Grow:
    """Make a model larger in the first step of the phase, without a change of its output.

    The optimizer's moments of old entries stay, those of new ones start at zero. New entries that
    write into what stands are zero, all others are drawn anew.

    Source: arXiv:2309.03852 (a run in stages); arXiv:2305.02869 (operators, moments), whose masks
    that rise from 0 to 1 are weights here that learn from 0.
    """

    model: str
    to: ModelSpec
    """The architecture from this phase on."""

    @property
    def name(self) -> str:
        """Return `grow.MODEL`."""
        return f"grow.{self.model}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    @property
    def makes(self) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch unchanged; at the first step the model has grown."""
        if int(ctx.time.step) == 0:
            learner = ctx.models[self.model]
            before = learner.parameter_count()
            learner.grow(self.to, key_seed(ctx.seed, "grown", self.model, int(ctx.time.run_step)))
            ctx.note("grow", f"{self.model}: {before:,} -> {learner.parameter_count():,} weights")
        return batch


def models_at(recipe: Recipe, phase: int, step: int) -> dict[str, ModelSpec]:
    """Return the architecture of every model, copies resolved, as a run has it at a step.

    Args:
        recipe: The recipe.
        phase: Index of the phase; the number of phases stands for the end.
        step: Steps of the phase that are done. A `Grow` acts with the first.
    """
    specs = {name: origin(recipe, name)[1] for name in recipe.models}
    for one in recipe.phases[: phase + 1 if step else phase]:
        specs |= {move.model: move.to for move in one.do if isinstance(move, Grow)}
    return specs


def check_growth(recipe: Recipe) -> None:
    """Refuse growth that would change a function, lose moments, or part a model from its copy.

    Raises:
        RecipeError: It would.
    """
    trained: dict[str, tuple[Learn, str]] = {}
    for number, phase in enumerate(recipe.phases):
        before, after = models_at(recipe, number, 0), models_at(recipe, number, 1)
        for move in phase.do:
            where = f"{phase.name}.{move.name}"
            if isinstance(move, Grow):
                _check_grow(move, before[move.model], phase, where)
                if move.model in trained:
                    learn, name = trained[move.model]
                    _check_moments(learn.optimizer, f"{name}.{learn.name}.optimizer")
            elif isinstance(move, Learn):
                trained[move.model] = (move, phase.name)
            elif isinstance(move, Copy) and (after[move.src] != after[move.dst]):
                _check_copy(move, recipe, where)


def _check_grow(move: Grow, now: ModelSpec, phase: Phase, where: str) -> None:
    if phase.steps == 0:
        raise RecipeError(
            f"{move.name} in a phase of 0 steps",
            expected="1 step or more: it acts in the first",
            where=where,
            write="steps=1000",
        )
    if not isinstance(now, Growable):
        raise RecipeError(
            f"{move.name} of a {type(now).__name__}",
            expected="a model that can grow: a Transformer",
            where=where,
            write=f"models={{'{move.model}': Transformer(...)}}",
        )
    now.growth(move.to)


def _check_copy(move: Copy, recipe: Recipe, where: str) -> None:
    """Refuse to copy between two models of which one has grown away from the other."""
    grown = {one.model for phase in recipe.phases for one in phase.do if isinstance(one, Grow)}
    if grown & {move.src, move.dst}:
        raise RecipeError(
            f"{move.name} from '{move.src}', which has another architecture here",
            expected="both models grown alike",
            where=where,
            write=f"Grow('{move.dst}', ...) in the phase in which '{move.src}' grows",
        )


def _check_moments(optimizer: OptimizerSpec, where: str) -> None:
    """Refuse an optimizer whose state cannot be put into larger tensors.

    Raises:
        RecipeError: Its state is more than moments.
    """
    for _, leaf in leaves(optimizer):
        if not isinstance(leaf, _KINDS):
            raise RecipeError(
                f"a model that {type(leaf).__name__} has trained",
                expected="one of " + ", ".join(kind.__name__ for kind in _KINDS) + ", whose "
                "state is moments of single weights",
                where=where,
                write="AdamW(lr=...) in the phases before it",
            )


def moments(
    old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor], growth: Growth
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield, for each tensor of optimizers of the larger model, its name and what it starts with.

    A weight that is multiplied by f has a gradient of 1 / f, so its means are divided by f, its
    mean squares by f^2. What was counted (steps) stays; what is new starts at 0.

    Args:
        old: Every tensor of the learner before, whole; `model.*` and `optimizer.*`.
        new: Those of the optimizers after, by the same names.
        growth: The way.
    """
    for name, tensor in new.items():
        _, number, rest = name.split(".", 2)
        parameter, _, key = rest.rpartition(".")
        zero = torch.zeros(tensor.shape, dtype=tensor.dtype)
        place = growth.places.get(parameter)
        was = old.get(f"optimizer.{number}.{place.name}.{key}") if place else None
        if place is None or was is None:
            yield name, zero
        elif was.ndim == len(place.axes):
            yield name, place.put(was, zero, -2 if key.endswith("_sq") else -1)
        else:
            yield name, was
