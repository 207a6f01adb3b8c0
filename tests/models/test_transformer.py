from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from thalweg.errors import RecipeError
from thalweg.models.transformer import Decoder, Llama3Rope, Transformer

SPEC = Transformer(
    vocabulary=31, width=32, layers=2, heads=4, kv_heads=2, positions=24, initial_std=0.1
)


def _rows(rows: int = 3, length: int = 12, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(SPEC.vocabulary, (rows, length), generator=draw)


@pytest.mark.parametrize(
    "options", [{}, {"qk_norm": True}, {"attention_bias": True}, {"tied": True, "head_width": 16}]
)
def test_logprobs_equal_log_softmax_of_the_logits(options: dict[str, Any]) -> None:
    model = replace(SPEC, **options).build(0)
    tokens, targets = _rows(), _rows(seed=1)
    weight = torch.rand(3, 12)
    expected = functional.log_softmax(model(tokens), -1).gather(2, targets[..., None])[..., 0]
    scored = model(tokens, targets_RT=targets, weight_RT=weight)
    assert (scored.logprobs - expected).abs().max() < 1e-5
    assert abs(scored.loss + (weight * expected).sum()) < 1e-4
    free = model(tokens, targets_RT=targets)
    assert free.loss is None
    assert torch.equal(free.logprobs, scored.logprobs)


def test_hidden_states_are_what_the_head_multiplies() -> None:
    model = SPEC.build(0)
    tokens, weight = _rows(), torch.rand(3, 12)
    alone = model(tokens, hidden=True)
    assert (functional.linear(alone, model.head.weight) - model(tokens)).abs().max() < 1e-5
    for asked in ({}, {"weight_RT": weight}, {"entropy": True}, {"temperature": 2.0}):
        scored = model(tokens, targets_RT=tokens, hidden=True, **asked)
        assert torch.equal(scored.hidden, alone)
    assert model(tokens, targets_RT=tokens).hidden is None


def test_the_loss_is_additive_over_rows() -> None:
    model = SPEC.build(0)
    tokens, targets, weight = _rows(4), _rows(4, seed=1), torch.rand(4, 12)

    def gradients(cuts: list[slice]) -> list[torch.Tensor]:
        model.zero_grad()
        for cut in cuts:
            model(tokens[cut], targets_RT=targets[cut], weight_RT=weight[cut]).loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    whole = gradients([slice(None)])
    split = gradients([slice(0, 1), slice(1, 4)])
    assert all((a - b).abs().max() < 1e-4 for a, b in zip(whole, split, strict=True))


def test_both_ways_to_the_loss_have_the_same_gradient() -> None:
    model = SPEC.build(0)
    tokens, targets, weight = _rows(), _rows(seed=1), torch.rand(3, 12)
    parameters = list(model.parameters())
    ours = torch.autograd.grad(model(tokens, targets_RT=targets, weight_RT=weight).loss, parameters)
    logprobs = model(tokens, targets_RT=targets).logprobs
    other = torch.autograd.grad(-(weight * logprobs).sum(), parameters)
    assert all((a - b).abs().max() < 1e-4 for a, b in zip(ours, other, strict=True))


@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_packed_row_equals_its_documents_alone(qk_norm: bool) -> None:
    model = replace(SPEC, qk_norm=qk_norm).build(0)
    tokens = _rows(1, 20)
    document = torch.tensor([[0] * 3 + [1] * 9 + [2] * 8], dtype=torch.int32)
    packed = model(tokens, document)
    alone = [model(tokens[:, cut]) for cut in (slice(3), slice(3, 12), slice(12, None))]
    assert (packed - torch.cat(alone, 1)).abs().max() < 1e-5


def test_a_token_does_not_see_what_follows() -> None:
    model = SPEC.build(0)
    tokens = _rows(1)
    changed = tokens.clone()
    changed[0, 8:] = 0
    assert torch.allclose(model(tokens)[0, :8], model(changed)[0, :8], atol=1e-6)


def test_weights_depend_on_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, again, other = SPEC.build(3), SPEC.build(3), SPEC.build(4)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.embedding.weight, other.embedding.weight)


def test_what_writes_to_the_residual_stream_starts_smaller() -> None:
    model = replace(SPEC, layers=8, width=128, heads=2, kv_heads=2).build(0)
    block = model.blocks[0]
    assert float(block.qkv.weight.detach().std()) == pytest.approx(0.1, rel=0.02)
    assert float(block.down.weight.detach().std()) == pytest.approx(0.1 / 4, rel=0.02)


def test_flops_count_every_matmul_once_and_half_of_attention() -> None:
    spec = Transformer(vocabulary=10, width=4, layers=3, heads=2, positions=8, hidden=6)
    weights = 3 * (4 * 4 * 4 + 3 * 4 * 6) + 4 * 10
    assert spec.build(0).flops(8) == 6 * weights + 6 * 3 * 4 * 8


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when it compiles
def test_the_model_compiles_with_its_loss_in_one_graph() -> None:
    spec = Transformer(vocabulary=16, width=8, layers=1, heads=2, positions=8)
    model = spec.build(0)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    tokens, weight = torch.randint(16, (2, 8)), torch.rand(2, 8)
    document = torch.zeros(2, 8, dtype=torch.int32)
    for call in (model, compiled):
        with torch.autocast("cpu", torch.bfloat16):
            scored = call(tokens, document, targets_RT=tokens, weight_RT=weight)
        scored.loss.backward()
        call_gradients = [parameter.grad for parameter in model.parameters()]
        assert all(gradient is not None for gradient in call_gradients)


def test_llama3_stretch_leaves_fast_turns_and_divides_slow_ones() -> None:
    rope = Llama3Rope(factor=8, low_freq_factor=1, high_freq_factor=4, original_positions=8192)
    fast, slow = rope.stretch(torch.tensor([1.0, 1e-5])).tolist()
    assert fast == 1.0
    assert slow == pytest.approx(1e-5 / 8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 30}, "width 30 with heads 4"),
        ({"kv_heads": 3}, "heads 4 with kv_heads 3"),
        ({"head_width": 7}, "width 7"),
        ({"layers": 0}, "layers=0"),
        ({"hidden": 2.5}, "hidden=2.5"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        replace(SPEC, **changes)


def test_a_row_longer_than_the_positions_is_refused() -> None:
    with pytest.raises(RecipeError, match="rows of 25 tokens"):
        SPEC.build(0)(_rows(1, 25))


def test_the_state_of_a_tied_model_has_one_matrix_for_both_ends() -> None:
    model = replace(SPEC, tied=True).build(0)
    assert isinstance(model, Decoder)
    assert "head.weight" not in model.state_dict()
    assert "cos" not in model.state_dict()


def test_second_derivatives_in_float32_are_right() -> None:
    model = replace(SPEC, tied=True).build(0).double()
    tokens, targets = _rows(1, 4), _rows(1, 4, seed=1)
    weight = model.blocks[0].qkv.weight
    probe = torch.randn(weight.shape, dtype=torch.float64)

    def slope() -> torch.Tensor:
        loss = -model(tokens, targets_RT=targets).logprobs.sum()
        return torch.autograd.grad(loss, weight, create_graph=True)[0]

    exact = torch.autograd.grad((slope() * probe).sum(), weight)[0]
    step = 1e-5
    with torch.no_grad():
        weight += step * probe
    ahead = slope().detach()
    with torch.no_grad():
        weight -= 2 * step * probe
    assert torch.allclose((ahead - slope().detach()) / (2 * step), exact, atol=1e-4)
