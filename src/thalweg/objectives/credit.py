"""Annotations of rollouts: moves that turn rewards into credit. Pure functions of the batch.

A phase of RL reads: Rollouts, Score what is missing, Advantages (or another of these), Filter,
Learn. Group statistics run over whole groups, so these stand before anything splits the batch. Rows
whose group is below 0 were drawn by nobody, as demonstrations: they enter no statistics, get no
credit, and no filter drops them.

    Advantages         reward, group                 -> advantage    GRPO, Dr.GRPO, RLOO
    Rates              reward, group                 -> rate         NFT
    KlPenalty          reward, old, ref              -> reward       KL in the reward of a row
    TokenRewards       reward, old, ref              -> process      KL in the reward of each target
    ImplicitRewards    prm, ref                      -> process      PRIME
    ProcessAdvantages  process, reward, group        -> advantage    PRIME
    MacroActions       old                           -> segment      MA-RLHF
    Gae                process, value (, segment)    -> advantage, target_value
    TeacherGap         teacher, old                  -> advantage    on-policy distillation
    Correct            advantage, old, sampler       -> advantage    truncated importance sampling
    WeightOf           weight, a column              -> *_weight     rows of one part of a Sum
    Filter             reward, group                 fewer rows      dynamic sampling
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from thalweg.core.batch import Batch, is_weight
from thalweg.core.protocols import Context, Dial
from thalweg.objectives.advantage import (
    Baseline,
    Scale,
    gae,
    group_advantage,
    group_mean,
    group_spread,
    process_advantage,
    process_rewards,
    segments_by_count,
    segments_by_surprise,
)
from thalweg.objectives.surrogates import truncated

__all__ = [
    "Advantages",
    "Correct",
    "Filter",
    "Gae",
    "ImplicitRewards",
    "KlPenalty",
    "MacroActions",
    "ProcessAdvantages",
    "Rates",
    "TeacherGap",
    "TokenRewards",
    "WeightOf",
]

# R rows, T targets of a row.


@dataclass(frozen=True)
class Advantages:
    """advantage = (reward - baseline) / (std + eps), the same for every target of a row.

    The choices are those of `group_advantage`, which has the sources.
    """

    baseline: Baseline = "mean"
    scale: Scale = "group"
    eps: Dial = 1e-6
    population: bool = False
    """Whether the standard deviation divides by n, not n - 1."""
    name: ClassVar[str] = "credit.advantages"
    needs: ClassVar[tuple[str, ...]] = ("reward", "group", "weight")
    makes: ClassVar[tuple[str, ...]] = ("advantage",)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the column; 0 where the weight is, and where nobody drew."""
        drawn = batch["group"] >= 0
        each_R = torch.zeros_like(batch["reward"])
        if drawn.any():
            each_R[drawn] = group_advantage(
                batch["reward"][drawn],
                batch["group"][drawn],
                baseline=self.baseline,
                scale=self.scale,
                eps=self.eps,
                population=self.population,
            )
        return batch.plus({"advantage": each_R[:, None] * _mask(batch)})


@dataclass(frozen=True)
class Rates:
    """rate = share of right answers in the row's group, kept off 0 and 1."""

    right: float = 0.5
    """A reward above this is a right answer."""
    margin: float = 0.02
    """Smallest rate, and smallest distance from 1."""
    name: ClassVar[str] = "credit.rates"
    needs: ClassVar[tuple[str, ...]] = ("reward", "group")
    makes: ClassVar[tuple[str, ...]] = ("rate",)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the column."""
        right_R = (batch["reward"] > self.right).to(batch["reward"].dtype)
        rate_R = group_mean(right_R, batch["group"]).clamp(self.margin, 1.0 - self.margin)
        return batch.plus({"rate": rate_R})


@dataclass(frozen=True)
class KlPenalty:
    """reward := reward - beta * sum of (old - ref): the KL of a row, in its reward."""

    beta: Dial
    name: ClassVar[str] = "credit.kl_penalty"
    needs: ClassVar[tuple[str, ...]] = ("reward", "old", "ref", "weight")
    makes: ClassVar[tuple[str, ...]] = ("reward",)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the reward changed."""
        kl_R = ((batch["old"] - batch["ref"]) * _mask(batch)).sum(1)
        return batch.plus({"reward": batch["reward"] - self.beta * kl_R})


@dataclass(frozen=True)
class TokenRewards:
    """process = -beta (old - ref) on each target, and the outcome on the last (PPO)."""

    beta: Dial = 0.0
    name: ClassVar[str] = "credit.token_rewards"
    needs: ClassVar[tuple[str, ...]] = ("reward", "old", "ref", "weight")
    makes: ClassVar[tuple[str, ...]] = ("process",)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the column."""
        mask = _mask(batch)
        place = mask.cumsum(1)
        last = mask * (place == place[:, -1:]).to(mask.dtype)
        kl = (batch["old"] - batch["ref"]) * mask
        return batch.plus({"process": last * batch["reward"][:, None] - self.beta * kl})


@dataclass(frozen=True)
class ImplicitRewards:
    """process = beta (log prm - log ref) on each target but the last; see `process_rewards`."""

    beta: Dial = 0.05
    ref: str = "ref"
    """The column of the reward model's reference; `old`: the policy itself."""
    name: ClassVar[str] = "credit.implicit_rewards"
    makes: ClassVar[tuple[str, ...]] = ("process",)

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("prm", self.ref, "weight")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the column."""
        rewards = process_rewards(batch["prm"], batch[self.ref], batch["weight"], self.beta)
        return batch.plus({"process": rewards})


@dataclass(frozen=True)
class ProcessAdvantages:
    """advantage from rewards of targets and of rows, whitened; see `process_advantage`."""

    process: Dial = 5.0
    outcome: Dial = 5.0
    name: ClassVar[str] = "credit.process_advantages"
    needs: ClassVar[tuple[str, ...]] = ("process", "reward", "group", "weight")
    makes: ClassVar[tuple[str, ...]] = ("advantage",)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the column; 0 where nobody drew."""
        drawn = batch["group"] >= 0
        found = torch.zeros_like(batch["process"])
        if drawn.any():
            found[drawn] = process_advantage(
                batch["process"][drawn],
                batch["reward"][drawn],
                batch["group"][drawn],
                batch["weight"][drawn],
                process=self.process,
                outcome=self.outcome,
            )
        return batch.plus({"advantage": found})


@dataclass(frozen=True)
class MacroActions:
    """segment = which macro action each target belongs to: runs of n, or up to a surprise."""

    n: Dial = 5
    """Targets of a macro action; 0: it ends where the next target is less likely."""
    name: ClassVar[str] = "credit.macro_actions"
    needs: ClassVar[tuple[str, ...]] = ("old", "weight")
    makes: ClassVar[tuple[str, ...]] = ("segment",)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the column."""
        size = int(self.n)
        if size:
            return batch.plus({"segment": segments_by_count(batch["weight"], size)})
        return batch.plus({"segment": segments_by_surprise(batch["weight"], batch["old"])})


@dataclass(frozen=True)
class Gae:
    """advantage and target_value from rewards and values of targets; see `gae`."""

    gamma: Dial = 1.0
    lam: Dial = 0.95
    macro: bool = False
    """Whether `segment` says which targets are one action."""
    name: ClassVar[str] = "credit.gae"
    makes: ClassVar[tuple[str, ...]] = ("advantage", "target_value")

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("process", "value", "weight", *(("segment",) if self.macro else ()))

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the columns."""
        found = gae(
            batch["process"],
            batch["value"],
            batch["weight"],
            gamma=self.gamma,
            lam=self.lam,
            segments_RT=batch["segment"] if self.macro else None,
        )
        return batch.plus({"advantage": found, "target_value": found + batch["value"]})


@dataclass(frozen=True)
class TeacherGap:
    """advantage = log teacher - log old: minus the policy's KL from a teacher, target by target."""

    name: ClassVar[str] = "credit.teacher_gap"
    needs: ClassVar[tuple[str, ...]] = ("teacher", "old", "weight")
    makes: ClassVar[tuple[str, ...]] = ("advantage",)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the column."""
        return batch.plus({"advantage": (batch["teacher"] - batch["old"]) * _mask(batch)})


@dataclass(frozen=True)
class Correct:
    """advantage := advantage * pi_old / pi_sampler, cut; for a sampler that is another engine.

    `old` is then what the trainer's own forward pass gives: Score("actor", "old").
    """

    high: Dial = 2.0
    low: Dial = 0.0
    drop: bool = False
    """Whether targets outside are left out, not cut."""
    name: ClassVar[str] = "credit.correct"
    needs: ClassVar[tuple[str, ...]] = ("advantage", "old", "sampler")
    makes: ClassVar[tuple[str, ...]] = ("advantage",)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the advantage changed."""
        factor = truncated(
            batch["old"], batch["sampler"], high=self.high, low=self.low, drop=self.drop
        )
        return batch.plus({"advantage": batch["advantage"] * factor})


@dataclass(frozen=True)
class WeightOf:
    """A weight column that counts some rows: `weight` where a column has one of some values.

    Example:
        >>> batch = Batch({"weight": torch.ones(2, 1), "source": torch.tensor([0, 1])})
        >>> WeightOf("sft_weight", values=(1,))(batch, None)["sft_weight"].tolist()
        [[0.0], [1.0]]
    """

    column: str
    """The new column, `*_weight`."""
    by: str = "source"
    """The column of rows [R] that decides: whole numbers, or booleans such as `guided`."""
    values: tuple[int, ...] = (0,)
    """Of sources: indices into the source's names."""

    @property
    def name(self) -> str:
        """Return `weight.COLUMN`."""
        return f"weight.{self.column}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("weight", self.by)

    @property
    def makes(self) -> tuple[str, ...]:
        """Return its column."""
        return (self.column,)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the column."""
        chosen = torch.isin(batch[self.by].long(), torch.tensor(self.values))
        return batch.plus({self.column: batch["weight"] * chosen[:, None]})


@dataclass(frozen=True)
class Filter:
    """Keep groups whose mean reward lies in [low, high], and whose rewards differ.

    Where nothing is left, one row stays with weight 0, so that the step has a loss of 0, and an
    event says so. Reports `kept`, the share of the rows that somebody drew.
    """

    low: Dial = -float("inf")
    high: Dial = float("inf")
    spread: bool = True
    """Whether groups of equal rewards are left out: their advantages are 0, a KL's gradient not."""
    name: ClassVar[str] = "credit.filter"
    needs: ClassVar[tuple[str, ...]] = ("reward", "group", "weight")
    makes: ClassVar[tuple[str, ...]] = ()

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the rows of the groups that stay."""
        if not batch.rows:
            return batch
        reward, group = batch["reward"].double(), batch["group"]
        mean, drawn = group_mean(reward, group), group >= 0
        stays = (mean >= self.low) & (mean <= self.high)
        if self.spread:
            stays &= group_spread(reward, group) > 0
        if drawn.any():
            ctx.log({"kept": float(stays[drawn].double().mean())})
        stays |= ~drawn
        if not bool(stays.any()):
            ctx.note("filtered", f"none of {batch.rows} rows is left; this step learns nothing")
            one = batch.take([0])
            return one.plus({name: torch.zeros_like(one[name]) for name in one if is_weight(name)})
        return batch.take(torch.nonzero(stays)[:, 0])


def _mask(batch: Batch) -> torch.Tensor:
    """Return 1 where a target counts [R, T], float32."""
    return (batch["weight"] > 0).float()
