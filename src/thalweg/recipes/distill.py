"""Distillation: a student learns a teacher's distributions, on text or on what it writes itself.

source  Corpus of text, or Rollouts of the student on a task (on-policy)
do      Score(teacher, its likeliest tokens), Learn(policy, Distill), and Copy on-policy
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from thalweg.core.moves import Copy, Learn, Score
from thalweg.core.protocols import ModelSpec, Monitor, Move, Source
from thalweg.core.recipe import Compute, CopyOf, Phase, Recipe
from thalweg.core.time import share
from thalweg.core.time import steps as count_steps
from thalweg.errors import RecipeError
from thalweg.models import SIZES, size
from thalweg.objectives import Distill, ForwardKl, JensenShannon, ReverseKl, TopTokens
from thalweg.objectives.divergence import FDivergence
from thalweg.optim import AdamW
from thalweg.recipes import answers, parts, readers
from thalweg.recipes.named import task_of
from thalweg.rollouts import Mismatch
from thalweg.schedules import Linear, Warmup

__all__ = ["recipe"]

Divergence: TypeAlias = Literal["forward", "reverse", "js"]

_DIVERGENCES: Mapping[str, FDivergence] = {
    "forward": ForwardKl(),
    "reverse": ReverseKl(),
    "js": JensenShannon(),
}


def recipe(
    teacher: str,
    model: str,
    data: list[str] | None = None,
    task: str | None = None,
    divergence: Divergence | None = None,
    temperature: float = 1.0,
    top: int = 64,
    every: int = 1,
    tokens: float | None = None,
    steps: int | None = None,
    length: int = 512,
    batch: int = 32,
    group: int = 1,
    new_tokens: int = 256,
    template: str | None = None,
    tokenizer: str | None = None,
    test: str | None = None,
    measure: int = 64,
    lr: float = 1e-4,
    warmup: float = 0.02,
    lora: int = 0,
    held_out: float = 0.01,
    field: str = "text",
    micro: int | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,  # the option's name
    shard: Literal["replicate", "full"] = "replicate",
    seed: int = 0,
) -> Recipe:
    """Train a student on a teacher's distributions.

    Args:
        teacher: A run with an export, or a folder or hub name that transformers loads.
        model: The student: 1m, 10m ... for a fresh one, or as teacher; of the same tokenizer.
        data: Text to learn on: files, folders, patterns; name=path names a source.
        task: Instead of data, problems that the student answers itself (on-policy).
        divergence: forward, reverse or js; forward on text, reverse on the student's answers.
        temperature: Logits of both are divided by it.
        top: The teacher's likeliest tokens that are kept of each place; the rest is one.
        every: On-policy: steps between copies of the student to the one that writes.
        tokens: Length in target tokens.
        steps: Length in optimizer steps; 200 if neither is given.
        length: Target tokens of a row.
        batch: Rows of a batch, over all processes.
        group: Answers to each problem.
        new_tokens: Most tokens of an answer.
        template: How prompt and answer are joined; the tokenizer's chat template if not given.
        tokenizer: A folder or hub name, of both; the teacher's own if not given.
        test: Problems to measure on, as task; with task, new ones of it if not given.
        measure: How many of them; 0 for none.
        lr: Peak learning rate; it falls to 0.
        warmup: Share of the run with a rising rate.
        lora: Rank of low-rank adapters on the student; 0 to train all weights.
        held_out: Share of the text kept to measure on.
        field: Where JSON lines and tables have their text.
        micro: Tokens of one forward pass on one process; all if not given.
        dtype: Of activations: float32, bfloat16, or auto (bfloat16 on GPUs).
        compile: Compile the models: pays after some 150 steps.
        shard: Over several processes, keep all weights on each, or shard them (full: FSDP2).
        seed: Of weights, order and draws.
    """
    if (data is None) == (task is None):
        raise RecipeError(
            "--data and --task" if data else "neither --data nor --task",
            expected="one of them: text, or problems that the student answers",
            where="distill",
            write="--data 'corpus/*.txt'",
        )
    known = parts.trained_model(teacher)
    form = answers.Form(readers.tokenizer_of(known, tokenizer), template, length, new_tokens)
    student = _student(model, known, length, tokenizer)
    if task is None:
        source, monitors = _text(form, data or [], field, held_out)
        monitors = (*monitors, *answers.tested(test, measure, form))
    else:
        writing = answers.Writing(task=task_of(task), **form._asdict())
        source = writing.rollouts(group)
        other = task_of(test, "--test") if test else None
        monitors = answers.measured(writing, measure, other)
    kind = _DIVERGENCES[divergence or ("reverse" if task else "forward")]
    do: tuple[Move, ...] = (
        Score("teacher", "teacher_top", fn=TopTokens(top, temperature), micro=micro),
        Learn(
            "policy",
            Distill(kind, temperature),
            AdamW(lr=Warmup(Linear(lr, 0.0), over=share(warmup))),
            micro=micro,
        ),
    )
    models: dict[str, ModelSpec | CopyOf] = {
        "policy": readers.adapted(student, lora),
        "teacher": known,
    }
    if task is not None:
        do = (Mismatch("actor"), *do, Copy("policy", "actor", every=every))
        models["actor"] = CopyOf("policy")
    length_of = parts.length_of(steps, tokens, count_steps(200))
    phase = Phase(length_of, source, do, rows=batch, monitors=monitors)
    compute = Compute(dtype=dtype, compile=compile, shard=shard)
    return Recipe(models, (phase,), seed=seed, compute=compute)


class _Read(NamedTuple):
    """What a student reads, and what is measured."""

    source: Source
    monitors: tuple[Monitor, ...]


def _student(name: str, teacher: ModelSpec, length: int, tokenizer: str | None) -> ModelSpec:
    """Return a fresh model with the teacher's vocabulary, or a trained one that shares it."""
    if name.lower() in SIZES:
        return size(name, teacher.vocabulary, length, qk_norm=True)
    return readers.companion(name, teacher, "--model", tokenizer)


def _text(form: answers.Form, data: list[str], field: str, held_out: float) -> _Read:
    files = parts.named_files(data, each_file=False)
    text = parts.read_text(files, form.tokenizer, field, held_out)
    held = parts.held_out_monitor(text, form.length)
    return _Read(parts.mixture(text, form.length, "", ""), held)
