"""From nothing to reinforcement learning in one command: demonstrations first, then rewards.

sft   source  Demonstrations: problems with their answers
      do      Learn(policy, NextToken); at the end Copy(policy, actor), Copy(policy, ref)
rl    source  Rollouts of the same task
      do      what the algorithm puts before Learn, Learn(policy, ...), Copy(policy, actor, every)

The first phase ends when the model solves `start` of the problems kept for measuring, so that
there is something to reinforce and something to gain. With its defaults it takes a model of 0.2M
parameters through the addition of two digits in minutes on two cores.
"""

from typing import Literal

from thalweg.controllers import Reached
from thalweg.core.moves import AT_END, Copy, Learn
from thalweg.core.recipe import Compute, Phase, Recipe
from thalweg.core.time import share
from thalweg.objectives import NextToken
from thalweg.optim import AdamW
from thalweg.recipes import answers, readers
from thalweg.recipes.answers import Algorithm
from thalweg.recipes.named import reward_of, task_of
from thalweg.rollouts import Demonstrations, Judge
from thalweg.schedules import Constant, Linear, Warmup

__all__ = ["recipe"]


def recipe(
    task: str = "Addition(digits=2)",
    model: str = "100k",
    reward: str | None = None,
    algorithm: Algorithm = "grpo",
    every: int = 1,
    steps: int = 500,
    sft_steps: int = 2000,
    start: float = 0.2,
    batch: int = 256,
    group: int = 8,
    new_tokens: int = 8,
    temperature: float = 1.0,
    length: int = 32,
    template: str | None = "{prompt}{answer}",
    tokenizer: str | None = None,
    kl: float | None = 0.0,
    lr: float = 5e-4,
    sft_lr: float = 3e-3,
    sft_batch: int = 64,
    lora: int = 0,
    measure: int = 256,
    micro: int | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: bool = False,  # the option's name
    shard: Literal["replicate", "full"] = "replicate",
    seed: int = 0,
) -> Recipe:
    """Train a model on a task's answers until it solves some, then by rewards until it solves more.

    Args:
        task: Addition(digits=2) and the like, a .jsonl file of problems, or FILE.py:NAME.
        model: 100k, 250k, 1m ... for a fresh model of bytes; or a run, a folder or a hub name.
        reward: FILE.py:NAME of (prompt, answer, problem) -> float; instead of the task's verdict.
        algorithm: By its paper's name; dpo and those after it learn from pairs of the answers.
        every: Steps between copies of the policy to the actor: 1 online, 0 never (offline).
        steps: Steps of the second phase.
        sft_steps: Most steps of the first.
        start: Share of problems to solve, by one answer each, at which the first phase ends.
        batch: Answers of a step of the second phase; a multiple of group.
        group: Answers to each problem.
        new_tokens: Most tokens of an answer.
        temperature: At which answers are drawn, in the run and in measuring, above 0.
        length: Most targets of prompt and answer.
        template: How prompt and answer are joined.
        tokenizer: A folder or hub name; the model's own if not given, bytes for a fresh one.
        kl: Weight of a KL to the end of the first phase, for algorithms that have one.
        lr: Peak learning rate of the second phase; it falls to 0.
        sft_lr: Learning rate of the first.
        sft_batch: Rows of a step of the first phase.
        lora: Rank of low-rank adapters on a trained model; 0 to train all weights.
        measure: How many problems to measure on, 50 times in the first phase, 20 in the second.
        micro: Tokens of one forward pass on one process; all if not given.
        dtype: Of activations: float32, bfloat16, or auto (bfloat16 on GPUs).
        compile: Compile the model: pays after some 150 steps.
        shard: Over several processes, keep all weights on each, or shard them (full: FSDP2).
        seed: Of weights, problems and draws.
    """
    reader = readers.open_reader(model, tokenizer, length)
    spec = readers.adapted(reader.model, lora)
    writing = answers.Writing(
        task=task_of(task),
        tokenizer=reader.tokenizer,
        template=template,
        length=length,
        new_tokens=new_tokens,
        judge=Judge(reward=reward_of(reward) if reward else None),
        temperature=temperature,
    )
    chosen = answers.method(algorithm, kl, new_tokens, temperature, group)
    do = answers.moves(
        chosen, _adam(Linear(lr, 0.0)), every, of=reader.model, micro=micro, temperature=temperature
    )
    models = answers.models(spec, do)
    handed = tuple(Copy("policy", name, every=AT_END) for name in models if name != "policy")
    often = answers.measured(writing, measure, every=share(0.02))
    first = Phase(
        sft_steps,
        Demonstrations(
            task=writing.task, tokenizer=writing.tokenizer, template=template, length=length
        ),
        (Learn("policy", NextToken(), _adam(Constant(sft_lr)), micro=micro), *handed),
        rows=sft_batch,
        monitors=often,
        controllers=(Reached("heldout/pass@1", start),) if often else (),
        name="sft",
    )
    second = Phase(
        steps,
        writing.rollouts(group),
        do,
        rows=batch,
        monitors=answers.measured(writing, measure),
        name="rl",
    )
    compute = Compute(dtype=dtype, compile=compile, shard=shard)
    return Recipe(models, (first, second), seed=seed, compute=compute)


def _adam(rate: Constant | Linear) -> AdamW:
    return AdamW(lr=Warmup(rate, over=share(0.02)), weight_decay=0.0)
