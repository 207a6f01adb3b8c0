"""Pretraining: text from files, a decoder from nothing, WSD.

source  Corpus, or a Mixture whose weights may move over the run
do      Learn(policy, NextToken, AdamW or Muon)
"""

from typing import Literal

from thalweg.core.moves import Learn
from thalweg.core.recipe import Compute, Phase, Recipe
from thalweg.core.time import Span, share
from thalweg.core.time import tokens as count_tokens
from thalweg.objectives import NextToken
from thalweg.recipes import parts
from thalweg.schedules import Wsd

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
    decay: float = 0.2,
    optimizer: Literal["adamw", "muon"] = "adamw",
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
        lr: Peak learning rate; by model size if not given.
        warmup: Share of the run with a rising rate.
        decay: Share of the run with a falling rate, at its end.
        optimizer: adamw, or muon for the matrices.
        weights: Rows asked of each source: web=3,code=1; by size if not given.
        to: Weights at the end of the run; they move there linearly.
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
    peak = parts.peak_rate(size) if lr is None else lr
    shape = Wsd(peak, warmup=share(warmup), decay=share(decay))
    matrix = Wsd(5 * peak, warmup=share(warmup), decay=share(decay))
    learn = Learn("policy", NextToken(), parts.optimizer(optimizer, shape, matrix), micro=micro)
    phase = Phase(
        parts.length_of(steps, tokens, _chinchilla(size)),
        parts.mixture(text, length, weights, to),
        (learn,),
        rows=batch,
        monitors=parts.held_out_monitor(text, length),
    )
    compute = Compute(dtype=dtype, compile=compile, shard=shard)
    return Recipe({"policy": spec}, (phase,), seed=seed, compute=compute)


def _chinchilla(size: float) -> Span:
    """Return 20 tokens a parameter. Source: arXiv:2203.15556, table 3."""
    return count_tokens(20 * size)
