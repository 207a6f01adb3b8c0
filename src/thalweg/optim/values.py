"""What all specs share: their protocol, where a parameter stands, and checks of their numbers."""

from collections.abc import Mapping, Sequence
from math import inf, isfinite
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import nn

from thalweg.core.protocols import Dial, Schedule
from thalweg.errors import DialError, RecipeError

__all__ = [
    "NOT_HIDDEN",
    "Averaging",
    "Group",
    "Leaf",
    "Named",
    "Place",
    "Preparing",
    "Widening",
    "check",
    "check_betas",
    "check_choice",
    "check_patterns",
    "frozen",
    "join",
    "misfit",
    "unwidened",
    "whole",
]

Named: TypeAlias = Sequence[tuple[str, nn.Parameter]]
"""Parameters with their names in the model."""

Group: TypeAlias = dict[str, Any]
"""A parameter group of torch: `params` and the numbers of this step."""


class Widening(NamedTuple):
    """How a parameter grows with the width of its model; made by the model's parametrisation."""

    times: float = 1.0
    """Width over the base width, at which the rates were found."""
    hidden: bool = False
    """Whether it is a matrix both sides of which grow."""


class Place(NamedTuple):
    """Where a group of parameters stands."""

    path: str
    """Of its spec inside the whole: '' or 'adam' or 'groups.*.bias'."""
    decays: bool
    """Whether its tensors get weight decay: those of two dimensions and more."""
    widening: Widening = Widening()


@runtime_checkable
class Leaf(Protocol):
    """A spec of one algorithm: a frozen dataclass whose numbers are dials."""

    @property
    def alone(self) -> bool:
        """Whether it knows where its parameters were, or what all of them did together.

        Then it has a torch optimizer to itself, and nothing may wrap it.
        """
        ...

    @property
    def rates(self) -> Mapping[str, Dial]:
        """Its learning rates by their paths inside it; none for what only follows others."""
        ...

    def fixed(self) -> tuple[object, ...]:
        """Return what is no dial: moments that were made with it fit nothing else."""
        ...

    def numbers(self, place: Place) -> Group:
        """Return the numbers of this step as the algorithm's parameter groups name them."""
        ...

    def algorithm(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Return the torch optimizer of some groups, numbers included."""
        ...


@runtime_checkable
class Averaging(Protocol):
    """A torch optimizer whose answer is an average of weights, not those it takes gradients at."""

    def averages(self) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return the average of every parameter, as new tensors."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """A torch optimizer that must see weights and gradients before those it wraps step."""

    def before(self) -> None:
        """Look."""
        ...


def check(
    owner: object, field: str, value: Dial, *, above: float = -inf, below: float = inf
) -> None:
    """Refuse a number out of range; schedules are checked when they are frozen.

    Raises:
        DialError: Neither a finite number of at least 0 inside the limits nor a schedule.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and isfinite(value) and value >= 0 and above < value < below:
        return
    if isinstance(value, Schedule):
        return
    limits = ["above 0" if above == 0 else "at least 0"] + ["below 1"] * (below == 1)
    raise DialError(
        f"{field} = {value!r}",
        expected=f"a finite number {' and '.join(limits)}, or a schedule",
        where=f"{type(owner).__name__}.{field}",
        write=f"{field}=1e-3" if field in ("lr", "eps") else f"{field}=0.9",
    )


def check_betas(owner: object, betas: Sequence[Dial]) -> None:
    """Refuse what is no pair of decays.

    Raises:
        RecipeError: No tuple of two; schedules in a list would not be found.
        DialError: One outside [0, 1).
    """
    if not isinstance(betas, tuple) or len(betas) != 2:
        where = f"{type(owner).__name__}.betas"
        raise misfit(f"betas = {betas!r}", "a tuple of two numbers", "betas=(0.9, 0.95)", where)
    for number, beta in enumerate(betas):
        check(owner, f"betas.{number}", beta, below=1.0)


def check_choice(owner: object, field: str, value: object, choices: Sequence[object]) -> None:
    """Refuse what is none of the choices of a field; booleans are a choice of two.

    Raises:
        RecipeError: It is not.
    """
    if value not in choices:
        raise misfit(
            f"{field} = {value!r}",
            "one of " + ", ".join(map(repr, choices)),
            " or ".join(f"{field}={choice!r}" for choice in choices),
            f"{type(owner).__name__}.{field}",
        )


def check_patterns(owner: object, field: str, patterns: object) -> None:
    """Refuse what is no tuple of strings: a lone string would be patterns of one letter.

    Raises:
        RecipeError: It is not.
    """
    if isinstance(patterns, tuple) and all(isinstance(pattern, str) for pattern in patterns):
        return
    raise misfit(
        f"{field} = {patterns!r}",
        "a tuple of name patterns",
        f'{field}=("*embed*", "head.*")',
        f"{type(owner).__name__}.{field}",
    )


def frozen(value: Dial, path: str) -> float:
    """Return a dial that is a number.

    Raises:
        DialError: It is still a schedule.
    """
    if isinstance(value, Schedule):
        raise DialError(
            f"{path} = {value!r}",
            expected="a number: schedules are frozen before an optimizer sees them",
            where=f"optimizer.{path}",
            write="at(spec, time) first",
        )
    return float(value)


def misfit(given: str, expected: str, write: str, where: str = "optimizer") -> RecipeError:
    """Return the error of a spec that does not fit."""
    return RecipeError(given, expected=expected, where=where, write=write)


def unwidened(owner: object, place: Place) -> None:
    """Refuse rates that differ by group, for optimizers that estimate one rate for all.

    Raises:
        RecipeError: The model's parametrisation scales rates with its width.
    """
    if place.widening.times != 1.0:
        raise misfit(
            f"{type(owner).__name__} on a model {place.widening.times:g} times as wide as its base",
            "an optimizer whose rate may differ by group: the parametrisation scales it",
            "AdamW(lr=...) or Muon(...), or the model without mup",
        )


def join(path: str, piece: str) -> str:
    """Return a path with a piece added."""
    return f"{path}.{piece}" if path else piece


NOT_HIDDEN = (
    *("*embed*", "*wte*", "*wpe*", "*lm_head*", "head.*", "*.head.*"),
    *("*router*", "*.gate.weight", "*shared_expert_gate*"),
)
"""Name patterns of matrices that are not hidden: embeddings, heads, and routers, ours and those of
transformers, whose rows are scored against each other like a head's."""


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return the whole of a tensor that may be sharded or a sum over shards."""
    full: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full
