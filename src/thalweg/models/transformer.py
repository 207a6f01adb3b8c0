"""The decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU or experts of it.

The layout of Llama (arXiv:2302.13971), with the options that make it Qwen2 (a bias on queries,
keys and values), Qwen3 (queries and keys normalised a head), PLM (latent attention, squared ReLU),
or a mixture of experts. Decisions:
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

from thalweg.core.protocols import ModelSpec, Routing, Scored
from thalweg.core.rng import key_seed
from thalweg.errors import RecipeError
from thalweg.models.attention import documents_for
from thalweg.models.block import Block
from thalweg.models.crossentropy import linear_cross_entropy
from thalweg.models.entropy import linear_entropy
from thalweg.models.growth import DecoderGrowth
from thalweg.models.latent import Latent
from thalweg.models.layers import WRITERS, RmsNorm, linear
from thalweg.models.moe import Moe
from thalweg.models.mup import Mup
from thalweg.models.rope import Llama3Rope, angles
from thalweg.models.scone import Embedding
from thalweg.models.shared import Shared
from thalweg.optim import Widening

__all__ = ["Decoder", "Llama3Rope", "Shape", "Transformer"]

# R rows, T positions, V vocabulary, D width, h half of the width that is rotated.


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
    """Inner width of the feed-forward layer. None: for swiglu 8/3 of the width, rounded up to 32
    (arXiv:2002.05202), for relu2 four times the width: about as many weights."""
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
    """Experts in the place of every feed-forward layer; None: one layer."""
    activation: Literal["swiglu", "relu2"] = "swiglu"
    """silu(gate) up, or relu(up)^2 without a gate (arXiv:2109.08668), which leaves most at zero."""
    latent: Latent | None = None
    """Keys and values made of one small vector a token; None: grouped-query attention."""
    embedding: Embedding | None = None
    """What else is read at the input: `Scone`, `GramTable` or `GramFile`; None: only tokens."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together.

        Raises:
            RecipeError: A count below 1, heads that do not divide, an odd head, options that
                exclude each other.
        """
        _check_counts(self)
        _check_choices(self)
        if self.latent is None and self.head_width is None and self.width % self.heads:
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
        if self.latent is None and self.shape.head_width % 2:
            raise _misfit(
                f"heads of width {self.shape.head_width}",
                "an even width: rotary positions turn pairs",
                f"head_width={self.shape.head_width + 1}",
            )

    @property
    def shape(self) -> Shape:
        """The sizes with their defaults filled in."""
        inner = -(-8 * self.width // 96) * 32 if self.activation == "swiglu" else 4 * self.width
        head_width = self.width // self.heads if self.head_width is None else self.head_width
        return Shape(
            self.heads if self.kv_heads is None else self.kv_heads,
            inner if self.hidden is None else self.hidden,
            self.latent.width if self.latent else head_width,
        )

    @property
    def value_width(self) -> int:
        """Width of a value."""
        return self.latent.value if self.latent else self.shape.head_width

    def growth(self, to: ModelSpec) -> DecoderGrowth:
        """Return the way to a larger decoder that computes the same.

        Raises:
            RecipeError: There is none.
        """
        if not isinstance(to, Transformer):
            raise _misfit(
                f"growth to a {type(to).__name__}", "a Transformer", "to=larger(spec, ...)"
            )
        return DecoderGrowth(self, to)

    def build(self, seed: int) -> "Decoder":
        """Return the module with float32 weights that depend on the seed alone.

        Each weight has its own key, so that two specs draw alike what they share.
        """
        decoder = Decoder(self)
        decoder.load_state_dict(_draw(decoder, self, seed), assign=True)
        return decoder


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
        self.grams = spec.embedding.module(spec) if spec.embedding else None
        self.head = None if spec.tied else linear(spec.width, spec.vocabulary)
        width = spec.latent.rope if spec.latent else spec.shape.head_width
        cos_Th, sin_Th = angles(spec.rope_theta, width, spec.positions, spec.rope_scaling)
        self.register_buffer("cos", cos_Th, persistent=False)
        self.register_buffer("sin", sin_Th, persistent=False)

    def forward(
        self,
        tokens_RT: torch.Tensor,
        document_RT: torch.Tensor | Shared | None = None,
        *,
        targets_RT: torch.Tensor | None = None,
        weight_RT: torch.Tensor | None = None,
        temperature: float = 1.0,
        entropy: bool = False,
        routing: bool = False,
        hidden: bool = False,
    ) -> torch.Tensor | Scored | tuple[Routing, ...]:
        """Return logits, or the log-probs of targets, or with weights their loss.

        Args:
            tokens_RT: int64 [R, T].
            document_RT: int32 [R, T]; attention stays inside equal ids. None: one a row. `Shared`:
                rows are packed groups.
            targets_RT: int64 [R, T]: the token that follows each.
            weight_RT: float32 [R, T]: what each target counts in the loss.
            temperature: Logits are divided by it, above 0.
            entropy: Whether the entropies are wanted too; with targets and without weights.
            routing: Whether what the routers decided is wanted: with the scores, or, without
                targets, alone.
            hidden: Whether what the head multiplies is wanted [R, T, D]: likewise.

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
        if hidden and targets_RT is None:
            return hidden_RTD
        shown_RTD = hidden_RTD if hidden else None
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
            return Scored(None, *by_target, told, shown_RTD)
        weight_N = None if weight_RT is None else weight_RT.flatten()
        scored = linear_cross_entropy(
            hidden_RTD.flatten(0, 1), head_VD, targets_RT.flatten(), weight_N
        )
        return Scored(scored.loss, scored.logprobs.view_as(targets_RT), None, told, shown_RTD)

    def encode(
        self, tokens_RT: torch.Tensor, document_RT: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the last hidden states [R, T, D], normalised: what the head multiplies."""
        return self._encode(tokens_RT, document_RT)[0]

    def _encode(
        self, tokens_RT: torch.Tensor, document_RT: torch.Tensor | Shared | None
    ) -> tuple[torch.Tensor, tuple[Routing, ...]]:
        shared = document_RT if isinstance(document_RT, Shared) else None
        length = shared.longest(tokens_RT.shape[1]) if shared else tokens_RT.shape[1]
        if length > self.spec.positions:
            raise _misfit(
                f"rows of {length} tokens",
                f"at most {self.spec.positions}, the model's positions",
                f"positions={length} in the model, or shorter rows in the source",
            )
        wide, value = self.spec.shape.head_width, self.spec.value_width
        document = documents_for(document_RT, head_width=wide if wide == value else 0)
        x_RTD = self.embed(tokens_RT, None if isinstance(document_RT, Shared) else document_RT)
        places = shared.places(length, tokens_RT.device) if shared else slice(length)
        cos, sin = self.cos[places, None], self.sin[places, None]
        routings = []
        for block in self.blocks:
            x_RTD, routing = block(x_RTD, cos, sin, document)
            routings += [] if routing is None else [routing]
        return self.norm(x_RTD), tuple(routings)

    def embed(
        self,
        tokens_RT: torch.Tensor,
        document_RT: torch.Tensor | None = None,
        *,
        last: int | None = None,
    ) -> torch.Tensor:
        """Return the residual stream [R, T, D] before the first block, in the autocast dtype.

        Args:
            tokens_RT: int64 [R, T].
            document_RT: Grams stay inside equal ids; None: one a row.
            last: How many positions are wanted, the last ones; None: all.
        """
        x_RTD: torch.Tensor = self.embedding(tokens_RT[:, -(last or tokens_RT.shape[1]) :])
        if self.grams is not None:
            x_RTD = self.grams(x_RTD, tokens_RT, document_RT, self.embedding)
        kind = x_RTD.device.type
        if not torch.is_autocast_enabled(kind):
            return x_RTD
        return x_RTD.to(torch.get_autocast_dtype(kind))

    @property
    def shares(self) -> bool:
        """Whether groups of rows can be read packed: each token by itself, but for attention."""
        return self.spec.moe is None and self.grams is None

    @property
    def reach(self) -> int:
        """How many tokens before it the input of a token depends on."""
        return self.grams.reach if self.grams is not None else 0

    @property
    def routers(self) -> tuple[int, int]:
        """Layers with experts, and experts of each; (0, 0) without."""
        return (self.spec.layers, self.spec.moe.experts) if self.spec.moe else (0, 0)

    def widening(self) -> dict[str, Widening]:
        """Return how parameters grow with the width under muP, by name; nothing without it."""
        names = [name for name, _ in self.named_parameters()]
        return self.spec.mup.widening(names, self.spec.width) if self.spec.mup else {}

    def growth(self, to: ModelSpec) -> DecoderGrowth:
        """Return the way to a larger decoder that computes the same."""
        return self.spec.growth(to)

    def flops(self, length: int) -> float:
        """Return the matmul FLOPs of training on one token of a row of `length` tokens.

        6 for each weight of a matmul, the head included, and the causal half of attention
        (arXiv:2204.02311, appendix B). Of experts, those that a token goes to. Without a model of
        grams: how many different ones a batch has, only its text knows.
        """
        spec = self.spec
        kv_heads, hidden, width = spec.shape
        seen = spec.heads * (width + spec.value_width)
        if spec.latent is None:
            body = 2 * spec.width * (spec.heads + kv_heads) * width
        else:
            body = spec.latent.weights(spec.width, spec.heads)
        if spec.moe is None:
            body += (3 if spec.activation == "swiglu" else 2) * spec.width * hidden
        else:
            body += spec.moe.weights(spec.width, hidden, active=True)
        weights = spec.layers * body + spec.width * spec.vocabulary
        return 6.0 * weights + 3.0 * spec.layers * seen * length


def _draw(decoder: Decoder, spec: Transformer, seed: int) -> Mapping[str, torch.Tensor]:
    """Return fresh weights: norms 1, biases 0, matrices normal, each from its own key."""
    drawn = {name: zeros for name, zeros in decoder.named_buffers() if name.endswith(".bias")}
    for name, parameter in decoder.named_parameters():
        if parameter.ndim == 1:
            fill = torch.zeros if name.endswith("bias") else torch.ones
            drawn[name] = fill(parameter.shape)
            continue
        writes = name.endswith(WRITERS)
        std = spec.initial_std / math.sqrt(2 * spec.layers) if writes else spec.initial_std
        std = spec.mup.deviation(name, std, spec.width) if spec.mup else std
        draw = torch.Generator().manual_seed(key_seed(seed, "weights", name))
        drawn[name] = torch.empty(parameter.shape).normal_(0.0, std, generator=draw)
    return drawn


def _check_counts(spec: Transformer) -> None:
    always = ("vocabulary", "width", "layers", "heads", "positions")
    perhaps = ("kv_heads", "hidden", "head_width")
    for name in always + tuple(name for name in perhaps if getattr(spec, name) is not None):
        value = getattr(spec, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise _misfit(f"{name}={value!r}", f"{name}: a whole number, 1 or more", f"{name}=8")


def _check_choices(spec: Transformer) -> None:
    """Refuse options that exclude each other."""
    if spec.activation not in ("swiglu", "relu2"):
        given = f"activation={spec.activation!r}"
        raise _misfit(given, "'swiglu' or 'relu2'", 'activation="swiglu"')
    if spec.mup and spec.moe:
        raise _misfit("mup with moe", "one of them: no rule for experts is tested", "mup=None")
    if spec.mup and spec.embedding:
        raise _misfit("mup with embedding", "one of them: no rule for it is tested", "mup=None")
    if spec.moe and spec.activation != "swiglu":
        given = f"activation={spec.activation!r} with moe"
        raise _misfit(given, "experts with a gate", 'activation="swiglu"')
    own = {"kv_heads": None, "head_width": None, "qk_norm": False, "attention_bias": False}
    for name, value in own.items() if spec.latent else ():
        if getattr(spec, name) != value:
            raise _misfit(
                f"{name}={getattr(spec, name)!r} with latent",
                f"{name}={value}: latent attention has widths and a norm of its own",
                f"{name}={value}, or latent=None",
            )


def _misfit(given: str, expected: str, write: str) -> RecipeError:
    return RecipeError(given, expected=expected, where="Transformer", write=write)
