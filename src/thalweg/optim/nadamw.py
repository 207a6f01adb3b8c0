"""NAdamW: AdamW that looks ahead along its first moment, with constants calibrated once for all.

torch.optim.NAdam is another algorithm (its momentum follows a schedule of its own); this one is
what the AlgoPerf benchmark calls NAdamW and calibrated.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from thalweg.core.protocols import Dial
from thalweg.optim.plain import adam_numbers
from thalweg.optim.values import Group, Place, check, check_betas

__all__ = ["NAdamW"]


@dataclass(frozen=True)
class NAdamW:
    """AdamW with Nesterov's momentum: the honest baseline, untouched defaults and all.

    m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; n = b1 m + (1 - b1) g;
    w = w (1 - lr weight_decay) - lr (n / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).

    The defaults are one point for all workloads, the best of a search by AlgoPerf; they were found
    with a warm-up over 2 % of the run and a cosine to 0, which the recipe must give.

    Source: arXiv:1910.05446, table 1; defaults: mlcommons/algorithmic-efficiency, self-tuning
    baseline jax_nadamw_full_budget.py.

    Example:
        >>> NAdamW().betas
        (0.93266073836, 0.9955159689799007)
    """

    alone: ClassVar[bool] = False
    lr: Dial = 0.0017486387539278373
    """Learning rate, at least 0."""
    betas: tuple[Dial, Dial] = (0.93266073836, 0.9955159689799007)
    """Decay of the first and second moment, in [0, 1)."""
    eps: Dial = 1e-8
    """Added to the root of the second moment, above 0."""
    weight_decay: Dial = 0.08121616522670176
    """Share of a weight that goes per step, in units of lr; tensors of 2 dimensions and more."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range; schedules are checked when they are frozen."""
        check(self, "lr", self.lr)
        check_betas(self, self.betas)
        check(self, "eps", self.eps, above=0.0)
        check(self, "weight_decay", self.weight_decay)

    @property
    def rates(self) -> Mapping[str, Dial]:
        """Its learning rate, by field."""
        return {"lr": self.lr}

    def fixed(self) -> tuple[object, ...]:
        """Return nothing: all of it are dials."""
        return ()

    def numbers(self, place: Place) -> Group:
        """Return this step's numbers of a group."""
        return adam_numbers(self.lr, self.betas, self.eps, self.weight_decay, place)

    def algorithm(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Return the torch optimizer."""
        return _NAdamW(groups)


class _NAdamW(torch.optim.Optimizer):
    def __init__(self, groups: list[Group]) -> None:
        super().__init__(groups, {})
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # torch's overloads
        for group in self.param_groups:
            (b1, b2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                mean, square = state["exp_avg"], state["exp_avg_sq"]
                state["step"] += 1
                t = float(state["step"])
                mean.lerp_(p.grad, 1 - b1)
                square.mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
                ahead = mean.lerp(p.grad, 1 - b1)
                root = (square / (1 - b2**t)).sqrt_().add_(group["eps"])
                p.mul_(1 - lr * group["weight_decay"])
                p.addcdiv_(ahead, root, value=-lr / (1 - b1**t))
