"""Prodigy: Adam that estimates the distance to the solution, and from it its rate.

Why not the author's package: its estimate lives in parameter groups as numbers, which a checkpoint
of tensors does not hold and which cost a transfer from the GPU for every tensor and step. Here it
is a tensor of the state. Tests hold this file against optax.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import ClassVar

import torch

from thalweg.core.protocols import Dial
from thalweg.optim.plain import adam_numbers
from thalweg.optim.values import (
    Group,
    Place,
    check,
    check_betas,
    check_choice,
    frozen,
    join,
    unwidened,
    whole,
)

__all__ = ["Prodigy"]


@dataclass(frozen=True)
class Prodigy:
    """Adam with an estimated rate. `lr` is a factor on it: 1, times a schedule if wanted.

    b3 = sqrt(b2); r = b3 r + (d / d0) d lr <g, w0 - w>; s = b3 s + (d / d0) d lr g;
    m = b1 m + (1 - b1) d g; v = b2 v + (1 - b2) (d g)^2; d = max(d, d_coef r / |s|_1);
    w = w (1 - d lr weight_decay) - d lr m / (sqrt(v) + d eps), with the d from before this step
    in all but eps.

    One d for all its parameters: a parametrisation that scales rates by group is refused.

    Source: arXiv:2306.06101, algorithm 4. Defaults: the author's code.
    """

    alone: ClassVar[bool] = True  # one d for all its parameters
    lr: Dial = 1.0
    """Factor of the estimated rate."""
    betas: tuple[Dial, Dial] = (0.9, 0.999)
    """Decay of the first and second moment, in [0, 1)."""
    eps: Dial = 1e-8
    """Added to the root of the second moment, in units of d, above 0."""
    weight_decay: Dial = 0.0
    """Share of a weight that goes per step, in units of d lr; 2 dimensions and more."""
    d_coef: Dial = 1.0
    """Factor of the estimate of d: the number to tune, if any; 0.5 to 2."""
    _: KW_ONLY
    d0: float = 1e-6
    """First estimate: far too small, so that d grows from below."""
    bias_correction: bool = False
    """Whether the rate is multiplied by sqrt(1 - b2^t) / (1 - b1^t), as Adam's."""
    safeguard_warmup: bool = False
    """Whether s leaves lr out: for schedules that begin near 0, whose d would grow too far."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range; schedules are checked when they are frozen."""
        check(self, "lr", self.lr)
        check_betas(self, self.betas)
        check(self, "eps", self.eps, above=0.0)
        check(self, "weight_decay", self.weight_decay)
        check(self, "d_coef", self.d_coef, above=0.0)
        check(self, "d0", self.d0, above=0.0)
        check_choice(self, "bias_correction", self.bias_correction, (True, False))
        check_choice(self, "safeguard_warmup", self.safeguard_warmup, (True, False))

    @property
    def rates(self) -> Mapping[str, Dial]:
        """Its learning rate, by field."""
        return {"lr": self.lr}

    def fixed(self) -> tuple[object, ...]:
        """Return what the estimate was begun with."""
        return (self.d0, self.bias_correction, self.safeguard_warmup)

    def numbers(self, place: Place) -> Group:
        """Return this step's numbers of a group.

        Raises:
            RecipeError: The model's parametrisation scales rates with its width.
        """
        unwidened(self, place)
        return {
            **adam_numbers(self.lr, self.betas, self.eps, self.weight_decay, place),
            "d_coef": frozen(self.d_coef, join(place.path, "d_coef")),
            "d0": self.d0,
            "bias_correction": self.bias_correction,
            "safeguard_warmup": self.safeguard_warmup,
        }

    def algorithm(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Return the torch optimizer."""
        return _Prodigy(groups)


class _Prodigy(torch.optim.Optimizer):
    def __init__(self, groups: list[Group]) -> None:
        super().__init__(groups, {})
        for group in self.param_groups:
            for p in group["params"]:
                zeros = {name: torch.zeros_like(p) for name in ("s", "exp_avg", "exp_avg_sq")}
                self.state[p] = {"start": p.detach().clone(), **zeros}
        first = self.param_groups[0]["params"][0]
        zero = torch.zeros((), dtype=torch.float64, device=first.device)
        self._shared = self.state[first]  # what all parameters share stands with the first
        self._shared["step"] = torch.zeros(())
        self._shared["d"] = zero + self.param_groups[0]["d0"]
        self._shared["r"] = zero

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # torch's overloads
        main, d = self.param_groups[0], self._shared["d"].clone()
        (b1, b2), d0, lr = main["betas"], main["d0"], main["lr"]
        if lr == 0:
            return
        self._shared["step"] += 1
        t = float(self._shared["step"])
        corrected = sqrt(1 - b2**t) / (1 - b1**t) if main["bias_correction"] else 1.0
        rate = d * (lr * corrected)
        gain = (d / d0) * rate
        pull = (d / d0) * d if main["safeguard_warmup"] else gain
        moved, length = torch.zeros_like(d), torch.zeros_like(d)
        for p, state, grad in self._trained():
            moved += whole((grad * (state["start"] - p)).sum())
            state["exp_avg"].mul_(b1).add_(grad * (d * (1 - b1)))
            state["exp_avg_sq"].mul_(b2).add_((grad * d).square_(), alpha=1 - b2)
            state["s"].mul_(sqrt(b2)).add_(grad * pull)
            length += whole(state["s"].abs().sum())
        self._shared["r"].mul_(sqrt(b2)).add_(gain * moved)
        found = main["d_coef"] * self._shared["r"] / length
        self._shared["d"].copy_(torch.where(length > 0, torch.maximum(d, found), d))
        self._move(rate)

    def _move(self, rate: torch.Tensor) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                root = state["exp_avg_sq"].sqrt().add_(self._shared["d"] * group["eps"])
                p.mul_(1 - rate * group["weight_decay"])
                p.sub_(state["exp_avg"] / root * rate)

    def _trained(self) -> list[tuple[torch.Tensor, Group, torch.Tensor]]:
        found = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        return [(p, self.state[p], p.grad) for p in found]
