"""How our decoder's configuration and tensors are named in Hugging Face folders.

Nine families share one layout: Llama (SmolLM2 is one), Qwen2 (a bias on queries, keys, values),
Qwen3 (queries and keys normalised a head) and Arcee (squared ReLU); Mixtral, Qwen3-MoE and OLMoE
(queries and keys normalised whole) with experts, one tensor each, which ours stack; DeepSeek-V3 and
PLM (squared ReLU) with latent attention, dense layers and whole queries. What our decoder does not
compute (sliding windows, other activations, other rotary stretches) is refused, never approximated.

transformers 5.23 has no PLM: its folders follow huggingface/transformers models/plm as published by
its authors (names of tensors and options), which is DeepSeek-V3's attention and Arcee's layer.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch

from thalweg.errors import RecipeError
from thalweg.models.latent import Latent
from thalweg.models.moe import Moe
from thalweg.models.transformer import Llama3Rope, Transformer

__all__ = ["config_of", "order_of", "parts_of", "rows_of", "spec_from_config"]

_FAMILIES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "olmoe": "OlmoeForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "arcee": "ArceeForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "plm": "PLMForCausalLM",
}
_LATENT = ("deepseek_v3", "plm")
_SQUARED = ("arcee", "plm")
_NORMALISED: dict[str, bool | Literal["whole"]] = {
    "qwen3": True,
    "qwen3_moe": True,
    "olmoe": "whole",
}
_LAYER = {  # one tensor of ours: the tensors of theirs, stacked along the rows
    "attention_norm.weight": ("input_layernorm.weight",),
    "qkv.weight": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    "qkv.bias": ("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"),
    "q_norm.weight": ("self_attn.q_norm.weight",),
    "k_norm.weight": ("self_attn.k_norm.weight",),
    "out.weight": ("self_attn.o_proj.weight",),
    "mlp_norm.weight": ("post_attention_layernorm.weight",),
    "gate_up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    "down.weight": ("mlp.down_proj.weight",),
    "up.weight": ("mlp.up_proj.weight",),
    "latent.qkv.weight": ("self_attn.q_proj.weight", "self_attn.kv_a_proj_with_mqa.weight"),
    "latent.norm.weight": ("self_attn.kv_a_layernorm.weight",),
    "latent.expand.weight": ("self_attn.kv_b_proj.weight",),
}
_MIXTURE = {  # gate, up, down of an expert
    "mixtral": ("block_sparse_moe", "w1", "w3", "w2"),
    "olmoe": ("mlp", "gate_proj", "up_proj", "down_proj"),
    "qwen3_moe": ("mlp", "gate_proj", "up_proj", "down_proj"),
}
_OUTSIDE = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
}


def spec_from_config(config: Mapping[str, Any], *, where: str = "config.json") -> Transformer:
    """Return the decoder that a Hugging Face configuration describes.

    Args:
        config: The content of `config.json`.
        where: Named in errors.

    Raises:
        RecipeError: An option that our decoder does not compute.
    """
    family = config.get("model_type")
    if family not in _FAMILIES:
        raise _unsupported(f"model_type '{family}'", "one of " + ", ".join(_FAMILIES), where)
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    _refuse_others(config, family, rope, where)
    heads = int(config["num_attention_heads"])
    grouped = family not in _LATENT
    return Transformer(
        vocabulary=int(config["vocab_size"]),
        width=int(config["hidden_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        positions=int(config["max_position_embeddings"]),
        kv_heads=int(config.get("num_key_value_heads") or heads) if grouped else None,
        hidden=int(config["intermediate_size"]),
        head_width=int(config.get("head_dim") or config["hidden_size"] // heads)
        if grouped
        else None,
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        rope_scaling=_stretch_from(rope, int(config["max_position_embeddings"]), where),
        norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        qk_norm=_NORMALISED.get(family, False),
        attention_bias=family == "qwen2",
        tied=bool(config.get("tie_word_embeddings", False)),
        initial_std=float(config.get("initializer_range", 0.02)),
        moe=_moe_from(config) if family in _MIXTURE else None,
        activation="relu2" if family in _SQUARED else "swiglu",
        latent=None if grouped else _latent_from(config),
    )


def _refuse_others(
    config: Mapping[str, Any], family: str, rope: Mapping[str, Any], where: str
) -> None:
    """Refuse what our decoder does not compute."""
    layers, activation = int(config["num_hidden_layers"]), "relu2" if family in _SQUARED else "silu"
    for name, value, right in (
        ("hidden_act", config.get("hidden_act", activation), activation),
        ("mlp_bias", config.get("mlp_bias", False), False),
        ("attention_bias", config.get("attention_bias", False), False),
        ("use_sliding_window", config.get("use_sliding_window", False), False),
        ("partial_rotary_factor", rope.get("partial_rotary_factor", 1.0), 1.0),
        ("clip_qkv", config.get("clip_qkv"), None),
        ("decoder_sparse_step", config.get("decoder_sparse_step", 1), 1),
        ("mlp_only_layers", list(config.get("mlp_only_layers") or []), []),
        ("sliding_window", config.get("sliding_window") if family == "mixtral" else None, None),
        ("q_lora_rank", config.get("q_lora_rank"), None),
        ("rope_interleave", config.get("rope_interleave", True), True),
        ("first_k_dense_replace", min(config.get("first_k_dense_replace", layers), layers), layers),
    ):
        if value != right:
            raise _unsupported(f"{name} = {value!r}", f"{name} = {right!r}", where)


def config_of(spec: Transformer) -> dict[str, Any]:
    """Return the content of `config.json` for a spec.

    Raises:
        RecipeError: No family has this combination of norms, biases and experts.
    """
    family = _family_of(spec)
    kv_heads, hidden, head_width = spec.shape
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": spec.rope_theta}
    if spec.rope_scaling is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": spec.rope_scaling.factor,
            "low_freq_factor": spec.rope_scaling.low_freq_factor,
            "high_freq_factor": spec.rope_scaling.high_freq_factor,
            "original_max_position_embeddings": spec.rope_scaling.original_positions,
        }
    return {
        "architectures": [_FAMILIES[family]],
        "model_type": family,
        "vocab_size": spec.vocabulary,
        "hidden_size": spec.width,
        "intermediate_size": hidden,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_width,
        "max_position_embeddings": spec.positions,
        "hidden_act": "relu2" if family in _SQUARED else "silu",
        "rms_norm_eps": spec.norm_eps,
        "rope_parameters": rope,
        "rope_theta": spec.rope_theta,
        "attention_bias": False,
        "tie_word_embeddings": spec.tied,
        "initializer_range": spec.initial_std,
        "use_cache": True,
        **({"mlp_bias": False} if family in ("llama", "arcee") else {}),
        **(_widths_of(spec.latent, family, spec.layers) if spec.latent else {}),
        **(_experts_of(spec.moe, hidden, family) if spec.moe else {}),
    }


def parts_of(spec: Transformer) -> dict[str, tuple[str, ...]]:
    """Return for each of our tensors the Hugging Face tensors it is made of."""
    plain, dense = spec.latent is None, spec.moe is None
    gated = spec.activation == "swiglu"
    present = {
        "qkv.weight": plain,
        "qkv.bias": plain and spec.attention_bias,
        "q_norm.weight": bool(spec.qk_norm),
        "k_norm.weight": bool(spec.qk_norm),
        "latent.qkv.weight": not plain,
        "latent.norm.weight": not plain,
        "latent.expand.weight": not plain,
        "gate_up.weight": dense and gated,
        "up.weight": dense and not gated,
        "down.weight": dense,
    }
    names: dict[str, tuple[str, ...]] = {
        ours: (theirs,)
        for ours, theirs in _OUTSIDE.items()
        if not (spec.tied and ours == "head.weight")
    }
    inside = {ours: parts for ours, parts in _LAYER.items() if present.get(ours, True)}
    inside |= _mixture_parts(spec.moe, _MIXTURE[_family_of(spec)]) if spec.moe else {}
    for layer in range(spec.layers):
        for ours, parts in inside.items():
            theirs = tuple(f"model.layers.{layer}.{part}" for part in parts)
            names[f"blocks.{layer}.{ours}"] = theirs
    return names


def rows_of(spec: Transformer, name: str) -> list[int] | int:
    """Return how many rows of a fused tensor, experts below each other, go to each part."""
    kv_heads, hidden, width = spec.shape
    if spec.latent and ".qkv." in name:
        return [spec.heads * width, spec.latent.cached]
    if ".qkv." in name:
        return [spec.heads * width, kv_heads * width, kv_heads * width]
    if name.endswith("mixture.down"):
        return spec.width
    inner = spec.moe.width_of(hidden) if spec.moe else hidden
    return inner if ".gate_up" in name else 1 << 62


def order_of(spec: Transformer, name: str) -> torch.Tensor | None:
    """Return the row of their stacked tensors that each row of ours is; None: the same."""
    latent = spec.latent if name.endswith("latent.qkv.weight") else None
    return None if latent is None else latent.interleaved(spec.heads)


def _family_of(spec: Transformer) -> str:
    """Return the family that computes what a spec says."""
    if spec.embedding is not None:
        raise RecipeError(
            f"embedding={spec.embedding!r}",
            expected="tokens alone at the input: no family reads grams",
            where="export",
            write="Transformer(embedding=None, ...), or the run's own checkpoint",
        )
    if spec.latent is not None:
        if spec.moe is not None:
            raise _unsupported("latent with moe", "a feed-forward layer without experts", "export")
        return "plm" if spec.activation == "relu2" else "deepseek_v3"
    if spec.activation == "relu2":
        if spec.qk_norm or spec.attention_bias:
            raise _unsupported("relu2 with norms or biases of queries", "neither", "export")
        return "arcee"
    if spec.moe is None:
        if spec.qk_norm == "whole" or (spec.qk_norm and spec.attention_bias):
            given = f"qk_norm={spec.qk_norm!r} with attention_bias={spec.attention_bias}"
            raise _unsupported(given, "norms a head, or a bias, or neither", "export")
        return "qwen3" if spec.qk_norm else "qwen2" if spec.attention_bias else "llama"
    plain = spec.moe.score == "softmax" and not (spec.moe.shared or spec.moe.bias)
    if not plain or spec.attention_bias or not (spec.qk_norm or spec.moe.normalised):
        expected = "experts by softmax, no shared one, no bias, weights normalised or qk_norm"
        raise _unsupported(repr(spec.moe), expected, "export")
    if spec.qk_norm == "whole" and spec.shape.head_width * spec.heads != spec.width:
        raise _unsupported(f"head_width={spec.shape.head_width}", "width / heads", "export")
    named = {kind: family for family, kind in _NORMALISED.items() if family in _MIXTURE}
    return named.get(spec.qk_norm, "mixtral")


def _moe_from(config: Mapping[str, Any]) -> Moe:
    mixtral = config["model_type"] == "mixtral"
    return Moe(
        experts=int(config.get("num_local_experts") or config["num_experts"]),
        top=int(config["num_experts_per_tok"]),
        hidden=int(config.get("moe_intermediate_size") or config["intermediate_size"]),
        normalised=mixtral or bool(config.get("norm_topk_prob", False)),
    )


def _experts_of(moe: Moe, hidden: int, family: str) -> dict[str, Any]:
    """Return the part of a configuration that speaks of experts."""
    inner = moe.width_of(hidden)
    own: dict[str, dict[str, Any]] = {
        "mixtral": {"num_local_experts": moe.experts, "intermediate_size": inner},
        "olmoe": {"num_experts": moe.experts, "intermediate_size": inner, "clip_qkv": None},
        "qwen3_moe": {
            "num_experts": moe.experts,
            "moe_intermediate_size": inner,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        },
    }
    normalised = {} if family == "mixtral" else {"norm_topk_prob": moe.normalised}
    return {"num_experts_per_tok": moe.top, **own[family], **normalised}


def _latent_from(config: Mapping[str, Any]) -> Latent:
    return Latent(
        rank=int(config["kv_lora_rank"]),
        nope=int(config["qk_nope_head_dim"]),
        rope=int(config["qk_rope_head_dim"]),
        value=int(config["v_head_dim"]),
    )


def _widths_of(latent: Latent, family: str, layers: int) -> dict[str, Any]:
    """Return the part of a configuration that speaks of latent attention."""
    dense = {"first_k_dense_replace": layers, "num_nextn_predict_layers": 0}
    return {
        "kv_lora_rank": latent.rank,
        "q_lora_rank": None,
        "qk_nope_head_dim": latent.nope,
        "qk_rope_head_dim": latent.rope,
        "v_head_dim": latent.value,
        "head_dim": latent.rope,
        "rope_interleave": True,
        **(dense if family == "deepseek_v3" else {}),
    }


def _mixture_parts(moe: Moe, names: tuple[str, str, str, str]) -> dict[str, tuple[str, ...]]:
    place, gate, up, down = names
    experts = [f"{place}.experts.{number}" for number in range(moe.experts)]
    return {
        "mixture.router": (f"{place}.gate.weight",),
        "mixture.gate_up": tuple(f"{one}.{part}.weight" for one in experts for part in (gate, up)),
        "mixture.down": tuple(f"{one}.{down}.weight" for one in experts),
    }


def _stretch_from(rope: Mapping[str, Any], positions: int, where: str) -> Llama3Rope | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise _unsupported(f"rope_type '{kind}'", "default or llama3", where)
    return Llama3Rope(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_positions=int(rope.get("original_max_position_embeddings") or positions),
    )


def _unsupported(given: str, expected: str, where: str) -> RecipeError:
    return RecipeError(
        given,
        expected=expected,
        where=where,
        write="HuggingFace(folder), which runs any model of transformers",
    )
