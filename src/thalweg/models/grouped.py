"""Products of sorted rows with one matrix a group: what experts compute.

y[start_e : end_e] = x[start_e : end_e] W_e^T. On CUDA torch's grouped product, without a look at
the sizes of the groups; on a CPU a loop, which the compiler does not see.
"""

from typing import Any

import torch
from torch.nn import functional

from thalweg.models.crossentropy import matmul_dtype

__all__ = ["grouped_matmul"]

# P rows, I inputs, O outputs, E groups.


def grouped_matmul(
    x_PI: torch.Tensor, weight_EOI: torch.Tensor, ends_E: torch.Tensor
) -> torch.Tensor:
    """Return each group of rows times the transpose of its matrix [P, O], in the autocast dtype.

    Args:
        x_PI: Rows, those of a group next to each other.
        weight_EOI: A matrix a group.
        ends_E: int32: the row after each group's last; not decreasing, at last P.

    Example:
        >>> weight = torch.tensor([[[1.0]], [[10.0]]])
        >>> grouped_matmul(torch.ones(3, 1), weight, torch.tensor([1, 3])).flatten().tolist()
        [1.0, 10.0, 10.0]
    """
    low = matmul_dtype(x_PI)
    x_PI, weight_EOI = x_PI.to(low), weight_EOI.to(low)
    if x_PI.device.type == "cpu":
        looped: torch.Tensor = _product_whole(x_PI, weight_EOI, ends_E)
        return looped
    with torch.autocast(x_PI.device.type, enabled=False):
        return functional.grouped_mm(x_PI, weight_EOI.transpose(-1, -2), offs=ends_E)


def _groups(ends_E: torch.Tensor) -> list[tuple[int, int, int]]:
    """Return number, start and end of every group that has rows."""
    ends = ends_E.tolist()
    return [(e, a, b) for e, (a, b) in enumerate(zip([0, *ends], ends, strict=False)) if b > a]


def _product(x_PI: torch.Tensor, weight_EOI: torch.Tensor, ends_E: torch.Tensor) -> torch.Tensor:
    y_PO = x_PI.new_empty(x_PI.shape[0], weight_EOI.shape[1])
    for group, start, end in _groups(ends_E):
        torch.mm(x_PI[start:end], weight_EOI[group].t(), out=y_PO[start:end])
    return y_PO


def _gradients(
    grad_PO: torch.Tensor, x_PI: torch.Tensor, weight_EOI: torch.Tensor, ends_E: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    to_x, to_weight = torch.empty_like(x_PI), torch.zeros_like(weight_EOI)
    grad_PO = grad_PO.contiguous()
    for group, start, end in _groups(ends_E):
        torch.mm(grad_PO[start:end], weight_EOI[group], out=to_x[start:end])
        torch.mm(grad_PO[start:end].t(), x_PI[start:end], out=to_weight[group])
    return to_x, to_weight


_product_whole = torch.library.custom_op("thalweg::grouped_product", _product, mutates_args=())
_gradients_whole = torch.library.custom_op(
    "thalweg::grouped_gradients", _gradients, mutates_args=()
)


@_product_whole.register_fake
def _product_shape(
    x_PI: torch.Tensor, weight_EOI: torch.Tensor, ends_E: torch.Tensor
) -> torch.Tensor:
    return x_PI.new_empty(x_PI.shape[0], weight_EOI.shape[1])


@_gradients_whole.register_fake
def _gradients_shape(
    grad_PO: torch.Tensor, x_PI: torch.Tensor, weight_EOI: torch.Tensor, ends_E: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x_PI), torch.empty_like(weight_EOI)


def _remember(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_PO: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    to_x, to_weight = _gradients_whole(grad_PO, *ctx.saved_tensors)
    return to_x, to_weight, None


_product_whole.register_autograd(_backward, setup_context=_remember)
