"""One step of a mixture of experts, by however many processes; the weights after it are saved."""

import sys
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.moves import Score
from thalweg.core.protocols import Context
from thalweg.core.time import Time
from thalweg.core.weigh import TokenMean
from thalweg.core.world import open_world
from thalweg.models import Moe, Transformer
from thalweg.objectives import Balanced, ExpertCounts, Load, NextToken
from thalweg.optim import SGD

SPEC = Transformer(
    vocabulary=32, width=16, layers=2, heads=2, positions=8, initial_std=0.3,
    moe=Moe(experts=4, top=2, hidden=8, bias=True),
)  # fmt: skip


def rows() -> Batch:
    draw = torch.Generator().manual_seed(0)
    weight = (torch.rand(16, 7, generator=draw) < 0.8).float()
    return Batch({"tokens": torch.randint(32, (16, 8), generator=draw), "weight": weight})


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


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, load in (("global", Load()), ("block", Load(rows=4))):
        for shard in sys.argv[3:]:
            micro = int(sys.argv[2]) or None
            work(shard, micro, load, folder / f"{name}-{shard}.pt")
