"""Toy text and models that entries share. What only one entry needs stays in its file.

`Markov` is endless text whose entropy is known; `python_text` is what every Python has. `nano` is
a decoder of one or two layers, `lm` the recipe that trains one.
"""

import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from thalweg.core.batch import Batch
from thalweg.core.moves import Learn
from thalweg.core.protocols import Context, Dial, Source, State
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.rng import rng
from thalweg.core.time import Span, Time, share
from thalweg.data import Corpus, build
from thalweg.models import Transformer
from thalweg.monitors import HeldOut
from thalweg.objectives import NextToken
from thalweg.optim import OptimizerSpec

__all__ = ["Markov", "bottom", "lm", "nano", "python_text"]

CHAINS = 1024
"""Rows that a text is drawn in, side by side."""
LENGTHS = {"train": 1024, "held out": 128}
"""Tokens of a chain: a million to train on, an eighth of that to measure on."""
PYTHON_FILES = (
    "argparse",
    "ast",
    "dataclasses",
    "inspect",
    "pathlib",
    "random",
    "shutil",
    "typing",
)


@dataclass(frozen=True)
class Markov:
    """Text in which two tokens decide about the next: unigrams, bigrams, trigrams to be learned.

    p(c | a, b) = (B[b, c] + T[a, b, c]) / 2; every line of B and T is a Zipf law over tokens in an
    order of its own in which some tokens tend to come first. Training rows are windows drawn by
    the run's seed; rows that are held out come as they lie, from a text of their own. Other texts:
    another `key` is another language, `shift` draws that share of the lines anew.
    """

    length: int = 64
    """Targets of a row."""
    tokens: int = 64
    """Size of the vocabulary."""
    key: int = 0
    """Which language."""
    shift: float = 0.0
    """Share of contexts that go on differently than in the language of this key, 0 to 1."""
    split: Literal["train", "held out"] = "train"
    name: str = "markov"
    """What the log calls it."""

    makes: ClassVar[tuple[str, ...]] = ("tokens", "weight", "source", "id")

    @property
    def names(self) -> tuple[str, ...]:
        """One name, its own."""
        return (self.name,)

    @property
    def row_tokens(self) -> int:
        """Targets of a row."""
        return self.length

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return self.tokens

    @property
    def sizes(self) -> Mapping[str, int]:
        """Targets of one pass."""
        return {self.name: self._windows * self.length}

    @property
    def held_out(self) -> "Markov":
        """The same language, a text that is not trained on."""
        return replace(self, split="held out")

    @property
    def entropy(self) -> float:
        """Loss of the true language on the held-out text, nats per token: nobody gets below."""
        text_CT = _text(self.tokens, self.key, self.shift, "held out").astype(np.int64)
        odds = _language(self.tokens, self.key, self.shift)
        return float(-np.log(odds[text_CT[:, :-2], text_CT[:, 1:-1], text_CT[:, 2:]]).mean())

    def shares(self, time: Time) -> Mapping[str, float]:
        """Return the share of rows of each name: all."""
        return {self.name: 1.0}

    def start(self, ctx: Context) -> State:
        """Return the state before the first row: its number."""
        return {"row": 0}

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return the next rows."""
        first = int(state["row"])
        ids = np.arange(first, first + ctx.rows)
        window = ids % self._windows
        if self.split == "train":
            window = ctx.rng("markov", self.name, first).integers(self._windows, size=ctx.rows)
        batch = Batch(
            {
                "tokens": torch.from_numpy(self.windows(window)),
                "weight": torch.ones(ctx.rows, self.length),
                "source": torch.zeros(ctx.rows, dtype=torch.int64),
                "id": torch.from_numpy(ids),
            }
        )
        return batch, {"row": first + ctx.rows}

    def windows(self, index_R: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return windows of the text, int64 [R, length + 1]."""
        each = self._windows // CHAINS
        text_CT = _text(self.tokens, self.key, self.shift, self.split)
        at_RT = ((index_R % each) * self.length)[:, None] + np.arange(self.length + 1)
        rows: NDArray[np.int64] = text_CT[(index_R // each)[:, None], at_RT].astype(np.int64)
        return rows

    @property
    def _windows(self) -> int:
        return CHAINS * ((LENGTHS[self.split] - 1) // self.length)


def python_text(length: int = 64, *, held_out: bool = False) -> Corpus:
    """Return bytes of some well-known modules of Python's standard library, about 700 kB.

    Args:
        length: Targets of a row.
        held_out: The tenth that is kept for measuring, instead of the rest.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [str(root / f"{name}.py") for name in PYTHON_FILES]
    built = build(files, tokenizer="bytes", held_out=0.1, progress=False)
    store = built.held_out if held_out else built.train
    return Corpus(str(store), length=length, shuffle=not held_out, name="python")


def nano(
    vocabulary: int = 64, *, width: int = 32, layers: int = 1, length: int = 64
) -> Transformer:
    """Return a decoder small enough for a hundred runs a minute."""
    return Transformer(
        vocabulary=vocabulary, width=width, layers=layers, heads=2, positions=length, tied=True
    )


def lm(
    optimizer: OptimizerSpec,
    steps: int,
    *,
    source: Source | None = None,
    model: Transformer | None = None,
    rows: Dial = 16,
    every: Dial | Span = share(1.0),
    clip: float | None = 1.0,
) -> Recipe:
    """Return the recipe that trains a nano decoder on a source, `Markov()` if none is given.

    Args:
        optimizer: With its schedule.
        steps: Optimizer steps.
        source: The text. A `Markov` is also measured on its held-out part: `heldout/loss`.
        model: The decoder; `nano()` if none is given.
        rows: Rows of a batch.
        every: Distance between measurements.
        clip: Largest gradient norm.
    """
    text = source if source is not None else Markov()
    held = text.held_out if isinstance(text, Markov) else None
    monitors = (HeldOut({"text": held}, every=every, most=128),) if held is not None else ()
    learn = Learn("policy", NextToken(), optimizer, clip=clip)
    phase = Phase(steps, text, (learn,), rows=rows, monitors=monitors)
    return Recipe({"policy": model if model is not None else nano()}, (phase,))


def bottom(rates: Sequence[float], losses: ArrayLike) -> float:
    """Return the best rate: the bottom of a parabola in log rate through the three best points.

    Args:
        rates: Of a sweep, rising; three or more.
        losses: Of each; infinite where a run diverged.

    Example:
        >>> round(bottom([0.01, 0.1, 1.0], [2.0, 1.0, 2.0]), 6)
        0.1
    """
    known = np.asarray(losses, dtype=np.float64)
    known = np.where(np.isfinite(known), known, known[np.isfinite(known)].max() + 1)
    place = int(np.clip(np.argmin(known), 1, len(rates) - 2))
    near = slice(place - 1, place + 2)
    a, b, _ = np.polyfit(np.log(rates[near]), known[near], 2)
    found = np.exp(-b / (2 * a)) if a > 0 else rates[int(np.argmin(known))]
    return float(np.clip(found, rates[0], rates[-1]))


@lru_cache(maxsize=8)
def _language(tokens: int, key: int, shift: float) -> NDArray[np.float64]:
    """Return p(c | a, b) as [a, b, c]."""
    draw = rng(key, "language")
    popular_V = 1.5 * draw.standard_normal(tokens)
    pairs = _zipf_lines(draw, popular_V, tokens * tokens)
    singles = _zipf_lines(draw, popular_V, tokens)
    if shift:
        other = rng(key, "language", "shift")
        for lines in (pairs, singles):
            new = other.random(len(lines)) < shift
            lines[new] = _zipf_lines(other, popular_V, int(new.sum()))
    return 0.5 * (pairs.reshape(tokens, tokens, tokens) + singles[None])


def _zipf_lines(
    draw: np.random.Generator, popular_V: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Return [count, V]: rank^-1.5 over tokens ordered by popularity plus noise."""
    order = np.argsort(-(popular_V + draw.gumbel(size=(count, popular_V.size))), axis=1)
    mass_V = np.arange(1, popular_V.size + 1) ** -1.5
    lines = np.empty(order.shape)
    np.put_along_axis(lines, order, mass_V / mass_V.sum() + np.zeros(order.shape), axis=1)
    return lines


@lru_cache(maxsize=8)
def _text(tokens: int, key: int, shift: float, split: str) -> NDArray[np.uint8]:
    """Return [chains, length] tokens of a language."""
    edges = _language(tokens, key, shift).cumsum(axis=2)
    draw = rng(key, "text", split)
    text_CT = np.zeros((CHAINS, LENGTHS[split]), dtype=np.uint8)
    text_CT[:, :2] = draw.integers(tokens, size=(CHAINS, 2))
    for t in range(2, LENGTHS[split]):
        edge_CV = edges[text_CT[:, t - 2], text_CT[:, t - 1], :-1]
        text_CT[:, t] = (edge_CV < draw.random((CHAINS, 1))).sum(axis=1)
    text_CT.setflags(write=False)
    return text_CT
