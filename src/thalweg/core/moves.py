"""The moves that use models: Learn trains, Score adds a column, Copy moves weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from thalweg.core.batch import PAIR_WEIGHTS, Batch, is_weight
from thalweg.core.form import check_part
from thalweg.core.gradients import WATCHED
from thalweg.core.protocols import Context, Dial, Move, Objective
from thalweg.core.weigh import TokenMean, Weigh, columns_of, raw_columns_of
from thalweg.errors import DialError, RecipeError, did_you_mean
from thalweg.optim import Groups, OptimizerSpec
from thalweg.optim.values import Leaf

__all__ = ["AT_END", "NEVER", "Copy", "Learn", "Score", "check_learn", "logprobs"]

AT_END = -1
"""For `Copy.every`: once, after the last step of the phase, also one that a controller ended."""
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
    """Largest global gradient norm; None or 0 for none."""
    weigh: Weigh = TokenMean()
    """What a mean runs over."""
    watch: tuple[str, ...] = ()
    """What else to report of the gradient: `grad_l1`, or `grad_dot` (with `grad_cos`)."""

    def __post_init__(self) -> None:
        """Refuse sizes below their least, watches nobody measures, weights that are no mean.

        Raises:
            DialError: A clip below 0, or nothing to learn from at once.
            RecipeError: What is no objective; a watched name that is not of `WATCHED`; an objective
                that reads a weight column which `weigh` does not make.
        """
        check_part(self.objective, Objective, f"{self.name}.objective")
        for field, least in (("passes", 1), ("minibatch", 1), ("micro", 1), ("clip", 0)):
            _check_least(self, field, least)
        for name in [name for name in self.watch if name not in WATCHED]:
            raise RecipeError(
                f"watch '{name}'",
                expected=" or ".join(WATCHED),
                where=f"{self.name}.watch",
                write=did_you_mean(name, WATCHED),
            )
        made = (*columns_of(self.weigh), *PAIR_WEIGHTS)
        for name in self.objective.needs:
            if is_weight(name) and name not in made:
                raise RecipeError(
                    f"an objective that reads '{name}', and weigh={self.weigh!r}",
                    expected="a rule that makes every weight column of the objective",
                    where=self.name,
                    write=f"weigh=Each({{'{name}': TokenMean('{name}'), ...}})",
                )

    @property
    def name(self) -> str:
        """Return `learn.MODEL`."""
        return f"learn.{self.model}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Return what the objective needs, but the weights that are made here."""
        made = columns_of(self.weigh)
        read = (column for column in raw_columns_of(self.weigh) if column != "weight")
        needed = (column for column in self.objective.needs if column not in made)
        return tuple(dict.fromkeys((*needed, *read)))

    @property
    def makes(self) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch unchanged; the model has learned from it."""
        learner = ctx.models[self.model]
        steps = [part for number in range(self.passes) for part in self._parts(batch, number, ctx)]
        for part in steps:
            learned = learner.learn(
                self.objective, part, self.optimizer, clip=self.clip, micro=self.micro,
                watch=self.watch,
            )  # fmt: skip
            ctx.learned(self.model, part, learned, len(steps))
        return batch

    def _parts(self, batch: Batch, number: int, ctx: Context) -> list[Batch]:
        """Return the batches of the optimizer steps of a pass; a mean runs over one of them."""
        size = batch.rows if self.minibatch is None else round(self.minibatch)
        if size >= batch.rows:
            return [self.weigh(batch)]
        order = ctx.rng("minibatch", self.model, int(ctx.time.run_step), number)
        shuffled = batch.take(order.permutation(batch.rows))
        return [self.weigh(part) for part in shuffled.split(size)]


def check_learn(move: Move, where: str) -> None:
    """Refuse a Learn whose rule of weights or optimizer is none; once, not whenever it is frozen.

    Raises:
        RecipeError: As above.
    """
    if isinstance(move, Learn):
        check_part(move.weigh, Weigh, f"{where}.weigh")
        if not isinstance(move.optimizer, Groups):
            check_part(move.optimizer, Leaf, f"{where}.optimizer")


def _check_least(move: Learn, field: str, least: int) -> None:
    """Refuse a number below its least; None and schedules pass."""
    value = getattr(move, field)
    if isinstance(value, int | float) and not value >= least:
        raise DialError(
            f"{field} = {value}",
            expected=f"{least} or more",
            where=f"{move.name}.{field}",
            write=f"{field}=1",
        )


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


@runtime_checkable
class Reads(Protocol):
    """A function for Score that says which columns it reads."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns."""
        ...


@dataclass(frozen=True)
class Score:
    """Add a column computed by a model, without gradient."""

    model: str
    column: str
    fn: Callable[[nn.Module, Batch], torch.Tensor] = logprobs
    """Reads the model's answers; in a run that compiles it is given the compiled module."""
    micro: Dial = None
    """Tokens of a forward pass on one rank; None for all."""

    @property
    def name(self) -> str:
        """Return `score.COLUMN`."""
        return f"score.{self.column}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the text it scores."""
        if isinstance(self.fn, Reads):
            return self.fn.needs
        return ("tokens",) if self.fn is logprobs else ()

    @property
    def makes(self) -> tuple[str, ...]:
        """Return its column."""
        return (self.column,)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the column added."""
        model = ctx.models[self.model]
        return batch.plus({self.column: model.score(self.fn, batch, micro=self.micro, often=True)})


@dataclass(frozen=True)
class Copy:
    """Copy weights: dst = mix * src + (1 - mix) * dst, every so many steps.

    `every=1` keeps a sampler on-policy, k makes it semi-online, NEVER offline; `mix` below 1 makes
    an averaged teacher. Both models must have the same parameters. Reports `version/DST`: the step
    of the run after which weights were last taken.
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
            self._do(ctx)
            return batch
        report: Mapping[str, float] = ctx.last.get("report", {})
        ctx.log({f"version/{self.dst}": report.get(f"version/{self.dst}", 0)})
        return batch

    def close(self, ctx: Context) -> None:
        """Copy, if that is to be done at the end."""
        if self.every == AT_END:
            self._do(ctx)

    def _do(self, ctx: Context) -> None:
        src, dst = ctx.models[self.src], ctx.models[self.dst]
        with src.averaged():
            _copy(src.module, dst.module, float(self.mix), self)
        ctx.log({f"version/{self.dst}": int(ctx.time.run_step) + 1})

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
