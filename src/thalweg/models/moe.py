"""A mixture of experts in the place of the gated layer: every token goes to its top few.

    s = softmax(W x) or sigmoid(W x);  chosen = top k of s + bias;  y = sum_chosen weight_i f_i(x)

Decisions:
- the router is computed in float32 whatever the activations are;
- nothing is dropped: pairs of token and expert are sorted by expert, and each expert multiplies its
  own rows in one grouped product. On CUDA that is torch's; a CPU loops over the experts inside one
  opaque operator, so that a compiled model stays one graph;
- all rows are moved by gathers, also in the backward pass, which makes it deterministic;
- what the router decided is returned (`Routing`), never kept in the module: a loss or a monitor
  asks the model for it with `routing=True`;
- `capacity` counts within a row, so that a split into micro-batches changes nothing. It holds in
  training only; dropped pairs are computed and weighed 0.

Source: arXiv:1701.06538; top-k softmax arXiv:2401.04088; bias arXiv:2408.15664.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from thalweg.core.protocols import Routing
from thalweg.errors import RecipeError
from thalweg.models.grouped import grouped_matmul
from thalweg.models.layers import linear
from thalweg.models.pointwise import swiglu

__all__ = ["Mixture", "Moe"]

# R rows, T positions, N tokens (rows times positions), D width, E experts, K chosen a token,
# P pairs of token and expert (N K), H width of an expert.


@dataclass(frozen=True, kw_only=True)
class Moe:
    """The experts of every block of a `Transformer`.

    Example:
        >>> Moe(experts=8, top=2).width_of(1024)
        512
    """

    experts: int
    """E."""
    top: int
    """k: experts of a token."""
    hidden: int | None = None
    """Width of an expert. None: that of the model's gated layer / top, the cost of a dense one."""
    shared: int = 0
    """Width of the expert that every token goes to; 0: there is none (arXiv:2401.06066)."""
    score: Literal["softmax", "sigmoid"] = "softmax"
    """How logits become scores."""
    normalised: bool = True
    """Whether the weights of a token's experts are divided by their sum."""
    bias: bool = False
    """Whether a bias, moved by `Rebias`, is added to scores for choosing (arXiv:2408.15664)."""
    capacity: float | None = None
    """Most pairs of an expert in a row of training, times T k / E; None: nothing is dropped."""

    def __post_init__(self) -> None:
        """Refuse counts that do not fit together.

        Raises:
            RecipeError: A count below 1, more chosen experts than there are, another score.
        """
        least = {"experts": 1, "top": 1, "shared": 0} | ({"hidden": 1} if self.hidden else {})
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                expected = f"{name}: a whole number, {low} or more"
                raise _misfit(f"{name}={value!r}", expected, f"{name}=8")
        if self.top > self.experts:
            raise _misfit(
                f"top={self.top} of experts={self.experts}",
                "no more chosen experts than there are",
                f"top={self.experts}, or experts={self.top}",
            )
        if self.score not in ("softmax", "sigmoid"):
            raise _misfit(f"score={self.score!r}", "'softmax' or 'sigmoid'", 'score="softmax"')
        if self.capacity is not None and self.capacity <= 0:
            raise _misfit(f"capacity={self.capacity}", "a number above 0, or None", "capacity=1.25")

    def width_of(self, hidden: int) -> int:
        """Return the width of an expert, given that of the model's gated layer."""
        return -(-hidden // self.top) if self.hidden is None else self.hidden

    def weights(self, width: int, hidden: int, *, active: bool) -> int:
        """Return the number of weights of one block's mixture.

        Args:
            width: D.
            hidden: Of the model's gated layer.
            active: Whether only those that one token meets are counted.
        """
        met = self.top if active else self.experts
        return width * (self.experts + 3 * (met * self.width_of(hidden) + self.shared))


class Mixture(nn.Module):
    """Router and experts of one block."""

    bias: torch.Tensor | None

    def __init__(self, moe: Moe, width: int, hidden: int) -> None:
        super().__init__()
        self.moe = moe
        inner = moe.width_of(hidden)
        self.router = _empty(moe.experts, width)
        self.gate_up = _empty(moe.experts, 2 * inner, width)
        self.down = _empty(moe.experts, width, inner)
        self.shared_gate_up = linear(width, 2 * moe.shared) if moe.shared else None
        self.shared_down = linear(moe.shared, width) if moe.shared else None
        self.register_buffer("bias", torch.zeros(moe.experts) if moe.bias else None)

    def forward(self, x_RTD: torch.Tensor) -> tuple[torch.Tensor, Routing]:
        """Return what is added to the residual stream [R, T, D], and who was asked."""
        routing = self.route(x_RTD)
        weight_RTK = self._kept(routing) if self.training else routing.weight
        x_ND = x_RTD.flatten(0, 1)
        y_ND = self._ask(x_ND, routing.chosen.flatten(0, 1), weight_RTK.flatten(0, 1))
        if self.shared_gate_up is not None and self.shared_down is not None:
            y_ND = y_ND + self.shared_down(swiglu(self.shared_gate_up(x_RTD))).flatten(0, 1)
        return y_ND.view_as(x_RTD), routing

    def route(self, x_RTD: torch.Tensor) -> Routing:
        """Return the experts of each token and their weights, float32."""
        with torch.autocast(x_RTD.device.type, enabled=False):
            wide = torch.promote_types(x_RTD.dtype, torch.float32)
            logits_RTE = functional.linear(x_RTD.to(wide), self.router.to(wide))
        if self.moe.score == "softmax":
            scores_RTE = probs_RTE = logits_RTE.softmax(-1)
        else:
            scores_RTE = logits_RTE.sigmoid()
            probs_RTE = scores_RTE / scores_RTE.sum(-1, keepdim=True)
        choice_RTE = scores_RTE.detach()
        if self.bias is not None:
            choice_RTE = choice_RTE + self.bias
        index_RTK = choice_RTE.topk(self.moe.top, -1).indices
        weight_RTK = scores_RTE.gather(-1, index_RTK)
        if self.moe.normalised:
            weight_RTK = weight_RTK / weight_RTK.sum(-1, keepdim=True)
        return Routing(probs_RTE, index_RTK, weight_RTK, logits_RTE.logsumexp(-1))

    def _ask(
        self, x_ND: torch.Tensor, index_NK: torch.Tensor, weight_NK: torch.Tensor
    ) -> torch.Tensor:
        """Return the weighted sum of what each token's experts say [N, D]."""
        chosen_P = index_NK.flatten()
        order_P = chosen_P.argsort(stable=True)
        back_P = torch.empty_like(order_P).scatter_(
            0, order_P, torch.arange(len(order_P), device=order_P.device)
        )
        experts_E = torch.arange(self.moe.experts, device=chosen_P.device)
        ends_E = torch.searchsorted(chosen_P[order_P], experts_E, right=True).to(torch.int32)
        spread: torch.Tensor = _Spread.apply(x_ND, order_P, back_P, self.moe.top)  # type: ignore[no-untyped-call]
        inner_PH = swiglu(grouped_matmul(spread, self.gate_up, ends_E))
        said: torch.Tensor = _Permute.apply(  # type: ignore[no-untyped-call]
            grouped_matmul(inner_PH, self.down, ends_E), back_P, order_P
        )
        said_NKD = said.view(*index_NK.shape, -1)
        return torch.einsum("nk,nkd->nd", weight_NK.to(said_NKD.dtype), said_NKD)

    def _kept(self, routing: Routing) -> torch.Tensor:
        """Return the weights, 0 beyond an expert's capacity: first come in a row, first served."""
        if self.moe.capacity is None:
            return routing.weight
        length, experts, top = routing.probs.shape[1], self.moe.experts, self.moe.top
        most = math.ceil(self.moe.capacity * length * top / experts)
        asked_RPE = functional.one_hot(routing.chosen.flatten(1), experts)
        place_RP = (asked_RPE.cumsum(1) * asked_RPE).sum(-1)
        return routing.weight * (place_RP <= most).view_as(routing.chosen)


class _Spread(torch.autograd.Function):
    """Row order[p] // k of x for each pair p; the gradient is gathered back and summed."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: torch.Tensor, order_P: torch.Tensor, back_P: torch.Tensor, top: int
    ) -> torch.Tensor:
        ctx.save_for_backward(back_P)
        ctx.top = top
        return x_ND[order_P // top]

    @staticmethod
    def backward(ctx: Any, grad_PD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (back_P,) = ctx.saved_tensors
        grad_NKD = grad_PD[back_P].view(-1, ctx.top, grad_PD.shape[1])
        return grad_NKD.sum(1), None, None, None


class _Permute(torch.autograd.Function):
    """Row there[p] of x for each p; `back` undoes it."""

    @staticmethod
    def forward(
        ctx: Any, x_PD: torch.Tensor, there_P: torch.Tensor, back_P: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(back_P)
        return x_PD[there_P]

    @staticmethod
    def backward(ctx: Any, grad_PD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (back_P,) = ctx.saved_tensors
        return grad_PD[back_P], None, None


def _empty(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, device="meta"))


def _misfit(given: str, expected: str, write: str) -> RecipeError:
    return RecipeError(given, expected=expected, where="Moe", write=write)
