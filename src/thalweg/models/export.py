"""Write a model as a folder that transformers loads.

Weights go into one safetensors file up to `shard_bytes`, then into shards with an index.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from thalweg.core.protocols import ModelSpec
from thalweg.errors import RecipeError
from thalweg.models.hub import Pretrained
from thalweg.models.layout import config_of, order_of, parts_of, rows_of
from thalweg.models.lora import Lora
from thalweg.models.transformer import Transformer
from thalweg.models.wrapper import Wrapped

__all__ = ["export"]

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)


def export(
    module: nn.Module,
    spec: ModelSpec,
    folder: str | Path,
    tokenizer_folder: str | Path | None = None,
    *,
    shard_bytes: int = 5 * 10**9,
) -> Path:
    """Write a folder that `transformers.AutoModelForCausalLM.from_pretrained` loads.

    Args:
        module: What `spec.build` returned. Adapters of a `Lora` are merged into a copy first.
        spec: What built it: a Transformer, Pretrained, HuggingFace, or Lora of one of them.
        folder: Made if it does not exist; files of the same names are replaced.
        tokenizer_folder: Where tokenizer files are copied from.
        shard_bytes: Largest file of weights.

    Returns:
        The folder.

    Raises:
        RecipeError: No Hugging Face family has this combination of options, or the module is
            not the one of this spec.
    """
    if isinstance(spec, Lora):
        merged = spec.merged(module)
        return export(merged, spec.base, folder, tokenizer_folder, shard_bytes=shard_bytes)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    special = _copy_tokenizer(Path(tokenizer_folder), place) if tokenizer_folder else {}
    if isinstance(module, Wrapped):
        module.inner.save_pretrained(place, max_shard_size=shard_bytes)  # type: ignore[operator]  # PreTrainedModel's
        return place
    shape = spec.transformer if isinstance(spec, Pretrained) else spec
    if not isinstance(shape, Transformer):
        raise _foreign(type(shape).__name__)
    config = config_of(shape)
    tensors = _split(module, shape)
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    _write_json(place / "config.json", {**config, **special, "dtype": dtype})
    _write_json(place / "generation_config.json", {"_from_model_config": True, **special})
    _write_tensors(place, tensors, shard_bytes)
    return place


def _split(module: nn.Module, spec: Transformer) -> dict[str, torch.Tensor]:
    """Return the module's tensors under their Hugging Face names."""
    state, names = _folded(module.state_dict(), spec), parts_of(spec)
    if set(state) != set(names):
        raise _foreign("one with or without '" + sorted(set(state) ^ set(names))[0] + "'")
    tensors: dict[str, torch.Tensor] = {}
    for name, parts in names.items():
        whole, order = state[name].detach().cpu(), order_of(spec, name)
        whole = whole if order is None else whole[order.argsort()]
        stacked = whole.flatten(0, 1) if whole.ndim == 3 else whole
        pieces = torch.split(stacked, rows_of(spec, name))
        tensors |= {part: piece.contiguous() for part, piece in zip(parts, pieces, strict=True)}
    return tensors


def _folded(state: Mapping[str, torch.Tensor], spec: Transformer) -> Mapping[str, torch.Tensor]:
    """Return weights of the standard parametrisation that give the logits of a muP model.

    The multiplier of the logits goes into the last norm's gain; that of the queries into the gain
    of their norm, or into their rows of the fused matrix and its bias.
    """
    if spec.mup is None:
        return state
    out, width = dict(state), spec.shape.head_width
    scale, rows = spec.mup.query_scale(width), spec.heads * width
    out["norm.weight"] = state["norm.weight"] / spec.mup.times(spec.width)
    for name, tensor in state.items():
        if name.endswith("q_norm.weight"):
            out[name] = tensor * scale
        elif ".qkv." in name and not spec.qk_norm:
            out[name] = torch.cat([tensor[:rows] * scale, tensor[rows:]])
    return out


def _write_tensors(place: Path, tensors: Mapping[str, torch.Tensor], shard_bytes: int) -> None:
    from huggingface_hub import split_torch_state_dict_into_shards

    split = split_torch_state_dict_into_shards(dict(tensors), max_shard_size=shard_bytes)
    for file, names in split.filename_to_tensors.items():
        save_file({name: tensors[name] for name in names}, place / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        _write_json(place / "model.safetensors.index.json", index)


def _copy_tokenizer(source: Path, place: Path) -> dict[str, int]:
    """Copy tokenizer files; return the ids of the start, end and padding tokens it names."""
    for name in _TOKENIZER_FILES:
        if (source / name).is_file() and source.resolve() != place.resolve():
            shutil.copyfile(source / name, place / name)
    tokens, names = source / "tokenizer.json", source / "tokenizer_config.json"
    if not (tokens.is_file() and names.is_file()):
        return {}
    named = json.loads(names.read_text(encoding="utf-8"))
    added = json.loads(tokens.read_text(encoding="utf-8"))["added_tokens"]
    ids = {token["content"]: int(token["id"]) for token in added}
    special = {}
    for kind in ("bos", "eos", "pad"):
        token = named.get(f"{kind}_token")
        text = token.get("content") if isinstance(token, dict) else token
        if text in ids:
            special[f"{kind}_token_id"] = ids[text]
    return special


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _foreign(given: str) -> RecipeError:
    return RecipeError(
        f"a module: {given}",
        expected="the module that the spec builds, not compiled, not sharded",
        where="export",
        write="module = spec.build(0); module.load_state_dict(weights)",
    )
