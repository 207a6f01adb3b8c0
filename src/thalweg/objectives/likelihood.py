"""Likelihood of answers: with weights of targets, or of one hit in N samples.

If N answers will be sampled, cross-entropy makes a model too sure. The coverage loss is

    L = - log(1 - (1 - p)^N),  p = exp S, S the log-prob of the whole answer,

whose gradient is the likelihood's times F = N p (1-p)^(N-1) / (1 - (1-p)^N): 1 where p << 1/N, 0
where p >> 1/N. All of it stays in logs: log(1 - p) = log1p(-exp S).

`NextToken` is the same without coverage in half the memory; `Likelihood` shares its forward pass
with other parts of a Sum.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.protocols import Dial, Loss
from thalweg.objectives.forward import per_row, score, sequences

__all__ = ["Likelihood", "coverage_factor", "coverage_loss", "weighted_likelihood"]

# R rows, T targets of a row.

_FAR = -60.0  # below this log(N p), 1 - (1 - p)^N is N p to the last bit


def weighted_likelihood(
    logprobs_RT: torch.Tensor,
    mask_RT: torch.Tensor,
    weight_RT: torch.Tensor | None = None,
    coverage: float = 1.0,
) -> torch.Tensor:
    """Return the loss of each sequence [R]: minus its weighted mean log-prob, or its coverage loss.

    Args:
        logprobs_RT: Log-probs of targets, nats [R, T].
        mask_RT: Which count [R, T].
        weight_RT: Weights of targets, 1 if not given; without effect where N is above 1.
        coverage: N, samples of which one is to hit, 1 or more.

    Example:
        >>> logprobs, mask = torch.tensor([[-1.0, -3.0]]), torch.ones(1, 2)
        >>> float(weighted_likelihood(logprobs, mask, torch.tensor([[3.0, 1.0]])))
        1.5
    """
    masked = torch.where(mask_RT > 0, logprobs_RT, torch.zeros_like(logprobs_RT))
    if coverage != 1.0:
        return coverage_loss(masked.sum(1), coverage)
    weight = (mask_RT > 0).to(masked.dtype) * (1.0 if weight_RT is None else weight_RT)
    return -(weight * masked).sum(1) / weight.sum(1).clamp_min(1e-30)


def coverage_loss(score: torch.Tensor, coverage: float) -> torch.Tensor:
    """Return - log(1 - (1 - exp S)^N): minus the log-chance that one of N samples hits.

    Args:
        score: S, log-prob of the whole answer, at most 0.
        coverage: N, 1 or more.

    Source: arXiv:2502.07154, eq. (4).
    """
    if coverage == 1.0:
        return -score
    log_many = math.log(coverage)
    far = score + log_many < _FAR
    near = torch.where(far, torch.full_like(score, -1.0), score).clamp(max=-1e-7)
    hit = torch.log(-torch.expm1(coverage * torch.log1p(-near.exp())))
    return -torch.where(far, score + log_many, hit)


def coverage_factor(score: torch.Tensor, coverage: float) -> torch.Tensor:
    """Return F, the gradient of the coverage loss over that of the likelihood, 0 to 1.

    With S = log of a success rate estimated by sampling, F times the likelihood is the form for
    chains of thought, whose own p is about 0.

    Args:
        score: S, at most 0.
        coverage: N, 1 or more.

    Source: arXiv:2502.07154, eq. (6).
    """
    if coverage == 1.0:
        return torch.ones_like(score)
    log_miss = torch.log1p(-score.clamp(max=-1e-7).exp())
    top = math.log(coverage) + (coverage - 1.0) * log_miss + score
    factor = torch.exp(top - torch.log(-torch.expm1(coverage * log_miss)))
    return torch.where(score + math.log(coverage) < _FAR, torch.ones_like(score), factor)


@dataclass(frozen=True)
class Likelihood:
    """Minus the log-likelihood of the targets, times their weights; or the coverage loss.

    With a coverage above 1 a sequence's loss counts the mean weight of its targets, so that a
    target has the gradient it would have without, times F.

    Source: arXiv:2502.07154 (DCO).
    """

    coverage: Dial = 1.0
    """N, samples of which one is to hit, 1 or more."""
    weight: str = "weight"
    """The weight column: 0 or 1, or weights of targets."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("tokens", self.weight)

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of these rows.

        Args:
            model: A language model.
            batch: `tokens` [R, T], weight [R, T-1], perhaps `document` [R, T].
        """
        weight = batch[self.weight]
        logprobs = score(model, batch).logprobs
        rows = per_row(-logprobs, weight)
        if self.coverage == 1.0:
            return Loss(-(weight * logprobs).sum(), {}, rows)
        scores, each, some = sequences(logprobs, weight, batch)
        loss = torch.where(some > 0, coverage_loss(scores, self.coverage), 0.0)
        return Loss((each * loss).sum(), {}, rows)
