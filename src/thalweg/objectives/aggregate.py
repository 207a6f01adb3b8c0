"""From losses of targets to one number, for a loop of your own.

Inside Thalweg a mean is a weight column (`thalweg.core.weigh`); here is the same for others. The
totals must be those of the whole optimizer step, counted before its first backward pass, or
micro-batches change the result.
"""

from typing import Literal, NamedTuple, TypeAlias

import torch

__all__ = ["Over", "Totals", "aggregate", "count"]

# R rows, T targets of a row.

Over: TypeAlias = Literal["tokens", "sequences", "constant"]


class Totals(NamedTuple):
    """What a step counts."""

    tokens: torch.Tensor
    """Targets that count."""
    sequences: torch.Tensor
    """Rows with at least one."""


def count(mask_RT: torch.Tensor) -> Totals:
    """Return the totals of some rows; those of several micro-batches are added.

    Example:
        >>> [int(total) for total in count(torch.tensor([[1, 1, 0], [0, 0, 0]]))]
        [2, 1]
    """
    return Totals(mask_RT.gt(0).sum(), mask_RT.gt(0).any(1).sum())


def aggregate(
    x_RT: torch.Tensor,
    mask_RT: torch.Tensor,
    over: Over = "tokens",
    *,
    totals: Totals | None = None,
    constant: float = 1.0,
) -> torch.Tensor:
    """Return one number of many; additive over rows if the totals are given.

    tokens: sum(m x) / tokens;  sequences: sum over rows of mean(x) / sequences;
    constant: sum(m x) / (constant * sequences).

    Args:
        x_RT: Loss of each target [R, T].
        mask_RT: 1 where a target counts [R, T].
        over: What the mean runs over: DAPO, GRPO, Dr.GRPO.
        totals: Of the whole step; those of these rows if not given.
        constant: The most targets an answer may have.

    Source: arXiv:2402.03300 (sequences), arXiv:2503.14476 (tokens), arXiv:2503.20783 (constant).

    Example:
        >>> x, mask = torch.ones(2, 3), torch.tensor([[1, 1, 1], [1, 0, 0]])
        >>> float(aggregate(x, mask, "constant", constant=4.0))
        0.5
    """
    whole = count(mask_RT) if totals is None else totals
    masked_RT = torch.where(mask_RT > 0, x_RT, torch.zeros_like(x_RT))
    if over == "tokens":
        return masked_RT.sum() / whole.tokens.clamp_min(1)
    if over == "sequences":
        means_R = masked_RT.sum(1) / mask_RT.gt(0).sum(1).clamp_min(1)
        return means_R.sum() / whole.sequences.clamp_min(1)
    return masked_RT.sum() / (constant * whole.sequences.clamp_min(1))
