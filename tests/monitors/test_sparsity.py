"""Activation sparsity: counted by hand, over batches, and only where targets count."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_helpers import text_store
from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.protocols import Context
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.data import Corpus
from thalweg.errors import RecipeError
from thalweg.models import Moe, Transformer
from thalweg.monitors import Sparsity
from thalweg.monitors.sparsity import zeros

SPEC = Transformer(
    vocabulary=257, width=8, layers=2, heads=2, hidden=6, positions=8, activation="relu2"
)
TOKENS = torch.arange(10).view(2, 5) % 8
BATCH = Batch({"tokens": TOKENS, "weight": torch.ones(2, 4)})


def _text(folder: Path) -> Corpus:
    return Corpus(text_store(folder, ["a text of some length " * 30]), length=8, shuffle=False)


def test_dead_units_are_counted_layer_by_layer() -> None:
    model = SPEC.build(0)
    with torch.no_grad():
        for block, dead in zip(model.blocks, (2, 6), strict=True):
            block.up.weight[:dead] = 0.0
    zero_R2L = zeros(model, BATCH)
    assert zero_R2L[:, 1].tolist() == [[24.0, 24.0]] * 2  # 4 positions of 6 units
    assert (zero_R2L[:, 0, 0] >= 8).all()
    assert zero_R2L[:, 0, 1].tolist() == [24.0, 24.0]


def test_positions_without_weight_are_left_out() -> None:
    model = SPEC.build(0)
    weight = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])
    found = zeros(model, BATCH.plus({"weight": weight}))
    assert found[:, 1].tolist() == [[6.0, 6.0], [0.0, 0.0]]
    first = zeros(model, Batch({"tokens": TOKENS[:1, :2], "weight": torch.ones(1, 1)}))
    assert torch.equal(found[0], first[0])


def test_a_fresh_squared_relu_has_half_its_units_at_zero_and_a_gate_none(
    tmp_path: Path,
) -> None:
    ctx, text = Context(Time(0, 1)), _text(tmp_path)
    for activation, least, most in (("relu2", 0.4, 0.6), ("swiglu", 0.0, 0.0)):
        spec = replace(SPEC, activation=activation, hidden=64)
        learner = Learner("policy", spec.build(0), World())
        found = Sparsity(text, rows=70)(replace(ctx, models={"policy": learner}))
        assert list(found) == ["sparsity", "sparsity/0", "sparsity/1"]
        assert least <= found["sparsity"] <= most
        assert not learner.module.blocks[0].down._forward_pre_hooks


def test_experts_are_refused_before_the_first_step(tmp_path: Path) -> None:
    spec = replace(SPEC, activation="swiglu", moe=Moe(experts=2, top=1))
    learner = Learner("policy", spec.build(0), World())
    with pytest.raises(RecipeError, match="a dense decoder"):
        Sparsity(_text(tmp_path)).before(Context(Time(0, 1), models={"policy": learner}))
