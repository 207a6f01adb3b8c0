"""One battery over every public monitor: it reads and never writes."""

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path

import pytest
import torch

import thalweg.monitors as room
from data_helpers import text_store
from thalweg.core.learner import Learner
from thalweg.core.protocols import Context, Monitor
from thalweg.core.time import Time, steps
from thalweg.core.world import World
from thalweg.data import Biographies, Corpus
from thalweg.models import Moe, Transformer


def corpus(folder: Path, name: str) -> Corpus:
    store = text_store(folder, [f"{name}: the text that was held out"] * 3, name)
    return Corpus(store, length=8, shuffle=False, name=name)


EXAMPLES: Mapping[str, Callable[[Path], Monitor]] = {
    "ExpertUse": lambda folder: room.ExpertUse(
        {name: corpus(folder, name) for name in ("a", "b")}, rows=4, model="experts"
    ),
    "HeldOut": lambda folder: room.HeldOut(
        {name: corpus(folder, name) for name in ("a", "b")}, every=steps(2), most=3
    ),
    "Knowledge": lambda folder: room.Knowledge(Biographies(people=9, attributes=1)),
    "Memory": lambda folder: room.Memory(corpus(folder, "a"), corpus(folder, "b"), rows=2),
    "Pathways": lambda folder: room.Pathways(corpus(folder, "a"), rows=3, model="experts"),
    "Stability": lambda folder: room.Stability(
        {"a": corpus(folder, "a")}, {"b": corpus(folder, "b")}, rows=2
    ),
    "Sparsity": lambda folder: room.Sparsity(corpus(folder, "a"), rows=2),
    "Sharpness": lambda folder: room.Sharpness(corpus(folder, "a"), rows=2, probes=2),
}
EVERY = pytest.mark.parametrize("name", list(EXAMPLES))


@pytest.fixture
def ctx() -> Context:
    model = Transformer(vocabulary=257, width=16, layers=1, heads=2, positions=8)
    routed = replace(model, layers=2, moe=Moe(experts=4, top=2))
    specs = {"policy": model, "experts": routed}
    models = {name: Learner(name, spec.build(0), World()) for name, spec in specs.items()}
    return Context(Time(3, 10), models=models)


def test_every_public_monitor_has_an_example():
    public = {name for name in room.__all__ if is_dataclass(getattr(room, name))}
    assert public == set(EXAMPLES)


@EVERY
def test_a_monitor_returns_named_finite_numbers_and_the_same_again(name, ctx, tmp_path):
    monitor = EXAMPLES[name](tmp_path)
    found = monitor(ctx)
    assert found
    assert all(isinstance(value, float) and abs(value) < 1e9 for value in found.values())
    assert monitor(ctx) == found


@EVERY
def test_a_monitor_changes_neither_weights_nor_modes_nor_generators(name, ctx, tmp_path):
    learner = ctx.models["policy"]
    learner.module.train()
    before, state = learner.snapshot(), torch.get_rng_state()
    EXAMPLES[name](tmp_path)(ctx)
    after = learner.snapshot()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert all(parameter.grad is None for parameter in learner.module.parameters())
    assert learner.module.training
    assert torch.equal(torch.get_rng_state(), state)


@EVERY
def test_a_monitor_says_when_it_is_due(name, tmp_path):
    assert EXAMPLES[name](tmp_path).every is not None
