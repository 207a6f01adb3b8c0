"""One battery over every public model that is built from a seed."""

from dataclasses import is_dataclass

import pytest
import torch

import thalweg.models as room
from thalweg.core.learner import Counted
from thalweg.core.world import Blocked

DECODER = room.Transformer(vocabulary=32, width=16, layers=2, heads=2, positions=8)
EXAMPLES = {
    "Transformer": DECODER,
    "Transformer, tied": room.Transformer(
        vocabulary=32, width=16, layers=1, heads=4, kv_heads=2, positions=8, tied=True, qk_norm=True
    ),
    "Transformer, experts": room.Transformer(
        vocabulary=32,
        width=16,
        layers=2,
        heads=2,
        positions=8,
        moe=room.Moe(experts=4, top=2, shared=8, score="sigmoid", bias=True),
    ),
    "Lora": room.Lora(base=DECODER, rank=2),
}
OTHERS = {"HuggingFace", "Pretrained"}
"""Need a folder; their tests stand in tests/models."""
EVERY = pytest.mark.parametrize("spec", EXAMPLES.values(), ids=list(EXAMPLES))

TOKENS = torch.arange(16).view(2, 8) % 32


def test_every_public_model_has_an_example():
    public = {
        name
        for name in room.__all__
        if is_dataclass(getattr(room, name)) and hasattr(getattr(room, name), "build")
    }
    assert public == {type(spec).__name__ for spec in EXAMPLES.values()} | OTHERS


@EVERY
def test_weights_are_a_function_of_the_seed(spec):
    torch.manual_seed(1)
    first = spec.build(3).state_dict()
    torch.manual_seed(2)
    again, other = spec.build(3).state_dict(), spec.build(4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@EVERY
def test_limits_are_said(spec):
    assert (spec.vocabulary, spec.positions) == (32, 8)


@EVERY
def test_logits_and_scores_agree(spec):
    model = spec.build(0).eval()
    targets, weight = TOKENS.roll(1, 1), torch.rand(2, 8)
    with torch.no_grad():
        logits = model(TOKENS)
        scored = model(TOKENS, targets_RT=targets, weight_RT=weight)
    logprobs = logits.log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)
    assert logits.shape == (2, 8, 32)
    assert torch.allclose(scored.logprobs, logprobs, atol=1e-5)
    assert float(scored.loss) == pytest.approx(float(-(weight * logprobs).sum()), rel=1e-5)


@EVERY
def test_without_weights_the_scores_carry_a_gradient(spec):
    scored = spec.build(0)(TOKENS, targets_RT=TOKENS)
    assert scored.loss is None
    assert scored.logprobs.requires_grad


@EVERY
def test_attention_stays_inside_a_document(spec):
    model = spec.build(0).eval()
    document = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]] * 2, dtype=torch.int32)
    changed = TOKENS.clone()
    changed[:, :4] = 5
    with torch.no_grad():
        a, b = model(TOKENS, document), model(changed, document)
    assert torch.allclose(a[:, 4:], b[:, 4:], atol=1e-5)
    assert not torch.allclose(a[:, :4], b[:, :4], atol=1e-3)


@EVERY
def test_a_model_says_what_it_costs_and_where_to_shard_it(spec):
    model = spec.build(0)
    assert isinstance(model, Counted)
    assert model.flops(8) > 0
    assert isinstance(model, Blocked)
    assert len(model.blocks) >= 1
