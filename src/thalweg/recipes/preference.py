"""Preference learning and unlearning from files: pairs of answers, or answers to forget.

source  Preferences (a better and a worse answer a row), or Pairs for npo, with text to keep beside
do      Score(ref, ...) where the algorithm compares with a reference, Learn(policy, ...)
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from thalweg.core.moves import Learn
from thalweg.core.protocols import Dial, Move, Source
from thalweg.core.recipe import Compute, Phase, Recipe
from thalweg.core.time import Time, share
from thalweg.core.weigh import Each, PerRow, TokenMean
from thalweg.data import Mixture, Pairs, Preferences, build_pairs, build_preferences
from thalweg.data.files import find_files
from thalweg.data.rows import Overlong
from thalweg.errors import RecipeError
from thalweg.objectives import METHODS, Forget, Likelihood, Method, Sum, WeightOf
from thalweg.optim import AdamW
from thalweg.recipes import answers, parts, readers
from thalweg.schedules import Linear, Warmup

__all__ = ["recipe"]

Offline: TypeAlias = Literal["dpo", "ipo", "slic", "simpo", "redi", "npo"]


def recipe(
    model: str,
    data: list[str],
    algorithm: Offline = "dpo",
    beta: float | None = None,
    reference: str | None = None,
    retain: list[str] | None = None,
    prompt: str = "prompt",
    chosen: str = "chosen",
    rejected: str = "rejected",
    answer: str = "answer",
    template: str | None = None,
    tokenizer: str | None = None,
    epochs: float = 1.0,
    steps: int | None = None,
    length: int = 1024,
    overlong: Overlong = "refuse",
    batch: int = 16,
    lr: float = 1e-6,
    warmup: float = 0.1,
    lora: int = 0,
    test: str | None = None,
    measure: int = 64,
    new_tokens: int = 256,
    micro: int | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,  # the option's name
    shard: Literal["replicate", "full"] = "replicate",
    seed: int = 0,
) -> Recipe:
    """Learn from pairs of answers, or unlearn answers (npo).

    Args:
        model: A run with an export, or a folder or hub name that transformers loads.
        data: JSON lines, parquet or saved data sets: prompt, chosen and rejected; prompt and answer
            for npo.
        algorithm: By its paper's name.
        beta: Scale of a score (of redi: alpha); the paper's if not given.
        reference: A model of the same tokenizer to compare with; the start if not given.
        retain: Prompts and answers to keep while others are unlearned (npo).
        prompt: Field of the prompt; empty where answers are whole chats.
        chosen: Field of the better answer.
        rejected: Field of the worse.
        answer: Field of the answer to unlearn or to keep.
        template: How prompt and answer are joined; the tokenizer's chat template if not given.
        tokenizer: A folder or hub name; the model's own if not given.
        epochs: Passes over the data.
        steps: Optimizer steps; instead of epochs.
        length: Most targets of an answer with its prompt.
        overlong: What to do with longer ones: refuse, drop or cut.
        batch: Pairs of a batch, over all processes.
        lr: Peak learning rate; ten times more is usual with lora.
        warmup: Share of the run with a rising rate; it falls to 0 after.
        lora: Rank of low-rank adapters; 0 to train all weights.
        test: Problems to measure on: Addition(digits=2), a .jsonl file, or FILE.py:NAME.
        measure: How many of them, 10 times a run.
        new_tokens: Most tokens of an answer to them.
        micro: Tokens of one forward pass on one process; all if not given.
        dtype: Of activations: float32, bfloat16, or auto (bfloat16 on GPUs).
        compile: Compile the model: pays after some 150 steps.
        shard: Over several processes, keep all weights on each, or shard them (full: FSDP2).
        seed: Of adapters and order.
    """
    base = parts.trained_model(model)
    known = readers.tokenizer_of(base, tokenizer)
    if retain and algorithm != "npo":
        raise RecipeError(
            f"--retain with {algorithm}",
            expected="text to keep is for unlearning",
            where="--retain",
            write="--algorithm npo",
        )
    shape = _Shape(known, template, length, overlong)
    method = _method(algorithm, beta)
    if algorithm == "npo":
        given = {"forget": data, **({"retain": retain} if retain else {})}
        source, rows = _answers({k: _files(v) for k, v in given.items()}, prompt, answer, shape)
    else:
        source, rows = _pairs(_files(data), prompt, chosen, rejected, shape)
    rate = Warmup(Linear(lr, 0.0), over=share(warmup))
    do = _moves(method, AdamW(lr=rate, weight_decay=0.0), micro, keeps=bool(retain))
    form = answers.Form(known, template, length, new_tokens)
    phase = Phase(
        max(1, round(epochs * rows / batch)) if steps is None else steps,
        source,
        do,
        rows=batch,
        monitors=answers.tested(test, measure, form),
    )
    other = readers.companion(reference, base, "--reference", tokenizer) if reference else None
    compute = Compute(dtype=dtype, compile=compile, shard=shard)
    models = answers.models(readers.adapted(base, lora), do, other)
    return Recipe(models, (phase,), seed=seed, compute=compute)


class _Shape(NamedTuple):
    """How records become rows."""

    tokenizer: str
    template: str | None
    length: int
    overlong: Overlong


class _Rows(NamedTuple):
    """A source and the rows of an epoch."""

    source: Source
    rows: float


def _files(data: list[str]) -> list[str]:
    return [str(file) for item in data for file in find_files(item)]


def _method(algorithm: Offline, beta: float | None) -> Method:
    name = "alpha" if algorithm == "redi" else "beta"
    given: dict[str, Dial] = {} if beta is None else {name: beta}
    return METHODS[algorithm](**given)


def _pairs(files: list[str], prompt: str, chosen: str, rejected: str, shape: _Shape) -> _Rows:
    store = build_preferences(
        files, tokenizer=shape.tokenizer, prompt=prompt or None, chosen=chosen, rejected=rejected,
        template=shape.template,
    ).train  # fmt: skip
    source = Preferences(str(store), length=shape.length, overlong=shape.overlong)
    return _Rows(source, source.pairs)


def _answers(files: Mapping[str, list[str]], prompt: str, answer: str, shape: _Shape) -> _Rows:
    """Return what is to be forgotten, in equal parts with what is to be kept."""
    found: dict[str, Source] = {}
    rows = 0.0
    for name, paths in files.items():
        store = build_pairs(
            paths, tokenizer=shape.tokenizer, prompt=prompt, answer=answer, template=shape.template
        ).train
        pairs = Pairs(str(store), length=shape.length, overlong=shape.overlong, name=name)
        found[name] = pairs
        filled = shape.length * pairs.shares(Time())[name]
        rows = rows or len(files) * pairs.size / filled
    first = found["forget"]
    return _Rows(Mixture(found, dict.fromkeys(found, 1.0)) if len(found) > 1 else first, rows)


def _moves(method: Method, optimizer: AdamW, micro: int | None, *, keeps: bool) -> tuple[Move, ...]:
    if not keeps:
        return method.do("policy", optimizer, micro=micro)
    assert isinstance(method.objective, Forget)
    parted = Sum(
        {
            "forget": Forget(method.objective.beta, weight="forget_weight"),
            "retain": Likelihood(weight="retain_weight"),
        }
    )
    weigh = Each(
        {
            "forget_weight": PerRow(1.0, "forget_weight"),
            "retain_weight": TokenMean("retain_weight"),
        }
    )
    by_source = (
        WeightOf("forget_weight", values=(0,)),
        WeightOf("retain_weight", values=(1,)),
    )
    learn = Learn("policy", parted, optimizer, micro=micro, weigh=weigh)
    return (*method.before, *by_source, learn)
