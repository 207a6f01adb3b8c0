"""Writing answers: one loop over slots, whatever reads them.

    admit rows into free slots -> draw a token a slot -> end rows -> read one more position

A row is drawn with the uniforms of rng(seed, "answer", key, number), one a position, so an answer
is a function of weights, prompt, seed, key and number: not of its neighbours, of their order, or
of which process writes it (but for the last bit of a matmul). A slot whose row has ended is given
to the next row; when no row waits, idle slots are dropped.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from thalweg.core.rng import rng
from thalweg.errors import DialError, RecipeError
from thalweg.models.transformer import Decoder
from thalweg.models.wrapper import Wrapped
from thalweg.rollouts.cache import Reader, open_reader
from thalweg.rollouts.sampling import Sampling, draw

__all__ = ["Answer", "generate", "text_of"]

Decode = Callable[[Sequence[int]], str]


class Answer(NamedTuple):
    """What the model wrote after a prompt."""

    tokens: list[int]
    """Its ids, with the one that ended it."""
    logprobs: list[float]
    """Of each token under the model that wrote it, after temperature, float32, nats."""
    finished: bool
    """Whether it ended by itself; False: it ran out of tokens or of positions."""


@dataclass(frozen=True)
class _Row:
    """A row that waits or is being written."""

    place: tuple[int, int]
    """Which prompt, and which of its answers."""
    prompt: Sequence[int]
    limit: int
    key: tuple[int, str, int, int]
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @cached_property
    def uniforms(self) -> np.ndarray:
        """One number a position; the first ones are the same whatever the limit."""
        return rng(*self.key).random(self.limit)


@dataclass(frozen=True)
class _Ending:
    """What ends a row by itself."""

    ids: frozenset[int]
    texts: tuple[str, ...]
    decode: Decode | None

    def __call__(self, tokens: Sequence[int]) -> bool:
        if tokens[-1] in self.ids:
            return True
        if not self.texts or self.decode is None:
            return False
        longest = max(len(text.encode()) for text in self.texts)
        tail = self.decode(tokens[-longest - 4 :])  # a token has a byte or more; the rest is slack
        return any(text in tail for text in self.texts)


def generate(
    module: nn.Module,
    prompts: Sequence[Sequence[int]],
    how: Sampling = Sampling(),
    *,
    group: int = 1,
    keys: Sequence[int] | None = None,
    first: int = 0,
    seed: int = 0,
    end_id: int | None = None,
    decode: Decode | None = None,
    longest: int | None = None,
    slots: int = 64,
    compiled: bool = False,
) -> list[list[Answer]]:
    """Return what the model writes after each prompt.

    Args:
        module: A `Decoder` or a `Wrapped`, whose keys and values are cached; or any module that
            maps tokens [R, T] to logits [R, T, V], which reads each row anew for every token.
        prompts: Token ids, at least one each.
        how: How tokens are drawn and what ends an answer.
        group: Answers to each prompt; its keys and values are made once.
        keys: Name the draws of each prompt; default: its place in the list.
        first: Number of the first answer to each prompt; numbers name draws too.
        seed: Of the draws.
        end_id: A token that ends an answer, besides `how.stop_ids`.
        decode: Token ids to text; needed for `how.stop`.
        longest: Most tokens of a row, prompt included; None: the model's positions.
        slots: Most rows read at once.
        compiled: Whether a decoder's step goes through torch.compile: worth it from about a
            thousand steps, or where the cache of an earlier process is warm.

    Returns:
        `group` answers to each prompt. A row that reaches the model's last position ends there.

    Raises:
        RecipeError: An empty prompt, one that fills all positions, stop texts without `decode`.
        DialError: A number of `how` out of range, or no slots.

    Example:
        >>> from thalweg.models import Transformer
        >>> model = Transformer(vocabulary=9, width=8, layers=1, heads=2, positions=8).build(0)
        >>> [[answer]] = generate(model, [[1, 2]], Sampling(new_tokens=3))
        >>> len(answer.tokens), answer.finished
        (3, False)
    """
    how.check("generate")
    if slots < 1:
        raise DialError(
            f"slots={slots}", expected="1 row or more", where="generate", write="slots=64"
        )
    limits = _limits(module, prompts, how, decode, longest)
    found = [[Answer([], [], False)] * group for _ in prompts]
    names = range(len(prompts)) if keys is None else map(int, keys)
    rows = deque(
        _Row((p, n), prompt, limit, (seed, "answer", key, first + n))
        for p, (prompt, limit, key) in enumerate(zip(prompts, limits, names, strict=True))
        for n in range(group)
        if limit
    )
    if not rows:
        return found
    columns = max(len(row.prompt) + row.limit for row in rows)
    slots = min(slots, len(rows))
    ends = frozenset(how.stop_ids) | ({end_id} if end_id is not None else set())
    with _reading(module):
        reader = open_reader(module, slots, columns, compiled=compiled)
        loop = _Loop(reader, slots, rows, _Ending(ends, how.stop, decode), shrinks=not compiled)
        while loop.admit():
            for (prompt, number), answer in loop.advance(how):
                found[prompt][number] = answer
    return found


def text_of(answer: Answer, decode: Decode, stop: Sequence[str] = ()) -> str:
    """Return the text of an answer, up to the first text that ends it.

    Args:
        answer: What `generate` returned.
        decode: Token ids to text, without special tokens.
        stop: Texts that end it.
    """
    text = decode(answer.tokens)
    return text[: min((text.find(one) for one in stop if one in text), default=len(text))]


class _Loop:
    """The slots of a call: which row is in each, and the logits of its next token."""

    def __init__(
        self, reader: Reader, slots: int, waiting: "deque[_Row]", ends: _Ending, *, shrinks: bool
    ) -> None:
        self.reader, self.waiting, self.ends, self.shrinks = reader, waiting, ends, shrinks
        self.slots = slots
        self.rows: list[_Row | None] = [None] * slots
        self.logits_SV = torch.zeros(slots, 0)

    def admit(self) -> bool:
        """Fill idle slots once a quarter of them is idle; return whether a row is left at all.

        Reading prompts one by one would be slow.
        """
        busy = [slot for slot, row in enumerate(self.rows) if row is not None]
        if not (busy or self.reader.refills):
            self.rows = [None] * min(self.slots, len(self.waiting))
        idle = [slot for slot, row in enumerate(self.rows) if row is None]
        fills = self.reader.refills and 4 * len(idle) >= len(self.rows)
        if self.waiting and (fills or not busy):
            self._enter(idle[: len(self.waiting)], fresh=not busy)
        elif self.shrinks and busy and 2 * len(busy) <= len(self.rows):
            self.reader.keep(busy)
            self.rows = [self.rows[slot] for slot in busy]
            self.logits_SV = self.logits_SV[busy]
        return any(row is not None for row in self.rows)

    def advance(self, how: Sampling) -> Iterator[tuple[tuple[int, int], Answer]]:
        """Draw a token for every row, give back the rows that ended, read one position."""
        uniforms = [0.0 if row is None else row.uniforms[len(row.tokens)] for row in self.rows]
        device = self.logits_SV.device
        drawn = draw(self.logits_SV, torch.tensor(uniforms, device=device), how)
        tokens, logprobs = drawn.tokens_R.tolist(), drawn.logprobs_R.tolist()
        for slot, row in enumerate(self.rows):
            if row is None:
                tokens[slot] = -1
                continue
            row.tokens.append(tokens[slot])
            row.logprobs.append(logprobs[slot])
            finished = self.ends(row.tokens)
            if finished or len(row.tokens) == row.limit:
                yield row.place, Answer(row.tokens, row.logprobs, finished)
                self.rows[slot], tokens[slot] = None, -1
        if any(row is not None for row in self.rows):
            self.logits_SV = self.reader.step(torch.tensor(tokens, device=device))

    def _enter(self, slots: Sequence[int], *, fresh: bool) -> None:
        rows = [self.waiting.popleft() for _ in slots]
        logits = self.reader.admit(slots, [row.prompt for row in rows])
        if fresh:
            self.logits_SV = logits.new_zeros(len(self.rows), logits.shape[1])
        self.logits_SV[slots] = logits
        for slot, row in zip(slots, rows, strict=True):
            self.rows[slot] = row


def _limits(
    module: nn.Module,
    prompts: Sequence[Sequence[int]],
    how: Sampling,
    decode: Decode | None,
    longest: int | None,
) -> list[int]:
    """Refuse what cannot be continued; return the most new tokens of each prompt."""
    room = min(_positions(module), longest or 1 << 62)
    for index, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise _refusal(
                f"prompt {index} is empty",
                "at least one token",
                "the tokenizer's end-of-text before it, as every document has",
            )
        if len(prompt) > room:
            raise _refusal(
                f"prompt {index} has {len(prompt)} tokens",
                f"at most {room}, the model's positions or `longest`",
                "a shorter prompt, or more positions in the model",
            )
    if how.stop and decode is None:
        raise _refusal(
            f"stop={how.stop} without decode",
            "a function from token ids to text",
            "decode=tokenizer.decode, or stop_ids",
        )
    return [min(int(how.new_tokens), room - len(prompt)) for prompt in prompts]


def _positions(module: nn.Module) -> int:
    if isinstance(module, Decoder):
        return module.spec.positions
    return module.positions if isinstance(module, Wrapped) else 1 << 30


def _refusal(given: str, expected: str, write: str) -> RecipeError:
    return RecipeError(given, expected=expected, where="generate", write=write)


@contextmanager
def _reading(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)
