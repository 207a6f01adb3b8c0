"""Normalise and project: weights keep the norm they were born with, so the rate is the schedule's.

Behind a normalisation a matrix counts by its direction only: the gradient shrinks as its norm
grows, so growth is a decay of the rate that nobody wrote (Adam turns a matrix by about
lr sqrt(size) / |W| a step). Projection onto the first norm after every step takes that away. It
changes nothing else where the network is normalised after each matrix, and it does change the
function where it is not: ask `unnormalised` which matrices those are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

import torch
from torch import nn

from thalweg.core.protocols import Dial
from thalweg.optim.groups import Groups, refuse_inner
from thalweg.optim.values import (
    NOT_HIDDEN,
    Group,
    Leaf,
    Named,
    Place,
    check_patterns,
    misfit,
    whole,
)

__all__ = ["Projected", "unnormalised"]


@dataclass(frozen=True)
class Projected:
    """An optimizer after each step of which every matrix gets its first norm back.

    W = W |W_0| / |W| (Frobenius) for the parameters of two and more dimensions whose name matches
    no pattern of `others`; norms, biases, embeddings, the head and routers stay free: their size is
    not undone by a normalisation. The moments are left as they are; weight decay of projected
    matrices has no effect but on their direction.

    The method asks for a normalisation between every matrix and the nonlinearity after it, which
    is the model's to have.

    Source: arXiv:2407.01800, section 4.
    """

    alone: ClassVar[bool] = True  # it knows their first norms
    inner: Leaf | Groups
    """AdamW, NAdamW, SGD, Muon, or Groups of them."""
    _: KW_ONLY
    others: tuple[str, ...] = NOT_HIDDEN
    """Name patterns of matrices that are not projected."""

    def __post_init__(self) -> None:
        """Refuse an inner optimizer that remembers where the weights were."""
        refuse_inner(self, self.inner)
        check_patterns(self, "others", self.others)

    @property
    def rates(self) -> Mapping[str, Dial]:
        """None of its own."""
        return {}

    def fixed(self) -> tuple[object, ...]:
        """Return what decides which matrices it projects."""
        return (tuple(self.others),)

    def takes(self, name: str, parameter: torch.Tensor) -> bool:
        """Return whether a parameter is projected."""
        return parameter.ndim >= 2 and not any(fnmatchcase(name, other) for other in self.others)

    def numbers(self, place: Place) -> Group:
        """Return nothing: there is no number."""
        return {}

    def algorithm(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Return the torch optimizer that follows the inner ones."""
        return _Project(groups)


class _Project(torch.optim.Optimizer):
    def __init__(self, groups: list[Group]) -> None:
        super().__init__(groups, {})
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {"norm": _norm(p)}
                if not self.state[p]["norm"] > 0:
                    raise misfit(
                        f"Projected over a matrix {tuple(p.shape)} of zeros",
                        "weights with a norm to keep",
                        "its name among Projected.others",
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # torch's overloads
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(self.state[p]["norm"] / _norm(p))


@torch.no_grad()
def unnormalised(
    loss: Callable[[], torch.Tensor],
    named: Named,
    *,
    factor: float = 2.0,
    tolerance: float = 1e-3,
) -> tuple[str, ...]:
    """Return the matrices whose size the loss depends on: no normalisation undoes it.

    Each is multiplied by `factor`, the loss is computed again, and the matrix is put back.

    Args:
        loss: Computes the loss of the model on some batch, without dropout.
        named: The matrices to try; vectors are passed over.
        factor: Above 0, not 1.
        tolerance: Largest relative change of the loss that counts as none: what the small number
            inside a normalisation leaves.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> layer, x = nn.Linear(4, 4, bias=False), torch.randn(8, 4, generator=draw)
        >>> _ = nn.init.normal_(layer.weight, generator=draw)
        >>> named = list(layer.named_parameters())
        >>> unnormalised(lambda: layer(x).square().mean(), named)
        ('weight',)
        >>> unnormalised(lambda: nn.functional.layer_norm(layer(x), (4,))[:, 0].exp().mean(), named)
        ()
    """
    found: list[str] = []
    base = float(loss())
    for name, p in _matrices(named):
        kept = p.detach().clone()
        p.mul_(factor)
        if abs(float(loss()) - base) > tolerance * abs(base):
            found.append(name)
        p.copy_(kept)
    return tuple(found)


def _matrices(named: Named) -> Sequence[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in named if p.ndim >= 2]


def _norm(p: torch.Tensor) -> torch.Tensor:
    """Return the norm of a matrix that may be sharded."""
    return whole(p.detach().square().sum()).sqrt()
