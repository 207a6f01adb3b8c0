"""How our decoder's configuration and tensors are named in Hugging Face folders.

Three families share one layout: Llama (SmolLM2 is one), Qwen2 (a bias on queries, keys, values) and
Qwen3 (queries and keys normalised). What our decoder does not compute (sliding windows, other
activations, other rotary stretches) is refused, never approximated.
"""

from collections.abc import Mapping
from typing import Any

from thalweg.errors import RecipeError
from thalweg.models.transformer import Llama3Rope, Transformer

__all__ = ["config_of", "parts_of", "rows_of", "spec_from_config"]

_FAMILIES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
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
    for name, value, right in (
        ("hidden_act", config.get("hidden_act", "silu"), "silu"),
        ("mlp_bias", config.get("mlp_bias", False), False),
        ("attention_bias", config.get("attention_bias", False), False),
        ("use_sliding_window", config.get("use_sliding_window", False), False),
        ("partial_rotary_factor", rope.get("partial_rotary_factor", 1.0), 1.0),
    ):
        if value != right:
            raise _unsupported(f"{name} = {value!r}", f"{name} = {right!r}", where)
    heads = int(config["num_attention_heads"])
    return Transformer(
        vocabulary=int(config["vocab_size"]),
        width=int(config["hidden_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        positions=int(config["max_position_embeddings"]),
        kv_heads=int(config.get("num_key_value_heads") or heads),
        hidden=int(config["intermediate_size"]),
        head_width=int(config.get("head_dim") or config["hidden_size"] // heads),
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        rope_scaling=_stretch_from(rope, int(config["max_position_embeddings"]), where),
        norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        qk_norm=family == "qwen3",
        attention_bias=family == "qwen2",
        tied=bool(config.get("tie_word_embeddings", False)),
        initial_std=float(config.get("initializer_range", 0.02)),
    )


def config_of(spec: Transformer) -> dict[str, Any]:
    """Return the content of `config.json` for a spec.

    Raises:
        RecipeError: No family has both `qk_norm` and `attention_bias`.
    """
    if spec.qk_norm and spec.attention_bias:
        raise _unsupported("qk_norm with attention_bias", "at most one of them", "export")
    family = "qwen3" if spec.qk_norm else "qwen2" if spec.attention_bias else "llama"
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
        "hidden_act": "silu",
        "rms_norm_eps": spec.norm_eps,
        "rope_parameters": rope,
        "rope_theta": spec.rope_theta,
        "attention_bias": False,
        "tie_word_embeddings": spec.tied,
        "initializer_range": spec.initial_std,
        "use_cache": True,
    } | ({} if family != "llama" else {"mlp_bias": False})


def parts_of(spec: Transformer) -> dict[str, tuple[str, ...]]:
    """Return for each of our tensors the Hugging Face tensors it is made of."""
    absent = {
        "qkv.bias": not spec.attention_bias,
        "q_norm.weight": not spec.qk_norm,
        "k_norm.weight": not spec.qk_norm,
    }
    names: dict[str, tuple[str, ...]] = {
        ours: (theirs,)
        for ours, theirs in _OUTSIDE.items()
        if not (spec.tied and ours == "head.weight")
    }
    for layer in range(spec.layers):
        for ours, parts in _LAYER.items():
            if not absent.get(ours, False):
                theirs = tuple(f"model.layers.{layer}.{part}" for part in parts)
                names[f"blocks.{layer}.{ours}"] = theirs
    return names


def rows_of(spec: Transformer, name: str) -> list[int] | int:
    """Return how many rows of a fused tensor go to each part."""
    kv_heads, hidden, width = spec.shape
    if ".qkv." in name:
        return [spec.heads * width, kv_heads * width, kv_heads * width]
    return hidden if ".gate_up." in name else 1 << 62


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
