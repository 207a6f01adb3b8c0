"""How rows become a mean: weight columns, computed on the whole batch before it is split.

A loss is the sum of weight * something over rows and positions. What the mean runs over is decided
here and nowhere else, so micro-batches, ranks and packing cannot change a gradient. "The batch" is
that of one optimizer step: with minibatches, each has its own mean.

    TokenMean     every counted target alike            DAPO, supervised fine-tuning
    RowMean       every row alike                       GRPO: long answers count less per token
    PerRow(L)     weight / (rows * L), a constant       Dr.GRPO; L = 1: sums of rows, averaged
    AsGiven       what a source or a move has made
    Each          one of these for each weight column   sums of objectives
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from thalweg.core.batch import Batch
from thalweg.core.protocols import Dial
from thalweg.errors import ColumnError

__all__ = [
    "AsGiven",
    "Each",
    "PerRow",
    "RowMean",
    "TokenMean",
    "Weigh",
    "columns_of",
    "raw_columns_of",
]


class Weigh(Protocol):
    """Turns raw weights of the global batch into those that objectives see."""

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with its final `weight`."""
        ...


@dataclass(frozen=True)
class TokenMean:
    """Every counted target weighs the same: weight / sum of weights over the global batch."""

    column: str = "weight"
    """The raw weights."""

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with weights that sum to 1 (or stay 0)."""
        weight = _weight(batch, self.column)
        return batch.plus({"weight": weight / _total(weight)})


@dataclass(frozen=True)
class RowMean:
    """Every row weighs the same: weights are divided by their row's sum and the number of rows."""

    column: str = "weight"
    """The raw weights."""

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with weights that sum to 1 / R in each row that counts at all."""
        weight = _weight(batch, self.column)
        rows = weight.flatten(1).sum(1) if weight.dim() > 1 else weight
        counted = (rows > 0).sum().clamp_min(1)
        scale = 1.0 / (rows.clamp_min(1e-30) * counted)
        return batch.plus({"weight": weight * scale.view(-1, *[1] * (weight.dim() - 1))})


@dataclass(frozen=True)
class PerRow:
    """Weights are divided by a constant for each row that counts: weight / (rows * length).

    Source: arXiv:2503.20783 (Dr.GRPO), with `length` the most tokens an answer may have.
    """

    length: Dial = 1.0
    """1: the loss is the mean over rows of the sum over their targets."""
    column: str = "weight"
    """The raw weights."""

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with its weights divided; rows without any weight do not count."""
        weight = _weight(batch, self.column)
        rows = int((weight.flatten(1).sum(1) if weight.dim() > 1 else weight).gt(0).sum())
        return batch.plus({"weight": weight / (max(rows, 1) * self.length)})


@dataclass(frozen=True)
class AsGiven:
    """Weights stay what the source or a move made them, times a constant.

    Of minibatches too: k of them take k steps of a k-th each, unless `scale` is k times larger.
    """

    scale: Dial = 1.0
    column: str = "weight"
    """The raw weights."""

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with its weights times `scale`."""
        return batch.plus({"weight": _weight(batch, self.column) * self.scale})


@dataclass(frozen=True)
class Each:
    """Several weight columns, each with its own raw weights and its own mean.

    Example:
        >>> each = Each({"weight": TokenMean(), "sft_weight": RowMean("demonstration_weight")})
        >>> columns_of(each), raw_columns_of(each)
        (('weight', 'sft_weight'), ('weight', 'demonstration_weight'))
    """

    columns: Mapping[str, Weigh]
    """What makes each column; names end with `_weight`, or are `weight`."""

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with every column made from the raw ones."""
        made = {name: weigh(batch)["weight"] for name, weigh in self.columns.items()}
        return batch.plus({"weight": _weight(batch, "weight"), **made})


def columns_of(weigh: Weigh) -> tuple[str, ...]:
    """Return the names of the columns that a rule makes."""
    return tuple(weigh.columns) if isinstance(weigh, Each) else ("weight",)


def raw_columns_of(weigh: Weigh) -> tuple[str, ...]:
    """Return the names of the columns that a rule reads."""
    if isinstance(weigh, Each):
        inner = [name for one in weigh.columns.values() for name in raw_columns_of(one)]
        return tuple(dict.fromkeys(inner))
    if isinstance(weigh, TokenMean | RowMean | PerRow | AsGiven):
        return (weigh.column,)
    return ("weight",)


def _weight(batch: Batch, column: str) -> torch.Tensor:
    """Return raw weights; a batch without `weight` counts each row once."""
    if column == "weight" and column not in batch:
        if "tokens" in batch:
            raise ColumnError(
                "rows of 'tokens' without 'weight'",
                expected="a weight for each target, float32 [R, T-1]: 1 counts, 0 does not",
                where="the batch of a Learn",
                write='"weight": torch.ones(tokens[:, 1:].shape), from the source',
            )
        return torch.ones(batch.rows)
    return batch[column].float()


def _total(weight: torch.Tensor) -> float:
    """Return the sum in float64, and 1 where nothing counts."""
    return float(weight.sum(dtype=torch.float64)) or 1.0
