"""Better and worse answers: scores of sequences, links from two scores to a loss, objectives.

A score is a sequence's log-prob, summed or averaged over its targets, against a reference or not.
A link turns the scores of a pair into a loss; a paper is a combination:

    DPO          Logistic(beta)                sum, reference
    f-DPO        the same                      scores are f'(pi / ref) of the sequence
    IPO          Squared(beta)                 mean, reference
    SLiC         Hinge(beta)                   sum, reference
    SimPO        Logistic(beta, margin)        mean, no reference
    REDI         Asymmetric(alpha)             mean, no reference
    per-step DPO as DPO; the pair's weights are 0 on the shared prefix
    NPO          Forget(beta), on single answers
    PRIME        Outcome(beta), on single answers with a reward

A pair is one row: `weight` [R] says what it counts, `chosen_weight` and `rejected_weight` which of
its targets are meant.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import nn
from torch.nn import functional

from thalweg.core.batch import Batch
from thalweg.core.protocols import Dial, Loss
from thalweg.objectives.divergence import FDivergence, ReverseKl
from thalweg.objectives.forward import mean_of, score, score_all, sequences

__all__ = [
    "Asymmetric",
    "Forget",
    "Hinge",
    "Link",
    "Logistic",
    "Normalise",
    "Outcome",
    "Preference",
    "Squared",
    "forget_loss",
    "preference_loss",
    "sequence_score",
]

# R rows, T positions of a row (T - 1 targets).

Normalise: TypeAlias = Literal["sum", "mean"]


class Link(Protocol):
    """From the scores of the better and the worse answer to a loss."""

    def __call__(self, better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
        """Return the loss of each pair."""
        ...


@dataclass(frozen=True)
class Logistic:
    """-log sigma(beta (better - worse) - margin)."""

    beta: Dial = 0.1
    margin: Dial = 0.0

    def __call__(self, better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
        """Return the loss of each pair."""
        return -functional.logsigmoid(self.beta * (better - worse) - self.margin)


@dataclass(frozen=True)
class Hinge:
    """max(0, 1 - beta (better - worse))."""

    beta: Dial = 0.1

    def __call__(self, better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
        """Return the loss of each pair."""
        return torch.relu(1.0 - float(self.beta) * (better - worse))


@dataclass(frozen=True)
class Squared:
    """(better - worse - 1 / (2 beta))^2."""

    beta: Dial = 0.1

    def __call__(self, better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
        """Return the loss of each pair."""
        return (better - worse - 0.5 / float(self.beta)) ** 2


@dataclass(frozen=True)
class Asymmetric:
    """-better + alpha worse. Unbounded below: watch the likelihood of the better answers.

    0 is fine-tuning on the better answers, 1 the limit of DPO for small beta.
    """

    alpha: Dial = 0.8

    def __call__(self, better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
        """Return the loss of each pair."""
        return -better + float(self.alpha) * worse


def sequence_score(
    logprobs_RT: torch.Tensor,
    mask_RT: torch.Tensor,
    ref_RT: torch.Tensor | None = None,
    normalise: Normalise = "sum",
) -> torch.Tensor:
    """Return the log-prob of each sequence [R], less the reference's; a sum or mean over targets.

    Args:
        logprobs_RT: Log-probs of targets, nats [R, T].
        mask_RT: Which count [R, T].
        ref_RT: The reference's log-probs [R, T].
        normalise: Over the targets that count.

    Example:
        >>> logprobs, mask = torch.tensor([[-1.0, -2.0, -9.0]]), torch.tensor([[1, 1, 0]])
        >>> float(sequence_score(logprobs, mask, normalise="mean"))
        -1.5
    """
    compared = logprobs_RT if ref_RT is None else logprobs_RT - ref_RT
    total = torch.where(mask_RT > 0, compared, torch.zeros_like(compared)).sum(1)
    return total if normalise == "sum" else total / mask_RT.gt(0).sum(1).clamp_min(1)


def preference_loss(better_R: torch.Tensor, worse_R: torch.Tensor, link: Link) -> torch.Tensor:
    """Return the loss of each pair [R] from two scores.

    Example:
        >>> round(float(preference_loss(torch.tensor(1.0), torch.tensor(1.0), Logistic(0.1))), 4)
        0.6931
    """
    return link(better_R, worse_R)


def forget_loss(compared: torch.Tensor, beta: float) -> torch.Tensor:
    """Return (2 / beta) log(1 + (pi / ref)^beta) from log(pi / ref) of sequences.

    Small beta is gradient ascent; larger ones let go of what has been forgotten.

    Source: arXiv:2404.05868, eq. (3).
    """
    return 2.0 / beta * functional.softplus(beta * compared)


@dataclass(frozen=True)
class Preference:
    """A link over pairs; the sum over rows of weight times loss.

    Reports, as means over pairs: `margin` (better score less worse), `accuracy` (its sign),
    `chosen_logprob` and `rejected_logprob` (nats a target).

    Source: arXiv:2305.18290 (DPO), arXiv:2309.16240 (f-DPO), arXiv:2310.12036 (IPO),
    arXiv:2405.14734 (SimPO), arXiv:2505.24850 (REDI), arXiv:2406.14532 (per step).
    """

    link: Link = Logistic()
    normalise: Normalise = "sum"
    """Over the targets of an answer."""
    reference: bool = True
    """Whether scores are against `ref_chosen` and `ref_rejected`."""
    divergence: FDivergence = ReverseKl()
    """A score against a reference is the slope of this at pi / ref; of ReverseKl, the log."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        columns = ("chosen", "rejected", "chosen_weight", "rejected_weight", "weight")
        return (*columns, "ref_chosen", "ref_rejected") if self.reference else columns

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of these rows.

        Args:
            model: A language model.
            batch: `chosen`, `rejected` [R, T], their weights and reference log-probs [R, T-1],
                and `weight` [R].
        """
        better, worse = score_all(model, batch, ("chosen", "rejected"))
        high = self._score(better.logprobs, batch, "chosen")
        low = self._score(worse.logprobs, batch, "rejected")
        weight = batch["weight"]
        loss = preference_loss(high, low, self.link)
        counts = (weight > 0).to(loss.dtype)
        margin = (high - low).detach()
        table = {"margin": margin, "accuracy": (margin > 0).to(loss.dtype)}
        for name, scored in (("chosen", better), ("rejected", worse)):
            mask = batch[f"{name}_weight"]
            table[f"{name}_logprob"] = sequence_score(scored.logprobs.detach(), mask, None, "mean")
        sums = {name: (value * counts).sum() for name, value in table.items()}
        sums |= {f"{name}/count": counts.sum() for name in table}
        rows = {"loss": loss.detach() * counts, "loss/count": counts}
        return Loss((weight * loss).sum(), sums, rows)

    def _score(self, logprobs: torch.Tensor, batch: Batch, answer: str) -> torch.Tensor:
        mask = batch[f"{answer}_weight"]
        if not self.reference:
            return sequence_score(logprobs, mask, None, self.normalise)
        total = self.divergence.slope(sequence_score(logprobs, mask, batch[f"ref_{answer}"]))
        return total if self.normalise == "sum" else total / mask.gt(0).sum(1).clamp_min(1)


@dataclass(frozen=True)
class Forget:
    """Unlearn answers: preference with the losing side alone (NPO).

    A sequence's loss times the mean weight of its targets. With `weigh=PerRow()` that is the
    paper's: log-probs are summed over an answer, losses averaged over answers.

    Source: arXiv:2404.05868.
    """

    beta: Dial = 0.1
    weight: str = "weight"
    """The weight column."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("tokens", self.weight, "ref")

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of these rows.

        Args:
            model: A language model.
            batch: `tokens` [R, T]; weight and `ref` [R, T-1]; perhaps `document` [R, T].
        """
        weight = batch[self.weight]
        logprobs = score(model, batch).logprobs
        compared, each, some = sequences(logprobs - batch["ref"], weight, batch)
        loss = forget_loss(compared, self.beta)
        return Loss((each * loss).sum(), mean_of("forgotten", -compared, some))


@dataclass(frozen=True)
class Outcome:
    """Train a reward model that is a language model: was the answer right?

    Cross-entropy of sigma(beta log(pi / ref)) with the reward, log-probs summed over the answer.

    Source: arXiv:2502.01456, sec. 3.2 (PRIME).
    """

    beta: Dial = 0.05
    weight: str = "weight"
    """The weight column; with `weigh=PerRow()` answers count alike."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("tokens", self.weight, "ref", "reward")

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of these rows.

        Args:
            model: The reward model.
            batch: `tokens` [R, T]; weight and `ref` [R, T-1]; `reward` [R], 0 to 1; one sequence
                a row.
        """
        weight = batch[self.weight]
        logprobs = score(model, batch).logprobs
        compared, each, some = sequences(logprobs - batch["ref"], weight, batch)
        right = batch["reward"][:, None].to(compared.dtype).expand_as(compared)
        logit = self.beta * compared
        loss = functional.binary_cross_entropy_with_logits(logit, right, reduction="none")
        hit = ((logit > 0) == (right > 0.5)).to(loss.dtype)
        return Loss((each * loss).sum(), mean_of("accuracy", hit, some))
