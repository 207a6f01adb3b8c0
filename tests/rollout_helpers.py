"""A task in letters, a model of bytes, and a policy gradient: the smallest RL there is."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.moves import Copy, Learn, logprobs
from thalweg.core.protocols import Context, Grade, Loss, Problem
from thalweg.core.recipe import CopyOf, Phase, Recipe
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.models import Transformer
from thalweg.optim import AdamW
from thalweg.rollouts import Rollouts, Sampling

MODEL = Transformer(vocabulary=257, width=16, layers=1, heads=2, positions=48)


@dataclass(frozen=True)
class Low:
    """Say something: right if it begins below "m"; not readable if it is nothing."""

    longest: int = 3

    def make(self, draw, level):
        letters = "".join(chr(97 + int(n)) for n in draw.integers(26, size=self.longest))
        return Problem(letters[: 1 + int(draw.integers(self.longest))], "a")

    def verify(self, problem, answer):
        right = answer != "" and answer[0] < "m"
        return Grade(float(right), parsed=answer != "", parts={"long": len(answer) / 8})


@dataclass(frozen=True)
class Gain:
    """REINFORCE: reward minus the mean of its group, times the log-prob."""

    needs: ClassVar[tuple[str, ...]] = ("tokens", "weight", "advantage")

    def __call__(self, model, batch):
        now = logprobs(model, batch)
        return Loss(-(batch["weight"] * batch["advantage"][:, None] * now).sum())


@dataclass(frozen=True)
class Centre:
    """Reward minus the mean of its group."""

    name: ClassVar[str] = "advantages"
    needs: ClassVar[tuple[str, ...]] = ("reward", "group")
    makes: ClassVar[tuple[str, ...]] = ("advantage",)

    def __call__(self, batch, ctx):
        _, which = batch["group"].unique(return_inverse=True)
        count = torch.bincount(which)
        mean = torch.zeros(len(count)).index_add_(0, which, batch["reward"]) / count
        return batch.plus({"advantage": batch["reward"] - mean[which]})


SOURCE = Rollouts(
    task=Low(),
    group=4,
    template="{prompt}{answer}",
    length=16,
    sampling=Sampling(new_tokens=6),
    multiple=4,
    slots=8,
)


def recipe(source: Rollouts = SOURCE, steps: int = 6, every: int = 2, lr: float = 0.03) -> Recipe:
    do = (Centre(), Learn("policy", Gain(), AdamW(lr=lr)), Copy("policy", "actor", every=every))
    models = {"policy": MODEL, "actor": CopyOf("policy")}
    return Recipe(models, (Phase(steps, source, do, rows=16),))


class Room:
    """A context with an actor, which remembers what is reported."""

    def __init__(self, model=MODEL, rows: int = 16, step: int = 0, last=None) -> None:
        self.logged: dict[str, float] = {}
        self.notes: list[tuple[str, str]] = []
        self.samples: list[dict] = []
        self.ctx = Context(
            Time(step, 20, run_step=step),
            seed=3,
            rows=rows,
            models={"actor": Learner("actor", model.build(0), World())},
            last=last or {},
            log=lambda values: self.logged.update(values),
            note=lambda kind, text: self.notes.append((kind, text)),
            sample=self.samples.append,
        )


def batch_of(source: Rollouts, room: Room | None = None) -> Batch:
    room = room or Room()
    return source.next(source.start(room.ctx), room.ctx)[0]
