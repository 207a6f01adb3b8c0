"""A mixture of experts against a dense model of the same active size: seconds of a training step.

Both train the same shape on the same rows, steps in turn in one process; the ratio is taken pair by
pair, so that whatever else the machine does meets both alike. The bar is 1.3.

    python benchmarks/moe_speed.py                      # 8 experts, 2 a token
    python benchmarks/moe_speed.py --experts 64 --top 8 --pairs 10
"""

import argparse
import time
from dataclasses import replace
from statistics import median

import torch

from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.weigh import TokenMean
from thalweg.core.world import World, open_world
from thalweg.models import Moe, Transformer, parameters
from thalweg.objectives import Balanced, NextToken
from thalweg.optim import AdamW


def main() -> None:
    """Print the parameters, the seconds of a step and the ratio with its range."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in {
        "experts": 8, "top": 2, "width": 256, "hidden": 1024, "layers": 4, "rows": 16,
        "length": 256, "pairs": 12,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    chosen = parser.parse_args()
    dense = Transformer(
        vocabulary=4096, width=chosen.width, layers=chosen.layers, heads=chosen.width // 64,
        hidden=chosen.hidden, positions=chosen.length, tied=True,
    )  # fmt: skip
    sparse = replace(dense, moe=Moe(experts=chosen.experts, top=chosen.top))
    with open_world("cpu", "replicate") as world:
        compare({"dense": dense, "sparse": sparse}, world, chosen)


def compare(specs: dict[str, Transformer], world: World, chosen: argparse.Namespace) -> None:
    """Take steps of both in turn and print what they cost."""
    steps = {name: step_of(spec, world, chosen) for name, spec in specs.items()}
    for name, spec in specs.items():
        print(f"{name:7} {parameters(spec)}")
        for _ in range(2):  # compile, and fill caches
            steps[name]()
    ratios, seconds = [], {"dense": [], "sparse": []}
    for number in range(chosen.pairs):
        for name in ("dense", "sparse") if number % 2 else ("sparse", "dense"):
            begin = time.perf_counter()
            steps[name]()
            seconds[name].append(time.perf_counter() - begin)
        ratios.append(seconds["sparse"][-1] / seconds["dense"][-1])
    for name, found in seconds.items():
        print(f"{name:7} {median(found) * 1e3:8.1f} ms a step")
    low, high = min(ratios), max(ratios)
    print(f"sparse / dense: {median(ratios):.2f} (range {low:.2f} to {high:.2f}); bar 1.3")


def step_of(spec: Transformer, world: World, chosen: argparse.Namespace):
    """Return a function that takes one optimizer step."""
    learner = Learner(
        "policy", spec.build(0), world, dtype=getattr(torch, chosen.dtype),
        compiled=not chosen.eager,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(4096, (chosen.rows, chosen.length + 1), generator=draw)
    columns = {"tokens": tokens, "weight": torch.ones(chosen.rows, chosen.length)}
    batch, objective = TokenMean()(Batch(columns)), NextToken()
    if spec.moe:
        layers, experts = learner.module.routers
        share = torch.full((chosen.rows, layers, experts), 1 / experts)
        batch, objective = batch.plus({"load_share": share}), Balanced(objective)
    return lambda: learner.learn(objective, batch, AdamW(lr=1e-4), clip=1.0)


if __name__ == "__main__":
    main()
