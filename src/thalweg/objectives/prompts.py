"""Which rows of a batch begin alike, so that a model may read their prompt once.

A prompt whose answers are learned from is read n times otherwise, forward and backward.
"""

from itertools import groupby
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from thalweg.core.batch import Batch, is_weight
from thalweg.models.shared import Shared

__all__ = ["shared_prompts", "side_by_side"]

# R rows of a batch, N rows to read in G groups of n, T positions, p of them shared.

_WORTH = 16
"""Groups are packed where that spares at least one token of so many."""


@runtime_checkable
class Sharing(Protocol):
    """A model that can read packed groups, or says that it cannot."""

    @property
    def shares(self) -> bool:
        """Whether it can."""
        ...


def shared_prompts(
    model: nn.Module, batch: Batch, columns: tuple[str, ...] = ("tokens",)
) -> Shared | None:
    """Return how groups of rows can be packed; None if they cannot, or it is not worth it.

    Groups are the columns of a row, if there are several, as the answers of a pair; or rows next to
    each other with one `group`, all groups of one size. The shared part ends before the first
    target with a weight, so that its length is that of prompts, whatever was answered; and it is
    rounded down to three binary digits, since a compiled model compiles each length.

    Args:
        model: That is to read them.
        batch: Has the columns [R, T], and perhaps `group` [R] and weights [R, T-1].
        columns: What it is to read, see `side_by_side`.

    Example:
        >>> from thalweg.models import Transformer
        >>> rows = {"tokens": torch.tensor([[7, 8, 1], [7, 8, 2]]), "group": torch.tensor([0, 0])}
        >>> spec = Transformer(vocabulary=9, width=4, layers=1, heads=2, positions=4)
        >>> shared_prompts(spec.build(0), Batch(rows))
        Shared(rows=2, prefix=1)
    """
    rows = len(columns) if len(columns) > 1 else _group_size(batch)
    if rows < 2 or not (isinstance(model, Sharing) and model.shares):
        return None
    tokens_NT = side_by_side(batch, columns)
    targets = tokens_NT.shape[1] - 1
    prefix = _rounded(min(_alike(tokens_NT, rows), _before_weights(batch, targets), targets - 1))
    spared = prefix * (rows - 1) / rows
    return Shared(rows, prefix) if spared * _WORTH >= targets else None


def side_by_side(batch: Batch, columns: tuple[str, ...]) -> torch.Tensor:
    """Return columns [R, T] as rows [N, T], those of a row next to each other."""
    if len(columns) == 1:
        return batch[columns[0]]
    return torch.stack([batch[name] for name in columns], 1).flatten(0, 1)


def _group_size(batch: Batch) -> int:
    """Return the rows of a group; 0 where groups differ in size, or there are none."""
    if "group" not in batch or "document" in batch:
        return 0
    sizes = {len(list(rows)) for _, rows in groupby(batch["group"].tolist())}
    return sizes.pop() if len(sizes) == 1 else 0


def _alike(tokens_NT: torch.Tensor, rows: int) -> int:
    """Return how many targets at the beginning all rows of each group have in common."""
    groups_GnT = torch.unflatten(tokens_NT, 0, (-1, rows))
    alike_T = (groups_GnT == groups_GnT[:, :1]).flatten(0, 1).all(0)
    return max(int(alike_T.cumprod(0).sum()) - 1, 0)


def _before_weights(batch: Batch, targets: int) -> int:
    """Return how many targets at the beginning have no weight in any row."""
    weighed_T = torch.zeros(targets, dtype=torch.bool)
    for name in batch:
        if is_weight(name) and batch[name].shape[1:] == (targets,):
            weighed_T = weighed_T | (batch[name] != 0).any(0).cpu()
    return int((~weighed_T).cumprod(0).sum())


def _rounded(count: int) -> int:
    """Return a number rounded down to three binary digits: 1 .. 8, 10, 12, 14, 16, 20, ..."""
    shift = max(count.bit_length() - 3, 0)
    return count >> shift << shift
