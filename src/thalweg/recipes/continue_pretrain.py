"""Continual pretraining: a trained model, new text, a share of the old replayed, rewarmed rate.

    source  Mixture(new, old) with a fixed or fading share of replay
    do      Learn(policy, NextToken, AdamW)
    margin  Score(ref), Margins, Learn(policy, ThresholdMargin(NextToken), AdamW): GeRe

The rate rises again from nothing and decays once, as in arXiv:2403.08763 (rewarm, redecay, replay).
Given old text, held-out losses on old and new are measured from before the first step, often at
first, and the report says what was gained, what was forgotten, and how deep the gap between was.
"""

from typing import Literal

from thalweg.core.moves import Learn, Score
from thalweg.core.protocols import Dial, ModelSpec, Move, Source
from thalweg.core.recipe import Compute, CopyOf, Phase, Recipe
from thalweg.core.time import share
from thalweg.core.time import steps as count_steps
from thalweg.core.weigh import Each, TokenMean
from thalweg.data import Corpus, Mixture
from thalweg.errors import DialError
from thalweg.monitors import HeldOut, Stability
from thalweg.objectives import Hidden, Margins, NextToken, ThresholdMargin, WeightOf
from thalweg.optim import AdamW, OptimizerSpec
from thalweg.recipes import parts, readers
from thalweg.schedules import Blend, Cosine, Warmup

__all__ = ["recipe"]


def recipe(
    model: str,
    data: list[str],
    old: list[str] | None = None,
    replay: float = 0.05,
    replay_end: float | None = None,
    margin: float = 0.0,
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
        replay_end: That share at the end, reached along a line; as at the beginning if not given.
        margin: Price of last hidden states on old text that leave the third of their range where
            the model has them now (GeRe; 100 in its code, 1 on toys); 0 for none.
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
    last = replay if replay_end is None else replay_end
    _check(replay, last, margin, old)
    files = parts.named_files(data, each_file=False)
    before = {f"old-{k}": v for k, v in parts.named_files(old or [], each_file=False).items()}
    spec = parts.trained_model(model)
    text = parts.read_text({**files, **before}, readers.tokenizer_of(spec), field, held_out)
    corpora = {n: Corpus(str(p), length=length, name=n) for n, p in text.train.items()}
    new = sum(corpora[name].size for name in files)
    share_new = 1 - (replay + last) / 2 * bool(before)
    passes = count_steps(max(1, round(new / share_new / (length * batch))))
    rate = Warmup(Cosine(lr, lr_end), over=share(warmup))
    phase = Phase(
        parts.length_of(steps, tokens, passes),
        _source(corpora, tuple(before), replay, last),
        _moves(AdamW(lr=rate), margin, range(len(files), len(corpora)), micro),
        rows=batch,
        monitors=_monitors(text, tuple(before), length, micro),
    )
    compute = Compute(dtype=dtype, compile=compile, shard=shard)
    models: dict[str, ModelSpec | CopyOf] = {"policy": spec}
    if margin:
        models["ref"] = CopyOf("policy")
    return Recipe(models, (phase,), seed=seed, compute=compute)


def _check(replay: float, last: float, margin: float, old: list[str] | None) -> None:
    for option, value in (("--replay", replay), ("--replay-end", last)):
        if not 0 <= value < 1:
            raise DialError(
                f"{option} {value}",
                expected="a share of rows, 0 or more and below 1",
                where=option,
                write=f"{option} 0.05",
            )
    if margin and not (old and replay + last):
        raise DialError(
            f"--margin {margin} and no text that is replayed",
            expected="old text, on which hidden states are held",
            where="--margin",
            write="--old FILES --replay 0.05",
        )


def _moves(
    optimizer: OptimizerSpec, margin: float, old: range, micro: int | None
) -> tuple[Move, ...]:
    """Return the move that learns; with a margin, first those that say where states are held."""
    if not margin:
        return (Learn("policy", NextToken(), optimizer, micro=micro),)
    means = {name: TokenMean(name) for name in ("weight", "general_weight")}
    return (
        WeightOf("general_weight", values=tuple(old)),
        Score("ref", "ref_hidden", fn=Hidden(), micro=micro),
        Margins(),
        Learn("policy", ThresholdMargin(NextToken(), scale=margin), optimizer, micro=micro,
              weigh=Each(means)),
    )  # fmt: skip


def _monitors(
    text: parts.Text, old: tuple[str, ...], length: int, micro: int | None
) -> tuple[HeldOut | Stability, ...]:
    """Return the monitors of held-out loss and, with old and new text, of the gap."""
    held = text.held_out_sources(length)
    before = {name: source for name, source in held.items() if name in old}
    new = {name: source for name, source in held.items() if name not in old}
    gap = (Stability(before, new, micro=micro),) if before and new else ()
    return *parts.held_out_monitor(text, length), *gap


def _source(corpora: dict[str, Corpus], old: tuple[str, ...], replay: float, last: float) -> Source:
    """Return a mixture: a share of the rows from old text, the rest from new, each by size."""
    if len(corpora) == 1:
        return next(iter(corpora.values()))
    sizes = {name: float(corpus.size) for name, corpus in corpora.items()}
    total_old = sum(sizes[name] for name in old)
    total_new = sum(sizes.values()) - total_old

    def weights(part: float) -> dict[str, float]:
        return {
            name: part * size / total_old if name in old else (1 - part) * size / total_new
            for name, size in sizes.items()
        }

    dial: Dial = weights(replay if old else 0.0)
    if old and last != replay:
        dial = Blend(dial, weights(last))
    return Mixture(dict(corpora), dial)
