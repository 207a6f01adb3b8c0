"""Skills that build on each other: parities of the first bits of a question; and a network."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, Scored, State
from thalweg.core.rng import key_seed

__all__ = ["BITS", "DEPTH", "Parity", "Perceptron"]

BITS, DEPTH, HIDDEN = 20, 5, 128
"""Bits of a question, skills, and units of the network."""


@dataclass(frozen=True)
class Parity:
    """Rows of a question number, bits, and the parity of the first `depth` bits.

    Each parity is the one before times one more bit, as each query of a LEGO chain is the one
    before and one more step; without it, it is found only by a search among the bits.
    """

    depth: int
    held_out: bool = False

    makes: ClassVar[tuple[str, ...]] = ("tokens", "weight", "source", "id")
    names: ClassVar[tuple[str, ...]] = ("parity",)

    def start(self, ctx: Context) -> State:
        """Return the number of the next row."""
        return {"row": 0}

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return the next rows."""
        first = int(state["row"])
        split = "held out" if self.held_out else "train"
        draw = ctx.rng("parity", split, self.depth, first)
        bits_RB = draw.integers(2, size=(ctx.rows, BITS))
        query_R1 = np.full((ctx.rows, 1), 2 + self.depth)
        answer_R1 = bits_RB[:, : self.depth].sum(1, keepdims=True) % 2
        weight = torch.zeros(ctx.rows, BITS + 1)
        weight[:, -1] = 1.0
        columns = {
            "tokens": torch.from_numpy(np.concatenate([query_R1, bits_RB, answer_R1], 1)),
            "weight": weight,
            "source": torch.zeros(ctx.rows, dtype=torch.int64),
            "id": torch.arange(first, first + ctx.rows),
        }
        return Batch(columns), {"row": first + ctx.rows}


@dataclass(frozen=True)
class Perceptron:
    """Predicts the last token of a row from all others, through one hidden layer."""

    vocabulary: int = 0
    positions: int = 0

    def build(self, seed: int) -> nn.Module:
        """Return the network."""
        return Network(torch.Generator().manual_seed(key_seed(seed, "perceptron")))


class Network(nn.Module):
    """Bits as -1 and 1, beside the query, one of `DEPTH`."""

    def __init__(self, draw: torch.Generator) -> None:
        super().__init__()
        wide = torch.randn(HIDDEN, BITS + DEPTH, generator=draw)
        self.inner = nn.Parameter(wide * (2 / BITS) ** 0.5)
        self.shift = nn.Parameter(torch.zeros(HIDDEN))
        self.outer = nn.Parameter(0.1 * torch.randn(2, HIDDEN, generator=draw) / HIDDEN**0.5)

    def forward(
        self,
        tokens_RT: torch.Tensor,
        document_RT: torch.Tensor | None = None,
        *,
        targets_RT: torch.Tensor,
        weight_RT: torch.Tensor | None = None,
    ) -> Scored:
        """Return the log-prob of the last target, and 0 for those that do not count."""
        query = functional.one_hot(tokens_RT[:, 0] - 3, DEPTH).float()
        seen = torch.cat([2.0 * tokens_RT[:, 1:] - 1.0, query], 1)
        hidden = functional.linear(seen, self.inner, self.shift).relu()
        last = functional.linear(hidden, self.outer).log_softmax(1)
        logprobs = functional.pad(last.gather(1, targets_RT[:, -1:]), (targets_RT.shape[1] - 1, 0))
        if weight_RT is None:
            return Scored(None, logprobs)
        return Scored(-(weight_RT * logprobs).sum(), logprobs.detach())
