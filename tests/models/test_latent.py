"""Latent attention and squared ReLU: the cache, options, adapters. Logits: test_hub.py."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from thalweg.errors import RecipeError
from thalweg.models import Latent, Lora, Moe, Transformer
from thalweg.models.attention import attention
from thalweg.rollouts import Sampling, generate
from thalweg.rollouts.cache import Static

LATENT = Latent(rank=12, nope=8, rope=4, value=10)
SPEC = Transformer(
    vocabulary=31, width=32, layers=2, heads=4, positions=40, initial_std=0.3,
    latent=LATENT, activation="relu2",
)  # fmt: skip
PROMPTS = [[1, 2, 3, 4, 5], [7], [9, 8, 7], [1, 2, 3, 4, 5], [11] * 12]


def _greedy(model: torch.nn.Module, prompt: list[int], length: int) -> list[int]:
    row = [*prompt]
    for _ in range(length):
        row.append(int(model(torch.tensor([row]))[0, -1].argmax()))
    return row[len(prompt) :]


def test_answers_from_the_latent_cache_are_those_of_the_whole_model() -> None:
    model = SPEC.build(0)
    found = generate(model, PROMPTS, Sampling(new_tokens=20, temperature=0.0), slots=3)
    for prompt, [answer] in zip(PROMPTS, found, strict=True):
        assert list(answer.tokens) == _greedy(model, prompt, 20)


def test_the_cache_keeps_rank_and_rotated_key_only() -> None:
    reader = Static(SPEC.build(0), 3, 16, compiled=False)
    assert [[*held.shape] for layer in reader.kept for held in layer] == [[3, 1, 16, 16]] * 2
    assert Latent(rank=512, nope=128, rope=64, value=128).cached == 576  # PLM-1.8B


def test_looking_at_the_cache_equals_expanding_it() -> None:
    model = SPEC.build(0)
    block = model.blocks[0]
    x = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(0))
    q, kept = block.project(x, model.cos[:7, None], model.sin[:7, None])
    whole = attention(q, *block.latent.expanded(kept))[:, :, -1:]
    hidden = torch.zeros(2, 1, 1, 7, dtype=torch.bool)
    assert (block.look(q[:, :, -1:], [kept], hidden) - whole).abs().max() < 1e-5


def test_a_packed_row_gives_what_its_documents_give_alone() -> None:
    model = SPEC.build(0)
    tokens = torch.arange(12)[None] % 31
    document = torch.tensor([[0] * 5 + [1] * 7], dtype=torch.int32)
    packed = model(tokens, document)
    assert (packed[:, :5] - model(tokens[:, :5])).abs().max() < 1e-5
    assert (packed[:, 5:] - model(tokens[:, 5:])).abs().max() < 1e-4


@pytest.mark.parametrize("options", [{}, {"latent": None}, {"activation": "swiglu"}])
def test_flops_count_every_matmul_once_and_half_of_attention(options: dict[str, Any]) -> None:
    spec = replace(SPEC, **options)
    model = spec.build(0)
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    matrices -= model.embedding.weight.numel()
    seen = 4 * (12 + 10) if spec.latent else 4 * (8 + 8)
    assert model.flops(6) == 6 * matrices + 3 * 2 * seen * 6


def test_without_a_gate_the_inner_layer_is_four_times_as_wide() -> None:
    assert (SPEC.shape.hidden, replace(SPEC, activation="swiglu").shape.hidden) == (128, 96)


def test_adapters_reach_every_matrix() -> None:
    pytest.importorskip("peft")
    lora = Lora(base=SPEC, rank=2, targets=("qkv", "expand", "out", "up", "down"))
    module = lora.build(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(1))
    found = generate(module, PROMPTS[:2], Sampling(new_tokens=6, temperature=0.0))
    for prompt, [answer] in zip(PROMPTS[:2], found, strict=True):
        assert list(answer.tokens) == _greedy(lora.merged(module), prompt, 6)
    assert found != generate(SPEC.build(0), PROMPTS[:2], Sampling(new_tokens=6, temperature=0.0))


@pytest.mark.parametrize(
    ("options", "said", "write"),
    [
        ({"activation": "gelu"}, "activation='gelu'", 'activation="swiglu"'),
        ({"moe": Moe(experts=4, top=2)}, "relu2' with moe", 'activation="swiglu"'),
        ({"kv_heads": 2}, "kv_heads=2 with latent", "kv_heads=None, or latent=None"),
        ({"head_width": 16}, "head_width=16 with latent", "head_width=None, or latent=None"),
        ({"qk_norm": True}, "qk_norm=True with latent", "qk_norm=False, or latent=None"),
        ({"attention_bias": True}, "attention_bias=True with latent", "latent=None"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    options: dict[str, Any], said: str, write: str
) -> None:
    with pytest.raises(RecipeError) as error:
        replace(SPEC, **options)
    assert said in error.value.given
    assert write in error.value.write


@pytest.mark.parametrize("widths", [{"rank": 0}, {"rope": 3}, {"value": True}, {"nope": -1}])
def test_a_width_that_is_none_is_refused(widths: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(widths))):
        replace(LATENT, **widths)
