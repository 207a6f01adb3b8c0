"""Learn from a teacher's whole distributions, or from what it says of the policy's own samples.

    off-policy   Corpus or Pairs, Score("teacher", "teacher_top", TopTokens(k)), Learn(Distill())
    on-policy    Rollouts and the same moves; or, with log-probs of the samples alone,
                 Score("teacher", "teacher"), TeacherGap(), Learn(Policy(Unclipped()))

A teacher's column holds its k likeliest tokens of each place and lumps the rest together: the
divergence of the lumped distributions, which is exact at k = vocabulary and a lower bound below it.
The student's logits of a micro-batch are held whole.
"""

from dataclasses import dataclass

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.protocols import Dial, Loss
from thalweg.objectives.divergence import FDivergence, ForwardKl
from thalweg.objectives.forward import documents_of, mean_of

__all__ = ["Distill", "TopTokens", "lumped_divergence"]

# R rows, T positions of a row (T - 1 targets), V vocabulary, K kept tokens.

_LIMIT = 60.0  # of a log-ratio of shares; those multiply it again, so e^60 does no harm
_REST = -1e-6  # log of the kept share, at most: what is lumped keeps a share of 1e-6


@dataclass(frozen=True)
class TopTokens:
    """For Score: the k likeliest tokens of each place and their log-probs, [R, T-1, K, 2].

    Both in float32, which holds ids exactly up to 16.7 million.
    """

    k: int
    """Tokens kept; more than the vocabulary: all."""
    temperature: Dial = 1.0
    """Logits are divided by it."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("tokens",)

    def __call__(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return ids and log-probs."""
        log_share = log_shares(model, batch, float(self.temperature))
        kept = log_share.topk(min(self.k, log_share.shape[-1]))
        return torch.stack([kept.indices.to(kept.values.dtype), kept.values], -1)


@dataclass(frozen=True)
class Distill:
    """A divergence of the student from the teacher at every counted place.

    `ForwardKl()` covers all that the teacher does, `ReverseKl()` avoids what it does not, the
    others lie between. Reports `divergence`, nats a place.

    Source: arXiv:1503.02531; arXiv:2306.13649 (on the student's samples, other divergences).
    """

    divergence: FDivergence = ForwardKl()
    temperature: Dial = 1.0
    """Logits are divided by it: the teacher's too, by TopTokens(temperature=...)."""
    weight: str = "weight"
    """The weight column."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("tokens", self.weight, "teacher_top")

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of these rows.

        Args:
            model: The student.
            batch: `tokens` [R, T], weight [R, T-1], `teacher_top` [R, T-1, K, 2].
        """
        weight, top = batch[self.weight], batch["teacher_top"]
        log_share = log_shares(model, batch, float(self.temperature))
        value = lumped_divergence(log_share, top[..., 0].long(), top[..., 1], self.divergence)
        return Loss((weight * value).sum(), mean_of("divergence", value, weight))


def lumped_divergence(
    student_RTV: torch.Tensor,
    ids_RTK: torch.Tensor,
    teacher_RTK: torch.Tensor,
    divergence: FDivergence,
) -> torch.Tensor:
    """Return sum_v p_v f(q_v / p_v) [R, T] over the kept tokens and the rest as one.

    Args:
        student_RTV: Log-probs of all tokens, log q.
        ids_RTK: Tokens kept.
        teacher_RTK: Their log-probs, log p.
        divergence: f.

    Example:
        >>> teacher, student = torch.tensor([[[0.5, 0.25, 0.25], [0.5, 0.3, 0.2]]]).log()[0]
        >>> first = torch.tensor([0])
        >>> float(lumped_divergence(student, first, teacher[:1], ForwardKl()))
        0.0
    """
    log_q, log_p = student_RTV.gather(-1, ids_RTK), teacher_RTK.to(student_RTV.dtype)
    if ids_RTK.shape[-1] < student_RTV.shape[-1]:
        log_q, log_p = _with_rest(log_q), _with_rest(log_p)
    log_u = (log_q - log_p).clamp(-_LIMIT, _LIMIT)
    return (log_p.exp() * divergence.value(log_u)).sum(-1)


def log_shares(model: nn.Module, batch: Batch, temperature: float) -> torch.Tensor:
    """Return the log-probs of all tokens at each place [R, T-1, V], float32."""
    logits: torch.Tensor = model(batch["tokens"][:, :-1], documents_of(batch))
    wide = torch.promote_types(logits.dtype, torch.float32)
    return (logits.to(wide) / temperature).log_softmax(-1)


def _with_rest(log_share: torch.Tensor) -> torch.Tensor:
    """Return the shares with one more: log(1 - sum)."""
    kept = log_share.logsumexp(-1, keepdim=True).clamp(max=_REST)
    return torch.cat([log_share, torch.log(-torch.expm1(kept))], -1)
