"""Models to post-train: with their tokenizer, adapters, references and teachers."""

from typing import NamedTuple

import torch
from torch import nn

from thalweg.core.protocols import ModelSpec
from thalweg.data.tokenizer import load_tokenizer
from thalweg.errors import DataError, RecipeError
from thalweg.models import SIZES, Decoder, HuggingFace, Lora, Pretrained, Transformer
from thalweg.recipes.parts import fresh, open_model, trained_model

__all__ = ["Reader", "adapted", "companion", "open_reader", "tokenizer_of"]


class Reader(NamedTuple):
    """A model and the tokenizer that writes its ids."""

    model: ModelSpec
    tokenizer: str
    """`bytes`, a folder, or a hub name."""


def open_reader(name: str, tokenizer: str | None, length: int) -> Reader:
    """Return a trained model with its tokenizer, or a fresh one of bytes or of a tokenizer's ids.

    Args:
        name: As in `open_model`.
        tokenizer: A folder or hub name; if not given the model's own, bytes for a fresh one.
        length: Targets of a row, for a fresh model.
    """
    if name.lower() not in SIZES:
        spec = trained_model(name)
        return Reader(spec, tokenizer_of(spec, tokenizer))
    known = tokenizer or "bytes"
    return Reader(open_model(name, load_tokenizer(known).size, length), known)


def tokenizer_of(spec: ModelSpec, named: str | None = None) -> str:
    """Return the tokenizer that was named, or the folder of a trained model, where its own lies.

    Raises:
        RecipeError: The model is a fresh one, its folder has no tokenizer, or the tokenizer has
            more ids than the model.
    """
    if named is not None:
        found = named
    elif isinstance(spec, Pretrained | HuggingFace):
        found = spec.folder
    else:
        raise fresh("a fresh model")
    try:
        ids = load_tokenizer(found).size
    except DataError as error:
        raise RecipeError(
            f"no tokenizer that can be read in '{found}'",
            expected="tokenizer.json beside the weights, or a tokenizer named apart",
            where="--tokenizer",
            write="--tokenizer bytes, or the folder of the one that the model was trained with",
        ) from error
    if ids > spec.vocabulary:
        raise RecipeError(
            f"a tokenizer of {ids} ids for a model of {spec.vocabulary}",
            expected="the tokenizer that the model was trained with",
            where=f"--tokenizer {found}",
            write="--tokenizer bytes (257 ids), or a folder with tokenizer.json",
        )
    return found


def adapted(spec: ModelSpec, rank: int) -> ModelSpec:
    """Return the model with low-rank adapters on all linear layers of its blocks; itself at 0.

    Raises:
        RecipeError: The model is a fresh one: what adapters leave alone would stay random.
    """
    if not rank:
        return spec
    if isinstance(spec, Transformer):
        raise fresh(f"--lora {rank} on a fresh model")
    return Lora(base=spec, rank=rank, alpha=2.0 * rank, targets=_linears(spec))


def companion(name: str, spec: ModelSpec, option: str, tokenizer: str | None = None) -> ModelSpec:
    """Return a reference or a teacher: a trained model that reads the same token ids.

    Args:
        name: As in `trained_model`.
        spec: The model that learns.
        option: What the command line calls it.
        tokenizer: The one named for both; if not given, each one's own is looked at.

    Raises:
        RecipeError: Its vocabulary is another: an id would mean another text to each of them.
    """
    other = trained_model(name)
    sizes = other.vocabulary == spec.vocabulary
    if not sizes or (tokenizer is None and _texts(other) != _texts(spec)):
        raise RecipeError(
            f"a model of {other.vocabulary} token ids beside one of {spec.vocabulary}",
            expected="two models of one tokenizer: an id must mean the same text to both",
            where=f"{option} {name}",
            write=f"{option} with a model of the same family",
        )
    return other


def _linears(spec: ModelSpec) -> tuple[str, ...]:
    """Return the last names of the linear layers of a model's blocks; no weight is read."""
    with torch.device("meta"):
        module = _empty(spec)
    lists = [list(part) for part in module.modules() if isinstance(part, nn.ModuleList)]
    block = max(lists, key=len)
    names = [
        name.rpartition(".")[2]
        for layer in block
        for name, part in layer.named_modules()
        if isinstance(part, nn.Linear) or type(part).__name__ == "Conv1D"
    ]
    return tuple(name for name in dict.fromkeys(names) if name not in ("gate", "router"))


def _empty(spec: ModelSpec) -> nn.Module:
    """Return the module of a trained model without its weights."""
    if isinstance(spec, Pretrained):
        return Decoder(spec.transformer)
    from transformers import AutoConfig, AutoModelForCausalLM

    assert isinstance(spec, HuggingFace)
    module: nn.Module = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(spec.folder))
    return module


def _texts(spec: ModelSpec) -> dict[str, int]:
    """Return the ids of a trained model's tokenizer by their text."""
    return dict(load_tokenizer(tokenizer_of(spec)).raw.get_vocab(with_added_tokens=True))
