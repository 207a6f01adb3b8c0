"""Continue prompts with a cache of keys and values.

Prompts of different lengths are padded on the left, so that all rows write to the same column;
a row's positions count from its own first token and padding is never looked at, so a row's result
does not depend on its neighbours. Every layer has one tensor for keys and one for values, written
in place. Sampling inverts the distribution function at one uniform number a row and step, drawn
from the key ("generate", step): the same seed, prompts and row give the same text.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, cast

import torch
from torch import nn

from thalweg.core.rng import rng
from thalweg.errors import RecipeError
from thalweg.models.transformer import Block, Decoder

__all__ = ["generate", "pick"]

# R rows, S columns (padded prompt and new tokens), T columns read in one pass, V vocabulary,
# G key heads, n query heads a key head, d width of a head.


def generate(
    module: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    new_tokens: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    end_id: int | None = None,
    seed: int = 0,
) -> list[list[int]]:
    """Return what the model writes after each prompt.

    Args:
        module: A `Decoder`, whose keys and values are cached; or any module that maps tokens
            [R, T] to logits [R, T, V], which reads the whole row again for every token.
        prompts: Token ids, at least one each.
        new_tokens: Most tokens to add to a row.
        temperature: Logits are divided by it; 0 takes the likeliest token.
        top_k: Sample from the k likeliest tokens only; 0: all.
        top_p: Sample from the likeliest tokens that together have this probability, in (0, 1].
        end_id: A row stops after this token, which is kept.
        seed: Of the draws.

    Returns:
        The new tokens of each row, without its prompt.

    Raises:
        RecipeError: An empty prompt, a number out of range, or more positions than the model has.

    Example:
        >>> from thalweg.models.transformer import Transformer
        >>> model = Transformer(vocabulary=9, width=8, layers=1, heads=2, positions=8).build(0)
        >>> len(generate(model, [[1, 2], [3]], new_tokens=4)[1])
        4
    """
    how = _How(temperature, top_k, top_p)
    longest = _check(prompts, new_tokens, how)
    if not prompts or new_tokens == 0:
        return [[] for _ in prompts]
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            if isinstance(module, Decoder):
                reader: _Reader = _Cached(module, prompts, longest + new_tokens)
            else:
                reader = _Recomputed(module, prompts)
            return _continue(reader, len(prompts), new_tokens, how, end_id, seed)
    finally:
        module.train(was_training)


def pick(
    logits_RV: torch.Tensor,
    uniform_R: torch.Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> torch.Tensor:
    """Return one token a row: the first whose cumulative probability exceeds the row's uniform.

    Args:
        logits_RV: Any float dtype; probabilities are computed in float32.
        uniform_R: Numbers in [0, 1).
        temperature: As in `generate`; 0 takes the likeliest token, the first of equals.
        top_k: As in `generate`.
        top_p: As in `generate`; the token that crosses the limit is kept.

    Returns:
        int64 [R].

    Example:
        >>> pick(torch.tensor([[0.0, 9.0, 0.0]]), torch.tensor([0.5])).tolist()
        [1]
    """
    if temperature == 0:
        return logits_RV.argmax(-1)
    scores_RV = logits_RV.float() / temperature
    if not (0 < top_k < scores_RV.shape[1] or top_p < 1):
        return _invert(scores_RV.softmax(-1), uniform_R)
    sorted_RV, order_RV = scores_RV.sort(stable=True, dim=-1, descending=True)
    if 0 < top_k < scores_RV.shape[1]:
        sorted_RV, order_RV = sorted_RV[:, :top_k], order_RV[:, :top_k]
    share_RV = sorted_RV.softmax(-1)
    before_RV = share_RV.cumsum(-1) - share_RV
    share_RV = share_RV.masked_fill(before_RV >= top_p, 0.0)
    return torch.gather(order_RV, 1, _invert(share_RV, uniform_R)[:, None])[:, 0]


def _invert(share_RV: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    cumulated_RV = share_RV.cumsum(-1)
    at_R1 = uniform_R.to(share_RV)[:, None] * cumulated_RV[:, -1:]
    index_R = torch.searchsorted(cumulated_RV, at_R1, right=True)[:, 0]
    last_R = (share_RV > 0).to(torch.int64).cumsum(-1).argmax(-1)
    return torch.minimum(index_R, last_R)


class _How(NamedTuple):
    temperature: float
    top_k: int
    top_p: float


class _Reader(Protocol):
    def logits(self) -> torch.Tensor: ...

    def append(self, tokens_R: torch.Tensor) -> None: ...


class _Cached:
    """Keys and values of a `Decoder`, layer by layer."""

    def __init__(self, decoder: Decoder, prompts: Sequence[Sequence[int]], columns: int) -> None:
        if columns > decoder.spec.positions:
            raise _refusal(
                f"prompts and new tokens of {columns} positions",
                f"at most {decoder.spec.positions}, the model's positions",
                "fewer new tokens or shorter prompts",
            )
        self.decoder = decoder
        self.device = decoder.embedding.weight.device
        longest = max(len(prompt) for prompt in prompts)
        padding = [longest - len(prompt) for prompt in prompts]
        rows = [[0] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
        self.tokens = torch.tensor(rows, device=self.device)
        self.padding_R1 = torch.tensor(padding, device=self.device)[:, None]
        self.columns, self.filled = columns, 0
        self.kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def logits(self) -> torch.Tensor:
        """Read the tokens not yet read; return the logits [R, V] after the last."""
        decoder, start, end = self.decoder, self.filled, self.tokens.shape[1]
        column_T = torch.arange(start, end, device=self.device)
        place_RT = (column_T[None] - self.padding_R1).clamp(min=0)
        cos, sin = decoder.cos[place_RT][:, :, None], decoder.sin[place_RT][:, :, None]
        key_S = torch.arange(end, device=self.device)
        hidden = (key_S[None] > column_T[:, None])[None] | (key_S[None] < self.padding_R1)[:, None]
        hidden = hidden & (key_S[None] != column_T[:, None])  # padding looks at itself: no 0 / 0
        x = decoder.embed(self.tokens[:, start:end])
        for layer, block in enumerate(cast("Iterable[Block]", decoder.blocks)):
            q, k, v = block.project(x, cos, sin)
            keys, values = self._remember(layer, k, v)
            seen = _look(q, keys[:, :, :end], values[:, :, :end], hidden[:, None, None])
            x = block.after(x, seen)
        self.filled = end
        last = decoder.norm(x[:, -1])
        head = decoder.embedding.weight if decoder.head is None else decoder.head.weight
        return nn.functional.linear(last, head)

    def append(self, tokens_R: torch.Tensor) -> None:
        """Add a token to every row."""
        self.tokens = torch.cat([self.tokens, tokens_R[:, None]], 1)

    def _remember(
        self, layer: int, k: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if layer == len(self.kept):
            shape = (*k.shape[:2], self.columns, k.shape[3])
            self.kept.append((k.new_zeros(shape), v.new_zeros(shape)))
        keys, values = self.kept[layer]
        keys[:, :, self.filled : self.tokens.shape[1]] = k
        values[:, :, self.filled : self.tokens.shape[1]] = v
        return keys, values


class _Recomputed:
    """Rows of any module, read whole for every token; padding stands behind, unseen."""

    def __init__(self, module: nn.Module, prompts: Sequence[Sequence[int]]) -> None:
        self.module = module
        self.device = next(module.parameters()).device
        self.rows = [list(prompt) for prompt in prompts]

    def logits(self) -> torch.Tensor:
        """Return the logits [R, V] after the last token of each row."""
        longest = max(len(row) for row in self.rows)
        padded = [row + [0] * (longest - len(row)) for row in self.rows]
        logits_RTV = self.module(torch.tensor(padded, device=self.device))
        last = torch.tensor([len(row) - 1 for row in self.rows], device=self.device)
        picked: torch.Tensor = logits_RTV[torch.arange(len(last), device=self.device), last]
        return picked

    def append(self, tokens_R: torch.Tensor) -> None:
        """Add a token to every row."""
        for row, token in zip(self.rows, tokens_R.tolist(), strict=True):
            row.append(token)


def _look(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Attention of queries [R, H, T, d] on cached keys [R, G, S, d]; hidden is [R, 1, 1, T, S]."""
    rows, heads, length, width = q.shape
    grouped = q.view(rows, k.shape[1], heads // k.shape[1], length, width) * width**-0.5
    scores = grouped.flatten(2, 3) @ k.transpose(-1, -2)
    scores = scores.view(*grouped.shape[:4], -1).masked_fill(hidden, -torch.inf)
    seen: torch.Tensor = scores.softmax(-1).flatten(2, 3) @ v
    return seen.view(q.shape)


def _continue(
    reader: _Reader,
    rows: int,
    new_tokens: int,
    how: _How,
    end_id: int | None,
    seed: int,
) -> list[list[int]]:
    done = torch.zeros(rows, dtype=torch.bool)
    written: list[list[int]] = [[] for _ in range(rows)]
    for step in range(new_tokens):
        logits_RV = reader.logits()
        uniform_R = torch.from_numpy(rng(seed, "generate", step).random(rows))
        chosen_R = pick(logits_RV, uniform_R.to(logits_RV.device), **how._asdict())
        for row, token in enumerate(chosen_R.tolist()):
            if not done[row]:
                written[row].append(token)
        done |= chosen_R.cpu() == (-1 if end_id is None else end_id)
        if bool(done.all()):
            break
        reader.append(chosen_R)
    return written


def _check(
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    how: _How,
) -> int:
    """Refuse what cannot be sampled; return the length of the longest prompt."""
    for index, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise _refusal(
                f"prompt {index} is empty",
                "at least one token",
                "the tokenizer's start token, or a newline",
            )
    limits = {
        "new_tokens": (new_tokens, new_tokens >= 0, "0 or more"),
        "temperature": (how.temperature, 0 <= how.temperature < math.inf, "0 or more, finite"),
        "top_k": (how.top_k, how.top_k >= 0, "0 (all) or more"),
        "top_p": (how.top_p, 0 < how.top_p <= 1, "above 0, at most 1"),
    }
    for name, (value, right, expected) in limits.items():
        if not right:
            raise _refusal(f"{name}={value}", expected, f"{name}=1")
    return max((len(prompt) for prompt in prompts), default=0)


def _refusal(given: str, expected: str, write: str) -> RecipeError:
    return RecipeError(given, expected=expected, where="generate", write=write)
