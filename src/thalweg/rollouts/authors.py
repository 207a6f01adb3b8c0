"""Whoever writes text for time or money: a server, a model of ours, a function of the caller's.

    wants (prompt, how many, how many there are) -> author -> replies, as they arrive

`Asker` stands between: it keeps every reply in a `Ledger`, asks only for what is not there, and
counts tokens. So a killed job pays for nothing twice, and more answers to the same prompts cost
only the ones that are new.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import nn

from thalweg.core.protocols import ModelSpec
from thalweg.core.rng import key_seed
from thalweg.data.ledger import Ledger, key_of
from thalweg.data.tokenizer import load_tokenizer
from thalweg.errors import RecipeError
from thalweg.rollouts.engine import generate, text_of
from thalweg.rollouts.prompting import prompt_ids
from thalweg.rollouts.sampling import Sampling
from thalweg.rollouts.vllm import weights_digest

__all__ = ["Asker", "Author", "Caller", "Local", "Reply", "Said", "Want"]


class Want(NamedTuple):
    """A prompt, and how many answers to it are wanted."""

    prompt: str
    answers: int = 1
    first: int = 0
    """How many there are already; it names the draws of the further ones."""


class Said(NamedTuple):
    """One answer."""

    text: str
    finished: bool = True
    """Whether it ended by itself; False: it ran out of tokens."""


class Reply(NamedTuple):
    """One or more answers to a want, and what they took."""

    said: tuple[Said, ...]
    sent: int = 0
    """Tokens read."""
    received: int = 0
    """Tokens written."""


class Author(Protocol):
    """Writes answers."""

    @property
    def mark(self) -> str:
        """What its answers depend on besides the prompt: kept answers are found by it."""
        ...

    @property
    def temperature(self) -> float:
        """Of its draws; at 0 all answers to a prompt are the same."""
        ...

    def write(self, wants: Sequence[Want]) -> Iterator[tuple[int, Reply]]:
        """Yield the place of a want and answers to it, in any order, as they arrive.

        Fewer answers than wanted are allowed, but not none; the rest is asked for again.
        """
        ...


@dataclass(frozen=True)
class Caller:
    """A function of the caller's: another client, a program that solves, a stand-in in a test.

    Example:
        >>> from thalweg.rollouts.authors import Want
        >>> [(place, reply)] = Caller(lambda prompt, number: prompt[::-1]).write([Want("ab")])
        >>> reply.said[0].text
        'ba'
    """

    fn: Callable[[str, int], str]
    """(prompt, number of the answer) -> text."""
    name: str = ""
    """What kept answers are found by; the function's own name if empty."""
    temperature: float = 1.0
    """0 says that its answers to a prompt do not differ."""

    @property
    def mark(self) -> str:
        """Return the name."""
        return self.name or f"{self.fn.__module__}.{self.fn.__qualname__}"

    def write(self, wants: Sequence[Want]) -> Iterator[tuple[int, Reply]]:
        """Yield one answer after the other; tokens are taken as 4 characters."""
        for place, want in enumerate(wants):
            for number in range(want.first, want.first + want.answers):
                text = self.fn(want.prompt, number)
                yield place, Reply((Said(text),), len(want.prompt) // 4, len(text) // 4)


@dataclass(frozen=True, kw_only=True)
class Local:
    """A model of ours, in this process; on a GPU if there is one.

    Example:
        >>> from thalweg.models import Transformer
        >>> from thalweg.rollouts.authors import Want
        >>> model = Transformer(vocabulary=257, width=8, layers=1, heads=2, positions=32)
        >>> local = Local(model=model, sampling=Sampling(new_tokens=4))
        >>> [(place, reply)] = local.write([Want("1+1=", answers=2)])
        >>> place, len(reply.said), reply.sent
        (0, 2, 6)
    """

    model: ModelSpec
    """`Pretrained(folder)` for the export of a run."""
    tokenizer: str = "bytes"
    """As the model was trained with."""
    sampling: Sampling = Sampling()
    """May be cut: nothing is learned from its log-probs."""
    template: str | None = None
    """As `Rollouts.template`."""
    seed: int = 0
    """Of fresh weights and of the draws."""
    slots: int = 64
    """Rows written at once, and prompts between two entries of the ledger."""

    @cached_property
    def module(self) -> nn.Module:
        """The model, built once."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return self.model.build(self.seed).to(device).eval()

    @property
    def mark(self) -> str:
        """Return what its answers depend on; of the model, a digest of its weights."""
        own = f"{self.tokenizer} {self.sampling} {self.template!r} {self.seed}"
        return f"{weights_digest(self.module)} {own}"

    @property
    def temperature(self) -> float:
        """Of the sampling."""
        return float(self.sampling.temperature)

    def write(self, wants: Sequence[Want]) -> Iterator[tuple[int, Reply]]:
        """Yield the replies of `slots` prompts at a time."""
        alike: dict[tuple[int, int], list[int]] = {}
        for place, want in enumerate(wants):
            alike.setdefault((want.answers, want.first), []).append(place)
        for (count, first), places in alike.items():
            for start in range(0, len(places), self.slots):
                some = places[start : start + self.slots]
                prompts = [wants[place].prompt for place in some]
                yield from zip(some, self._some(prompts, count, first), strict=True)

    def _some(self, prompts: Sequence[str], count: int, first: int) -> list[Reply]:
        tokenizer = load_tokenizer(self.tokenizer)

        def decode(ids: Sequence[int]) -> str:
            return tokenizer.decode(ids, special=False)

        asked = [prompt_ids(tokenizer, prompt, self.template) for prompt in prompts]
        found = generate(
            self.module, asked, self.sampling, group=count, first=first, seed=self.seed,
            keys=[key_seed(0, prompt) for prompt in prompts], end_id=tokenizer.end_id,
            decode=decode, slots=self.slots,
        )  # fmt: skip
        return [
            Reply(
                tuple(Said(text_of(a, decode, self.sampling.stop), a.finished) for a in answers),
                len(ids),
                sum(len(answer.tokens) for answer in answers),
            )
            for ids, answers in zip(asked, found, strict=True)
        ]


class Asker:
    """Asks an author for what a ledger does not hold yet, and counts.

    Args:
        author: Who writes.
        ledger: Where replies are kept.
        price: Of a million tokens (sent, received); for `cost`.
    """

    def __init__(
        self, author: Author, ledger: Ledger, price: tuple[float, float] | None = None
    ) -> None:
        self.author = author
        self.ledger = ledger
        self.price = price
        self.bought = self.found = self.sent = self.received = 0

    def __call__(self, prompts: Sequence[str], count: int = 1) -> list[list[Said]]:
        """Return `count` answers to each prompt, in order; equal prompts share theirs.

        Raises:
            RecipeError: Several answers of an author whose answers do not differ, or an author
                that answered nothing.
        """
        if count > 1 and self.author.temperature == 0:
            raise RecipeError(
                f"{count} answers to a prompt at temperature 0",
                expected="answers that may differ",
                where="Asker",
                write="a temperature of 0.7, or one answer",
            )
        kept = {prompt: self._kept(prompt) for prompt in prompts}
        self.found += sum(min(len(answers), count) for answers in kept.values())
        while wants := [Want(p, count - len(k), len(k)) for p, k in kept.items() if len(k) < count]:
            self._buy(wants, kept)
        return [kept[prompt][:count] for prompt in prompts]

    def cost(self) -> str:
        """Return what was asked for, in a line."""
        text = (
            f"{self.bought:,} answers written and {self.found:,} found; "
            f"{self.sent:,} tokens sent and {self.received:,} received"
        )
        if self.price is None:
            return text
        spent = (self.sent * self.price[0] + self.received * self.price[1]) / 1e6
        return f"{text}, {spent:,.2f} spent"

    def _buy(self, wants: Sequence[Want], kept: dict[str, list[Said]]) -> None:
        before = self.bought
        for place, reply in self.author.write(wants):
            prompt = wants[place].prompt
            said = [[one.text, one.finished] for one in reply.said]
            if said:
                self.ledger.add(self._key(prompt), {"said": said})
            kept[prompt] += reply.said
            self.bought += len(reply.said)
            self.sent += reply.sent
            self.received += reply.received
        if self.bought == before:
            raise RecipeError(
                f"no answer to {len(wants)} prompts, such as {wants[0].prompt[:80]!r}",
                expected="one answer or more to each",
                where=self.author.mark[:200],
                write="another author, or another prompt",
            )

    def _kept(self, prompt: str) -> list[Said]:
        entries = self.ledger.known(self._key(prompt))
        return [Said(str(text), bool(end)) for entry in entries for text, end in entry["said"]]

    def _key(self, prompt: str) -> str:
        return key_of(self._mark, prompt)

    @cached_property
    def _mark(self) -> str:
        """Return the author's mark, which may cost a pass over a model's weights."""
        return self.author.mark
