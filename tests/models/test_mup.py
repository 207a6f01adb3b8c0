"""muP: the coordinate check, agreement at the base, and an export that has the same logits."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.weigh import TokenMean
from thalweg.core.world import World
from thalweg.errors import RecipeError
from thalweg.models import Latent, Mup, Transformer, activations, export
from thalweg.objectives import NextToken
from thalweg.optim import SGD, AdamW, Muon, OptimizerSpec
from thalweg.rollouts import Sampling, generate

WIDTHS = (32, 64, 128, 256)
ADAM = AdamW(lr=0.002)
OPTIMIZERS = (
    ADAM,
    SGD(lr=1.0),
    Muon(lr=0.05, adam=ADAM),
    Muon(lr=0.01, scale="match_rms_adamw", adam=ADAM),
)


def decoder(width: int, scaled: bool, **options) -> Transformer:
    spec = Transformer(
        vocabulary=32, width=width, layers=2, heads=width // 16, hidden=2 * width, positions=16
    )
    return replace(spec, **{"mup": Mup(base_width=32) if scaled else None, **options})


def batch(seed: int) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(32, (8, 17), generator=draw)
    tokens[:, 1::2] = (tokens[:, 0:-1:2] * 7 + 1) % 32
    return Batch({"tokens": tokens, "weight": torch.ones(8, 16)})


def slopes(optimizer: OptimizerSpec, spec_of: Callable[[int], Transformer]) -> dict[str, float]:
    """Return how the mean change of each output over three steps grows with the width, log-log."""
    tokens, found = batch(99)["tokens"][:, :-1], []
    for width in WIDTHS:
        learner = Learner("policy", spec_of(width).build(0), World())
        before = activations(learner.module, tokens)
        for step in range(3):
            learner.learn(NextToken(), TokenMean()(batch(step)), optimizer)
        after = activations(learner.module, tokens)
        found.append({name: float((after[name] - before[name]).abs().mean()) for name in after})
    logs = np.log2(WIDTHS)
    return {
        name: float(np.polyfit(logs, np.log2([row[name] for row in found]), 1)[0])
        for name in found[0]
        if name != "norm"  # it holds the multiplier 1 / m of the logits
    }


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda spec: type(spec).__name__)
def test_what_training_changes_is_flat_in_width_and_grows_without(optimizer):
    flat, grown = (
        slopes(optimizer, lambda width, scaled=scaled: decoder(width, scaled))
        for scaled in (True, False)
    )
    assert max(map(abs, flat.values())) < 0.25, flat
    assert grown["logits"] > 0.5
    assert grown["blocks.1.out"] > 0.7


def test_wider_heads_are_flat_too_and_so_is_a_tied_head():
    base = Mup(base_width=32, base_head_width=16)
    for options in ({"heads": 2, "mup": base}, {"tied": True}, {"qk_norm": True}):
        found = slopes(ADAM, lambda width, options=options: decoder(width, True, **options))
        assert max(map(abs, found.values())) < 0.25, found


def test_latent_attention_whose_rank_grows_and_squared_relu_are_flat_too():
    def spec_of(width: int) -> Transformer:
        latent = Latent(rank=width // 2, nope=8, rope=8, value=16)
        return decoder(width, True, latent=latent, activation="relu2")

    found = slopes(ADAM, spec_of)
    assert max(map(abs, found.values())) < 0.25, found


def test_at_its_base_a_model_is_the_standard_one():
    tokens = batch(0)["tokens"][:, :-1]
    for tied in (False, True):
        models = [decoder(32, mup, tied=tied).build(3) for mup in (True, False)]
        assert torch.equal(models[0](tokens), models[1](tokens))
    scaled = models[0].widening()
    assert {grown.times for grown in scaled.values()} == {1.0}
    assert models[1].widening() == {}


def test_the_numbers_of_a_model_four_times_as_wide():
    spec = decoder(128, True, heads=2, mup=Mup(base_width=32, base_head_width=16))
    model, plain = spec.build(0), replace(spec, mup=None).build(0)
    assert torch.equal(model.blocks[0].qkv.weight, plain.blocks[0].qkv.weight / 2)
    assert torch.equal(model.embedding.weight, plain.embedding.weight)
    assert model.blocks[0].query_scale == 0.5
    assert model.norm.scale == 0.25
    grown = model.widening()
    assert grown["blocks.1.down.weight"] == (4.0, True)
    assert grown["head.weight"] == grown["blocks.0.mlp_norm.weight"] == (4.0, False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"qk_norm": True},
        {"attention_bias": True},
        {"tied": True, "kv_heads": 2},
        {"latent": Latent(rank=12, nope=8, rope=6, value=10)},
    ],
)
def test_an_exported_model_has_the_same_logits(tmp_path, options):
    transformers = pytest.importorskip("transformers")
    mup = Mup(base_width=32, base_head_width=8)
    spec = decoder(96, True, **{"heads": 4, "mup": mup, "initial_std": 0.2, **options})
    model = spec.build(0)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 1.0, 0.3, generator=torch.Generator().manual_seed(1))
    export(model, spec, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = batch(0)["tokens"][:, :-1]
    with torch.no_grad():
        assert torch.allclose(model(tokens), theirs(tokens).logits, atol=2e-5)


def test_generation_uses_the_multipliers():
    spec = decoder(64, True, initial_std=0.3)
    model = spec.build(0)
    ((made,),) = generate(model, [[1, 2, 3]], Sampling(new_tokens=5, temperature=0.0))
    row = [1, 2, 3]
    for _ in range(5):
        row.append(int(model(torch.tensor([row]))[0, -1].argmax()))
    assert list(made.tokens) == row[3:]


@pytest.mark.parametrize("numbers", [{"base_width": 0}, {"base_width": 8, "base_head_width": -2}])
def test_a_base_without_width_is_refused(numbers):
    with pytest.raises(RecipeError, match="1 or more"):
        Mup(**numbers)
