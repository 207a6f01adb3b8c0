"""What the recipes share: text by name, models by name or folder, rates by size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thalweg.core.protocols import Dial, ModelSpec, Source
from thalweg.core.time import Span, share
from thalweg.data import Corpus, Mixture, build
from thalweg.data.build import home_folder
from thalweg.data.files import find_files
from thalweg.data.tokenizer import Tokenizer
from thalweg.errors import RecipeError, did_you_mean
from thalweg.models import SIZES, HuggingFace, Pretrained, Transformer, locate, size
from thalweg.monitors import HeldOut
from thalweg.optim import AdamW, Muon, OptimizerSpec
from thalweg.schedules import Blend

__all__ = [
    "Text",
    "held_out_monitor",
    "length_of",
    "mixture",
    "named_files",
    "open_model",
    "optimizer",
    "parameters_of",
    "peak_rate",
    "read_text",
    "tokenizer_of",
]


@dataclass(frozen=True)
class Text:
    """Texts by name: stores for training and, where text was held out, for measuring."""

    train: Mapping[str, Path]
    held_out: Mapping[str, Path]
    tokenizer: Tokenizer

    def held_out_sources(self, length: int) -> dict[str, Source]:
        """Return the held-out texts, in the order they lie."""
        return {
            name: Corpus(str(path), length=length, shuffle=False, name=name)
            for name, path in self.held_out.items()
        }


def named_files(data: Sequence[str], *, each_file: bool) -> dict[str, list[str]]:
    """Return the files of each source: `name=path`, or a path whose last part is the name.

    Args:
        data: Files, folders, patterns, `hf:owner/name`; with or without `name=`.
        each_file: Whether every file that a pattern or folder finds is a source of its own.

    Raises:
        DataError: No such file.
        RecipeError: Two sources of one name.
    """
    found: dict[str, list[str]] = {}
    for item in data:
        name, sign, path = item.partition("=")
        given = path if sign else item
        if each_file and not given.startswith("hf:"):
            rows = [(file.name.split(".")[0], str(file)) for file in find_files(given)]
        else:
            rows = [(name if sign else _stem(item), given)]
        for key, file in rows:
            if key in found:
                raise RecipeError(
                    f"two sources named '{key}'",
                    expected="a name for each",
                    where="--data",
                    write=f"--data {key}2={file}",
                )
            found[key] = [file]
    return found


def read_text(
    data: Mapping[str, Sequence[str]], tokenizer: str, field: str, held_out: float
) -> Text:
    """Build (or find) the store of every source, all with one tokenizer.

    Args:
        data: Files by name.
        tokenizer: As `thalweg.data.build`; a BPE is trained on all sources together.
        field: Where JSON lines and tables have their text.
        held_out: Share of each source kept for measuring.

    Raises:
        DataError: Text that cannot be read.
    """
    spec: str | Path = tokenizer
    if tokenizer.startswith("bpe") and len(data) > 1:
        every = [file for files in data.values() for file in files]
        spec = build(every, tokenizer=tokenizer, field=field, held_out=held_out).train
    stores = {
        name: build(list(files), tokenizer=spec, field=field, held_out=held_out)
        for name, files in data.items()
    }
    held = {name: s.held_out for name, s in stores.items() if s.held_out is not None}
    first = next(iter(stores.values()))
    return Text({name: s.train for name, s in stores.items()}, held, first.tokenizer)


def mixture(text: Text, length: int, weights: str, to: str) -> Source:
    """Return one source, or a mixture whose weights are fixed or move linearly over the phase.

    Args:
        text: The stores.
        length: Targets of a row.
        weights: `web=3,code=1`; empty for the sizes of the sources.
        to: Weights at the end; empty for no change.

    Raises:
        RecipeError: An unknown name, or a weight that is no number.
    """
    corpora = {n: Corpus(str(p), length=length, name=n) for n, p in text.train.items()}
    if len(corpora) == 1 and not weights and not to:
        return next(iter(corpora.values()))
    sizes = {name: float(corpus.size) for name, corpus in corpora.items()}
    start = _weights(weights, tuple(corpora)) if weights else sizes
    dial: Dial = Blend(start, _weights(to, tuple(corpora))) if to else start
    return Mixture(dict(corpora), dial)


def open_model(name: str, vocabulary: int, length: int) -> ModelSpec:
    """Return the model of a size's name, a folder, a run, or a hub name.

    Args:
        name: `10m`; a folder that `transformers` loads; the name of a run with an export; or a
            name on the Hugging Face hub.
        vocabulary: Token ids of the data, for a fresh model.
        length: Targets of a row, for a fresh model.

    Raises:
        RecipeError: Neither a size nor anything that can be found.
    """
    if name.lower() in SIZES:
        return size(name, _rounded(vocabulary), length, qk_norm=True)
    exported = home_folder() / name / "export"
    folder = str(exported) if (exported / "config.json").exists() else name
    if not Path(folder).exists() and "/" not in name:
        raise RecipeError(
            f"model '{name}'",
            expected="a size, a folder, a run with an export/ folder, or owner/name of the hub",
            where="--model",
            write=did_you_mean(name, SIZES),
        )
    path = str(locate(folder))
    try:
        spec = Pretrained(path)
        _ = spec.vocabulary
    except RecipeError:  # a layout that is not ours: run it through transformers
        return HuggingFace(path)
    return spec


def tokenizer_of(spec: ModelSpec) -> str:
    """Return the folder of a pretrained model, where its tokenizer lies.

    Raises:
        RecipeError: The model is a fresh one.
    """
    if isinstance(spec, Pretrained | HuggingFace):
        return spec.folder
    raise RecipeError(
        "a fresh model",
        expected="a trained one: a run with an export/ folder, a folder or a hub name",
        where="--model",
        write="thalweg train pretrain ... first, then --model RUN",
    )


def peak_rate(parameters: float) -> float:
    """Return a peak learning rate for AdamW: 4e-3 at 1M parameters, falling with their 4th root.

    A starting point from a few runs of 0.3M to 10M parameters here, not a law.

    Example:
        >>> round(peak_rate(1e6), 6)
        0.004
    """
    return float(4e-3 * (1e6 / parameters) ** 0.25)


def optimizer(kind: Literal["adamw", "muon"], lr: Dial, matrix_lr: Dial) -> OptimizerSpec:
    """Return the optimizer of a recipe: AdamW, or Muon for the matrices with AdamW for the rest."""
    adam = AdamW(lr=lr, betas=(0.9, 0.95), weight_decay=0.1)
    return adam if kind == "adamw" else Muon(lr=matrix_lr, adam=adam, weight_decay=0.01)


def held_out_monitor(text: Text, length: int, most: int = 64) -> tuple[HeldOut, ...]:
    """Return the monitor of held-out loss, if text was held out."""
    sources = text.held_out_sources(length)
    return (HeldOut(sources, every=share(0.05), most=most),) if sources else ()


def parameters_of(spec: ModelSpec) -> float:
    """Return about how many weights a fresh decoder has; 1e8 for what is not ours."""
    if not isinstance(spec, Transformer):
        return 1e8
    width, layers, hidden = spec.width, spec.layers, spec.shape.hidden
    return float(spec.vocabulary * width + layers * (4 * width * width + 3 * width * hidden))


def length_of(steps: int | None, tokens: float | None, default: Span) -> int | Span:
    """Return the length of a phase from two exclusive options.

    Raises:
        RecipeError: Both were given.
    """
    if steps is not None and tokens is not None:
        raise RecipeError(
            f"--steps {steps} and --tokens {tokens:g}",
            expected="one of the two",
            where="the length of the run",
            write=f"--tokens {tokens:g}",
        )
    if steps is not None:
        return steps
    return Span(tokens, "tokens") if tokens is not None else default


def _stem(path: str) -> str:
    """Return a short name for a path or pattern: its last part without wildcards and suffixes."""
    parts = [p for p in Path(path.removeprefix("hf:")).parts if "*" not in p and "?" not in p]
    return (parts[-1].split(".")[0] if parts else "") or "text"


def _weights(text: str, names: tuple[str, ...]) -> dict[str, float]:
    values = dict.fromkeys(names, 0.0)
    for item in text.split(","):
        name, _, number = item.partition("=")
        if name.strip() not in values:
            raise RecipeError(
                f"weight for '{name.strip()}'",
                expected="a source: " + ", ".join(names),
                where="--weights",
                write=did_you_mean(name.strip(), names),
            )
        try:
            values[name.strip()] = float(number)
        except ValueError as error:
            raise RecipeError(
                f"weight '{item}'",
                expected="name=number",
                where="--weights",
                write=f"--weights {name.strip()}=1",
            ) from error
    return values


def _rounded(vocabulary: int) -> int:
    """Return the vocabulary rounded up to 64: matrix products like it, spare ids are never used."""
    return -(-vocabulary // 64) * 64
