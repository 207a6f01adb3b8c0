"""Reading on where a row stands: keys and values are kept, so a new token costs one position.

Three readers with one face. `admit` reads prompts (each once, however many rows share it) and
puts rows into slots; `step` reads one token a slot; `keep` drops slots. All give the logits of the
token to come.

- `Static`, for our decoder: one tensor of keys and one of values a layer, [S, G, C, d], or one of
  latent vectors [S, 1, C, k + r], written in place at each slot's own column, so a finished row's
  slot can be given away at any time. The weights are cast once a call, not once a step, and
  adapters are added to them.
- `Growing`, for `Wrapped`: the cache of transformers. Its columns are common to all rows, so rows
  are padded on the left and new ones are admitted only when all have ended.
- `Recomputed`, for any module that maps tokens [R, T] to logits: reads the row anew.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Protocol, cast

import torch
from torch import nn

from thalweg.models.block import Block
from thalweg.models.lora import plain_weights
from thalweg.models.transformer import Decoder, Transformer
from thalweg.models.wrapper import Wrapped

__all__ = ["Growing", "Reader", "Recomputed", "Static", "open_reader", "twin"]

# N prompts, S slots, C columns of the cache, T positions read at once, P positions of the longest
# prompt, V vocabulary, G key heads, d width of a head, k rank and r rotated width of a latent key,
# B tokens before the next one that its input depends on, W = B + 1.


class Reader(Protocol):
    """Rows that are read token by token."""

    refills: bool
    """Whether rows can be admitted while others go on."""

    def admit(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read the prompts, the same one next to itself, into slots; return logits [N, V]."""
        ...

    def step(self, tokens_S: torch.Tensor) -> torch.Tensor:
        """Add a token to every slot, -1 to an idle one; return logits [S, V]."""
        ...

    def keep(self, slots: Sequence[int]) -> None:
        """Drop all other slots; these are numbered anew, in this order."""
        ...


def open_reader(module: nn.Module, slots: int, columns: int, *, compiled: bool = False) -> Reader:
    """Return the reader that fits a module.

    Args:
        module: A `Decoder`, a `Wrapped`, or a module that maps tokens [R, T] to logits [R, T, V].
        slots: Rows read at once.
        columns: Positions of the longest row, new tokens included.
        compiled: Whether a decoder's step goes through torch.compile, once a shape.
    """
    if isinstance(module, Decoder):
        return Static(module, slots, columns, compiled=compiled)
    return Growing(module) if isinstance(module, Wrapped) else Recomputed(module, slots)


class Static:
    """Keys and values of a decoder, or what they are made of, in tensors of fixed shape."""

    refills = True

    def __init__(self, decoder: Decoder, slots: int, columns: int, *, compiled: bool) -> None:
        spec = decoder.spec
        self.decoder = twin(decoder)
        self.device = self.decoder.embedding.weight.device
        self.columns = min(-(-columns // 32) * 32, spec.positions) if compiled else columns
        like = self.decoder.embedding.weight
        self.kept = [
            [like.new_zeros(slots, heads, self.columns, width) for heads, width in _kept(spec)]
            for _ in range(spec.layers)
        ]
        self.place_S = torch.zeros(slots, dtype=torch.int64, device=self.device)
        self.recent_SB = self.place_S[:, None].expand(-1, decoder.reach) - 1
        self.held: list[tuple[int, ...]] = [()] * slots
        self.after: dict[tuple[int, ...], torch.Tensor] = {}
        self.compiled = compiled

    def admit(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read each prompt once, unless a slot still holds it; copy it to every row that has it."""
        asked = [tuple(prompt) for prompt in prompts]
        there = [row for row, prompt in enumerate(asked) if prompt in self.held]
        fresh = [row for row, prompt in enumerate(asked) if prompt not in self.held]
        if there:
            sources = [self.held.index(asked[row]) for row in there]
            self._copy(sources, [slots[row] for row in there], max(len(asked[r]) for r in there))
        if fresh:
            firsts, which = _distinct([asked[row] for row in fresh])
            self.after |= self._read(firsts, which, [slots[row] for row in fresh])
        for slot, prompt in zip(slots, asked, strict=True):
            self.held[slot] = prompt
        lengths = torch.tensor([len(prompt) for prompt in asked], device=self.device)
        which_N = torch.tensor(slots, device=self.device)
        self.place_S[which_N] = lengths
        self.recent_SB = self.recent_SB.index_copy(0, which_N, self._recent(asked))
        logits_NV = torch.stack([self.after[prompt] for prompt in asked])
        self.after = {p: logits for p, logits in self.after.items() if p in self.held}
        return logits_NV

    def step(self, tokens_S: torch.Tensor) -> torch.Tensor:
        """Read one token at each slot's next column."""
        busy_S = tokens_S >= 0
        place_S = torch.where(busy_S, self.place_S, self.columns - 1)  # behind any prompt
        end = self.columns if self.compiled else int((self.place_S * busy_S).max()) + 1
        step = _compiled_step if self.compiled else _step
        tokens_SW = torch.cat([self.recent_SB, tokens_S.clamp(min=0)[:, None]], 1)
        logits_SV = step(self.decoder, tokens_SW, place_S, self.kept, end)
        self.place_S += busy_S
        self.recent_SB = torch.where(busy_S[:, None], tokens_SW[:, 1:], self.recent_SB)
        return logits_SV

    def keep(self, slots: Sequence[int]) -> None:
        """Copy what stays."""
        index = torch.tensor(slots, device=self.device)
        self.kept = [[held[index] for held in layer] for layer in self.kept]
        self.place_S, self.recent_SB = self.place_S[index], self.recent_SB[index]
        self.held = [self.held[slot] for slot in slots]

    def _recent(self, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the last tokens of each prompt that the input of its next one depends on."""
        reach = self.decoder.reach
        tails = [[-1] * reach + [*prompt] for prompt in prompts]
        rows = [tail[len(tail) - reach :] for tail in tails]
        return torch.tensor(rows, device=self.device).view(len(rows), reach).long()

    def _copy(self, sources: Sequence[int], slots: Sequence[int], length: int) -> None:
        for held in chain.from_iterable(self.kept):
            held[slots, :, :length] = held[sources, :, :length]

    def _read(
        self, prompts: Sequence[Sequence[int]], which: Sequence[int], slots: Sequence[int]
    ) -> dict[tuple[int, ...], torch.Tensor]:
        """Read distinct prompts; slot i gets the one at which[i]. Return the logits after each.

        Padding stands behind the prompts, where causal attention never looks.
        """
        decoder, length = self.decoder, max(map(len, prompts))
        padded = [[*prompt] + [0] * (length - len(prompt)) for prompt in prompts]
        cos, sin = decoder.cos[:length, None], decoder.sin[:length, None]
        x = decoder.embed(torch.tensor(padded, device=self.device))
        for block, layer in zip(_blocks(decoder), self.kept, strict=True):
            q, *fresh = block.project(x, cos, sin)
            for held, new in zip(layer, fresh, strict=True):
                held[slots, :, :length] = new[which]
            x = block.after(x, block.attend(q, fresh))
        last = [len(prompt) - 1 for prompt in prompts]
        logits_NV = _head(decoder, x[list(range(len(prompts))), last])
        return {tuple(p): logits for p, logits in zip(prompts, logits_NV, strict=True)}


def _step(
    decoder: Decoder,
    tokens_SW: torch.Tensor,
    place_S: torch.Tensor,
    kept: Sequence[Sequence[torch.Tensor]],
    end: int,
) -> torch.Tensor:
    """Return the logits after one more token a slot, float32; columns from `end` on are not read.

    The tokens before the last one of a window are for the input alone; -1 where there are none.
    """
    slot_S = torch.arange(len(place_S), device=place_S.device)
    cos = decoder.cos[place_S][:, None, None]
    sin = decoder.sin[place_S][:, None, None]
    column_C = torch.arange(end, device=place_S.device)
    hidden = (column_C[None] > place_S[:, None])[:, None, None]
    x = decoder.embed(tokens_SW.clamp(min=0), tokens_SW >= 0, last=1)
    for block, layer in zip(_blocks(decoder), kept, strict=True):
        q, *fresh = block.project(x, cos, sin)
        for held, new in zip(layer, fresh, strict=True):
            held[slot_S, :, place_S] = new[:, :, 0]
        x = block.after(x, block.look(q, [held[:, :, :end] for held in layer], hidden))
    return _head(decoder, x[:, 0]).float()


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., torch.Tensor]:
    compiled: Callable[..., torch.Tensor] = torch.compile(_step, dynamic=False)
    return compiled


def _compiled_step(*given: Any) -> torch.Tensor:
    """Return `_step` of the same, compiled whole.

    Each slot writes a column of its own, so what is written is the same in any order; the operator
    that torch has for writes in a fixed order would not be compiled.
    """
    was = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode(0)
    try:
        return _compiled()(*given)
    finally:
        torch.set_deterministic_debug_mode(was)


def _kept(spec: Transformer) -> list[tuple[int, int]]:
    """Return heads and width of each tensor that a layer's cache holds."""
    if spec.latent is not None:
        return [(1, spec.latent.cached)]
    return [(spec.shape.kv_heads, spec.shape.head_width)] * 2


def _head(decoder: Decoder, x_ND: torch.Tensor) -> torch.Tensor:
    head = decoder.embedding.weight if decoder.head is None else decoder.head.weight
    return nn.functional.linear(decoder.norm(x_ND), head)


def _blocks(decoder: Decoder) -> Iterable[Block]:
    return cast("Iterable[Block]", decoder.blocks)


def twin(decoder: Decoder) -> Decoder:
    """Return the decoder with weights in the dtype of activations, norms and routers in float32.

    Autocast would cast every weight anew in a compiled step.
    """
    kind = decoder.embedding.weight.device.type
    made = Decoder(decoder.spec)
    found = {**dict(decoder.named_buffers()), **plain_weights(decoder)}
    weights = {name: found[name] for name in made.state_dict()}
    if torch.is_autocast_enabled(kind):
        low = torch.get_autocast_dtype(kind)
        kept = ("norm", "router", "mixture.bias")  # computed in float32
        weights = {n: w if any(k in n for k in kept) else w.to(low) for n, w in weights.items()}
    made.load_state_dict(weights, assign=True)
    made.cos, made.sin = decoder.cos, decoder.sin
    return made.requires_grad_(False).eval()


class Growing:
    """The cache of transformers, which grows by a column a step."""

    refills = False

    def __init__(self, module: Wrapped) -> None:
        self.inner: Any = module.inner
        self.positions = module.positions
        self.device = next(module.parameters()).device
        self.kept: Any = None
        self.seen_ST = torch.zeros(0, 0)

    def admit(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read each prompt once, padded on the left, then double the rows that share it."""
        firsts, which = _distinct(prompts)
        longest = max(map(len, firsts))
        padding = [longest - len(prompt) for prompt in firsts]
        rows = [[0] * pad + [*prompt] for pad, prompt in zip(padding, firsts, strict=True)]
        seen_NP = torch.arange(longest)[None] >= torch.tensor(padding)[:, None]
        self.kept, self.seen_ST = None, seen_NP.to(self.device, torch.int64)
        logits_NV = self._forward(torch.tensor(rows, device=self.device))
        which_R = torch.tensor(which, device=self.device)
        self.keep(which)
        return logits_NV[which_R]

    def step(self, tokens_S: torch.Tensor) -> torch.Tensor:
        """Read one token a row in a new column."""
        self.seen_ST = torch.cat([self.seen_ST, torch.ones_like(self.seen_ST[:, :1])], 1)
        return self._forward(tokens_S.clamp(min=0)[:, None])

    def keep(self, slots: Sequence[int]) -> None:
        """Select the rows of the cache; a row may be named several times."""
        index = torch.tensor(slots, device=self.device)
        self.kept.batch_select_indices(index)
        self.seen_ST = self.seen_ST[index]

    def _forward(self, tokens_ST: torch.Tensor) -> torch.Tensor:
        # a row that has ended is read on beside the others, perhaps past the last position
        place_ST = (self.seen_ST.cumsum(1) - 1).clamp(0, self.positions - 1)
        out = self.inner(
            input_ids=tokens_ST,
            attention_mask=self.seen_ST,
            position_ids=place_ST[:, -tokens_ST.shape[1] :],
            past_key_values=self.kept,
            use_cache=True,
        )
        self.kept = out.past_key_values
        last: torch.Tensor = out.logits[:, -1]
        return last


class Recomputed:
    """Rows of any module, read whole for every token; padding stands behind, unseen."""

    refills = True

    def __init__(self, module: nn.Module, slots: int) -> None:
        self.module = module
        self.device = next(module.parameters()).device
        self.rows: list[list[int]] = [[0] for _ in range(slots)]

    def admit(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read the rows of these slots."""
        for slot, prompt in zip(slots, prompts, strict=True):
            self.rows[slot] = [*prompt]
        return self._forward([self.rows[slot] for slot in slots])

    def step(self, tokens_S: torch.Tensor) -> torch.Tensor:
        """Read every row with its new token."""
        for slot, token in enumerate(tokens_S.tolist()):
            self.rows[slot] = [*self.rows[slot], token] if token >= 0 else [0]
        return self._forward(self.rows)

    def keep(self, slots: Sequence[int]) -> None:
        """Forget the other rows."""
        self.rows = [self.rows[slot] for slot in slots]

    def _forward(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        longest = max(map(len, rows))
        padded = [[*row] + [0] * (longest - len(row)) for row in rows]
        logits_STV = self.module(torch.tensor(padded, device=self.device))
        last_S = torch.tensor([len(row) - 1 for row in rows], device=self.device)
        picked: torch.Tensor = logits_STV[torch.arange(len(rows), device=self.device), last_S]
        return picked


def _distinct(
    prompts: Sequence[Sequence[int]],
) -> tuple[list[Sequence[int]], list[int]]:
    """Return the prompts without repetitions, and the place of each among them."""
    place: dict[tuple[int, ...], int] = {}
    which = [place.setdefault(tuple(prompt), len(place)) for prompt in prompts]
    return list(place), which
