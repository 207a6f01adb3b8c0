"""Pretraining: text from files, a decoder from nothing, WSD.

source  Corpus, or a Mixture whose weights may move over the run
do      Learn(policy, NextToken, Muon or AdamW)

The defaults were measured at 1M parameters and small budgets (`benchmarks/to_target.py`): Muon for
the matrices reaches the loss of a tuned AdamW with cosine in less than half its tokens, and a
straight decay over the second half of the run beats shorter, longer and rounder ones. Half a run
at one rate is what is left to branch from; `--decay 0` makes a trunk.
"""

from typing import Literal

from thalweg.core.moves import Learn
from thalweg.core.recipe import Compute, Phase, Recipe
from thalweg.core.time import Span, share
from thalweg.core.time import tokens as count_tokens
from thalweg.objectives import NextToken
from thalweg.recipes import parts
from thalweg.schedules import Linear, Wsd

__all__ = ["recipe"]


def recipe(
    data: list[str],
    model: str = "10m",
    tokenizer: str = "bpe:8192",
    tokens: float | None = None,
    steps: int | None = None,
    length: int = 512,
    batch: int = 32,
    lr: float | None = None,
    warmup: float = 0.02,
    decay: float = 0.5,
    optimizer: Literal["muon", "adamw"] = "muon",
    weights: str = "",
    to: str = "",
    each_file: bool = False,
    held_out: float = 0.01,
    field: str = "text",
    micro: int | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,  # the option's name
    shard: Literal["replicate", "full"] = "replicate",
    seed: int = 0,
) -> Recipe:
    """Pretrain a decoder on text files.

    Args:
        data: Files, folders or patterns of text, JSON lines, parquet; name=path names a source.
        model: 250k, 1m, 10m, 50m, 125m, 350m, 1b; or a folder or run to start from.
        tokenizer: bytes, bpe:SIZE (trained on the data), a folder with tokenizer.json, a hub name.
        tokens: Length of the run in target tokens; 20 a parameter if neither it nor steps is given.
        steps: Length of the run in optimizer steps.
        length: Target tokens of a row.
        batch: Rows of a batch, over all processes.
        lr: Peak learning rate, of both parts with muon; by model size if not given.
        warmup: Share of the run with a rising rate.
        decay: Share of the run with a falling rate, at its end.
        optimizer: muon for the matrices with adamw for the rest, or adamw for all.
        weights: Shares of the rows: web=3,code=1; unimax:4, as even as 4 epochs of any source at
            most allow; temperature:2, by the root of the size; by size if not given.
        to: Weights at the end of the run, web=1,code=3; shares move there linearly.
        each_file: Make every file a source of its own.
        held_out: Share of the text kept to measure on.
        field: Where JSON lines and tables have their text.
        micro: Tokens of one forward pass on one process; all if not given.
        dtype: Of activations: float32, bfloat16, or auto (bfloat16 on GPUs).
        compile: Compile the model: pays after some 150 steps.
        shard: Over several processes, keep all weights on each, or shard them (full: FSDP2).
        seed: Of weights and order.
    """
    text = parts.read_text(parts.named_files(data, each_file=each_file), tokenizer, field, held_out)
    spec = parts.open_model(model, text.tokenizer.size, length)
    size = parts.parameters_of(spec)
    peak = parts.peak_rate(spec, optimizer) if lr is None else lr
    rate = Wsd(peak, warmup=share(warmup), decay=share(decay), shape=Linear(1.0, 0.0))
    learn = Learn("policy", NextToken(), parts.optimizer(optimizer, rate), micro=micro)
    tokens_of_run = steps * length * batch if steps is not None else tokens or 20 * size
    phase = Phase(
        parts.length_of(steps, tokens, _chinchilla(size)),
        parts.mixture(text, length, weights, to, tokens_of_run),
        (learn,),
        rows=batch,
        monitors=parts.held_out_monitor(text, length),
    )
    compute = Compute(dtype=dtype, compile=compile, shard=shard)
    return Recipe({"policy": spec}, (phase,), seed=seed, compute=compute)


def _chinchilla(size: float) -> Span:
    """Return 20 tokens a parameter. Source: arXiv:2203.15556, table 3."""
    return count_tokens(20 * size)
