"""Keep the experts of a mixture evenly used: a loss, split-invariant at every scope.

    balance = E sum_i f_i P_i,   f_i share of choices, constant;   P_i mean share before the choice

over tokens that count, averaged over layers: 1 when balanced, E when all tokens go to one expert.
Over what f runs is the point of the paper: over a micro-batch the loss forces balance inside every
text, over the global batch experts are free to specialise. Here f is a column, made for the global
batch before the backward pass by `Load` or `LaggedLoad` (`objectives/loads.py`), so the objective
is a sum over rows and no split into micro-batches or ranks changes a gradient. The paper's own way
sums counts as micro-batches go by, and approximates those to come.

f sums to 1. Where a paper's f sums to k, its weight is ours divided by k.

Source: arXiv:2501.11873; z-loss arXiv:2202.08906, eq. (5).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.protocols import Dial, Loss, Objective, Routing
from thalweg.errors import RecipeError
from thalweg.objectives.forward import Asking, documents_of, mean_of

__all__ = ["Balanced", "ExpertCounts", "balance", "counts_of"]

# R rows, T targets of a row, L layers, E experts, K chosen a token.


def balance(routing: tuple[Routing, ...], share_RLE: torch.Tensor) -> torch.Tensor:
    """Return E sum_i f_i p_i for each token, averaged over layers [R, T].

    Args:
        routing: Of each layer.
        share_RLE: f that each row is held against; sums to 1 over experts.

    Example:
        >>> even = Routing(torch.full((1, 3, 4), 0.25), *[torch.zeros(0)] * 3)
        >>> balance((even,), torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])).tolist()
        [[1.0, 1.0, 1.0]]
    """
    experts = share_RLE.shape[-1]
    each = [
        torch.einsum("rte,re->rt", layer.probs, share_RLE[:, number].to(layer.probs.dtype))
        for number, layer in enumerate(routing)
    ]
    return experts * torch.stack(each).mean(0)


def counts_of(routing: tuple[Routing, ...], counted_RT: torch.Tensor) -> torch.Tensor:
    """Return how many counted tokens of each row chose each expert, float32 [R, L, E]."""
    return torch.stack([_counts(layer, counted_RT) for layer in routing], 1)


@dataclass(frozen=True)
class ExpertCounts:
    """For Score: how many counted tokens of a row go to each expert [R, L, E].

    Example:
        >>> from thalweg.core.moves import Score
        >>> Score("policy", "load", fn=ExpertCounts()).makes
        ('load',)
    """

    weight: str = "weight"
    """The weight column; tokens whose target counts nothing are not counted."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("tokens", self.weight)

    def __call__(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the counts."""
        routing = model(batch["tokens"][:, :-1], documents_of(batch), routing=True)
        return counts_of(routing, batch[self.weight] > 0)


@dataclass(frozen=True)
class Balanced:
    """An objective of a mixture of experts, and its routers' losses, in one forward pass.

    inner + balance * sum_t w_t E sum_i f_i p_ti + z * sum_t w_t (log sum_i exp logit_ti)^2

    Reports `balance`, `router_z`, and for every layer and expert `load/LAYER/EXPERT`, the counted
    tokens that chose it. Stands outermost: a Sum goes inside.

    Raises:
        RecipeError: The inner objective does not read `tokens`.

    Example:
        >>> from thalweg.objectives import NextToken
        >>> Balanced(NextToken(), balance=0.01).needs
        ('tokens', 'weight', 'load_share')
    """

    inner: Objective
    balance: Dial = 0.008
    """Its weight, of the 3.4B runs of the paper; None: no loss, the column is not read."""
    z: Dial = 0.0
    """Weight of the squared log-sum-exp of the logits, which keeps them small; often 0.001."""
    weight: str = "weight"
    """The weight column."""

    def __post_init__(self) -> None:
        """Refuse an objective of other text than `tokens`."""
        if "tokens" not in self.inner.needs:
            raise RecipeError(
                f"an objective that reads {', '.join(self.inner.needs)}",
                expected="one that reads 'tokens'",
                where="Balanced.inner",
                write="Balanced(NextToken())",
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        share = () if self.balance is None else ("load_share",)
        return tuple(dict.fromkeys((*self.inner.needs, self.weight, *share)))

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of these rows.

        Args:
            model: A language model with experts.
            batch: What the inner objective needs; `load_share` [R, L, E].
        """
        asked = Asking(model, "routing")
        inner = self.inner(cast(nn.Module, asked), batch)  # called as a module is, nothing else
        routing = asked.first.routing if asked.first is not None else ()
        if not routing:  # the inner objective has asked for logits
            routing = model(batch["tokens"][:, :-1], documents_of(batch), routing=True)
        weight = batch[self.weight]
        log_total = torch.stack([layer.log_total for layer in routing])
        parts = {"router_z": (self.z, log_total.square().mean(0))}
        if self.balance is not None:
            parts["balance"] = (self.balance, balance(routing, batch["load_share"]))
        value = inner.value
        sums: dict[str, torch.Tensor] = dict(inner.sums)
        for name, (scale, each_RT) in parts.items():
            value = value + scale * (weight * each_RT).sum()
            sums |= mean_of(name, each_RT, weight)
        return Loss(value, {**sums, **_named(counts_of(routing, weight > 0))}, inner.rows)


def _counts(layer: Routing, counted_RT: torch.Tensor) -> torch.Tensor:
    rows, experts = layer.probs.shape[0], layer.probs.shape[-1]
    each_RTK = counted_RT.float()[..., None].expand(layer.chosen.shape)
    zeros_RE = torch.zeros(rows, experts, device=counted_RT.device)
    return zeros_RE.scatter_add(1, layer.chosen.flatten(1), each_RTK.flatten(1))


def _named(counts_RLE: torch.Tensor) -> Mapping[str, torch.Tensor]:
    totals_LE = counts_RLE.sum(0)
    return {
        f"load/{layer}/{expert}": total
        for layer, row in enumerate(totals_LE.unbind())
        for expert, total in enumerate(row.unbind())
    }
