"""Reinforcement learning: a model writes answers, a task or a function judges them.

source  Rollouts: problems of a task, `group` answers to each
do      what the algorithm puts before Learn, Learn(policy, ...), Copy(policy, actor, every)

`every` is the whole difference between online (1), semi-online (k) and offline (0) learning.
"""

from typing import Literal

from thalweg.core.recipe import Compute, Phase, Recipe
from thalweg.core.time import share
from thalweg.optim import AdamW
from thalweg.recipes import answers, parts, readers
from thalweg.recipes.answers import Algorithm
from thalweg.recipes.named import reward_of, task_of
from thalweg.rollouts import Judge
from thalweg.schedules import Constant, Warmup

__all__ = ["recipe"]


def recipe(
    model: str,
    task: str,
    reward: str | None = None,
    algorithm: Algorithm = "grpo",
    every: int = 1,
    steps: int = 200,
    batch: int = 64,
    group: int = 8,
    new_tokens: int = 256,
    temperature: float = 1.0,
    length: int | None = None,
    level: float = 0.0,
    truncated: Literal["judge", "zero", "mask"] = "judge",
    template: str | None = None,
    tokenizer: str | None = None,
    kl: float | None = None,
    reference: str | None = None,
    passes: int = 1,
    minibatch: int | None = None,
    lr: float = 1e-6,
    warmup: float = 0.02,
    lora: int = 0,
    test: str | None = None,
    measure: int = 64,
    micro: int | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,  # the option's name
    shard: Literal["replicate", "full"] = "replicate",
    seed: int = 0,
) -> Recipe:
    """Let a model write answers to problems and learn from what they earn.

    Args:
        model: A run with an export, or a folder or hub name that transformers loads.
        task: Addition(digits=2) and the like, a .jsonl file of problems, or FILE.py:NAME.
        reward: FILE.py:NAME of (prompt, answer, problem) -> float; instead of the task's verdict.
        algorithm: By its paper's name; dpo and those after it learn from pairs of the answers.
        every: Steps between copies of the policy to the actor: 1 online, 0 never (offline).
        steps: Optimizer steps, if minibatch is not given.
        batch: Answers of a step, over all processes; a multiple of group.
        group: Answers to each problem.
        new_tokens: Most tokens of an answer.
        temperature: At which answers are drawn, in the run and in measuring, above 0.
        length: Most targets of a row; the model's positions, at most 1024, if not given.
        level: How much harder than constructed the task's problems are.
        truncated: An answer that ran out of tokens: judge it, give it zero, or mask it.
        template: How prompt and answer are joined; the tokenizer's chat template if not given.
        tokenizer: A folder or hub name; the model's own if not given.
        kl: Weight of the KL to the reference; the paper's if not given, 0 for none.
        reference: A model of the same tokenizer to compare with; the start if not given.
        passes: Times a batch is gone through.
        minibatch: Rows of an optimizer step; the whole batch if not given.
        lr: Learning rate after warmup; ten times more is usual with lora.
        warmup: Share of the run with a rising rate.
        lora: Rank of low-rank adapters; 0 to train all weights.
        test: Problems to measure on, as task; new ones of the task if not given.
        measure: How many problems to measure on, 20 times a run; 0 for none.
        micro: Tokens of one forward pass on one process; all if not given.
        dtype: Of activations: float32, bfloat16, or auto (bfloat16 on GPUs).
        compile: Compile the model: pays after some 150 steps.
        shard: Over several processes, keep all weights on each, or shard them (full: FSDP2).
        seed: Of problems, draws and adapters.
    """
    base = parts.trained_model(model)
    writing = answers.Writing(
        task=task_of(task),
        tokenizer=readers.tokenizer_of(base, tokenizer),
        template=template,
        length=min(base.positions or 1024, 1024) if length is None else length,
        new_tokens=new_tokens,
        judge=Judge(reward=reward_of(reward) if reward else None),
        level=level,
        temperature=temperature,
    )
    rate = Warmup(Constant(lr), over=share(warmup))
    do = answers.moves(
        answers.method(algorithm, kl, new_tokens, temperature, group),
        AdamW(lr=rate, weight_decay=0.0),
        every,
        of=base,
        passes=passes,
        minibatch=minibatch,
        micro=micro,
        temperature=temperature,
    )
    phase = Phase(
        steps,
        writing.rollouts(group, truncated),
        do,
        rows=batch,
        monitors=answers.measured(writing, measure, task_of(test, "--test") if test else None),
    )
    other = readers.companion(reference, base, "--reference", tokenizer) if reference else None
    compute = Compute(dtype=dtype, compile=compile, shard=shard)
    models = answers.models(readers.adapted(base, lora), do, other)
    return Recipe(models, (phase,), seed=seed, compute=compute)
