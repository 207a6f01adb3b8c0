"""What blocks are made of: the norm, and linear layers without weights yet."""

import torch
from torch import nn

from thalweg.models.pointwise import rms_norm

__all__ = ["WRITERS", "RmsNorm", "linear"]

WRITERS = ("out.weight", "down.weight", ".down")
"""How the names of blocks' weights end that write to the residual stream."""


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight * scale, in float32, returned in the dtype of x.

    Source: arXiv:1910.07467, eq. (4).
    """

    def __init__(self, width: int, eps: float, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, device="meta"))
        self.eps, self.scale = eps, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x [..., width] normalised over its last axis."""
        normed = rms_norm(x, self.weight, self.eps)
        return normed if self.scale == 1.0 else normed * self.scale


def linear(inputs: int, outputs: int, bias: bool = False) -> nn.Linear:
    """Return a linear layer on the meta device; weights are drawn or loaded later."""
    return nn.Linear(inputs, outputs, bias=bias, device="meta")
