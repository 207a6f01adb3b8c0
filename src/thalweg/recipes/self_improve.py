"""Self-improvement: a model labels harder problems itself, learns from them, and goes on.

base      source  Demonstrations at level 0
          do      Learn(policy, NextToken), Copy(policy, actor)
round-r   source  Mixture(demonstrations, answers of the model at level r)
          do      Majority: one answer a group, if enough of it agree
                  Learn(policy, NextToken), Copy(policy, actor) at the end

No reward is read anywhere: the task's verdicts are only measured. Source: arXiv:2502.01612. It
labels 50,000 problems a round at once; here the actor stays as it was at the round's start, so the
labels are the same and are made as they are needed. Its model has no positional encoding, nor has
the fresh one here: with rotary positions two layers that copy 16 letters without a fault copied 0
to 67 % of strings of 17, fewer the longer they had trained, and votes of one model do not tell
such faults from right answers.
"""

from dataclasses import replace
from string import ascii_letters
from typing import Literal

from thalweg.core.moves import AT_END, Copy, Learn
from thalweg.core.protocols import ModelSpec
from thalweg.core.recipe import Compute, CopyOf, Phase, Recipe
from thalweg.core.time import share
from thalweg.data import Mixture
from thalweg.models import Llama3Rope, Transformer
from thalweg.objectives import Logprobs, NextToken
from thalweg.recipes import answers, parts, readers
from thalweg.recipes.named import task_of
from thalweg.rollouts import Demonstrations, Majority, Mismatch, Rollouts
from thalweg.schedules import Wsd

__all__ = ["recipe"]

STILL = Llama3Rope(factor=1e12, low_freq_factor=1.0, high_freq_factor=4.0, original_positions=4)
"""Every rotary frequency divided until nothing turns: a form of no positions that has an export."""
KNOWN = f"Strings('copy', length=16, fewest=2, alphabet='{ascii_letters}')"
HARDER = f"Strings('copy', length=16, alphabet='{ascii_letters}')"
"""Strings of the full length of their level: all that a round learns is new."""


def recipe(
    task: str = KNOWN,
    harder: str | None = None,
    model: str = "250k",
    positions: Literal["none", "rotary"] = "none",
    rounds: int = 5,
    base_steps: int = 600,
    steps: int = 60,
    batch: int = 64,
    votes: int = 4,
    agree: float = 0.75,
    own: float = 0.75,
    rise: float = 1.0,
    temperature: float = 0.5,
    new_tokens: int = 26,
    length: int = 52,
    template: str | None = "{prompt}{answer}",
    tokenizer: str | None = None,
    optimizer: Literal["muon", "adamw"] = "muon",
    lr: float = 6e-3,
    lora: int = 0,
    measure: int = 128,
    micro: int | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,  # the option's name
    shard: Literal["replicate", "full"] = "replicate",
    seed: int = 0,
) -> Recipe:
    """Let a model teach itself harder problems from its own majority answers.

    Args:
        task: A task with levels: Addition(digits=3, reverse=True) and the like, or FILE.py:NAME.
        harder: Problems that the model labels itself, at levels that rise; those of task if not
            given, but for the default task strings of the full length.
        model: 100k, 250k, 1m ... for a fresh model of bytes; or a run, a folder or a hub name.
        positions: Of a fresh model: with none, lengths it never saw are less strange to it.
        rounds: Rounds of labelling and learning after the first phase.
        base_steps: Steps of the first phase, on right answers.
        steps: Steps of a round.
        batch: Rows of a batch.
        votes: Answers to each problem that is labelled.
        agree: Share of them that must be the same for a label.
        own: Share of the rows that the model answers itself.
        rise: Levels that problems rise by in each round.
        temperature: Of those answers.
        new_tokens: Most tokens of an answer.
        length: Most targets of prompt and answer.
        template: How prompt and answer are joined.
        tokenizer: A folder or hub name; the model's own if not given, bytes for a fresh one.
        optimizer: muon for the matrices with adamw for the rest, or adamw for all.
        lr: Peak learning rate of each phase.
        lora: Rank of low-rank adapters on a trained model; 0 to train all weights.
        measure: How many problems of the last round's level to measure on, 20 times a phase.
        micro: Tokens of one forward pass on one process; all if not given.
        dtype: Of activations: float32, bfloat16, or auto (bfloat16 on GPUs).
        compile: Compile the model: pays after some 150 steps.
        shard: Over several processes, keep all weights on each, or shard them (full: FSDP2).
        seed: Of weights, problems and draws.
    """
    reader = readers.open_reader(model, tokenizer, length)
    spec = readers.adapted(_still(reader.model) if positions == "none" else reader.model, lora)
    writing = answers.Writing(
        task=task_of(task),
        tokenizer=reader.tokenizer,
        template=template,
        length=length,
        new_tokens=new_tokens,
    )
    learn = Learn(
        "policy",
        NextToken(),
        parts.optimizer(optimizer, Wsd(lr, warmup=share(0.05), decay=share(0.3))),
        micro=micro,
    )
    do = (learn, Copy("policy", "actor", every=AT_END))
    climbed = replace(
        writing,
        task=task_of(harder or (HARDER if task == KNOWN else task), "--harder"),
        level=rounds * rise,
    )
    known, measured = _known(writing), answers.measured(climbed, measure)
    phases = [Phase(base_steps, known, do, rows=batch, monitors=measured, name="base")]
    labels = (Mismatch("actor", fn=Logprobs(temperature=temperature)), Majority(agree))
    for number in range(1, rounds + 1):
        asked = _asked(replace(climbed, level=number * rise), votes, temperature)
        mixed = Mixture({"known": known, "own": asked}, {"known": 1.0 - own, "own": own})
        name = f"round-{number}"
        phases.append(Phase(steps, mixed, (*labels, *do), rows=batch, monitors=measured, name=name))
    models: dict[str, ModelSpec | CopyOf] = {"policy": spec, "actor": CopyOf("policy")}
    compute = Compute(dtype=dtype, compile=compile, shard=shard)
    return Recipe(models, tuple(phases), seed=seed, compute=compute)


def _still(spec: ModelSpec) -> ModelSpec:
    """Return a fresh model without rotation; a trained one as it is."""
    return replace(spec, rope_scaling=STILL) if isinstance(spec, Transformer) else spec


def _known(writing: answers.Writing) -> Demonstrations:
    """Return problems with their answers, in rows of one length."""
    return Demonstrations(
        task=writing.task,
        tokenizer=writing.tokenizer,
        template=writing.template,
        length=writing.length,
        multiple=writing.length,
    )


def _asked(writing: answers.Writing, votes: int, temperature: float) -> Rollouts:
    """Return problems that are each answered several times, in rows as wide as the others."""
    asked = replace(writing, temperature=temperature)
    return replace(asked.rollouts(votes), multiple=writing.length)
