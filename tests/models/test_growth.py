"""A decoder grows without a change of its logits, and its moments go where its weights go."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.weigh import TokenMean
from thalweg.core.world import World
from thalweg.errors import RecipeError
from thalweg.models import Latent, Moe, Mup, Transformer, larger
from thalweg.objectives import NextToken
from thalweg.optim import SGD, AdamW, Muon, NAdamW, OptimizerSpec

SPEC = Transformer(
    vocabulary=31, width=32, layers=2, heads=4, kv_heads=2, positions=24, initial_std=0.1
)
TOKENS = torch.randint(31, (3, 20), generator=torch.Generator().manual_seed(0))
KINDS = {
    "grouped heads": {},
    "tied": {"tied": True},
    "bias": {"attention_bias": True},
    "latent": {
        "kv_heads": None, "activation": "relu2", "latent": Latent(rank=12, nope=8, rope=4, value=10)
    },
    "experts": {"moe": Moe(experts=4, top=2, shared=8, bias=True)},
    "muP": {"mup": Mup(base_width=16)},
    "muP tied": {"mup": Mup(base_width=16), "tied": True},
}  # fmt: skip
GROWN = (
    {"layers": 5},
    {"heads": 8},
    {"hidden": 200},
    {"width": 48, "heads": 4, "hidden": 160},
    {"width": 64, "layers": 4},
)
OPTIMIZERS = (
    AdamW(lr=1e-2, betas=(0.9, 0.99)),
    NAdamW(lr=1e-2),
    SGD(lr=0.5, momentum=0.9),
    Muon(lr=0.02, adam=AdamW(lr=1e-2)),
)


def _shaken(spec: Transformer) -> torch.nn.Module:
    model, draw = spec.build(0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():  # gains and biases too, so that a mix-up shows
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
    return model


def _batch(seed: int) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(31, (4, 17), generator=draw)
    return TokenMean()(Batch({"tokens": tokens, "weight": torch.ones(4, 16)}))


def _learn(learner: Learner, optimizer: OptimizerSpec, seed: int) -> float:
    return learner.learn(NextToken(), _batch(seed), optimizer).loss


@pytest.mark.parametrize("grown", GROWN, ids=str)
@pytest.mark.parametrize("kind", list(KINDS))
def test_growth_keeps_the_logits(kind: str, grown: dict[str, int]) -> None:
    small = replace(SPEC, **KINDS[kind])
    model = _shaken(small)
    large = larger(small, **grown)
    module = large.build(7)
    weights = small.growth(large).weights(model.state_dict(), module.state_dict())
    module.load_state_dict(weights)
    assert (module(TOKENS) - model(TOKENS)).abs().max() < 1e-5


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda spec: type(spec).__name__)
@pytest.mark.parametrize("grown", [{"layers": 3}, {"width": 64, "layers": 3}], ids=str)
def test_the_loss_is_the_same_and_the_next_step_moves_old_weights_as_it_would_have(
    optimizer: OptimizerSpec, grown: dict[str, int]
) -> None:
    small, large = (Learner("policy", _shaken(SPEC), World()) for _ in range(2))
    for step in range(5):
        _learn(small, optimizer, step)
        _learn(large, optimizer, step)
    spec = larger(SPEC, **grown)
    growth = SPEC.growth(spec)
    large.grow(spec, 3)
    losses = [_learn(learner, optimizer, 9) for learner in (small, large)]
    assert abs(losses[0] - losses[1]) < 1e-5
    before, after = small.tensors(), large.tensors()
    for name, place in growth.places.items():
        there = torch.meshgrid(*place.axes, indexing="ij")
        old, new = before[f"model.{place.name}"], after[f"model.{name}"][there]
        whole = isinstance(optimizer, Muon) and old.ndim == 2  # depends on the whole matrix
        if place.factor == 1.0 and not (whole and "width" in grown):
            assert (old - new).abs().max() < 2e-4, name


def test_moments_of_old_entries_stay_and_those_of_new_ones_are_zero() -> None:
    adam = OPTIMIZERS[0]
    learner = Learner("policy", _shaken(SPEC), World())
    _learn(learner, adam, 0)
    before = learner.snapshot()
    spec = larger(SPEC, width=64, layers=4)
    learner.grow(spec, 3)
    after = learner.tensors()
    down = "blocks.0.down.weight"
    first = after[f"optimizer.0.{down}.exp_avg"]
    assert torch.equal(first[:32, :96], before[f"optimizer.0.{down}.exp_avg"])
    assert first[32:].abs().max() == first[:, 96:].abs().max() == 0.0
    assert after["optimizer.0.blocks.1.down.weight.exp_avg_sq"].abs().max() == 0.0
    assert after["optimizer.0.blocks.1.down.weight.step"] == 0.0
    assert after["optimizer.0.blocks.2.down.weight.step"] == 1.0
    gain = "blocks.0.mlp_norm.weight"  # weight / sqrt(2): gradient sqrt(2), its square 2
    square = before[f"optimizer.0.{gain}.exp_avg_sq"]
    assert torch.allclose(after[f"optimizer.0.{gain}.exp_avg_sq"][:32], square * 2)


def test_every_new_weight_learns() -> None:
    learner = Learner("policy", _shaken(SPEC), World())
    spec = larger(SPEC, width=64, layers=4)
    learner.grow(spec, 3)
    for step in range(3):
        _learn(learner, SGD(lr=0.5), step)
    start = Learner("policy", _shaken(SPEC), World())
    start.grow(spec, 3)
    for (name, now), was in zip(
        learner.module.named_parameters(), start.module.parameters(), strict=True
    ):
        assert (now != was).float().mean() > 0.85, name  # ids that no row holds stay


def test_a_new_block_stands_behind_an_old_one() -> None:
    places = SPEC.growth(larger(SPEC, layers=5)).places
    names = {n.split(".")[1]: p.name.split(".")[1] for n, p in places.items() if "down" in n}
    assert names == {"0": "0", "2": "1"}


def test_larger_keeps_the_shares() -> None:
    wide = larger(SPEC, width=64, layers=3)
    assert (wide.heads, wide.kv_heads, wide.shape.head_width, wide.hidden) == (8, 4, 8, 192)
    assert wide.norm_eps == SPEC.norm_eps / 2
    assert larger(SPEC) == replace(SPEC, hidden=96, head_width=8)


@pytest.mark.parametrize(
    ("small", "change", "said"),
    [
        ({}, {"tied": True}, "tied: False -> True"),
        ({}, {"layers": 1}, "layers: 2 -> 1"),
        ({}, {"hidden": 64}, "hidden: 96 -> 64"),
        ({}, {"head_width": 16}, "heads of width 8 -> 16"),
        ({}, {"kv_heads": 4}, "4 / 2 heads -> 4 / 4"),
        ({}, {"norm_eps": 1e-6}, "norm_eps: 1e-05 -> 1e-06"),
        ({}, {"width": 64, "head_width": 8}, "norm_eps"),
        ({"qk_norm": True}, {"width": 64, "head_width": 8}, "with qk_norm"),
        ({"qk_norm": "whole"}, {"heads": 8, "kv_heads": 4, "head_width": 8}, "qk_norm='whole'"),
        ({"activation": "relu2"}, {"activation": "swiglu", "hidden": 128}, "activation"),
    ],
)
def test_what_would_change_the_function_is_refused(
    small: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    spec = replace(SPEC, hidden=None, **small)
    with pytest.raises(RecipeError) as error:
        spec.growth(replace(spec, **change))
    assert said in error.value.given
    assert "larger(" in error.value.write


def test_it_grows_to_a_transformer_only() -> None:
    from thalweg.models import HuggingFace

    with pytest.raises(RecipeError, match="growth to a HuggingFace"):
        SPEC.growth(HuggingFace("folder"))
