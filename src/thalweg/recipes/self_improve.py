"""Self-improvement: a model labels harder problems itself, learns from them, and goes on.

base      source  Demonstrations at level 0
          do      Learn(policy, NextToken), Copy(policy, actor)
round-r   source  Mixture(demonstrations, answers of the model at level r)
          do      Majority: one answer a group, if enough of it agree
                  Learn(policy, NextToken), Copy(policy, actor) at the end

No reward is read anywhere: the task's verdicts are only measured. Source: arXiv:2502.01612. It
labels 50,000 problems a round at once; here the actor stays as it was at the round's start, so the
labels are the same and are made as they are needed. Its model has no positional encoding and
works at lengths far beyond those of the start; ours rotates.
"""

from dataclasses import replace
from typing import Literal

from thalweg.core.moves import AT_END, Copy, Learn
from thalweg.core.protocols import ModelSpec
from thalweg.core.recipe import Compute, CopyOf, Phase, Recipe
from thalweg.core.time import share
from thalweg.data import Mixture
from thalweg.objectives import NextToken
from thalweg.optim import AdamW
from thalweg.recipes import answers, parts
from thalweg.recipes.named import task_of
from thalweg.rollouts import Demonstrations, Majority, Rollouts
from thalweg.schedules import Wsd

__all__ = ["recipe"]


def recipe(
    task: str = "Addition(digits=3, fewest=1, reverse=True)",
    model: str = "250k",
    rounds: int = 3,
    base_steps: int = 1000,
    steps: int = 300,
    batch: int = 128,
    votes: int = 4,
    agree: float = 0.75,
    own: float = 0.5,
    rise: float = 1.0,
    temperature: float = 0.5,
    new_tokens: int = 16,
    length: int = 64,
    template: str | None = "{prompt}{answer}",
    lr: float = 2e-3,
    measure: int = 128,
    micro: int | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,  # the option's name
    seed: int = 0,
) -> Recipe:
    """Let a model teach itself harder problems from its own majority answers.

    Args:
        task: A task with levels: Addition(digits=3, reverse=True) and the like, or FILE.py:NAME.
        model: 100k, 250k, 1m ... for a fresh model of bytes; or a run, a folder or a hub name.
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
        lr: Peak learning rate of each phase.
        measure: How many problems of the round's level to measure on, 20 times a phase.
        micro: Tokens of one forward pass on one process; all if not given.
        dtype: Of activations: float32, bfloat16, or auto (bfloat16 on GPUs).
        compile: Compile the model: pays after some 150 steps.
        seed: Of weights, problems and draws.
    """
    spec = parts.open_model(model, 257, length)
    writing = answers.Writing(
        task=task_of(task),
        tokenizer=parts.tokenizer_for(spec),
        template=template,
        length=length,
        new_tokens=new_tokens,
    )
    known = Demonstrations(
        task=writing.task,
        tokenizer=writing.tokenizer,
        template=template,
        length=length,
        multiple=length,
    )
    learn = Learn(
        "policy",
        NextToken(),
        AdamW(lr=Wsd(lr, warmup=share(0.05), decay=share(0.3)), weight_decay=0.01),
        micro=micro,
    )
    actor = Copy("policy", "actor", every=AT_END)
    measured = answers.measured(writing, measure)
    phases = [Phase(base_steps, known, (learn, actor), rows=batch, monitors=measured, name="base")]
    for number in range(1, rounds + 1):
        asked = _asked(writing, number * rise, votes, temperature)
        mixed = Mixture({"known": known, "own": asked}, {"known": 1.0 - own, "own": own})
        phases.append(
            Phase(
                steps,
                mixed,
                (Majority(agree), learn, actor),
                rows=batch,
                monitors=answers.measured(replace(writing, level=number * rise), measure),
                name=f"round-{number}",
            )
        )
    models: dict[str, ModelSpec | CopyOf] = {"policy": spec, "actor": CopyOf("policy")}
    return Recipe(models, tuple(phases), seed=seed, compute=Compute(dtype=dtype, compile=compile))


def _asked(writing: answers.Writing, level: float, votes: int, temperature: float) -> Rollouts:
    """Return problems of a level, each answered several times, in rows as wide as the others."""
    asked = replace(writing, level=level, temperature=temperature)
    return replace(asked.rollouts(votes), multiple=writing.length)
