"""A finite part of a toy text: what is read several times, or is partly noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from thalweg.atlas.kit import Markov
from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, State
from thalweg.core.rng import rng
from thalweg.core.time import Time
from thalweg.data.order import order_key, permute

__all__ = ["Excerpt"]


@dataclass(frozen=True)
class Excerpt:
    """Some windows of a `Markov` text, in a new order in each pass, the last ones with noise.

    In a noisy window tokens are replaced by tokens drawn evenly; by the same in every pass.
    """

    text: Markov
    count: int
    """Windows of a pass."""
    first: int = 0
    """The first of them."""
    noisy: float = 0.0
    """Share of the windows that are noisy."""
    noise: float = 0.5
    """Share of the tokens of a noisy window that are replaced."""
    shuffle: bool = True
    name: str = "excerpt"
    """What the log calls it; part of the key of the order."""

    makes: ClassVar[tuple[str, ...]] = Markov.makes

    @property
    def names(self) -> tuple[str, ...]:
        """One name, its own."""
        return (self.name,)

    @property
    def row_tokens(self) -> int:
        """Targets of a row."""
        return self.text.length

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return self.text.vocabulary

    @property
    def sizes(self) -> Mapping[str, int]:
        """Targets of one pass."""
        return {self.name: self.count * self.text.length}

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
        place = ids % self.count
        if self.shuffle:
            for epoch in np.unique(ids // self.count).tolist():
                here = ids // self.count == epoch
                key = order_key(ctx.seed, self.name, epoch)
                place[here] = permute(place[here], self.count, key)
        rows_RT = self.text.windows(self.first + place)
        clean = round((1 - self.noisy) * self.count)
        for row, window in enumerate(place.tolist()):
            if window >= clean:
                draw = rng(self.text.key, "noise", self.first + window)
                hit_T = np.less(draw.random(rows_RT.shape[1]), self.noise)
                rows_RT[row, hit_T] = draw.integers(self.vocabulary, size=int(hit_T.sum()))
        columns = {
            "tokens": torch.from_numpy(rows_RT),
            "weight": torch.ones(ctx.rows, self.text.length),
            "source": torch.zeros(ctx.rows, dtype=torch.int64),
            "id": torch.from_numpy(ids),
        }
        return Batch(columns), {"row": first + ctx.rows}
