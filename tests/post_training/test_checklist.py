"""Points of the checklist that concern a whole step: one gradient, whatever the split."""

import pytest
import torch

from rollout_helpers import MODEL, SOURCE, batch_of
from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.moves import Learn
from thalweg.core.protocols import Context
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.objectives import METHODS
from thalweg.optim import SGD
from thalweg.recipes.answers import moves

ARGUMENTS = {"dr_grpo": {"length": 6}, "grpo": {"entropy": 0.01}}
NAMES = sorted(set(METHODS) - {"npo", "dco", "ppo_clip"})


def written() -> Batch:
    """Return judged answers of several lengths, some of them to be left out."""
    batch = batch_of(SOURCE)
    reward = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.5, 1.0, 0.0, 0.0] * 2)
    return batch.plus({"reward": reward})


def padded(batch: Batch) -> Batch:
    """Return the rows with eight more places, which count nothing."""
    wide = {"tokens": 256, "weight": 0.0, "old": 0.0}
    return batch.plus(
        {
            name: torch.nn.functional.pad(batch[name], (0, 8), value=value)
            for name, value in wide.items()
        }
    )


def change(name: str, batch: Batch, micro: int | None) -> torch.Tensor:
    """Return what one step of plain descent, from weights the actor never had, does to them."""
    spec = dict(ARGUMENTS.get(name, {}))
    models = {n: Learner(n, MODEL.build(s), World()) for n, s in (("policy", 1), ("ref", 2))}
    models["actor"] = Learner("actor", MODEL.build(1), World())
    before = flat(models["policy"])
    ctx = Context(Time(0, 1), models=models, rows=batch.rows)
    for move in moves(METHODS[name](**spec), SGD(lr=1.0), 0, micro=micro):
        batch = move(batch, ctx)
        if isinstance(move, Learn):
            break
    return flat(models["policy"]) - before


def flat(learner: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in learner.module.parameters()])


@pytest.mark.parametrize("name", NAMES)
def test_any_split_order_or_padding_gives_one_gradient(name):
    batch = written()
    whole = change(name, batch, None)
    assert float(whole.abs().max()) > 0
    order = torch.randperm(batch.rows, generator=torch.Generator().manual_seed(0)).tolist()
    others = [change(name, batch, 40), change(name, padded(batch), None)]
    if "chosen" not in METHODS[name](**ARGUMENTS.get(name, {})).objective.needs:
        others.append(change(name, batch.take(order), 64))  # pairs take the first of equals
    for other in others:
        assert torch.allclose(whole, other, atol=1e-6)
