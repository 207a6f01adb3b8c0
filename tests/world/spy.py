"""A recipe file for the tests of the world: a source that remembers which rows this rank read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from thalweg.core.batch import Batch
from thalweg.core.lazy import Lazy, Reader
from thalweg.core.moves import Learn
from thalweg.core.protocols import Context, State
from thalweg.core.recipe import Compute, Phase, Recipe, Saves
from thalweg.core.time import steps as count
from thalweg.data import Corpus
from thalweg.models import size
from thalweg.objectives import NextToken
from thalweg.optim import AdamW
from thalweg.schedules import Linear

READ: list[list[int]] = []


@dataclass(frozen=True)
class Noted:
    reader: Reader

    def __call__(self, address: np.ndarray) -> torch.Tensor:
        READ.append(address.tolist())
        return self.reader(address)


@dataclass(frozen=True)
class Spied:
    """Another source, whose token columns note what is read of them."""

    source: Corpus
    offline: ClassVar[bool] = True

    @property
    def makes(self) -> Sequence[str]:
        return self.source.makes

    @property
    def names(self) -> Sequence[str]:
        return self.source.names

    def start(self, ctx: Context) -> State:
        return self.source.start(ctx)

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        batch, state = self.source.next(state, ctx)
        tokens = batch.column("tokens")
        assert isinstance(tokens, Lazy)
        noted = Lazy(tuple(Noted(r) for r in tokens.readers), tokens.places)
        return batch.plus({"tokens": noted}), state


def recipe(store: str, shard: str = "replicate", rows: int = 8) -> Recipe:
    """Return eight steps of a small decoder on bytes."""
    corpus = Corpus(store, length=32)
    watch = ("grad_l1", "grad_dot")
    learn = Learn("policy", NextToken(), AdamW(lr=Linear(3e-3, 0.0)), micro=64, watch=watch)
    phase = Phase(8, Spied(corpus), (learn,), rows=rows)
    saves = Saves(every=count(4), last=9)
    compute = Compute(shard=shard)
    return Recipe({"policy": size("250k", 257, 32)}, (phase,), compute=compute, saves=saves)
