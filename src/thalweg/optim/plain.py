"""The optimizers with a learning rate that torch has: AdamW, SGD, Muon.

Under a parametrisation that knows its width (`Widening`: m = width / base width) each spec scales
its numbers a group, so that the base model's serve every width (arXiv:2203.03466, table 8, with
the logits multiplied by 1 / m):

    AdamW   hidden matrices: lr / m, weight_decay m; every tensor: eps / m (gradients fall as 1 / m)
    SGD     hidden matrices as they are; all else: lr m, weight_decay / m
    Muon    scale "original" as it is: its update has the same spectral norm at every width;
            "match_rms_adamw": lr / sqrt(m), weight_decay sqrt(m), for it grows with sqrt(width)

The product of lr and weight_decay stays what it is at the base.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from fnmatch import fnmatchcase
from math import sqrt
from typing import ClassVar, Literal

import torch

from thalweg.core.protocols import Dial, Schedule
from thalweg.optim.values import (
    NOT_HIDDEN,
    Group,
    Place,
    check,
    check_betas,
    check_choice,
    check_patterns,
    frozen,
    join,
    misfit,
)

__all__ = ["SGD", "AdamW", "Muon", "adam_numbers"]


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay.

    m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; with both divided by 1 - b^t:
    w = w (1 - lr weight_decay) - lr m / (sqrt(v) + eps). Torch's fused kernel where there is one.

    Source: arXiv:1711.05101, algorithm 2. Defaults: arXiv:2005.14165, appendix B.

    Example:
        >>> AdamW(lr=3e-4).betas
        (0.9, 0.95)
    """

    alone: ClassVar[bool] = False
    lr: Dial
    """Learning rate, at least 0."""
    betas: tuple[Dial, Dial] = (0.9, 0.95)
    """Decay of the first and second moment, in [0, 1)."""
    eps: Dial = 1e-8
    """Added to the root of the second moment, above 0."""
    weight_decay: Dial = 0.1
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
        """Return torch's AdamW, fused where all tensors allow it."""
        tensors = [tensor for group in groups for tensor in group["params"]]
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in tensors)
        return torch.optim.AdamW(groups, fused=fused or None)


@dataclass(frozen=True)
class SGD:
    """Gradient descent, with momentum if wanted.

    g = g + weight_decay w; b = momentum b + g; w = w - lr b (nesterov: w - lr (g + momentum b)).
    The weight decay is part of the gradient, as in torch: it is not decoupled.

    Source: torch.optim.SGD, dampening 0.
    """

    alone: ClassVar[bool] = False
    lr: Dial
    """Learning rate, at least 0."""
    momentum: Dial = 0.0
    """In [0, 1)."""
    _: KW_ONLY
    nesterov: bool = False
    """Whether to look ahead along the momentum; nothing to see while that is 0. Not a dial."""
    weight_decay: Dial = 0.0
    """Factor of the weight in its gradient; tensors of 2 dimensions and more."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range; schedules are checked when they are frozen."""
        check(self, "lr", self.lr)
        check(self, "momentum", self.momentum, below=1.0)
        check_choice(self, "nesterov", self.nesterov, (True, False))
        check(self, "weight_decay", self.weight_decay)

    @property
    def rates(self) -> Mapping[str, Dial]:
        """Its learning rate, by field."""
        return {"lr": self.lr}

    def fixed(self) -> tuple[object, ...]:
        """Return whether it looks ahead."""
        return (self.nesterov,)

    def numbers(self, place: Place) -> Group:
        """Return this step's numbers of a group."""
        times = 1.0 if place.widening.hidden else place.widening.times
        decay = frozen(self.weight_decay, join(place.path, "weight_decay")) / times
        return {
            "lr": frozen(self.lr, join(place.path, "lr")) * times,
            "momentum": frozen(self.momentum, join(place.path, "momentum")),
            "weight_decay": decay if place.decays else 0.0,
            "nesterov": self.nesterov,
        }

    def algorithm(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Return torch's SGD."""
        return torch.optim.SGD(groups)


@dataclass(frozen=True)
class Muon:
    """Momentum, orthogonalised, for the hidden matrices; `adam` for everything else.

    b = momentum b + (1 - momentum) g; o = orthogonalised b (nesterov: g + momentum (b - g)) by 5
    Newton-Schulz steps in bfloat16; w = w (1 - lr weight_decay) - lr scale o.

    With ``scale="match_rms_adamw"`` one rate suits both parts, and `together` makes it one dial.

    Hidden matrices are parameters of exactly two dimensions whose name matches no pattern of
    `others`. Vectors, embeddings, the head, routers and stacked experts go to `adam`, which has no
    default: the two rates differ by orders of magnitude, and both want a schedule. A fused matrix
    (queries, keys and values in one) is orthogonalised as one. Sharded and whole runs differ by
    bfloat16's rounding.

    Source: torch.optim.Muon; kellerjordan.github.io/posts/muon; scale: arXiv:2502.16982.
    """

    alone: ClassVar[bool] = False
    lr: Dial
    """Learning rate of the matrices, at least 0; about 0.02 with the original scale."""
    _: KW_ONLY
    adam: AdamW
    """For all other parameters."""
    momentum: Dial = 0.95
    """In [0, 1)."""
    weight_decay: Dial = 0.0
    """Share of a weight that goes per step, in units of lr."""
    nesterov: bool = True
    """Whether to look ahead along the momentum. Part of the structure, not a dial."""
    scale: Literal["original", "match_rms_adamw"] = "original"
    """sqrt(max(1, rows / columns)), or 0.2 sqrt(max(rows, columns)), which suits AdamW's rates."""
    together: bool = False
    """Whether `adam.lr` is a factor of lr, so that one schedule and one override move both."""
    others: tuple[str, ...] = NOT_HIDDEN
    """Name patterns of matrices that are not hidden: embeddings, the head, routers."""

    def __post_init__(self) -> None:
        """Refuse what does not fit; schedules are checked when they are frozen.

        Raises:
            DialError: A number out of range.
            RecipeError: Another optimizer than AdamW beside it, or an unknown scale.
        """
        if not isinstance(self.adam, AdamW):
            raise misfit(
                f"adam = {self.adam!r}",
                "AdamW, for all that is no hidden matrix",
                "Muon(lr=0.02, adam=AdamW(lr=3e-4)); Groups for other optimizers",
                "Muon.adam",
            )
        check(self, "lr", self.lr)
        check(self, "momentum", self.momentum, below=1.0)
        check(self, "weight_decay", self.weight_decay)
        check_choice(self, "nesterov", self.nesterov, (True, False))
        check_choice(self, "scale", self.scale, ("original", "match_rms_adamw"))
        check_choice(self, "together", self.together, (True, False))
        check_patterns(self, "others", self.others)

    @property
    def rates(self) -> Mapping[str, Dial]:
        """Its learning rate, by field."""
        return {"lr": self.lr}

    def fixed(self) -> tuple[object, ...]:
        """Return what decides which parameters it gets and what it does with them."""
        return (self.nesterov, self.scale, self.together, tuple(self.others))

    @property
    def rest(self) -> AdamW:
        """`adam` with its own rate, once both rates are numbers."""
        if not self.together or isinstance(self.lr, Schedule) or isinstance(self.adam.lr, Schedule):
            return self.adam
        return replace(self.adam, lr=self.lr * self.adam.lr)

    def takes(self, name: str, parameter: torch.Tensor) -> bool:
        """Return whether a parameter is a hidden matrix."""
        return parameter.ndim == 2 and not any(fnmatchcase(name, other) for other in self.others)

    def numbers(self, place: Place) -> Group:
        """Return this step's numbers of a group of matrices."""
        grows = self.scale == "match_rms_adamw" and place.widening.hidden
        times = sqrt(place.widening.times) if grows else 1.0
        return {
            "lr": frozen(self.lr, join(place.path, "lr")) / times,
            "momentum": frozen(self.momentum, join(place.path, "momentum")),
            "weight_decay": frozen(self.weight_decay, join(place.path, "weight_decay")) * times,
            "nesterov": self.nesterov,
            "adjust_lr_fn": self.scale,
        }

    def algorithm(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Return torch's Muon."""
        return torch.optim.Muon(groups)


def adam_numbers(
    lr: Dial, betas: Sequence[Dial], eps: Dial, weight_decay: Dial, place: Place
) -> Group:
    """Return the numbers of an Adam group: rate and decay by width for hidden matrices."""
    times = place.widening.times if place.widening.hidden else 1.0
    decay = frozen(weight_decay, join(place.path, "weight_decay")) * times
    return {
        "lr": frozen(lr, join(place.path, "lr")) / times,
        "betas": tuple(frozen(b, join(place.path, f"betas.{i}")) for i, b in enumerate(betas)),
        "eps": frozen(eps, join(place.path, "eps")) / place.widening.times,
        "weight_decay": decay if place.decays else 0.0,
    }
