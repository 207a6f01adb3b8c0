import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    ArceeConfig,
    AutoModelForCausalLM,
    DeepseekV3Config,
    LlamaConfig,
    MixtralConfig,
    OlmoeConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)
from transformers.models.arcee.modeling_arcee import ArceeMLP
from transformers.utils import logging

from thalweg.errors import DataError, RecipeError
from thalweg.models.export import export
from thalweg.models.hub import Pretrained, from_hub
from thalweg.models.latent import Latent
from thalweg.models.layout import config_of, spec_from_config
from thalweg.models.moe import Moe
from thalweg.models.transformer import Llama3Rope, Transformer

logging.set_verbosity_error()
STORIES = Path(__file__).parents[2].parent / "shared" / "data" / "stories260k"
SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
WHOLE = {name: value for name, value in SMALL.items() if name != "num_key_value_heads"}
LATENT = {"kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 6, "v_head_dim": 10}
DEEPSEEK = DeepseekV3Config(
    **WHOLE, **LATENT, q_lora_rank=None, first_k_dense_replace=2, num_mtp_layers=0
)
FAMILIES = {
    "llama": LlamaConfig(**SMALL),
    "llama tied": LlamaConfig(**SMALL, tie_word_embeddings=True, head_dim=16),
    "llama3": LlamaConfig(**SMALL, rope_parameters=LLAMA3),
    "qwen2": Qwen2Config(**SMALL),
    "qwen3": Qwen3Config(**SMALL, head_dim=16),
    "mixtral": MixtralConfig(**SMALL, num_local_experts=4, num_experts_per_tok=2),
    "olmoe": OlmoeConfig(**SMALL, num_experts=8, num_experts_per_tok=3),
    "arcee": ArceeConfig(**SMALL, rms_norm_eps=1e-6),
    "deepseek": DEEPSEEK,
    "qwen3 moe": Qwen3MoeConfig(
        **SMALL,
        head_dim=16,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=24,
        norm_topk_prob=True,
    ),
}
TOKENS = torch.randint(64, (2, 40), generator=torch.Generator().manual_seed(0))


def _theirs(config: Any, folder: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too, so that a mix-up shows
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.skipif(
    not STORIES.is_dir(), reason="the stories260k data is not beside the repository"
)
def test_a_real_model_gives_the_known_logits() -> None:
    golden = json.loads((STORIES / "golden.json").read_text())
    model = Pretrained(str(STORIES)).build(0)
    logits = model(torch.tensor([golden["greedy_ids_from_bos_201"]]))[0]
    for place in (0, 50):
        known = torch.tensor(golden[f"logits_position{place}_first8"])
        assert (logits[place, :8] - known).abs().max() < 1e-4


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_model_of_transformers_comes_in(family: str, tmp_path: Path) -> None:
    theirs = _theirs(FAMILIES[family], tmp_path)
    ours = Pretrained(str(tmp_path))
    assert (ours.vocabulary, ours.positions) == (64, 64)
    assert (ours.build(0)(TOKENS) - theirs(TOKENS).logits).abs().max() < 1e-4


def test_a_plm_comes_in(tmp_path: Path) -> None:
    """transformers has no PLM: DeepSeek-V3's attention with Arcee's layer is what it computes."""
    torch.manual_seed(0)
    theirs = AutoModelForCausalLM.from_config(DEEPSEEK).eval()
    for layer in theirs.model.layers:
        layer.mlp = ArceeMLP(ArceeConfig(**SMALL))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    config = {**WHOLE, **LATENT, "model_type": "plm", "rope_theta": 10000.0, "hidden_act": "relu2"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert (Pretrained(str(tmp_path)).build(0)(TOKENS) - theirs(TOKENS).logits).abs().max() < 1e-4


def test_a_plm_goes_out_in_the_layout_of_its_authors_and_comes_back(tmp_path: Path) -> None:
    latent = Latent(rank=12, nope=8, rope=6, value=10)
    spec = Transformer(
        vocabulary=64, width=32, layers=2, heads=4, positions=64, latent=latent, norm_eps=1e-6,
        activation="relu2", tied=True, rope_theta=1e5,
    )  # fmt: skip
    model = spec.build(0)
    export(model, spec, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["PLMForCausalLM"]
    assert (config["kv_lora_rank"], config["q_lora_rank"], config["hidden_act"]) == (
        12, None, "relu2",
    )  # fmt: skip
    again, weights = from_hub(tmp_path)
    assert again == replace(spec, hidden=128)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_no_family_has_experts_behind_latent_attention() -> None:
    spec = Transformer(
        vocabulary=64, width=8, layers=1, heads=2, positions=8, moe=Moe(experts=2, top=1),
        latent=Latent(rank=4, nope=2, rope=2, value=2),
    )  # fmt: skip
    with pytest.raises(RecipeError, match="latent with moe"):
        config_of(spec)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "relu2"},
        {"latent": Latent(rank=12, nope=8, rope=6, value=10), "kv_heads": None},
        {"tied": True, "head_width": 16},
        {"qk_norm": True},
        {"attention_bias": True, "tied": True},
        {"moe": Moe(experts=4, top=2)},
        {"moe": Moe(experts=6, top=2, hidden=16), "qk_norm": True, "head_width": 16},
        {"moe": Moe(experts=4, top=3, normalised=False), "qk_norm": "whole", "tied": True},
        {
            "rope_scaling": Llama3Rope(
                factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_positions=16
            )
        },
    ],
)
def test_our_model_goes_out_and_comes_back(options: dict[str, Any], tmp_path: Path) -> None:
    spec = Transformer(
        vocabulary=64, width=32, layers=2, heads=4, positions=64, initial_std=0.2,
        rope_theta=5000.0, norm_eps=1e-6, **{"kv_heads": 2, **options},
    )  # fmt: skip
    model = spec.build(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    export(model, spec, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert (theirs(TOKENS).logits - model(TOKENS)).abs().max() < 1e-4
    again, weights = from_hub(tmp_path)
    assert again.build(0)(TOKENS).shape == (2, 40, 64)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_shards_with_an_index_are_read(tmp_path: Path) -> None:
    theirs = _theirs(FAMILIES["qwen3"], tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").is_file()
    _, whole = from_hub(tmp_path / "whole")
    _, shards = from_hub(tmp_path / "shards")
    assert all(torch.equal(whole[name], shards[name]) for name in whole)


def test_large_models_are_written_in_shards(tmp_path: Path) -> None:
    spec = Transformer(vocabulary=64, width=32, layers=2, heads=4, positions=64)
    model = spec.build(0)
    export(model, spec, tmp_path, shard_bytes=20_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(Pretrained(str(tmp_path)).build(0)(TOKENS), model(TOKENS))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert (loaded(TOKENS).logits - model(TOKENS)).abs().max() < 1e-4


def test_the_tokenizer_goes_along_and_names_the_end(tmp_path: Path) -> None:
    source, target = tmp_path / "tokenizer", tmp_path / "model"
    source.mkdir()
    (source / "tokenizer.json").write_text('{"added_tokens": [{"id": 7, "content": "<end>"}]}')
    (source / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    spec = Transformer(vocabulary=64, width=8, layers=1, heads=2, positions=8)
    export(spec.build(0), spec, target, source)
    assert (target / "tokenizer.json").is_file()
    assert json.loads((target / "generation_config.json").read_text())["eos_token_id"] == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba'"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type 'yarn'"),
        ({"model_type": "deepseek_v3", "q_lora_rank": 8}, "q_lora_rank = 8"),
        ({"model_type": "deepseek_v3", "first_k_dense_replace": 1}, "first_k_dense_replace = 1"),
        ({"model_type": "plm", "hidden_act": "silu"}, "hidden_act = 'silu'"),
    ],
)
def test_what_the_decoder_does_not_compute_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        spec_from_config({"model_type": "llama", **SMALL, **changes})


def test_older_configurations_keep_theta_beside_the_rope() -> None:
    spec = spec_from_config({"model_type": "llama", **SMALL, "rope_theta": 5e5})
    assert spec.rope_theta == 5e5


def test_no_family_has_both_options_of_attention(tmp_path: Path) -> None:
    spec = Transformer(
        vocabulary=64, width=8, layers=1, heads=2, positions=8, qk_norm=True, attention_bias=True
    )
    with pytest.raises(RecipeError, match="qk_norm=True with attention_bias"):
        export(spec.build(0), spec, tmp_path)


def test_a_module_of_another_spec_is_not_written(tmp_path: Path) -> None:
    spec = Transformer(vocabulary=64, width=8, layers=1, heads=2, positions=8)
    with pytest.raises(RecipeError, match=r"head\.weight"):
        export(Transformer(**{**vars(spec), "tied": True}).build(0), spec, tmp_path)


def test_a_folder_that_is_not_there_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="no-such-model"):
        Pretrained("nobody/no-such-model").build(0)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    _theirs(FAMILIES["llama"], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(DataError, match=r"no tensor 'model\.layers\.2"):
        from_hub(tmp_path)


@pytest.mark.parametrize(
    "moe", [Moe(experts=4, top=2, shared=8), Moe(experts=4, top=2, normalised=False)], ids=str
)
def test_experts_that_no_family_has_stay_here(moe: Moe, tmp_path: Path) -> None:
    spec = Transformer(vocabulary=64, width=8, layers=1, heads=2, positions=8, moe=moe)
    with pytest.raises(RecipeError, match="experts by softmax"):
        export(spec.build(0), spec, tmp_path)
