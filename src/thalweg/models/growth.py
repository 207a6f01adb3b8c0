"""Growing a decoder, wider or deeper, without a change of what it computes.

What is new and writes into what there was (output of new heads, of new units, of whole new blocks,
new columns of the embedding, everything written to new channels) is zero; all else that is new is
drawn afresh. So the function is the same, and every new weight that is zero has a gradient: what it
multiplies is not. Decisions:
- a wider residual stream has zeros in its new channels, so its mean square falls by D / D'. The
  gains of the norms are multiplied by sqrt(D / D') and their eps by D / D': exactly the same norm.
  `larger` sets that eps;
- a new block stands behind an old one, spread evenly;
- the published operator multiplies new parts by a mask that rises from 0 to 1 over some thousand
  steps. Here they learn from zero instead: there is one architecture at any step, which can be
  exported, and no mask to carry through kernels, caches and shards.

Source: arXiv:2309.03852, sec. 2.1; arXiv:2305.02869, sec. 3.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from thalweg.core.grow import Place
from thalweg.errors import RecipeError
from thalweg.models.layers import WRITERS

if TYPE_CHECKING:
    from thalweg.models.transformer import Transformer

__all__ = ["DecoderGrowth", "larger"]

_GROWS = {"width", "layers", "heads", "kv_heads", "hidden", "head_width", "norm_eps"}
"""What may differ; the rest of a spec is what the function is."""

# D width, L layers, H heads, F inner width; a segment is a part of an axis that grows by itself.


def larger(
    spec: "Transformer",
    *,
    width: int | None = None,
    layers: int | None = None,
    heads: int | None = None,
    hidden: int | None = None,
) -> "Transformer":
    """Return a spec that a model of another can grow to.

    The width of a head stays, and heads of keys and values keep their share. The eps of the norms
    is multiplied by D / D', which keeps their function.

    Args:
        spec: What stands.
        width: Of the residual stream; None: as it is.
        layers: Blocks; None: as it is.
        heads: Query heads; None: as many more as the stream is wider, if that is a whole number.
        hidden: Inner width of the feed-forward layer; None: in proportion to the width.

    Example:
        >>> from thalweg.models import Transformer
        >>> small = Transformer(vocabulary=16, width=8, layers=1, heads=2, positions=4)
        >>> wide = larger(small, width=16, layers=2)
        >>> wide.heads, wide.shape.hidden, wide.norm_eps
        (4, 64, 5e-06)
    """
    kv_heads, inner, head_width = spec.shape
    width = spec.width if width is None else width
    if heads is None:
        heads = spec.heads * width // spec.width
    latent = spec.latent is not None
    return replace(
        spec,
        width=width,
        layers=spec.layers if layers is None else layers,
        heads=heads,
        kv_heads=None if latent else heads * kv_heads // spec.heads,
        hidden=inner * width // spec.width if hidden is None else hidden,
        head_width=None if latent else head_width,
        norm_eps=spec.norm_eps * spec.width / width,
    )


@dataclass(frozen=True)
class DecoderGrowth:
    """The way from one decoder to a larger one.

    Raises:
        RecipeError: The larger one would compute something else.
    """

    small: "Transformer"
    large: "Transformer"

    def __post_init__(self) -> None:
        """Refuse what would change the function."""
        _check(self.small, self.large)

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """Where every tensor that there was stands, by the name it has now."""
        small, large = self.small, self.large
        now = [layer * large.layers // small.layers for layer in range(small.layers)]
        shapes = _tensors(small)
        places = {}
        for name in shapes:
            head, _, rest = name.partition(".")
            layer, _, inside = rest.partition(".")
            new = f"blocks.{now[int(layer)]}.{inside}" if head == "blocks" else name
            places[new] = Place(name, self._index(name, shapes[name]), self._factor(name))
        return places

    def weights(
        self, old: Mapping[str, torch.Tensor], fresh: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Return weights of the larger decoder that give the logits of the smaller one.

        Args:
            old: Weights of the smaller one.
            fresh: Of a larger one as it is built.
        """
        made = {}
        for name, tensor in fresh.items():
            new, place = tensor, self.places.get(name)
            if name == "embedding.weight" or name.endswith(WRITERS):
                new = torch.zeros_like(tensor)
            elif place is not None and place.factor != 1.0:
                new = tensor * place.factor
            made[name] = new if place is None else place.put(old[place.name], new)
        return made

    def _index(self, name: str, shape: torch.Size) -> tuple[torch.Tensor, ...]:
        """Return of each axis of a tensor where its old entries are."""
        before, after = _axes(self.small, name), _axes(self.large, name)
        if before is None or after is None:  # does not grow
            return tuple(torch.arange(length) for length in shape)
        return tuple(_segments(a, b) for a, b in zip(before, after, strict=True))

    def _factor(self, name: str) -> float:
        """Return what gains of the residual stream's norms are multiplied by."""
        share = self.small.width / self.large.width
        if name.endswith((".attention_norm.weight", ".mlp_norm.weight")):
            return math.sqrt(share)
        if name == "norm.weight":  # muP divides the logits by the width
            return math.sqrt(share) / (share if self.small.mup else 1.0)
        return 1.0


def _tensors(spec: "Transformer") -> dict[str, torch.Size]:
    from thalweg.models.transformer import Decoder

    return {name: tensor.shape for name, tensor in Decoder(spec).state_dict().items()}


def _axes(spec: "Transformer", name: str) -> tuple[list[int], ...] | None:
    """Return the segments of each axis of a tensor that may grow; None: it does not."""
    kv_heads, hidden, head = spec.shape
    wide, d = [spec.width], spec.heads * head
    qkv = [d, kv_heads * head, kv_heads * head]
    inner = [spec.moe.width_of(hidden)] if spec.moe else [hidden]
    table: dict[str, tuple[list[int], ...]] = {
        "norm.weight": (wide,),
        "embedding.weight": ([spec.vocabulary], wide),
        "head.weight": ([spec.vocabulary], wide),
        "attention_norm.weight": (wide,),
        "mlp_norm.weight": (wide,),
        "qkv.weight": (qkv, wide),
        "qkv.bias": (qkv,),
        "out.weight": (wide, [spec.heads * spec.value_width]),
        "gate_up.weight": (inner * 2, wide),
        "up.weight": (inner, wide),
        "down.weight": (wide, inner),
    }
    if spec.latent:
        both = spec.heads * (spec.latent.nope + spec.latent.value)
        table["latent.qkv.weight"] = ([d, spec.latent.cached], wide)
        table["latent.expand.weight"] = ([both], [spec.latent.rank])
    if spec.moe:
        experts, shared = [spec.moe.experts], [spec.moe.shared]
        table["mixture.router"] = (experts, wide)
        table["mixture.gate_up"] = (experts, inner * 2, wide)
        table["mixture.down"] = (experts, wide, inner)
        table["mixture.shared_gate_up.weight"] = (shared * 2, wide)
        table["mixture.shared_down.weight"] = (wide, shared)
    return table.get(name.split(".", 2)[2] if name.startswith("blocks.") else name)


def _segments(before: list[int], after: list[int]) -> torch.Tensor:
    starts = [sum(after[:number]) for number in range(len(after))]
    parts = [start + torch.arange(length) for start, length in zip(starts, before, strict=True)]
    return torch.cat(parts)


def _check(small: "Transformer", large: "Transformer") -> None:
    for name in sorted({field.name for field in fields(small)} - _GROWS):
        if getattr(small, name) != getattr(large, name):
            given = f"{name}: {getattr(small, name)!r} -> {getattr(large, name)!r}"
            raise _misfit(given, f"the same {name}: it is part of the function")
    was, now = small.shape, large.shape
    grown = {
        "width": (small.width, large.width),
        "layers": (small.layers, large.layers),
        "heads": (small.heads, large.heads),
        "hidden": (was.hidden, now.hidden),
    }
    for name, (before, after) in grown.items():
        if after < before:
            raise _misfit(f"{name}: {before} -> {after}", f"{before} or more: models only grow")
    if was.head_width != now.head_width:
        given = f"heads of width {was.head_width} -> {now.head_width}"
        raise _misfit(given, "heads of one width: rotary positions hang on it")
    if small.heads * now.kv_heads != large.heads * was.kv_heads:
        given = f"{small.heads} / {was.kv_heads} heads -> {large.heads} / {now.kv_heads}"
        raise _misfit(given, "as many query heads to a key head as before")
    if small.qk_norm == "whole" and large.heads != small.heads:
        given = f"heads: {small.heads} -> {large.heads} with qk_norm='whole'"
        raise _misfit(given, "the same heads: their norm is over all of them")
    _check_width(small, large)


def _check_width(small: "Transformer", large: "Transformer") -> None:
    if large.width != small.width and (small.qk_norm or small.embedding):
        given = f"width: {small.width} -> {large.width} with qk_norm or embedding"
        raise _misfit(given, "the same width: the norms share an eps, grams have the width")
    eps = small.norm_eps * small.width / large.width
    if not math.isclose(large.norm_eps, eps, rel_tol=1e-9):
        given = f"norm_eps: {small.norm_eps} -> {large.norm_eps}"
        raise _misfit(given, f"{eps}, which keeps what the norms compute")


def _misfit(given: str, expected: str) -> RecipeError:
    write = "to=larger(spec, width=..., layers=..., heads=..., hidden=...)"
    return RecipeError(given, expected=expected, where="Grow.to", write=write)
