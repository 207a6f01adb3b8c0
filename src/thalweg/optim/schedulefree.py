"""Schedule-free: a constant rate whose averaged weights are as good as decayed ones.

Three points: z takes the steps, x is the weighted mean of all z, and gradients are taken between
them, at y = (1 - beta) z + beta x. The model holds y while it trains; what it answers with is x:
monitors, held-out loss, samples and exported folders see x (`Learner.averaged`).

Why not the authors' package: its optimizers keep counters in parameter groups, which a checkpoint
of tensors does not hold, and their switch from y to x and back rounds, so that a run which is
measured would differ from one which is not. Tests hold this file against optax.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import ClassVar

import torch
from torch import nn

from thalweg.core.protocols import Dial, Schedule
from thalweg.optim.plain import SGD, AdamW
from thalweg.optim.values import Group, Place, check, frozen, join, misfit

__all__ = ["ScheduleFree"]


@dataclass(frozen=True)
class ScheduleFree:
    """A schedule-free version of AdamW or SGD. Its rate wants a warm-up and then no schedule.

    d = weight_decay y + g / (sqrt(v / (1 - b2^t)) + eps), or weight_decay y + g;
    z = z - lr d; x = (1 - c) x + c z with c = w / (sum of all w), w = t^power max(lr)^lr_power;
    y = (1 - beta) z + beta x, where beta is AdamW's first beta or SGD's momentum.

    Rates are larger than those of the inner optimizer with a schedule: 1 to 10 times for AdamW,
    10 to 50 times for SGD (README of the authors' code).

    Source: arXiv:2405.15682, algorithm 1.

    Example:
        >>> ScheduleFree(AdamW(lr=2.5e-3, betas=(0.9, 0.999), weight_decay=0.01)).power
        0.0
    """

    alone: ClassVar[bool] = True  # its parameters are a mix that nobody else may move
    inner: AdamW | SGD
    """Rate, betas or momentum, and weight decay."""
    _: KW_ONLY
    power: Dial = 0.0
    """Above 0, later weights count more in the mean (r in the paper)."""
    lr_power: Dial = 2.0
    """How much the largest rate so far counts in the mean: warm-up counts little."""

    def __post_init__(self) -> None:
        """Refuse another inner optimizer, and a mixing number that is 0 or moves."""
        if not isinstance(self.inner, AdamW | SGD) or self.inner.fixed() == (True,):
            raise misfit(
                f"ScheduleFree({self.inner!r})",
                "AdamW, or SGD without nesterov",
                "ScheduleFree(AdamW(lr=2.5e-3, betas=(0.9, 0.999)))",
                "ScheduleFree.inner",
            )
        if isinstance(self._beta, Schedule) or not self._beta > 0:
            raise misfit(
                f"{self._beta!r} as AdamW's first beta or SGD's momentum",
                "a number above 0 that stays: the model's weights are a mix made with it",
                "betas=(0.9, 0.999), or momentum=0.9",
                "ScheduleFree.inner",
            )
        check(self, "power", self.power)
        check(self, "lr_power", self.lr_power)

    @property
    def _beta(self) -> Dial:
        return self.inner.momentum if isinstance(self.inner, SGD) else self.inner.betas[0]

    @property
    def rates(self) -> Mapping[str, Dial]:
        """The learning rate of the inner spec."""
        return {"inner.lr": self.inner.lr}

    def fixed(self) -> tuple[object, ...]:
        """Return the inner kind and the mixing number, with which the model's weights are made."""
        return (type(self.inner).__name__, self._beta)

    def numbers(self, place: Place) -> Group:
        """Return this step's numbers of a group."""
        inner = self.inner.numbers(place._replace(path=join(place.path, "inner")))
        b2 = inner["betas"][1] if isinstance(self.inner, AdamW) else None
        return {
            "lr": inner["lr"],
            "beta": frozen(self._beta, join(place.path, "inner")),
            "b2": b2,
            "eps": inner.get("eps", 0.0),
            "weight_decay": inner["weight_decay"],
            "power": frozen(self.power, join(place.path, "power")),
            "lr_power": frozen(self.lr_power, join(place.path, "lr_power")),
        }

    def algorithm(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Return the torch optimizer."""
        return _ScheduleFree(groups)


class _ScheduleFree(torch.optim.Optimizer):
    def __init__(self, groups: list[Group]) -> None:
        super().__init__(groups, {})
        for group in self.param_groups:
            for p in group["params"]:
                clock = torch.zeros(3, dtype=torch.float64)  # t, largest lr, sum of weights
                self.state[p] = {"z": p.detach().clone(), "clock": clock}
                if group["b2"] is not None:
                    self.state[p]["exp_avg_sq"] = torch.zeros_like(p)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # torch's overloads
        for group in self.param_groups:
            lr, beta = group["lr"], group["beta"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                share = _tick(state["clock"], group)
                d = _direction(p, state, group)
                p.lerp_(state["z"], share).add_(d, alpha=lr * (beta * (1 - share) - 1))
                state["z"].sub_(d, alpha=lr)

    @torch.no_grad()
    def averages(self) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return x = y + (1 - 1 / beta) (z - y) of every parameter."""
        return [
            (p, p.detach().lerp(self.state[p]["z"], 1 - 1 / group["beta"]))
            for group in self.param_groups
            for p in group["params"]
        ]


def _tick(clock: torch.Tensor, group: Group) -> float:
    """Count a step; return its share in the mean."""
    t, largest, total = clock.tolist()
    t, largest = t + 1, max(largest, group["lr"])
    weight = t ** group["power"] * largest ** group["lr_power"]
    clock.copy_(torch.tensor([t, largest, total + weight], dtype=torch.float64))
    return float(weight / (total + weight)) if weight else 0.0


def _direction(p: torch.Tensor, state: Group, group: Group) -> torch.Tensor:
    """Return d, with the weight decay taken at y."""
    grad: torch.Tensor = p.grad  # type: ignore[assignment]  # asked for by the caller
    if group["b2"] is None:
        return grad.add(p, alpha=group["weight_decay"])
    square, b2 = state["exp_avg_sq"], group["b2"]
    square.mul_(b2).addcmul_(grad, grad, value=1 - b2)
    root = square.sqrt().div_(sqrt(1 - b2 ** float(state["clock"][0]))).add_(group["eps"])
    turned: torch.Tensor = grad / root
    return turned.add_(p, alpha=group["weight_decay"])
