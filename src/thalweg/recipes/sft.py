"""Supervised fine-tuning: prompts and answers, or chats; only answers count.

source  Pairs: examples packed in rows, attention inside each, weight 0 on prompts
do      Learn(policy, NextToken, AdamW), full or through low-rank adapters
"""

from pathlib import Path
from typing import Literal

from thalweg.core.moves import Learn
from thalweg.core.recipe import Compute, Phase, Recipe
from thalweg.core.time import Time, share
from thalweg.core.time import steps as count_steps
from thalweg.data import Pairs, build_pairs
from thalweg.data.files import find_files
from thalweg.monitors import HeldOut
from thalweg.objectives import NextToken
from thalweg.optim import AdamW
from thalweg.recipes import answers, readers
from thalweg.schedules import Linear, Warmup

__all__ = ["recipe"]


def recipe(
    model: str,
    data: list[str],
    prompt: str = "prompt",
    answer: str = "answer",
    messages: str | None = None,
    template: str | None = None,
    tokenizer: str | None = None,
    epochs: float = 3.0,
    steps: int | None = None,
    length: int = 1024,
    overlong: Literal["refuse", "drop", "cut"] = "refuse",
    batch: int = 8,
    lr: float = 2e-5,
    warmup: float = 0.03,
    lora: int = 0,
    held_out: float = 0.02,
    test: str | None = None,
    measure: int = 64,
    new_tokens: int = 256,
    micro: int | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,  # the option's name
    shard: Literal["replicate", "full"] = "replicate",
    seed: int = 0,
) -> Recipe:
    """Fine-tune a model on prompts and answers.

    Args:
        model: A run with an export, a folder or hub name that transformers loads; or 100k, 1m ...
            for a fresh one of bytes.
        data: JSON lines, parquet or saved data sets of prompts and answers, or of chats.
        prompt: Field of the prompt.
        answer: Field of the answer.
        messages: Field of a chat, a list of role and content; instead of prompt and answer.
        template: How prompt and answer are joined; the tokenizer's chat template if not given.
        tokenizer: A folder or hub name; the model's own if not given.
        epochs: Passes over the data.
        steps: Optimizer steps; instead of epochs.
        length: Target places of a row; examples are packed into rows.
        overlong: What to do with examples longer than a row: refuse, drop or cut.
        batch: Rows of a batch, over all processes.
        lr: Peak learning rate; ten times more is usual with lora.
        warmup: Share of the run with a rising rate; it falls to 0 after.
        lora: Rank of low-rank adapters; 0 to train all weights.
        held_out: Share of the examples kept to measure on.
        test: Problems to measure on: Addition(digits=2), a .jsonl file, or FILE.py:NAME.
        measure: How many of them, 10 times a run.
        new_tokens: Most tokens of an answer to them.
        micro: Places of one forward pass on one process; all if not given.
        dtype: Of activations: float32, bfloat16, or auto (bfloat16 on GPUs).
        compile: Compile the model: pays after some 150 steps.
        shard: Over several processes, keep all weights on each, or shard them (full: FSDP2).
        seed: Of adapters and order.
    """
    reader = readers.open_reader(model, tokenizer, length)
    stores = build_pairs(
        [str(file) for item in data for file in find_files(item)],
        tokenizer=reader.tokenizer,
        prompt=prompt,
        answer=answer,
        messages=messages,
        template=template,
        held_out=held_out,
    )
    pairs = Pairs(str(stores.train), length=length, overlong=overlong)
    rows = pairs.size / (length * pairs.shares(Time())[pairs.name])
    passes = max(1, round(epochs * rows / batch))
    rate = Warmup(Linear(lr, 0.0), over=share(warmup))
    form = answers.Form(reader.tokenizer, template, length, new_tokens)
    phase = Phase(
        steps if steps is not None else count_steps(passes),
        pairs,
        (Learn("policy", NextToken(), AdamW(lr=rate, weight_decay=0.0), micro=micro),),
        rows=batch,
        monitors=(*_measured(stores.held_out, pairs), *answers.tested(test, measure, form)),
    )
    compute = Compute(dtype=dtype, compile=compile, shard=shard)
    return Recipe(
        {"policy": readers.adapted(reader.model, lora)}, (phase,), seed=seed, compute=compute
    )


def _measured(store: Path | None, pairs: Pairs) -> tuple[HeldOut, ...]:
    """Return the monitor of the loss on held-out answers, if some were held out."""
    if store is None:
        return ()
    held = Pairs(str(store), length=pairs.length, overlong="drop", shuffle=False, name="pairs")
    return (HeldOut({"pairs": held}, every=share(0.1)),)
