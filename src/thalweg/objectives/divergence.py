"""How far a policy is from a reference: f-divergences, estimators of a KL, and their objectives.

An f-divergence is one frozen dataclass with two functions of log u, u = pi / pi_ref: `value` f(u)
and `slope` f'(u). It serves four objectives: `Rehearsal` (samples from the reference or from data),
`Distill` (whole distributions), f-DPO (scores are slopes), and your own loop. The score weight of
a target sampled from the reference is - u f'(u):

    ForwardKl      u - 1 - log u                              1 - u
    ReverseKl      u log u - u + 1                            - u log u
    JensenShannon  u log u - (u + 1) log((u + 1) / 2)         - u log(2 u / (1 + u))
    Alpha(a)       (u^(1-a) - (1-a) u - a) / (a (a-1))        (u^(1-a) - u) / a
    Hellinger      (sqrt u - 1)^2                             sqrt u - u

The estimators of KL(pi || pi_ref) from samples of pi, l = log u: k1 = l, k2 = l^2 / 2,
k3 = 1/u - 1 + l. As losses only k2 has the gradient of the KL on-policy; k1 has mean gradient 0,
and k3's is that of the forward KL. With `corrected` any is multiplied by pi / pi_old, and then k3
is the KL's own gradient, off-policy too (arXiv:2512.02556).
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import nn
from torch.nn import functional

from thalweg.core.batch import Batch
from thalweg.core.protocols import Dial, Loss
from thalweg.objectives.forward import mean_of, score
from thalweg.objectives.surrogates import importance_ratio, log_ratio

__all__ = [
    "Alpha",
    "Estimator",
    "FDivergence",
    "ForwardKl",
    "Hellinger",
    "JensenShannon",
    "KlToReference",
    "Rehearsal",
    "ReverseKl",
    "estimate_kl",
]

Estimator: TypeAlias = Literal["k1", "k2", "k3"]


class FDivergence(Protocol):
    """A convex f with f(1) = 0, as functions of log u."""

    def value(self, log_u: torch.Tensor) -> torch.Tensor:
        """Return f(u)."""
        ...

    def slope(self, log_u: torch.Tensor) -> torch.Tensor:
        """Return f'(u), up to a constant."""
        ...


@dataclass(frozen=True)
class ReverseKl:
    """KL(pi || ref)."""

    def value(self, log_u: torch.Tensor) -> torch.Tensor:
        """Return u log u - u + 1."""
        return log_u.exp() * (log_u - 1.0) + 1.0

    def slope(self, log_u: torch.Tensor) -> torch.Tensor:
        """Return log u."""
        return log_u


@dataclass(frozen=True)
class ForwardKl:
    """KL(ref || pi)."""

    def value(self, log_u: torch.Tensor) -> torch.Tensor:
        """Return u - 1 - log u."""
        return torch.expm1(log_u) - log_u

    def slope(self, log_u: torch.Tensor) -> torch.Tensor:
        """Return 1 - 1/u."""
        return -torch.expm1(-log_u)


@dataclass(frozen=True)
class JensenShannon:
    """Twice the Jensen-Shannon divergence."""

    def value(self, log_u: torch.Tensor) -> torch.Tensor:
        """Return u log u - (u + 1) log((u + 1) / 2)."""
        u = log_u.exp()
        return u * log_u - (u + 1.0) * (functional.softplus(log_u) - math.log(2.0))

    def slope(self, log_u: torch.Tensor) -> torch.Tensor:
        """Return log(2 u / (1 + u))."""
        return functional.logsigmoid(log_u) + math.log(2.0)


@dataclass(frozen=True)
class Alpha:
    """Between KL(ref || pi), at a near 1, and KL(pi || ref), at a near 0."""

    alpha: Dial = 0.2
    """a, above 0 and below 1."""

    def value(self, log_u: torch.Tensor) -> torch.Tensor:
        """Return (u^(1-a) - (1-a) u - a) / (a (a-1))."""
        a = float(self.alpha)
        top = ((1.0 - a) * log_u).exp() - (1.0 - a) * log_u.exp() - a
        return top / (a * (a - 1.0))

    def slope(self, log_u: torch.Tensor) -> torch.Tensor:
        """Return (1 - u^-a) / a."""
        a = float(self.alpha)
        return -torch.expm1(-a * log_u) / a


@dataclass(frozen=True)
class Hellinger:
    """The squared Hellinger distance, twice."""

    def value(self, log_u: torch.Tensor) -> torch.Tensor:
        """Return (sqrt u - 1)^2."""
        return torch.expm1(log_u / 2.0) ** 2

    def slope(self, log_u: torch.Tensor) -> torch.Tensor:
        """Return 1 - 1 / sqrt u."""
        return -torch.expm1(-log_u / 2.0)


def estimate_kl(log_u: torch.Tensor, estimator: Estimator = "k3") -> torch.Tensor:
    """Return an estimate of KL(pi || ref) from each sample of pi.

    Args:
        log_u: log(pi / ref) of the sample.
        estimator: k1 (unbiased, may be negative), k2 (biased), k3 (unbiased, never negative).

    Source: J. Schulman, Approximating KL divergence, 2020.

    Example:
        >>> [round(float(estimate_kl(torch.tensor(1.0), k)), 3) for k in ("k1", "k2", "k3")]
        [1.0, 0.5, 0.368]
    """
    if estimator == "k1":
        return log_u
    if estimator == "k2":
        return log_u**2 / 2.0
    return torch.expm1(-log_u) + log_u


@dataclass(frozen=True)
class KlToReference:
    """An estimate of KL(pi || ref) on the policy's own samples. Reports `kl`, always by k3."""

    estimator: Estimator = "k3"
    corrected: bool = False
    """Whether it is multiplied by pi / pi_old."""
    temperature: Dial = 1.0
    weight: str = "weight"
    """The weight column."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("tokens", self.weight, "ref", *(("old",) if self.corrected else ()))

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of these rows.

        Args:
            model: A language model.
            batch: `tokens` [R, T]; weight and `ref` [R, T-1], and `old` where corrected.
        """
        weight = batch[self.weight]
        logprobs = score(model, batch, temperature=self.temperature).logprobs
        log_u = log_ratio(logprobs, batch["ref"], weight)
        kl = estimate_kl(log_u, self.estimator)
        if self.corrected:
            kl = kl * importance_ratio(logprobs, batch["old"], weight)
        return Loss((weight * kl).sum(), mean_of("kl", estimate_kl(log_u, "k3"), weight))


@dataclass(frozen=True)
class Rehearsal:
    """f(pi / ref) on tokens that the reference wrote, or that data holds.

    Source: arXiv:2509.07430 (DPH-RL: stored right answers of the start policy); arXiv:2507.00018
    (fine-tuning that keeps its reference term).
    """

    divergence: FDivergence = ForwardKl()
    temperature: Dial = 1.0
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
            batch: `tokens` [R, T]; weight and `ref` [R, T-1].
        """
        weight = batch[self.weight]
        logprobs = score(model, batch, temperature=self.temperature).logprobs
        log_u = log_ratio(logprobs, batch["ref"], weight)
        value = self.divergence.value(log_u)
        return Loss((weight * value).sum(), mean_of("divergence", value, weight))
