"""Continual pretraining: a trained model, new text, a share of the old replayed, rewarmed rate.

    source  Mixture(new, old) with a fixed or moving share of replay
    do      Learn(policy, NextToken, AdamW)

The rate rises again from nothing and decays once, as in arXiv:2403.08763 (rewarm, redecay, replay).
Given old text, held-out losses on old and new are measured from before the first step, often at
first, and the report says what was gained, what was forgotten, and how deep the gap between was.
"""

from typing import Literal

from thalweg.core.moves import Learn
from thalweg.core.protocols import Source
from thalweg.core.recipe import Compute, Phase, Recipe
from thalweg.core.time import share
from thalweg.core.time import steps as count_steps
from thalweg.data import Corpus, Mixture
from thalweg.errors import DialError
from thalweg.monitors import HeldOut, Stability
from thalweg.objectives import NextToken
from thalweg.optim import AdamW
from thalweg.recipes import parts
from thalweg.schedules import Cosine, Warmup

__all__ = ["recipe"]


def recipe(
    model: str,
    data: list[str],
    old: list[str] | None = None,
    replay: float = 0.05,
    tokens: float | None = None,
    steps: int | None = None,
    length: int = 512,
    batch: int = 32,
    lr: float = 3e-4,
    lr_end: float = 3e-5,
    warmup: float = 0.01,
    held_out: float = 0.01,
    field: str = "text",
    micro: int | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,  # the option's name
    shard: Literal["replicate", "full"] = "replicate",
    seed: int = 0,
) -> Recipe:
    """Train a model further on new text, replaying some of the old.

    Args:
        model: A run with an export, or a folder or hub name that transformers loads.
        data: The new text: files, folders, patterns; name=path names a source.
        old: Text like the model was trained on, to replay and measure on; none if not given.
        replay: Share of rows from the old text.
        tokens: Length in target tokens; one pass over the new text if not given, nor steps.
        steps: Length in optimizer steps.
        length: Target tokens of a row.
        batch: Rows of a batch, over all processes.
        lr: Peak learning rate after rewarming.
        lr_end: Learning rate at the end.
        warmup: Share of the run with a rising rate.
        held_out: Share of new and old text kept to measure on.
        field: Where JSON lines and tables have their text.
        micro: Tokens of one forward pass on one process; all if not given.
        dtype: Of activations: float32, bfloat16, or auto (bfloat16 on GPUs).
        compile: Compile the model: pays after some 150 steps.
        shard: Over several processes, keep all weights on each, or shard them (full: FSDP2).
        seed: Of order.
    """
    if not 0 <= replay < 1:
        raise DialError(
            f"replay={replay}", expected="0 <= replay < 1", where="--replay", write="--replay 0.05"
        )
    files = parts.named_files(data, each_file=False)
    before = {f"old-{k}": v for k, v in parts.named_files(old or [], each_file=False).items()}
    spec = parts.open_model(model, 0, length)
    text = parts.read_text({**files, **before}, parts.tokenizer_of(spec), field, held_out)
    corpora = {n: Corpus(str(p), length=length, name=n) for n, p in text.train.items()}
    new = sum(corpora[name].size for name in files)
    passes = count_steps(max(1, round(new / (1 - replay * bool(before)) / (length * batch))))
    rate = Warmup(Cosine(lr, lr_end), over=share(warmup))
    phase = Phase(
        parts.length_of(steps, tokens, passes),
        _source(corpora, tuple(before), replay),
        (Learn("policy", NextToken(), AdamW(lr=rate), micro=micro),),
        rows=batch,
        monitors=_monitors(text, tuple(before), length, micro),
    )
    compute = Compute(dtype=dtype, compile=compile, shard=shard)
    return Recipe({"policy": spec}, (phase,), seed=seed, compute=compute)


def _monitors(
    text: parts.Text, old: tuple[str, ...], length: int, micro: int | None
) -> tuple[HeldOut | Stability, ...]:
    """Return the monitors of held-out loss and, with old and new text, of the gap."""
    held = text.held_out_sources(length)
    before = {name: source for name, source in held.items() if name in old}
    new = {name: source for name, source in held.items() if name not in old}
    gap = (Stability(before, new, micro=micro),) if before and new else ()
    return *parts.held_out_monitor(text, length), *gap


def _source(corpora: dict[str, Corpus], old: tuple[str, ...], replay: float) -> Source:
    """Return a mixture: `replay` of the rows from old text, the rest from new, each by size."""
    if len(corpora) == 1:
        return next(iter(corpora.values()))
    sizes = {name: float(corpus.size) for name, corpus in corpora.items()}
    total_old = sum(sizes[name] for name in old)
    total_new = sum(sizes.values()) - total_old
    part = replay if old else 0.0
    weights = {
        name: part * size / total_old if name in old else (1 - part) * size / total_new
        for name, size in sizes.items()
    }
    return Mixture(dict(corpora), weights)
