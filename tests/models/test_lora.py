import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from thalweg.errors import RecipeError
from thalweg.models.export import export
from thalweg.models.hub import Pretrained
from thalweg.models.lora import Lora
from thalweg.models.transformer import Decoder, Transformer
from thalweg.models.wrapper import HuggingFace
from thalweg.rollouts import Sampling, generate

pytest.importorskip("peft")
BASE = Transformer(vocabulary=31, width=16, layers=2, heads=2, positions=16, initial_std=0.2)
LORA = Lora(base=BASE, rank=2, alpha=8.0, targets=("qkv", "down"))
TOKENS = torch.randint(31, (2, 9), generator=torch.Generator().manual_seed(0))


def _trained(module: torch.nn.Module) -> torch.nn.Module:
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        loss = module(TOKENS, targets_RT=TOKENS, weight_RT=torch.full((2, 9), 1 / 18)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module


def test_it_starts_as_the_base() -> None:
    module = LORA.build(0)
    assert isinstance(module, Decoder)
    assert torch.equal(module(TOKENS), BASE.build(0)(TOKENS))


def test_only_adapters_train() -> None:
    module = LORA.build(0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    _trained(module)
    changed = {name for name, value in module.state_dict().items() if (value != before[name]).any()}
    assert len(changed) == 2 * 2 * 2
    assert all("lora_" in name for name in changed)


def test_adapters_depend_on_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, again, other = (LORA.build(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    name = "blocks.0.qkv.lora_A.default.weight"
    assert torch.equal(one[name], again[name])
    assert not torch.equal(one[name], other[name])


def test_merging_keeps_the_logits_and_the_trained_module() -> None:
    module = _trained(LORA.build(0))
    merged = LORA.merged(module)
    assert set(merged.state_dict()) == set(BASE.build(0).state_dict())
    assert (merged(TOKENS) - module(TOKENS)).abs().max() < 1e-5
    assert (module(TOKENS) - BASE.build(0)(TOKENS)).abs().max() > 1e-3
    [[one]], [[two]] = (generate(m, [[1, 2]], Sampling(new_tokens=5)) for m in (merged, module))
    assert one.tokens == two.tokens


def test_export_merges(tmp_path: Path) -> None:
    module = _trained(LORA.build(0))
    export(module, LORA, tmp_path)
    assert (Pretrained(str(tmp_path)).build(0)(TOKENS) - module(TOKENS)).abs().max() < 1e-5


def test_it_adapts_a_model_of_transformers(tmp_path: Path) -> None:
    export(BASE.build(0), BASE, tmp_path)
    spec = Lora(base=HuggingFace(str(tmp_path)), rank=2, targets=("q_proj", "v_proj"))
    module = _trained(spec.build(0))
    assert (spec.merged(module)(TOKENS) - module(TOKENS)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *(({"rank": bad}, "a whole number") for bad in (0, "8", 2.5, None, True)),
        *(({"alpha": bad}, "above 0") for bad in (0, -1.0, math.nan, math.inf, "16", None, True)),
        *(({"dropout": bad}, r"in \[0, 1\)") for bad in (1.0, -0.1, math.nan, "0.1", None)),
        *(({"targets": bad}, "a tuple of names") for bad in ("q_proj", (), ["qkv"], (1,), None)),
        ({"targets": ("head",)}, "target 'head'"),
        *(({"base": bad}, "Lora.base") for bad in (Transformer, "gpt2", None)),
    ],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        replace(LORA, **changes)


def test_a_target_that_is_no_layer_is_answered_with_a_near_one() -> None:
    with pytest.raises(RecipeError, match="did you mean 'gate_up'"):
        replace(LORA, targets=("gateup",)).build(0)
