"""What a policy gradient maximises on each target: one small frozen dataclass a rule.

A rule is a function of what was `Taken`: r = pi / pi_old, the advantage A, and log pi. Its slope in
log pi is the score weight of the target:

    Unclipped      r A                                    A r
    Reinforce  log pi A                               A
    Clip       min(r A, clip(r) A)                    A r where not clipped
    Cispo      sg(min(r, cap)) A log pi               A min(r, cap): no dead targets
    Soft       sigma(tau (r - 1)) 4 / tau A           A r 4 s (1 - s)
    Shaped     r / (r + gamma) A                      A gamma r / (r + gamma)^2
    Nft        log r, or log of the negative policy   omega, or - omega (q r/(1-q)) / max(r-, eps)

sg stops the gradient. A rule of your own is a frozen dataclass with `needs` and a call; one that
leaves targets out may say which by `clipped`, and the share is reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch

from thalweg.core.protocols import Dial

__all__ = [
    "LIMIT",
    "Bounded",
    "Centred",
    "Cispo",
    "Clip",
    "Level",
    "Nft",
    "Reinforce",
    "Shaped",
    "Soft",
    "Surrogate",
    "Taken",
    "Unclipped",
    "importance_ratio",
    "log_ratio",
    "truncated",
]

# R rows, T targets of a row.

LIMIT = 20.0
"""Log-ratios are clamped to +- this before they are exponentiated."""

Level: TypeAlias = Literal["token", "sequence"]


class Taken(NamedTuple):
    """The targets a policy took: how likely they are now and were then, and what they brought."""

    logprobs: torch.Tensor
    """Log-probs now [R, T], nats; differentiable."""
    ratio: torch.Tensor
    """pi / pi_old [R, T], of the target or of its whole sequence; differentiable."""
    advantage: torch.Tensor
    """Credit [R, T], or [R, 1]; constant."""
    columns: Mapping[str, torch.Tensor] = {}
    """Further columns of the batch, those of `needs`: [R, T], or [R, 1] for one a row."""


class Surrogate(Protocol):
    """A rule: what is maximised on each target."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads beside the usual ones."""
        ...

    def __call__(self, it: Taken) -> torch.Tensor:
        """Return the objective of each target [R, T]."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """A rule that leaves out targets which have moved too far."""

    def clipped(self, it: Taken) -> torch.Tensor:
        """Return which targets have no gradient because of their ratio, bool [R, T]."""
        ...


def log_ratio(
    logprobs_RT: torch.Tensor, old_RT: torch.Tensor, mask_RT: torch.Tensor
) -> torch.Tensor:
    """Return log(pi / pi_old) [R, T], clamped to +- 20; exactly 0 where the mask is."""
    difference = (logprobs_RT - old_RT).clamp(-LIMIT, LIMIT)
    return torch.where(mask_RT > 0, difference, torch.zeros_like(difference))


def importance_ratio(
    logprobs_RT: torch.Tensor,
    old_RT: torch.Tensor,
    mask_RT: torch.Tensor,
    level: Level = "token",
) -> torch.Tensor:
    """Return pi / pi_old of each target [R, T]: its own, or its row's geometric mean.

    Args:
        logprobs_RT: Log-probs now, nats [R, T].
        old_RT: Log-probs under the policy that sampled [R, T].
        mask_RT: Which targets count [R, T].
        level: `sequence` is exp of the mean log-ratio over the row's targets.

    Source: arXiv:2507.18071, eq. (7) (sequence).

    Example:
        >>> now, old = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.0, -4.0]])
        >>> [round(r, 3) for r in importance_ratio(now, old, now < 0, "sequence")[0].tolist()]
        [2.718, 2.718]
    """
    moved_RT = log_ratio(logprobs_RT, old_RT, mask_RT)
    if level == "sequence":
        counts_R1 = mask_RT.gt(0).sum(1, keepdim=True).clamp_min(1)
        moved_RT = (moved_RT.sum(1, keepdim=True) / counts_R1).expand_as(moved_RT)
    return moved_RT.exp()


def truncated(
    old_RT: torch.Tensor,
    sampler_RT: torch.Tensor,
    *,
    high: float = 2.0,
    low: float = 0.0,
    drop: bool = False,
) -> torch.Tensor:
    """Return the factor that corrects for a sampler whose log-probs are not the trainer's.

    w = pi_old / pi_sampler, cut to [low, high], or 0 outside of it.

    Args:
        old_RT: Log-probs by the trainer's own forward pass [R, T].
        sampler_RT: Log-probs that the sampler reported [R, T].
        high: Largest factor.
        low: Smallest factor.
        drop: Whether targets outside are left out instead.

    Source: truncated importance sampling (cap 2), and IcePop (drop).
    """
    factor = (old_RT - sampler_RT).clamp(-LIMIT, LIMIT).exp()
    if drop:
        return torch.where((factor >= low) & (factor <= high), factor, torch.zeros_like(factor))
    return factor.clamp(low, high)


@dataclass(frozen=True)
class Unclipped:
    """Importance-weighted, unbounded: r A."""

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, it: Taken) -> torch.Tensor:
        """Return the objective of each target."""
        return it.ratio * it.advantage


@dataclass(frozen=True)
class Reinforce:
    """The likelihood-ratio gradient without a ratio: log pi A; right only on-policy."""

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, it: Taken) -> torch.Tensor:
        """Return the objective of each target."""
        return it.logprobs * it.advantage


@dataclass(frozen=True)
class Clip:
    """min(r A, clip(r, 1 - low, 1 + high) A); for A < 0 at least dual A.

    Source: arXiv:1707.06347, eq. (7); arXiv:1912.09729, eq. (5) (dual); arXiv:2503.14476 (high
    above low).
    """

    low: Dial = 0.2
    """How far r may fall where the advantage is negative."""
    high: Dial = 0.2
    """How far r may rise where it is positive."""
    dual: Dial = None
    """Largest r that counts where the advantage is negative, above 1 + high; None for none."""
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, it: Taken) -> torch.Tensor:
        """Return the objective of each target."""
        bounded = it.ratio.clamp(1.0 - self.low, 1.0 + self.high)
        value = torch.minimum(it.ratio * it.advantage, bounded * it.advantage)
        if self.dual is None:
            return value
        floor = float(self.dual) * it.advantage
        return torch.where(it.advantage < 0, torch.maximum(value, floor), value)

    def clipped(self, it: Taken) -> torch.Tensor:
        """Return which targets have no gradient because of their ratio."""
        up = (it.advantage > 0) & (it.ratio > 1.0 + float(self.high))
        down = (it.advantage < 0) & (it.ratio < 1.0 - float(self.low))
        if self.dual is None:
            return up | down
        return up | down | ((it.advantage < 0) & (it.ratio > float(self.dual)))


@dataclass(frozen=True)
class Centred:
    """Clip around where the policy of this step stood, for answers of older policies.

    min(r A, clip(r, c - low, c + high) A) with c = pi_current / pi_old, a constant.

    Source: arXiv:2507.06892 (ReMix).
    """

    low: Dial = 0.2
    high: Dial = 0.2
    needs: ClassVar[tuple[str, ...]] = ("current",)

    def __call__(self, it: Taken) -> torch.Tensor:
        """Return the objective of each target."""
        low, high = self._bounds(it)
        bounded = torch.minimum(torch.maximum(it.ratio, low), high)
        return torch.minimum(it.ratio * it.advantage, bounded * it.advantage)

    def clipped(self, it: Taken) -> torch.Tensor:
        """Return which targets have no gradient because of their ratio."""
        low, high = self._bounds(it)
        up = (it.advantage > 0) & (it.ratio > high)
        return up | ((it.advantage < 0) & (it.ratio < low))

    def _bounds(self, it: Taken) -> tuple[torch.Tensor, torch.Tensor]:
        since = (it.columns["current"] - it.logprobs.detach()).clamp(-LIMIT, LIMIT)
        centre = it.ratio.detach() * since.exp()
        return centre - self.low, centre + self.high


@dataclass(frozen=True)
class Cispo:
    """sg(min(r, cap)) A log pi: the weight is bounded, no target is left out.

    Source: arXiv:2506.13585, eq. (4), without a lower bound.
    """

    cap: Dial = 5.0
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, it: Taken) -> torch.Tensor:
        """Return the objective of each target."""
        return it.ratio.detach().clamp(max=self.cap) * it.advantage * it.logprobs


@dataclass(frozen=True)
class Soft:
    """A sigmoid gate instead of a clip: sigma(tau (r - 1)) 4 / tau A.

    Source: arXiv:2511.20347 (SAPO).
    """

    tau: Dial = 1.0
    """Steepness where the advantage is positive."""
    tau_negative: Dial = 1.05
    """Steepness elsewhere."""
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, it: Taken) -> torch.Tensor:
        """Return the objective of each target."""
        tau = torch.where(it.advantage > 0, self.tau, self.tau_negative).to(it.ratio.dtype)
        return torch.sigmoid(tau * (it.ratio - 1.0)) * 4.0 / tau * it.advantage


@dataclass(frozen=True)
class Shaped:
    """r / (r + gamma) A: unlikely targets of another policy count more, likely ones saturate.

    Deviation from the paper's code: gamma is a number, not the 90th percentile of the ratios of a
    micro-batch, which would depend on how the batch is split.

    Source: arXiv:2506.13923 (Guide).
    """

    gamma: Dial = 0.1
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, it: Taken) -> torch.Tensor:
        """Return the objective of each target."""
        return it.ratio / (it.ratio + float(self.gamma)) * it.advantage


@dataclass(frozen=True)
class Nft:
    """Supervised learning on right and wrong answers.

    With q the share of right answers in the group: right (A > 0): omega log r; wrong (A < 0):
    omega log max((1 - q r) / (1 - q), eps), whose gradient passes below eps as if not cut. A = 0,
    as in a group of equal rewards or a row that nobody drew, counts nothing.

    Source: arXiv:2505.18116, eq. (9) and the released code.
    """

    omega: Literal["one", "miss", "odds"] = "miss"
    """Weight of a group: 1, 1 - q (on-policy Dr.GRPO), sqrt((1 - q) / q) (on-policy GRPO)."""
    floor: Dial = 1.0
    """eps."""
    negative: Dial = 1.0
    """Weight of wrong answers; 0 is fine-tuning on right ones."""
    needs: ClassVar[tuple[str, ...]] = ("rate",)

    def __call__(self, it: Taken) -> torch.Tensor:
        """Return the objective of each target."""
        rate = it.columns["rate"]
        omega = {
            "one": torch.ones_like(rate),
            "miss": 1.0 - rate,
            "odds": ((1.0 - rate) / rate).sqrt(),
        }[self.omega]
        other = (1.0 - rate * it.ratio) / (1.0 - rate)
        cut = other + (other.detach().clamp_min(self.floor) - other.detach())
        wrong = float(self.negative) * cut.log()
        bad = torch.where(it.advantage < 0, wrong, torch.zeros_like(wrong))
        return omega * torch.where(it.advantage > 0, it.ratio.log(), bad)
