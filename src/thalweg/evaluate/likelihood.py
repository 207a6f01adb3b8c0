"""Loss on text that was not trained on: nats per token, by source and in all."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.moves import logprobs
from thalweg.core.protocols import Context, Foreseen, Source
from thalweg.core.time import Time
from thalweg.data.rows import first_batches

__all__ = ["HeldOutLoss", "held_out_loss"]


@dataclass(frozen=True)
class HeldOutLoss:
    """What `held_out_loss` returns."""

    nats: Mapping[str, float]
    """Summed over targets, by source."""
    tokens: Mapping[str, int]
    """Targets, by source."""

    @property
    def loss(self) -> float:
        """Nats per token over all sources together."""
        return sum(self.nats.values()) / max(sum(self.tokens.values()), 1)

    def by_source(self) -> dict[str, float]:
        """Return nats per token of each source that had any."""
        return {n: self.nats[n] / count for n, count in self.tokens.items() if count}


def held_out_loss(
    learner: Learner,
    sources: Mapping[str, Source],
    ctx: Context,
    *,
    rows: int | None = None,
    batch: int = 32,
    micro: int | None = None,
) -> HeldOutLoss:
    """Return the loss on the first rows of each source, in the order the source gives them.

    Args:
        learner: The model, in its world.
        sources: Text by name.
        ctx: Gives the seed.
        rows: Rows of each source; None for all, once.
        batch: Rows of a forward pass over all ranks.
        micro: Tokens of a forward pass on one rank.
    """
    nats, tokens = {}, {}
    for name, source in sources.items():
        total, count = 0.0, 0
        most = _rows_of(source) if rows is None else min(rows, _rows_of(source))
        for part in first_batches(source, most, ctx, batch=batch):
            values = learner.score(_nats, part, micro=micro).double().sum(0)
            total, count = total + float(values[0]), count + int(values[1])
        nats[name], tokens[name] = total, count
    return HeldOutLoss(nats, tokens)


def _nats(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return [R, 2]: nats and targets of each row."""
    counted = (batch["weight"] > 0).float()
    return torch.stack([-(logprobs(model, batch) * counted).sum(1), counted.sum(1)], 1)


def _rows_of(source: Source) -> int:
    """Return the rows of one pass over a source, the last perhaps short."""
    if not isinstance(source, Foreseen):
        return 1 << 62
    counted = source.row_tokens * float(sum(source.shares(Time(0, 1)).values()))
    return max(1, ceil(sum(source.sizes.values()) / counted))
