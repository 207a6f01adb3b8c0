"""Hugging Face folders in, by safetensors: the families of `layout`.

`config.json` becomes a `Transformer`, the weights become float32 and fused.
"""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from thalweg.core.names import called
from thalweg.core.protocols import ModelSpec
from thalweg.errors import DataError
from thalweg.models.growth import DecoderGrowth
from thalweg.models.layout import order_of, parts_of, spec_from_config
from thalweg.models.transformer import Decoder, Transformer

__all__ = ["Pretrained", "from_hub", "locate"]


@dataclass(frozen=True)
class Pretrained:
    """A folder (or hub name) as a model.

    Llama, Qwen2, Qwen3, Arcee, Mixtral, OLMoE, Qwen3-MoE, PLM, or DeepSeek-V3 without experts.

    Raises:
        DataError: The folder has no configuration or weights, or does not exist.
        RecipeError: The model computes something that our decoder does not.
    """

    folder: str
    """A local folder, or a name on the Hugging Face hub."""

    @property
    def transformer(self) -> Transformer:
        """The decoder that the folder describes."""
        return _spec_of(str(locate(self.folder)))

    @property
    def vocabulary(self) -> int:
        """Token ids it accepts."""
        return self.transformer.vocabulary

    @property
    def positions(self) -> int:
        """Longest row it accepts."""
        return self.transformer.positions

    def growth(self, to: ModelSpec) -> DecoderGrowth:
        """Return the way to a larger decoder that computes the same.

        Raises:
            RecipeError: There is none.
        """
        return self.transformer.growth(to)

    def build(self, seed: int) -> Decoder:
        """Return the module with the folder's weights; the seed draws nothing."""
        spec, weights = from_hub(self.folder)
        decoder = Decoder(spec)
        decoder.load_state_dict(weights, assign=True)
        return decoder


def from_hub(folder: str | Path) -> tuple[Transformer, dict[str, torch.Tensor]]:
    """Return the spec of a folder and its weights as `Decoder.load_state_dict` takes them.

    Args:
        folder: A local folder, or a name on the Hugging Face hub.

    Returns:
        The spec, and float32 weights.

    Raises:
        DataError: Files or tensors are missing, unknown or of the wrong shape.
        RecipeError: The model computes something that our decoder does not.
    """
    place = locate(str(folder))
    spec = _spec_of(str(place))
    theirs = _read_tensors(place)
    ours = {}
    for name, parts in parts_of(spec).items():
        missing = [part for part in parts if part not in theirs]
        if missing:
            raise _broken(f"no tensor '{missing[0]}'", "every tensor of the configuration", place)
        ours[name] = torch.cat([theirs.pop(part).float() for part in parts])
        order = order_of(spec, name)
        if order is not None and len(order) == len(ours[name]):
            ours[name] = ours[name][order]
    for name, parameter in Decoder(spec).named_parameters():
        if parameter.ndim == 3:  # experts, below each other
            ours[name] = ours[name].reshape(len(parameter), -1, ours[name].shape[-1])
        if ours[name].shape != parameter.shape:
            raise _broken(
                f"{'+'.join(parts_of(spec)[name])} of shape {tuple(ours[name].shape)}",
                f"shape {tuple(parameter.shape)}, as config.json says",
                place,
            )
    known = {"lm_head.weight"} if spec.tied else set()
    extra = [name for name in theirs if name not in known and not name.endswith("inv_freq")]
    if extra:
        raise _broken(f"unknown tensor '{extra[0]}'", "tensors of the configuration only", place)
    return spec, ours


def locate(folder: str) -> Path:
    """Return a local folder for a folder or a hub name, fetching the latter if it is not cached.

    Raises:
        DataError: Neither a folder nor a model that can be had.
    """
    if Path(folder).is_dir():
        return Path(folder)
    if Path(folder).is_absolute() or folder.count("/") > 1:  # the hub's names are owner/name
        raise _gone(Path(folder))
    from huggingface_hub import snapshot_download

    kinds = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(folder, allow_patterns=kinds))
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"model '{folder}': {type(error).__name__}",
            expected="an existing folder, or a name on the Hugging Face hub and a network",
            where=str(Path(folder).resolve()),
            write="the path of a folder with config.json and model.safetensors",
        ) from error


def _gone(folder: Path) -> DataError:
    """Return the error for a folder that a recipe names; of a run's export, how it comes back."""
    run = folder.parent
    back = "put the folder back, with config.json and model.safetensors"
    if folder.name == "export":
        back = f"put the run '{run.name}' back: its export is what this model started from"
        if (run / "recipe.json").exists():
            back = f"thalweg export {called(run)} {shlex.quote(str(folder))}"
    return DataError(
        f"model '{folder}', which is not there",
        expected="the folder that the model is built from",
        where=str(folder.absolute()),
        write=back,
    )


def _spec_of(folder: str) -> Transformer:
    place = Path(folder) / "config.json"
    if not place.is_file():
        raise _broken("no config.json", "a Hugging Face model folder", Path(folder))
    return spec_from_config(json.loads(place.read_text(encoding="utf-8")), where=str(place))


def _read_tensors(place: Path) -> dict[str, torch.Tensor]:
    index = place / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        shards = ["model.safetensors"]
    tensors: dict[str, torch.Tensor] = {}
    for shard in shards:
        if not (place / shard).is_file():
            raise _broken(f"no {shard}", "weights as safetensors", place)
        with safe_open(str(place / shard), framework="pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}
    return tensors


def _broken(given: str, expected: str, place: Path) -> DataError:
    return DataError(
        given, expected=expected, where=str(place), write="a complete folder: save the model again"
    )
