"""The decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

The layout of Llama (arXiv:2302.13971), with the options that make it Qwen2 (a bias on queries,
keys and values) or Qwen3 (queries and keys normalised a head). Decisions:
- queries, keys and values are one matrix, gate and up another: two large matmuls are faster than
  five small ones. `hub.py` splits them for export;
- weights stay float32; under autocast the residual stream is carried in the autocast dtype, and
  norms, rotary angles and the softmax of the loss are computed in float32 inside it;
- the head and the cross-entropy are one function, called inside `forward`, so a model that is
  compiled or sharded is compiled or sharded with its loss;
- a row's rotary positions count from its start, not from each document's: attention depends on
  differences of positions only, so a packed row gives what its documents give alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from thalweg.core.protocols import Scored
from thalweg.core.rng import key_seed
from thalweg.errors import RecipeError
from thalweg.models.attention import Documents, attention, documents_for
from thalweg.models.crossentropy import linear_cross_entropy
from thalweg.models.pointwise import rms_norm, rotate, swiglu

__all__ = ["Block", "Decoder", "Llama3Rope", "Shape", "Transformer"]

# R rows, T positions, V vocabulary, D width, H query heads, G key heads, d width of a head,
# h half of d.


@dataclass(frozen=True, kw_only=True)
class Llama3Rope:
    """Stretch of the slow rotary frequencies, for rows longer than those first trained on.

    Source: the `llama3` rope type of Hugging Face configurations.
    """

    factor: float
    """Slow frequencies are divided by this."""
    low_freq_factor: float
    """Wavelengths above original_positions / low_freq_factor are stretched in full."""
    high_freq_factor: float
    """Wavelengths below original_positions / high_freq_factor are left alone."""
    original_positions: int
    """Longest row of the first training."""

    def stretch(self, frequency_h: torch.Tensor) -> torch.Tensor:
        """Return the frequencies [h] in radians a position, slow ones divided, smooth between."""
        turns_h = frequency_h * (self.original_positions / (2 * math.pi))
        span = self.high_freq_factor - self.low_freq_factor
        keep_h = ((turns_h - self.low_freq_factor) / span).clamp(0.0, 1.0)
        return frequency_h * (keep_h + (1.0 - keep_h) / self.factor)


class Shape(NamedTuple):
    """The sizes that a `Transformer` may leave open, filled in."""

    kv_heads: int
    hidden: int
    head_width: int


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """A decoder before it is built.

    Example:
        >>> spec = Transformer(vocabulary=16, width=8, layers=1, heads=2, positions=4)
        >>> spec.build(0)(torch.zeros(1, 4, dtype=torch.long)).shape
        torch.Size([1, 4, 16])
    """

    vocabulary: int
    """Token ids."""
    width: int
    """Size of the residual stream."""
    layers: int
    """Blocks."""
    heads: int
    """Query heads."""
    positions: int
    """Longest row."""
    kv_heads: int | None = None
    """Key and value heads; a divisor of `heads`. None: as many as heads."""
    hidden: int | None = None
    """Width of the gated layer. None: 8/3 of the width, rounded up to 32 (arXiv:2002.05202)."""
    head_width: int | None = None
    """None: width / heads. 64 and more is faster than 32 on CPU and GPU."""
    rope_theta: float = 10000.0
    """Base of the rotary wavelengths (arXiv:2104.09864, sec. 3.4.3)."""
    rope_scaling: Llama3Rope | None = None
    """Stretch for long rows."""
    norm_eps: float = 1e-5
    """Added to the mean square in every RMSNorm."""
    qk_norm: bool = False
    """Whether queries and keys are normalised a head before rotation (Qwen3)."""
    attention_bias: bool = False
    """Whether queries, keys and values have a bias (Qwen2)."""
    tied: bool = False
    """Whether the head is the embedding."""
    initial_std: float = 0.02
    """Deviation of fresh weights; those that write to the residual stream get
    initial_std / sqrt(2 layers) (GPT-2 report, sec. 2.3)."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together.

        Raises:
            RecipeError: A count below 1, heads that do not divide, an odd head.
        """
        _check_counts(self)
        if self.head_width is None and self.width % self.heads:
            raise _misfit(
                f"width {self.width} with heads {self.heads}",
                "a width that is a multiple of heads, or head_width",
                f"width={self.heads * max(self.width // self.heads, 1)}, or head_width=64",
            )
        if self.heads % self.shape.kv_heads:
            raise _misfit(
                f"heads {self.heads} with kv_heads {self.shape.kv_heads}",
                "kv_heads that divide heads",
                f"kv_heads={math.gcd(self.heads, self.shape.kv_heads)}",
            )
        if self.shape.head_width % 2:
            raise _misfit(
                f"heads of width {self.shape.head_width}",
                "an even width: rotary positions turn pairs",
                f"head_width={self.shape.head_width + 1}",
            )

    @property
    def shape(self) -> Shape:
        """The sizes with their defaults filled in."""
        return Shape(
            self.heads if self.kv_heads is None else self.kv_heads,
            -(-8 * self.width // 96) * 32 if self.hidden is None else self.hidden,
            self.width // self.heads if self.head_width is None else self.head_width,
        )

    def build(self, seed: int) -> "Decoder":
        """Return the module with float32 weights that depend on the seed alone.

        Each weight has its own key, so that two specs draw alike what they share.
        """
        decoder = Decoder(self)
        decoder.load_state_dict(_draw(decoder, self, seed), assign=True)
        return decoder


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, in float32, returned in the dtype of x.

    Source: arXiv:1910.07467, eq. (4).
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, device="meta"))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x [..., width] normalised over its last axis."""
        return rms_norm(x, self.weight, self.eps)


class Block(nn.Module):
    """Attention and gated layer, each on a normalised copy of the residual stream."""

    def __init__(self, spec: Transformer) -> None:
        super().__init__()
        kv_heads, hidden, width = spec.shape
        self.heads, self.kv_heads, self.head_width = spec.heads, kv_heads, width
        self.attention_norm = RmsNorm(spec.width, spec.norm_eps)
        self.qkv = _linear(spec.width, (spec.heads + 2 * kv_heads) * width, spec.attention_bias)
        self.q_norm = RmsNorm(width, spec.norm_eps) if spec.qk_norm else None
        self.k_norm = RmsNorm(width, spec.norm_eps) if spec.qk_norm else None
        self.out = _linear(spec.heads * width, spec.width)
        self.mlp_norm = RmsNorm(spec.width, spec.norm_eps)
        self.gate_up = _linear(spec.width, 2 * hidden)
        self.down = _linear(hidden, spec.width)

    def forward(
        self,
        x_RTD: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        document: Documents = None,
    ) -> torch.Tensor:
        """Return the residual stream [R, T, D] after this block."""
        return self.after(x_RTD, attention(*self.project(x_RTD, cos, sin), document))

    def project(
        self, x_RTD: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return rotated queries [R, H, T, d] and keys [R, G, T, d], and values [R, G, T, d].

        Args:
            x_RTD: The residual stream.
            cos: Cosines of the angles, [T, 1, h], or [R, T, 1, h] where rows differ.
            sin: Sines, likewise.
        """
        rows, length, _ = x_RTD.shape
        counts = (self.heads, self.kv_heads, self.kv_heads)
        mixed = self.qkv(self.attention_norm(x_RTD)).view(rows, length, -1, self.head_width)
        q, k, v = mixed.split(counts, 2)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        return rotate(q, cos, sin), rotate(k, cos, sin), v.transpose(1, 2).contiguous()

    def after(self, x_RTD: torch.Tensor, seen_RHTd: torch.Tensor) -> torch.Tensor:
        """Return the stream after attention's output [R, H, T, d] and the gated layer are added."""
        x_RTD = x_RTD + self.out(seen_RHTd.transpose(1, 2).flatten(2)).to(x_RTD.dtype)
        added: torch.Tensor = self.down(swiglu(self.gate_up(self.mlp_norm(x_RTD))))
        return x_RTD + added.to(x_RTD.dtype)


class Decoder(nn.Module):
    """A causal language model. Call it with tokens, and with targets to get their log-probs."""

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, spec: Transformer) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.vocabulary, spec.width, device="meta")
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.norm = RmsNorm(spec.width, spec.norm_eps)
        self.head = None if spec.tied else _linear(spec.width, spec.vocabulary)
        cos_Th, sin_Th = _angles(spec)
        self.register_buffer("cos", cos_Th, persistent=False)
        self.register_buffer("sin", sin_Th, persistent=False)

    def forward(
        self,
        tokens_RT: torch.Tensor,
        document_RT: torch.Tensor | None = None,
        *,
        targets_RT: torch.Tensor | None = None,
        weight_RT: torch.Tensor | None = None,
    ) -> torch.Tensor | Scored:
        """Return logits, or the log-probs of targets, or with weights their loss.

        Args:
            tokens_RT: int64 [R, T].
            document_RT: int32 [R, T]; attention stays inside equal ids. None: one a row.
            targets_RT: int64 [R, T]: the token that follows each.
            weight_RT: float32 [R, T]: what each target counts in the loss.

        Returns:
            Logits [R, T, V]; with targets Scored(loss, logprobs_RT), float32, nats.

        Raises:
            RecipeError: The rows are longer than the model's positions.
        """
        hidden_RTD = self.encode(tokens_RT, document_RT)
        head_VD = self.embedding.weight if self.head is None else self.head.weight
        if targets_RT is None:
            return functional.linear(hidden_RTD, head_VD)
        weight_N = None if weight_RT is None else weight_RT.flatten()
        scored = linear_cross_entropy(
            hidden_RTD.flatten(0, 1), head_VD, targets_RT.flatten(), weight_N
        )
        return Scored(scored.loss, scored.logprobs.view_as(targets_RT))

    def encode(
        self, tokens_RT: torch.Tensor, document_RT: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the last hidden states [R, T, D], normalised: what the head multiplies."""
        length = tokens_RT.shape[1]
        if length > self.spec.positions:
            raise _misfit(
                f"rows of {length} tokens",
                f"at most {self.spec.positions}, the model's positions",
                f"positions={length} in the model, or shorter rows in the source",
            )
        document = documents_for(document_RT, head_width=self.spec.shape.head_width)
        x_RTD = self.embed(tokens_RT)
        cos, sin = self.cos[:length, None], self.sin[:length, None]
        for block in self.blocks:
            x_RTD = block(x_RTD, cos, sin, document)
        normed: torch.Tensor = self.norm(x_RTD)
        return normed

    def embed(self, tokens_RT: torch.Tensor) -> torch.Tensor:
        """Return the residual stream [R, T, D] before the first block, in the autocast dtype."""
        x_RTD: torch.Tensor = self.embedding(tokens_RT)
        kind = x_RTD.device.type
        if not torch.is_autocast_enabled(kind):
            return x_RTD
        return x_RTD.to(torch.get_autocast_dtype(kind))

    def flops(self, length: int) -> float:
        """Return the matmul FLOPs of training on one token of a row of `length` tokens.

        6 for each weight of a matmul, the head included, and the causal half of attention
        (arXiv:2204.02311, appendix B).
        """
        spec = self.spec
        kv_heads, hidden, width = spec.shape
        body = spec.width * (2 * (spec.heads + kv_heads) * width + 3 * hidden)
        weights = spec.layers * body + spec.width * spec.vocabulary
        return 6.0 * weights + 6.0 * spec.layers * spec.heads * width * length


def _linear(inputs: int, outputs: int, bias: bool = False) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias, device="meta")


def _angles(spec: Transformer) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and sines [positions, h] of position * theta^(-2i/d), float32."""
    width = spec.shape.head_width
    frequency_h = spec.rope_theta ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    if spec.rope_scaling is not None:
        frequency_h = spec.rope_scaling.stretch(frequency_h)
    angle_Th = torch.outer(torch.arange(spec.positions, dtype=torch.float32), frequency_h)
    return angle_Th.cos(), angle_Th.sin()


def _draw(decoder: Decoder, spec: Transformer, seed: int) -> Mapping[str, torch.Tensor]:
    """Return fresh weights: norms 1, biases 0, matrices normal, each from its own key."""
    drawn = {}
    for name, parameter in decoder.named_parameters():
        if parameter.ndim == 1:
            fill = torch.zeros if name.endswith("bias") else torch.ones
            drawn[name] = fill(parameter.shape)
            continue
        writes = name.endswith(("out.weight", "down.weight"))
        std = spec.initial_std / math.sqrt(2 * spec.layers) if writes else spec.initial_std
        draw = torch.Generator().manual_seed(key_seed(seed, "weights", name))
        drawn[name] = torch.empty(parameter.shape).normal_(0.0, std, generator=draw)
    return drawn


def _check_counts(spec: Transformer) -> None:
    counts = {
        name: getattr(spec, name)
        for name in ("vocabulary", "width", "layers", "heads", "positions")
    } | {
        name: getattr(spec, name)
        for name in ("kv_heads", "hidden", "head_width")
        if getattr(spec, name) is not None
    }
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise _misfit(f"{name}={value!r}", f"{name}: a whole number, 1 or more", f"{name}=8")


def _misfit(given: str, expected: str, write: str) -> RecipeError:
    return RecipeError(given, expected=expected, where="Transformer", write=write)
