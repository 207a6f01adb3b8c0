"""DoG: the distance moved over the gradients seen, as a rate. With its average of weights.

No kept library has it for torch (the authors' package is of 2023, and its state lies in parameter
groups). Tests hold this file against optax.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import nn

from thalweg.core.protocols import Dial
from thalweg.optim.values import Group, Place, check, check_choice, frozen, join, unwidened, whole

__all__ = ["DoG"]


@dataclass(frozen=True)
class DoG:
    """Gradient descent at the rate lr max_i |w_i - w_0| / sqrt(sum_i |g_i|^2 + eps).

    Before anything has moved the distance is first (1 + |w_0|). What the model answers with is
    the mean of its weights with polynomial weights, without which the method is not itself:
    a = (1 - c) a + c w with c = (1 + average) / (t + average).

    Norms run over all its parameters together, or over each tensor (`layerwise`, L-DoG). Weight
    decay is part of the gradient. It is slow where gradients of layers differ by orders of
    magnitude, as in transformers; L-DoG less so.

    Source: arXiv:2302.12022, eq. (DoG) and section 4; average: arXiv:1212.1824, eq. (9).

    Example:
        >>> DoG(layerwise=True).lr
        1.0
    """

    alone: ClassVar[bool] = True  # the distance is of all its parameters
    lr: Dial = 1.0
    """Factor of the rate; the method's own is 1."""
    weight_decay: Dial = 0.0
    """Factor of the weight in its gradient; tensors of 2 dimensions and more."""
    _: KW_ONLY
    first: float = 1e-6
    """First distance in units of 1 + |w_0|; 1e-4 with batch normalisation."""
    eps: Dial = 1e-8
    """Added to the sum of squared gradients, above 0."""
    average: Dial = 8.0
    """Weight of the latest weights in their mean: about the last 1 / average of the run counts."""
    layerwise: bool = False
    """Whether each tensor has a rate of its own."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range; schedules are checked when they are frozen."""
        check(self, "lr", self.lr)
        check(self, "weight_decay", self.weight_decay)
        check(self, "first", self.first, above=0.0)
        check(self, "eps", self.eps, above=0.0)
        check(self, "average", self.average)
        check_choice(self, "layerwise", self.layerwise, (True, False))

    @property
    def rates(self) -> Mapping[str, Dial]:
        """Its learning rate, by field."""
        return {"lr": self.lr}

    def fixed(self) -> tuple[object, ...]:
        """Return what the distances were begun with."""
        return (self.first, self.layerwise)

    def numbers(self, place: Place) -> Group:
        """Return this step's numbers of a group.

        Raises:
            RecipeError: The model's parametrisation scales rates with its width.
        """
        unwidened(self, place)
        decay = frozen(self.weight_decay, join(place.path, "weight_decay"))
        return {
            "lr": frozen(self.lr, join(place.path, "lr")),
            "weight_decay": decay if place.decays else 0.0,
            "eps": frozen(self.eps, join(place.path, "eps")),
            "average": frozen(self.average, join(place.path, "average")),
            "first": self.first,
            "layerwise": self.layerwise,
        }

    def algorithm(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Return the torch optimizer."""
        return _DoG(groups)


class _DoG(torch.optim.Optimizer):
    def __init__(self, groups: list[Group]) -> None:
        super().__init__(groups, {})
        for p in self._parameters():
            start = p.detach().clone()
            self.state[p] = {"start": start, "average": start.clone(), "step": torch.zeros(())}
        first = self.param_groups[0]["first"]
        for team in self._teams():
            size = torch.stack([_squares(p) for p in team]).sum().sqrt()
            shared = self.state[team[0]]  # what a team shares stands with its first parameter
            shared["distance"] = first * (1 + size)
            shared["energy"] = torch.zeros_like(size)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # torch's overloads
        main = self.param_groups[0]
        grads = {
            p: p.grad.add(p, alpha=group["weight_decay"])
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
        }
        for team in self._teams():
            moving = [p for p in team if p in grads]
            if not moving:
                continue
            shared = self.state[team[0]]
            moved = [_squares(p - self.state[p]["start"]) for p in team]
            shared["distance"].copy_(
                torch.maximum(shared["distance"], torch.stack(moved).sum().sqrt())
            )
            shared["energy"] += torch.stack([_squares(grads[p]) for p in moving]).sum()
            rate = main["lr"] * shared["distance"] / (shared["energy"] + main["eps"]).sqrt()
            for p in moving:
                p.sub_(grads[p] * rate)
        for p in self._parameters():
            state = self.state[p]
            state["step"] += 1
            share = (1 + main["average"]) / (float(state["step"]) + main["average"])
            state["average"].lerp_(p, share)

    @torch.no_grad()
    def averages(self) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return the mean of every parameter."""
        return [(p, self.state[p]["average"].clone()) for p in self._parameters()]

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    def _teams(self) -> list[list[nn.Parameter]]:
        """Return the parameters that share a rate."""
        every = self._parameters()
        return [[p] for p in every] if self.param_groups[0]["layerwise"] else [every]


def _squares(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of squares of a tensor that may be sharded."""
    return whole(tensor.detach().square().sum())
