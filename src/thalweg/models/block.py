"""One block of the decoder: attention and feed-forward layer on a residual stream."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from thalweg.core.protocols import Routing
from thalweg.models.attention import Documents, attention, look
from thalweg.models.latent import LatentHeads
from thalweg.models.layers import RmsNorm, linear
from thalweg.models.moe import Mixture
from thalweg.models.pointwise import rotate, squared_relu, swiglu

if TYPE_CHECKING:
    from thalweg.models.transformer import Transformer

__all__ = ["Block"]

# R rows, T positions, D width, H query heads, G key heads, d width of a query or key, e of a value,
# h half of the width that is rotated, S slots and C columns of a cache.


class Block(nn.Module):
    """Attention and feed-forward layer, each on a normalised copy of the residual stream.

    What a cache keeps of a token is one tensor or two, as `project` gives them: keys and values, or
    the latent vector that both are made of.
    """

    def __init__(self, spec: "Transformer") -> None:
        super().__init__()
        kv_heads, hidden, width = spec.shape
        scale = spec.mup.query_scale(width) if spec.mup else 1.0
        self.heads, self.kv_heads, self.head_width = spec.heads, kv_heads, width
        self.query_scale = scale
        self.attention_norm = RmsNorm(spec.width, spec.norm_eps)
        self.latent = (
            LatentHeads(spec.latent, spec.heads, spec.width, scale) if spec.latent else None
        )
        if self.latent is None:
            rows = (spec.heads + 2 * kv_heads) * width
            self.qkv = linear(spec.width, rows, spec.attention_bias)
        self.whole = spec.qk_norm == "whole"
        q_width, k_width = (spec.heads * width, kv_heads * width) if self.whole else (width, width)
        self.q_norm = RmsNorm(q_width, spec.norm_eps) if spec.qk_norm else None
        self.k_norm = RmsNorm(k_width, spec.norm_eps) if spec.qk_norm else None
        self.out = linear(spec.heads * spec.value_width, spec.width)
        self.mlp_norm = RmsNorm(spec.width, spec.norm_eps)
        self.mixture = Mixture(spec.moe, spec.width, hidden) if spec.moe else None
        self.gated = spec.activation == "swiglu"
        if self.mixture is None:
            if self.gated:
                self.gate_up = linear(spec.width, 2 * hidden)
            else:
                self.up = linear(spec.width, hidden)
            self.down = linear(hidden, spec.width)

    def forward(
        self,
        x_RTD: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        document: Documents = None,
    ) -> tuple[torch.Tensor, Routing | None]:
        """Return the residual stream [R, T, D] after this block, and what its router decided."""
        q, *kept = self.project(x_RTD, cos, sin)
        return self._after(x_RTD, self.attend(q, kept, document))

    def project(
        self, x_RTD: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return rotated queries [R, H, T, d] and what a cache keeps.

        Rotated keys [R, G, T, d] and values [R, G, T, d]; or one tensor of `LatentHeads`.

        Args:
            x_RTD: The residual stream.
            cos: Cosines of the angles, [T, 1, h], or [R, T, 1, h] where rows differ.
            sin: Sines, likewise.
        """
        normed_RTD = self.attention_norm(x_RTD)
        if self.latent is not None:
            return self.latent.project(normed_RTD, cos, sin)
        rows, length, _ = x_RTD.shape
        counts = (self.heads, self.kv_heads, self.kv_heads)
        mixed = self.qkv(normed_RTD).view(rows, length, -1, self.head_width)
        q, k, v = mixed.split(counts, 2)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self._normed(self.q_norm, q), self._normed(self.k_norm, k)
        q = q if self.query_scale == 1.0 else q * self.query_scale
        return rotate(q, cos, sin), rotate(k, cos, sin), v.transpose(1, 2).contiguous()

    def attend(
        self, q_RHTd: torch.Tensor, kept: list[torch.Tensor], document: Documents = None
    ) -> torch.Tensor:
        """Return causal attention [R, H, T, e] of what `project` gave."""
        k, v = kept if self.latent is None else self.latent.expanded(kept[0])
        return attention(q_RHTd, k, v, document)

    def look(
        self, q_SH1d: torch.Tensor, kept: list[torch.Tensor], hidden: torch.Tensor
    ) -> torch.Tensor:
        """Return the attention [S, H, 1, e] of one query a head on the columns of a cache.

        Args:
            q_SH1d: Of `project`.
            kept: Of `project`, for all C columns.
            hidden: Where not to look, bool [S, 1, 1, C].
        """
        if self.latent is not None:
            return self.latent.look(q_SH1d, kept[0], hidden)
        k, v = kept
        return look(q_SH1d, k, v, hidden, scale=self.head_width**-0.5)

    def after(self, x_RTD: torch.Tensor, seen_RHTe: torch.Tensor) -> torch.Tensor:
        """Return the stream after attention's output and the feed-forward layer are added."""
        return self._after(x_RTD, seen_RHTe)[0]

    def _after(
        self, x_RTD: torch.Tensor, seen_RHTe: torch.Tensor
    ) -> tuple[torch.Tensor, Routing | None]:
        x_RTD = x_RTD + self.out(seen_RHTe.transpose(1, 2).flatten(2)).to(x_RTD.dtype)
        normed_RTD, routing = self.mlp_norm(x_RTD), None
        if self.mixture is None:
            added_RTD: torch.Tensor = self.down(self._inner(normed_RTD))
        else:
            added_RTD, routing = self.mixture(normed_RTD)
        return x_RTD + added_RTD.to(x_RTD.dtype), routing

    def _inner(self, x_RTD: torch.Tensor) -> torch.Tensor:
        return swiglu(self.gate_up(x_RTD)) if self.gated else squared_relu(self.up(x_RTD))

    def _normed(self, norm: nn.Module, heads: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = norm(heads.flatten(2) if self.whole else heads)
        return normed.view(heads.shape) if self.whole else normed
