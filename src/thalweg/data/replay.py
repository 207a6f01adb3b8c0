"""Replay of general text: what keeps a model what it was while it learns something narrow.

The rows come from an ordinary source in a `Mixture`: a weight of 0.1 is a tenth of every batch,
and a schedule makes it fade. This file has the other half of GeRe, the loss that keeps the last
hidden states of those rows in the third (low, middle, high) where the first model had them.

Source: arXiv:2508.04676 and its code (GeRe, threshold-based margin loss).
"""

from typing import Literal, NamedTuple

import torch

__all__ = ["Thresholds", "threshold_margin", "thresholds"]

# R rows, T positions, D width.


class Thresholds(NamedTuple):
    """Where the middle third of each feature begins and ends, float32 [D] each."""

    low: torch.Tensor
    high: torch.Tensor


def thresholds(hidden_RTD: torch.Tensor, weight_RT: torch.Tensor | None = None) -> Thresholds:
    """Return mean - std and mean + std of each feature over all positions.

    Args:
        hidden_RTD: The first model's last hidden states on the general rows.
        weight_RT: Positions with a weight of 0 are left out.

    Example:
        >>> found = thresholds(torch.tensor([[[0.0], [2.0]]]))
        >>> found.low.item(), found.high.item()
        (0.0, 2.0)
    """
    flat_ND = hidden_RTD.float().flatten(0, 1)
    if weight_RT is not None:
        flat_ND = flat_ND[weight_RT.flatten() > 0]
    mean_D, std_D = flat_ND.mean(0), flat_ND.std(0, correction=0)
    return Thresholds(mean_D - std_D, mean_D + std_D)


def threshold_margin(
    hidden_RTD: torch.Tensor,
    first_RTD: torch.Tensor,
    bounds: Thresholds,
    weight_RT: torch.Tensor | None = None,
    *,
    over: Literal["violations", "all"] = "violations",
) -> torch.Tensor:
    """Return how far features have left the third where the first model had them, a scalar.

    For a feature h that was h0: relu(h - a) where h0 <= a, relu(b - h) where h0 >= b, and
    relu(h - b) + relu(a - h) between. Exactly 0, with no gradient, where nothing has left.

    Args:
        hidden_RTD: Hidden states now; the first model's own must come from the same layer.
        first_RTD: Hidden states of the first model on the same rows, float32.
        bounds: a and b, see `thresholds`.
        weight_RT: 0 where a position does not count.
        over: What the mean runs over. "violations" is the authors' code: the gradient does not
            fade as violations become rare, but the value is not additive over rows. "all" is.

    Example:
        >>> bounds = Thresholds(torch.tensor([-1.0]), torch.tensor([1.0]))
        >>> float(threshold_margin(torch.tensor([[[1.5]]]), torch.tensor([[[0.0]]]), bounds))
        0.5
    """
    hidden_RTD, low_D, high_D = hidden_RTD.float(), bounds.low, bounds.high
    above_RTD, below_RTD = (hidden_RTD - high_D).relu(), (low_D - hidden_RTD).relu()
    term_RTD = torch.where(
        first_RTD <= low_D,
        (hidden_RTD - low_D).relu(),
        torch.where(first_RTD >= high_D, (high_D - hidden_RTD).relu(), above_RTD + below_RTD),
    )
    counted_RT = torch.ones_like(term_RTD[..., 0]) if weight_RT is None else weight_RT.float()
    term_RTD = term_RTD * counted_RT[..., None]
    if over == "violations":
        count = (term_RTD > 0).sum()
    else:
        count = (counted_RT > 0).sum() * term_RTD.shape[-1]
    return term_RTD.sum() / (count + 1e-8)
