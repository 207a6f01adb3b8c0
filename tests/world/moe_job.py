"""Steps of a mixture of experts, by however many processes; the weights after them are saved.

One step by hand at two scopes of the balance loss; and three of a run that balances by the counts
of the step before, with a loss and with biases, and reads grams at its input.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.loop import Bench, Memory, run
from thalweg.core.moves import Learn, Score
from thalweg.core.names import finder
from thalweg.core.protocols import Context, State
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.session import build_learners
from thalweg.core.state import RunState
from thalweg.core.time import Time
from thalweg.core.weigh import TokenMean
from thalweg.core.world import open_world
from thalweg.models import Moe, Scone, Transformer
from thalweg.objectives import Balanced, ExpertCounts, LaggedLoad, Load, NextToken, Rebias
from thalweg.optim import SGD

SPEC = Transformer(
    vocabulary=32, width=16, layers=2, heads=2, positions=8, initial_std=0.3,
    moe=Moe(experts=4, top=2, hidden=8, bias=True),
)  # fmt: skip


def rows() -> Batch:
    draw = torch.Generator().manual_seed(0)
    weight = (torch.rand(16, 7, generator=draw) < 0.8).float()
    return Batch({"tokens": torch.randint(32, (16, 8), generator=draw), "weight": weight})


@dataclass(frozen=True)
class Drawn:
    """Other rows each step."""

    names: tuple[str, ...] = ("text",)
    makes: tuple[str, ...] = ("tokens", "weight", "id", "source")

    def start(self, ctx: Context) -> State:
        return 0

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        shift = {"tokens": (rows()["tokens"] + state) % 32}
        told = {"id": torch.arange(16), "source": torch.zeros(16, dtype=torch.int64)}
        return rows().plus({**shift, **told}), state + 1


def whole(value: torch.Tensor) -> torch.Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def work(shard: str, micro: int | None, load: Load, to: Path) -> None:
    with open_world("cpu", shard) as world:
        learner = Learner("policy", SPEC.build(0), world)
        ctx = Context(Time(0, 1), models={"policy": learner})
        batch = load(Score("policy", "load", fn=ExpertCounts(), micro=micro)(rows(), ctx), ctx)
        objective = Balanced(NextToken(), balance=1.0, z=0.1)
        learned = learner.learn(objective, TokenMean()(batch), SGD(lr=1.0), micro=micro)
        weights = {name: whole(value) for name, value in learner.module.state_dict().items()}
        if world.main:
            torch.save({"weights": weights, "sums": learned.sums}, to)


def lagged(shard: str, micro: int | None, grams: str, to: Path) -> None:
    with open_world("cpu", shard) as world:
        spec = replace(SPEC, embedding=Scone(grams, layers=1))
        learn = Learn("policy", Balanced(NextToken(), balance=1.0, z=0.1), SGD(lr=1.0), micro=micro)
        phase = Phase(3, Drawn(), (Rebias(rate=0.01), LaggedLoad(), learn), rows=16)
        recipe = Recipe({"policy": spec}, (phase,))
        learners, memory = build_learners(recipe, world), Memory()
        run(Bench(recipe, learners, world, memory, finder()), RunState())
        state = learners["policy"].module.state_dict()
        weights = {name: whole(value) for name, value in state.items()}
        if world.main:
            del memory.history[-1]["phase"]
            torch.save({"weights": weights, "sums": memory.history[-1]}, to)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, load in (("global", Load()), ("block", Load(rows=4))):
        for shard in sys.argv[3:]:
            micro = int(sys.argv[2]) or None
            work(shard, micro, load, folder / f"{name}-{shard}.pt")
    for shard in sys.argv[3:]:
        grams = str(folder / "grams")
        lagged(shard, int(sys.argv[2]) or None, grams, folder / f"lagged-{shard}.pt")
