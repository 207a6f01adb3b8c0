"""The decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU or experts of it.

The layout of Llama (arXiv:2302.13971), with the options that make it Qwen2 (a bias on queries,
keys and values), Qwen3 (queries and keys normalised a head), or a mixture of experts. Decisions:
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
from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from thalweg.core.protocols import Routing, Scored
from thalweg.core.rng import key_seed
from thalweg.errors import RecipeError
from thalweg.models.attention import Documents, attention, documents_for
from thalweg.models.crossentropy import linear_cross_entropy
from thalweg.models.entropy import linear_entropy
from thalweg.models.moe import Mixture, Moe
from thalweg.models.mup import Mup
from thalweg.models.pointwise import rms_norm, rotate, swiglu
from thalweg.models.rope import Llama3Rope, angles
from thalweg.optim import Widening

__all__ = ["Block", "Decoder", "Llama3Rope", "Shape", "Transformer"]

# R rows, T positions, V vocabulary, D width, H query heads, G key heads, d width of a head,
# h half of d.


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
    qk_norm: bool | Literal["whole"] = False
    """Whether queries and keys are normalised before rotation, a head (Qwen3) or whole (OLMoE)."""
    attention_bias: bool = False
    """Whether queries, keys and values have a bias (Qwen2)."""
    tied: bool = False
    """Whether the head is the embedding."""
    initial_std: float = 0.02
    """Deviation of fresh weights; those that write to the residual stream get
    initial_std / sqrt(2 layers) (GPT-2 report, sec. 2.3)."""
    mup: Mup | None = None
    """The width at which the rates were found, to keep them at this one; None: standard."""
    moe: Moe | None = None
    """Experts in the place of every gated layer; None: one gated layer."""

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
        if self.mup and self.moe:
            raise _misfit("mup with moe", "one of them: no rule for experts is tested", "mup=None")
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


class Block(nn.Module):
    """Attention and gated layer, each on a normalised copy of the residual stream."""

    def __init__(self, spec: Transformer) -> None:
        super().__init__()
        kv_heads, hidden, width = spec.shape
        self.heads, self.kv_heads, self.head_width = spec.heads, kv_heads, width
        self.query_scale = spec.mup.query_scale(width) if spec.mup else 1.0
        self.attention_norm = RmsNorm(spec.width, spec.norm_eps)
        self.qkv = _linear(spec.width, (spec.heads + 2 * kv_heads) * width, spec.attention_bias)
        self.whole = spec.qk_norm == "whole"
        q_width, k_width = (spec.heads * width, kv_heads * width) if self.whole else (width, width)
        self.q_norm = RmsNorm(q_width, spec.norm_eps) if spec.qk_norm else None
        self.k_norm = RmsNorm(k_width, spec.norm_eps) if spec.qk_norm else None
        self.out = _linear(spec.heads * width, spec.width)
        self.mlp_norm = RmsNorm(spec.width, spec.norm_eps)
        self.mixture = Mixture(spec.moe, spec.width, hidden) if spec.moe else None
        if self.mixture is None:
            self.gate_up = _linear(spec.width, 2 * hidden)
            self.down = _linear(hidden, spec.width)

    def forward(
        self,
        x_RTD: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        document: Documents = None,
    ) -> tuple[torch.Tensor, Routing | None]:
        """Return the residual stream [R, T, D] after this block, and what its router decided."""
        return self._after(x_RTD, attention(*self.project(x_RTD, cos, sin), document))

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
            q, k = self._normed(self.q_norm, q), self._normed(self.k_norm, k)
        q = q if self.query_scale == 1.0 else q * self.query_scale
        return rotate(q, cos, sin), rotate(k, cos, sin), v.transpose(1, 2).contiguous()

    def after(self, x_RTD: torch.Tensor, seen_RHTd: torch.Tensor) -> torch.Tensor:
        """Return the stream after attention's output [R, H, T, d] and the gated layer are added."""
        return self._after(x_RTD, seen_RHTd)[0]

    def _after(
        self, x_RTD: torch.Tensor, seen_RHTd: torch.Tensor
    ) -> tuple[torch.Tensor, Routing | None]:
        x_RTD = x_RTD + self.out(seen_RHTd.transpose(1, 2).flatten(2)).to(x_RTD.dtype)
        normed_RTD, routing = self.mlp_norm(x_RTD), None
        if self.mixture is None:
            added_RTD: torch.Tensor = self.down(swiglu(self.gate_up(normed_RTD)))
        else:
            added_RTD, routing = self.mixture(normed_RTD)
        return x_RTD + added_RTD.to(x_RTD.dtype), routing

    def _normed(self, norm: nn.Module, heads: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = norm(heads.flatten(2) if self.whole else heads)
        return normed.view(heads.shape) if self.whole else normed


class Decoder(nn.Module):
    """A causal language model. Call it with tokens, and with targets to get their log-probs."""

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, spec: Transformer) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.vocabulary, spec.width, device="meta")
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        times = spec.mup.times(spec.width) if spec.mup else 1.0
        self.norm = RmsNorm(spec.width, spec.norm_eps, 1.0 / times)
        self.head = None if spec.tied else _linear(spec.width, spec.vocabulary)
        width = spec.shape.head_width
        cos_Th, sin_Th = angles(spec.rope_theta, width, spec.positions, spec.rope_scaling)
        self.register_buffer("cos", cos_Th, persistent=False)
        self.register_buffer("sin", sin_Th, persistent=False)

    def forward(
        self,
        tokens_RT: torch.Tensor,
        document_RT: torch.Tensor | None = None,
        *,
        targets_RT: torch.Tensor | None = None,
        weight_RT: torch.Tensor | None = None,
        temperature: float = 1.0,
        entropy: bool = False,
        routing: bool = False,
    ) -> torch.Tensor | Scored | tuple[Routing, ...]:
        """Return logits, or the log-probs of targets, or with weights their loss.

        Args:
            tokens_RT: int64 [R, T].
            document_RT: int32 [R, T]; attention stays inside equal ids. None: one a row.
            targets_RT: int64 [R, T]: the token that follows each.
            weight_RT: float32 [R, T]: what each target counts in the loss.
            temperature: Logits are divided by it, above 0.
            entropy: Whether the entropies are wanted too; with targets and without weights.
            routing: Whether what the routers decided is wanted: with the scores, or, without
                targets, alone.

        Returns:
            Logits [R, T, V]; with targets Scored(loss, logprobs_RT, entropy_RT), float32, nats.

        Raises:
            RecipeError: The rows are longer than the model's positions; no routers to ask.
        """
        hidden_RTD, routings = self._encode(tokens_RT, document_RT)
        if routing and self.spec.moe is None:
            raise _misfit("routing=True without experts", "a mixture of experts", "moe=Moe(...)")
        told = routings if routing else ()
        if routing and targets_RT is None:
            return told
        if temperature != 1.0:
            hidden_RTD = hidden_RTD / temperature
        head_VD = self.embedding.weight if self.head is None else self.head.weight
        if targets_RT is None:
            return functional.linear(hidden_RTD, head_VD)
        if entropy:
            logprobs_N, entropy_N = linear_entropy(
                hidden_RTD.flatten(0, 1), head_VD, targets_RT.flatten()
            )
            by_target = logprobs_N.view_as(targets_RT), entropy_N.view_as(targets_RT)
            return Scored(None, *by_target, told)
        weight_N = None if weight_RT is None else weight_RT.flatten()
        scored = linear_cross_entropy(
            hidden_RTD.flatten(0, 1), head_VD, targets_RT.flatten(), weight_N
        )
        return Scored(scored.loss, scored.logprobs.view_as(targets_RT), None, told)

    def encode(
        self, tokens_RT: torch.Tensor, document_RT: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the last hidden states [R, T, D], normalised: what the head multiplies."""
        return self._encode(tokens_RT, document_RT)[0]

    def _encode(
        self, tokens_RT: torch.Tensor, document_RT: torch.Tensor | None
    ) -> tuple[torch.Tensor, tuple[Routing, ...]]:
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
        routings = []
        for block in self.blocks:
            x_RTD, routing = block(x_RTD, cos, sin, document)
            routings += [] if routing is None else [routing]
        return self.norm(x_RTD), tuple(routings)

    def embed(self, tokens_RT: torch.Tensor) -> torch.Tensor:
        """Return the residual stream [R, T, D] before the first block, in the autocast dtype."""
        x_RTD: torch.Tensor = self.embedding(tokens_RT)
        kind = x_RTD.device.type
        if not torch.is_autocast_enabled(kind):
            return x_RTD
        return x_RTD.to(torch.get_autocast_dtype(kind))

    @property
    def routers(self) -> tuple[int, int]:
        """Layers with experts, and experts of each; (0, 0) without."""
        return (self.spec.layers, self.spec.moe.experts) if self.spec.moe else (0, 0)

    def widening(self) -> dict[str, Widening]:
        """Return how parameters grow with the width under muP, by name; nothing without it."""
        names = [name for name, _ in self.named_parameters()]
        return self.spec.mup.widening(names, self.spec.width) if self.spec.mup else {}

    def flops(self, length: int) -> float:
        """Return the matmul FLOPs of training on one token of a row of `length` tokens.

        6 for each weight of a matmul, the head included, and the causal half of attention
        (arXiv:2204.02311, appendix B). Of experts, those that a token goes to.
        """
        spec = self.spec
        kv_heads, hidden, width = spec.shape
        mixed = spec.moe and spec.moe.weights(spec.width, hidden, active=True)
        body = 2 * spec.width * (spec.heads + kv_heads) * width
        body += mixed or 3 * spec.width * hidden
        weights = spec.layers * body + spec.width * spec.vocabulary
        return 6.0 * weights + 6.0 * spec.layers * spec.heads * width * length


def _linear(inputs: int, outputs: int, bias: bool = False) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias, device="meta")


def _draw(decoder: Decoder, spec: Transformer, seed: int) -> Mapping[str, torch.Tensor]:
    """Return fresh weights: norms 1, biases 0, matrices normal, each from its own key."""
    drawn = {name: zeros for name, zeros in decoder.named_buffers() if name.endswith(".bias")}
    for name, parameter in decoder.named_parameters():
        if parameter.ndim == 1:
            fill = torch.zeros if name.endswith("bias") else torch.ones
            drawn[name] = fill(parameter.shape)
            continue
        writes = name.endswith(("out.weight", "down.weight", ".down"))
        std = spec.initial_std / math.sqrt(2 * spec.layers) if writes else spec.initial_std
        std = spec.mup.deviation(name, std, spec.width) if spec.mup else std
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
