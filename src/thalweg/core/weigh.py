"""How rows become a mean: one weight column, computed on the whole batch before it is split.

A loss is the sum of weight * something over rows and positions. What the mean runs over is decided
here and nowhere else, so micro-batches, ranks and packing cannot change a gradient.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from thalweg.core.batch import Batch

__all__ = ["AsGiven", "RowMean", "TokenMean", "Weigh", "rescaled"]


class Weigh(Protocol):
    """Turns the raw `weight` column of the global batch into the one that objectives see."""

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with its final weights."""
        ...


@dataclass(frozen=True)
class TokenMean:
    """Every counted target weighs the same: weight / sum of weights over the global batch."""

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with weights that sum to 1 (or stay 0)."""
        weight = _weight(batch)
        return batch.plus({"weight": weight / _total(weight)})


@dataclass(frozen=True)
class RowMean:
    """Every row weighs the same: weights are divided by their row's sum and the number of rows."""

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with weights that sum to 1 / R in each row that counts at all."""
        weight = _weight(batch)
        rows = weight.flatten(1).sum(1) if weight.dim() > 1 else weight
        counted = (rows > 0).sum().clamp_min(1)
        scale = 1.0 / (rows.clamp_min(1e-30) * counted)
        return batch.plus({"weight": weight * scale.view(-1, *[1] * (weight.dim() - 1))})


@dataclass(frozen=True)
class AsGiven:
    """Weights stay what the source or a move made them, times a constant."""

    scale: float = 1.0

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with its weights times `scale`."""
        return batch.plus({"weight": _weight(batch) * self.scale})


def rescaled(part: Batch, whole: Batch) -> Batch:
    """Return a minibatch whose weights sum to what the whole batch's did.

    Without this, a pass over k minibatches would take k steps of 1/k the size.
    """
    factor = _total(whole["weight"]) / _total(part["weight"])
    return part.plus({"weight": part["weight"] * factor})


def _weight(batch: Batch) -> torch.Tensor:
    """Return the raw weights; a batch without any counts each row once."""
    return batch["weight"].float() if "weight" in batch else torch.ones(batch.rows)


def _total(weight: torch.Tensor) -> float:
    """Return the sum in float64, and 1 where nothing counts."""
    return float(weight.sum(dtype=torch.float64)) or 1.0
