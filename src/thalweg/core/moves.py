"""The moves that use models: Learn trains, Score adds a column, Copy moves weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, Dial, Objective
from thalweg.core.weigh import TokenMean, Weigh, rescaled
from thalweg.errors import RecipeError
from thalweg.optim import OptimizerSpec

__all__ = ["AT_END", "NEVER", "Copy", "Learn", "Score", "logprobs"]

AT_END = -1
"""For `Copy.every`: once, after the last step of the phase."""
NEVER = 0
"""For `Copy.every`: not at all; offline."""


@dataclass(frozen=True)
class Learn:
    """Train a model on the batch. The only move that does.

    Reports `loss` and `grad_norm`, the objective's metrics, and its per-row metrics by source. The
    first Learn of a phase reports under plain names, others under `MODEL/`.
    """

    model: str
    objective: Objective
    optimizer: OptimizerSpec
    passes: int = 1
    """Times the batch is gone through."""
    minibatch: Dial = None
    """Rows of an optimizer step; None for the whole batch. Drawn anew in each pass."""
    micro: Dial = None
    """Tokens of a forward pass on one rank; None for all. Changes memory, not the result."""
    clip: Dial = 1.0
    """Largest global gradient norm; None for none."""
    weigh: Weigh = TokenMean()
    """What a mean runs over."""

    @property
    def name(self) -> str:
        """Return `learn.MODEL`."""
        return f"learn.{self.model}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Return what the objective needs; `weight` is made here."""
        return tuple(column for column in self.objective.needs if column != "weight")

    @property
    def makes(self) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch unchanged; the model has learned from it."""
        learner = ctx.models[self.model]
        whole = self.weigh(batch)
        steps = [part for number in range(self.passes) for part in self._parts(whole, number, ctx)]
        for part in steps:
            learned = learner.learn(
                self.objective, part, self.optimizer, clip=self.clip, micro=self.micro
            )
            ctx.learned(self.model, part, learned, len(steps))
        return batch

    def _parts(self, whole: Batch, number: int, ctx: Context) -> list[Batch]:
        if self.minibatch is None or self.minibatch >= whole.rows:
            return [whole]
        order = ctx.rng("minibatch", self.model, int(ctx.time.run_step), number)
        shuffled = whole.take(order.permutation(whole.rows))
        return [rescaled(part, whole) for part in shuffled.split(self.minibatch)]


def logprobs(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the log-prob of each target, nats [R, T-1], from a language model.

    Args:
        model: Called as ``model(tokens, document, targets_RT=...)``.
        batch: Has `tokens` [R, T], and `document` where rows hold several.
    """
    tokens = batch["tokens"]
    document = batch["document"][:, :-1] if "document" in batch else None
    scored = model(tokens[:, :-1], document, targets_RT=tokens[:, 1:])
    values: torch.Tensor = scored.logprobs
    return values


@dataclass(frozen=True)
class Score:
    """Add a column computed by a model, without gradient."""

    model: str
    column: str
    fn: Callable[[nn.Module, Batch], torch.Tensor] = logprobs
    micro: Dial = None
    """Tokens of a forward pass on one rank; None for all."""

    @property
    def name(self) -> str:
        """Return `score.COLUMN`."""
        return f"score.{self.column}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the text it scores."""
        return ("tokens",) if self.fn is logprobs else ()

    @property
    def makes(self) -> tuple[str, ...]:
        """Return its column."""
        return (self.column,)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the column added."""
        return batch.plus(
            {self.column: ctx.models[self.model].score(self.fn, batch, micro=self.micro)}
        )


@dataclass(frozen=True)
class Copy:
    """Copy weights: dst = mix * src + (1 - mix) * dst, every so many steps.

    `every=1` keeps a sampler on-policy, k makes it semi-online, NEVER offline; `mix` below 1 makes
    an averaged teacher. Both models must have the same parameters.
    """

    src: str
    dst: str
    every: Dial = 1
    mix: Dial = 1.0

    @property
    def name(self) -> str:
        """Return `copy.DST`."""
        return f"copy.{self.dst}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    @property
    def makes(self) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch unchanged."""
        if self._due(ctx):
            _copy(ctx.models[self.src].module, ctx.models[self.dst].module, float(self.mix), self)
        return batch

    def _due(self, ctx: Context) -> bool:
        done = int(ctx.time.step) + 1
        if self.every == AT_END:
            return done == ctx.time.steps
        return bool(self.every) and done % int(self.every) == 0


@torch.no_grad()
def _copy(src: nn.Module, dst: nn.Module, mix: float, move: Copy) -> None:
    theirs: dict[str, Any] = dict(src.named_parameters()) | dict(src.named_buffers())
    ours: dict[str, Any] = dict(dst.named_parameters()) | dict(dst.named_buffers())
    if theirs.keys() != ours.keys():
        raise RecipeError(
            f"{move.src} and {move.dst} have different parameters",
            expected="two models of one architecture",
            where=move.name,
            write=f"{move.dst}=CopyOf('{move.src}')",
        )
    for name, value in ours.items():
        if value.is_floating_point() and mix != 1.0:
            value.lerp_(theirs[name], mix)
        else:
            value.copy_(theirs[name])
