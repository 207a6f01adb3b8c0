"""What the recipes share: text by name, models by name or folder, rates by size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Literal

from thalweg.core.names import home_folder
from thalweg.core.protocols import Dial, ModelSpec, Source
from thalweg.core.time import Span, share
from thalweg.data import Corpus, Mixture, build, temperature, unimax
from thalweg.data.files import find_files
from thalweg.data.tokenizer import Tokenizer
from thalweg.data.weights import least_epochs
from thalweg.errors import RecipeError, did_you_mean
from thalweg.models import SIZES, HuggingFace, Pretrained, Transformer, locate, size
from thalweg.monitors import HeldOut
from thalweg.optim import AdamW, Muon, OptimizerSpec
from thalweg.schedules import Blend

__all__ = [
    "Text",
    "fresh",
    "held_out_monitor",
    "length_of",
    "mixture",
    "named_files",
    "open_model",
    "optimizer",
    "parameters_of",
    "peak_rate",
    "read_text",
    "trained_model",
]


@dataclass(frozen=True)
class Text:
    """Texts by name: stores for training and, where text was held out, for measuring."""

    train: Mapping[str, Path]
    held_out: Mapping[str, Path]
    tokenizer: Tokenizer

    def held_out_sources(self, length: int) -> dict[str, Source]:
        """Return the held-out texts, in one order for all: the first rows are of all places."""
        return {
            name: Corpus(str(path), length=length, name=name, seed=0)
            for name, path in self.held_out.items()
        }


def named_files(data: Sequence[str], *, each_file: bool) -> dict[str, list[str]]:
    """Return the files of each source: `name=path`, or a path whose last part is the name.

    Args:
        data: Files, folders, patterns, `hf:owner/name`; with or without `name=`. What names
            something on disk as it stands is a path, whatever signs it has.
        each_file: Whether every file that a pattern or folder finds is a source of its own.

    Raises:
        DataError: No such file.
        RecipeError: Two sources of one name, an empty path, or a name that no dial can have.
    """
    found: dict[str, list[str]] = {}
    for item in data:
        name, sign, path = ("", "", "") if _is_path(item) else item.partition("=")
        given = path if sign else item
        if not given or (sign and not name) or "." in name * bool(sign):
            raise RecipeError(
                f"--data '{item}'",
                expected="a path, or name=path; a name has no dot",
                where="--data",
                write=f"--data {name.replace('.', '-') or 'web'}={path or 'corpus/web.txt'}",
            )
        if each_file and not given.startswith("hf:"):
            rows = [(_stem(file.name), str(file)) for file in find_files(given)]
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
        every = [list(files) for files in data.values()]
        spec = build(every, tokenizer=tokenizer, field=field, held_out=held_out).train
    stores = {
        name: build(list(files), tokenizer=spec, field=field, held_out=held_out)
        for name, files in data.items()
    }
    held = {name: s.held_out for name, s in stores.items() if s.held_out is not None}
    first = next(iter(stores.values()))
    return Text({name: s.train for name, s in stores.items()}, held, first.tokenizer)


def mixture(text: Text, length: int, weights: str, to: str, budget: float = 0.0) -> Source:
    """Return one source, or a mixture whose weights are fixed or move linearly over the phase.

    Args:
        text: The stores.
        length: Targets of a row.
        weights: `web=3,code=1`, `unimax:EPOCHS`, `temperature:TAU`; empty for the sizes.
        to: Weights at the end, as `web=1,code=3`; empty for no change. Their sum does not matter:
            shares move on lines.
        budget: Targets of the run, for `unimax`.

    Raises:
        RecipeError: An unknown name, a weight that is no number, or a cap that the budget breaks.
    """
    corpora = {n: Corpus(str(p), length=length, name=n) for n, p in text.train.items()}
    if len(corpora) == 1 and not weights and not to:
        return next(iter(corpora.values()))
    sizes = {name: float(corpus.size) for name, corpus in corpora.items()}
    start = _start(weights, sizes, budget)
    if not to:
        _refuse_unread(start)
        return Mixture(dict(corpora), start)
    end = _weights(to, tuple(corpora), "--to")
    if not sum(end.values()) > 0:
        raise RecipeError(
            f"--to {to}", expected="a weight above 0", where="--to", write=f"--to {min(end)}=1"
        )
    if not weights:
        start = temperature(sizes)  # shares, which a plan shows better than tokens
    _refuse_unread({name: start[name] + end[name] for name in end})
    scale = sum(start.values()) / sum(end.values())
    return Mixture(dict(corpora), Blend(start, {name: scale * end[name] for name in end}))


def open_model(name: str, vocabulary: int, length: int) -> ModelSpec:
    """Return the model of a size's name, a folder, a run, or a hub name.

    Args:
        name: `10m`; a folder that `transformers` loads; the name of a run with an export; or a
            name on the Hugging Face hub.
        vocabulary: Token ids of the data, for a fresh model.
        length: Targets of a row, for a fresh model.

    Raises:
        RecipeError: Neither a size nor anything that can be found, or rows of nothing.
    """
    if length < 1:
        raise RecipeError(
            f"--length {length}", expected="1 or more", where="--length", write="--length 256"
        )
    if name.lower() in SIZES:
        return size(name, _rounded(vocabulary), length, qk_norm=True)
    return trained_model(name)


def trained_model(name: str) -> ModelSpec:
    """Return the model of a folder, a run, or a hub name.

    Args:
        name: A folder that `transformers` loads; the name of a run with an export; or a name on
            the Hugging Face hub.

    Raises:
        RecipeError: A size, whose weights nobody has trained, or nothing that can be found.
    """
    if name.lower() in SIZES:
        raise fresh(f"'{name}', a fresh model")
    exported = home_folder() / name / "export"
    folder = str(exported) if (exported / "config.json").exists() else name
    if not Path(folder).exists() and "/" not in name:
        raise RecipeError(
            f"model '{name}'",
            expected="a size, a folder, a run with an export/ folder, or owner/name of the hub",
            where="--model",
            write=did_you_mean(name, SIZES),
        )
    path = str(locate(folder).absolute())  # a run goes on from whatever folder
    try:
        spec = Pretrained(path)
        _ = spec.vocabulary
    except RecipeError:  # a layout that is not ours: run it through transformers
        return HuggingFace(path)
    return spec


def fresh(given: str) -> RecipeError:
    """Return the refusal of a fresh model where a trained one is needed."""
    return RecipeError(
        given,
        expected="a trained one: a run with an export/ folder, a folder or a hub name",
        where="--model",
        write="thalweg train pretrain ... first, then --model RUN",
    )


def peak_rate(spec: ModelSpec, kind: Literal["muon", "adamw"]) -> float:
    """Return a peak learning rate for a fresh model: a starting point from a few runs, not a law.

    With Muon 6e-3 at width 128, falling with the root of the width: so do the steps of its
    matrices keep their spectral norm. AdamW for all: 2e-3 at 1M parameters, falling with their
    4th root.

    Example:
        >>> round(peak_rate(size("10m", 4096, 256), "muon"), 4)
        0.0042
    """
    if kind == "adamw":
        return float(2e-3 * (1e6 / parameters_of(spec)) ** 0.25)
    width = spec.width if isinstance(spec, Transformer) else 1024
    return float(6e-3 * (128 / width) ** 0.5)


def optimizer(kind: Literal["muon", "adamw"], lr: Dial) -> OptimizerSpec:
    """Return the optimizer of a recipe: Muon for the matrices with AdamW for the rest, or AdamW.

    Both parts of Muon have the same rate, in AdamW's currency (arXiv:2502.16982).
    """
    if kind == "adamw":
        return AdamW(lr=lr, betas=(0.9, 0.95), weight_decay=0.1)
    rest = AdamW(lr=1.0, betas=(0.9, 0.95), weight_decay=0.1)
    return Muon(lr=lr, adam=rest, weight_decay=0.1, scale="match_rms_adamw", together=True)


def held_out_monitor(text: Text, length: int) -> tuple[HeldOut, ...]:
    """Return the monitor of held-out loss, ten times a run, if text was held out.

    Its 64 rows are shared by the sources, four each at least: measuring costs the same with one
    text and with a dozen, below 1 % of a run of 800 steps of 32 rows.
    """
    sources = text.held_out_sources(length)
    each = max(4, 64 // max(1, len(sources)))
    return (HeldOut(sources, every=share(0.1), most=each),) if sources else ()


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
    """Return a short name for a path or pattern: its last part without wildcards and suffixes.

    Of `lang=en` that is `en`: in weights, an equals sign ends a name.
    """
    parts = [p for p in Path(path.removeprefix("hf:")).parts if "*" not in p and "?" not in p]
    return (parts[-1].split(".")[0].rpartition("=")[2] if parts else "") or "text"


def _is_path(item: str) -> bool:
    return Path(item).expanduser().exists() or bool(glob(item, recursive=True))


def _start(weights: str, sizes: dict[str, float], budget: float) -> dict[str, float]:
    """Return weights by name: written one by one, by a rule, or the sizes."""
    if not weights:
        return sizes
    rule, _, number = weights.partition(":")
    if rule not in ("unimax", "temperature"):
        return _weights(weights, tuple(sizes), "--weights")
    where = f"--weights {weights}"
    try:
        value = float(number)
    except ValueError as error:
        wrong = RecipeError(where, expected="a number", where=where, write=f"--weights {rule}:4")
        raise wrong from error
    try:
        return temperature(sizes, value) if rule == "temperature" else unimax(sizes, budget, value)
    except RecipeError as error:
        most, cap = value * sum(sizes.values()), least_epochs(sizes, budget)
        write = f"--tokens {most:.12g}, --weights unimax:{cap:g}, or more text"
        if rule == "temperature" or not value > 0:
            write = f"--weights {rule}:4"
        raise RecipeError(error.given, expected=error.expected, where=where, write=write) from error


def _weights(text: str, names: tuple[str, ...], option: str) -> dict[str, float]:
    values = dict.fromkeys(names, 0.0)
    items = text.split(",")
    for place, item in enumerate(items):
        name, _, number = item.partition("=")
        twice = [i for i in items[:place] if i.partition("=")[0].strip() == name.strip()]
        if twice:
            raise RecipeError(
                f"two weights for '{name.strip()}': {twice[0]} and {item}",
                expected="one weight a source",
                where=option,
                write=f"{option} " + ",".join(i for i in items if i not in twice),
            )
        if name.strip() not in values:
            raise RecipeError(
                f"weight for '{name.strip()}'",
                expected="a source: " + ", ".join(names),
                where=option,
                write=did_you_mean(name.strip(), names),
            )
        try:
            values[name.strip()] = float(number)
        except ValueError:
            values[name.strip()] = math.nan
        if not 0 <= values[name.strip()] < math.inf:
            raise RecipeError(
                f"weight '{item}'",
                expected="name=number, a number of 0 or more",
                where=option,
                write=f"{option} {name.strip()}=1",
            )
    return values


def _refuse_unread(weights: Mapping[str, float]) -> None:
    """Refuse a source that no step would read: most likely its weight was forgotten."""
    unread = [name for name, weight in weights.items() if weight == 0]
    if unread and len(unread) < len(weights):
        raise RecipeError(
            f"no weight for '{unread[0]}'",
            expected="a weight above 0 for every source, at the start or the end of the run",
            where="--weights",
            write=f"{unread[0]}=1 among the weights, or leave out --data {unread[0]}=...",
        )


def _rounded(vocabulary: int) -> int:
    """Return the vocabulary rounded up to 64: matrix products like it, spare ids are never used."""
    return -(-vocabulary // 64) * 64
