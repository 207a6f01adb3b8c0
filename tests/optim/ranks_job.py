"""What each process of a torchrun does in test_ranks. Arguments: folder, name of the result."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from core_helpers import LAB
from run_helpers import lab, lab_recipe
from thalweg.core.batch import Batch
from thalweg.core.loop import Bench, Memory, run
from thalweg.core.names import finder
from thalweg.core.protocols import Context
from thalweg.core.session import build_learners
from thalweg.core.state import RunState
from thalweg.core.time import Time
from thalweg.core.world import open_world
from thalweg.optim import (
    SGD,
    AdamW,
    DoG,
    Groups,
    Mechanic,
    NAdamW,
    Prodigy,
    Projected,
    ScheduleFree,
)

SPECS = {
    "schedule-free": ScheduleFree(AdamW(lr=0.1, betas=(0.9, 0.99))),
    "prodigy": Prodigy(d0=1e-2),
    "dog": DoG(first=1e-2),
    "l-dog": DoG(first=1e-2, layerwise=True),
    "nadamw": NAdamW(lr=0.05),
    "mechanic": Groups({"*bias": SGD(lr=0.1), "*": Mechanic(SGD(lr=1.0), first=1e-3)}),
    "projected": Projected(AdamW(lr=0.05)),
}


def error(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    return (model(batch["x"]).squeeze(1) - batch["y"]) ** 2


def main(folder: Path, name: str) -> None:
    results = {}
    for shard in ("replicate", "full"):
        with open_world("cpu", shard) as world:
            for kind, spec in SPECS.items():
                recipe = lab_recipe(6, optimizer=spec)
                learners, memory = build_learners(recipe, world), Memory()
                run(Bench(recipe, learners, world, memory, finder(LAB)), RunState())
                source, ctx = lab.Lines(), replace(Context(Time(0, 1)), rows=6)
                batch, _ = source.next(source.start(ctx), ctx)
                scores = learners["policy"].score(error, batch).tolist()
                results[f"{kind} {shard}"] = [row["loss"] for row in memory.history] + scores
                main_rank = world.main
    if main_rank:
        (folder / name).write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
