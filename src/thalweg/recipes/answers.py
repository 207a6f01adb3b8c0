"""What the recipes share that learn from answers a model writes: algorithms, models, measuring."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from thalweg.core.moves import Copy, Learn, Score
from thalweg.core.protocols import Listed, ModelSpec, Monitor, Move, Task
from thalweg.core.recipe import CopyOf
from thalweg.core.time import Span, share
from thalweg.errors import RecipeError
from thalweg.models import Pretrained, Transformer
from thalweg.objectives import METHODS, Advantages, Logprobs, Method
from thalweg.optim import OptimizerSpec
from thalweg.recipes.named import task_of
from thalweg.rollouts import Judge, Mismatch, Pair, Rollouts, RouteMismatch, Sampling, Solved
from thalweg.tasks.draw import check_task

__all__ = ["Algorithm", "Form", "Writing", "measured", "method", "models", "moves", "tested"]

Algorithm: TypeAlias = Literal[
    "grpo", "dr_grpo", "dapo", "rloo", "reinforce_plus_plus", "gspo", "cispo", "sapo", "nft",
    "dpo", "ipo", "slic", "simpo", "redi",
]  # fmt: skip
"""Those that learn from judged answers; the second line learns from pairs of them."""


class Form(NamedTuple):
    """How a prompt becomes a row, and how long an answer may be."""

    tokenizer: str
    template: str | None
    length: int
    new_tokens: int


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How problems are asked and answers written, in training and in measuring alike."""

    task: Task
    tokenizer: str
    template: str | None
    length: int
    new_tokens: int
    judge: Judge = Judge()
    level: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse lengths that leave no room."""
        for option, value, least in (
            ("--new-tokens", self.new_tokens, 1),
            ("--length", self.length, 2),
        ):
            if value < least:
                raise _refusal(f"{option} {value}", f"{least} or more", option, f"{option} 64")

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn."""
        return Sampling(new_tokens=self.new_tokens, temperature=self.temperature)

    def rollouts(
        self, group: int, truncated: Literal["judge", "zero", "mask"] = "judge"
    ) -> Rollouts:
        """Return the source of a run."""
        return Rollouts(
            task=self.task, tokenizer=self.tokenizer, template=self.template, length=self.length,
            sampling=self.sampling, judge=self.judge, level=self.level, group=group,
            truncated=truncated,
        )  # fmt: skip


def method(
    name: Algorithm,
    kl: float | None,
    new_tokens: int,
    temperature: float = 1.0,
    group: int | None = None,
) -> Method:
    """Return an algorithm.

    Args:
        name: The algorithm.
        kl: Weight of its KL, None for the paper's, 0 for none.
        new_tokens: Most tokens of an answer.
        temperature: At which answers are drawn.
        group: Answers to each problem, if they are to be compared.

    Raises:
        RecipeError: A KL for an algorithm that has none, or one below 0; one answer to a problem
            for an algorithm that compares answers to one problem.
    """
    weighted = ("grpo", "rloo", "reinforce_plus_plus")
    if kl and name not in weighted:
        raise _refusal(
            f"--kl {kl} with {name}",
            "a KL to a reference is part of " + ", ".join(weighted),
            "--kl",
            "--algorithm grpo --kl 0.04",
        )
    if kl is not None and not 0 <= kl < math.inf:
        raise _refusal(f"--kl {kl}", "0, for none, or more", "--kl", "--kl 0.04")
    given: dict[str, float] = {} if kl is None or name not in weighted else {"kl": kl}
    if name == "dr_grpo":
        given["length"] = new_tokens
    found = METHODS[name](**given).at(temperature)
    if group == 1 and _compares(found):
        raise _refusal(
            f"--group 1 with {name}",
            "2 answers or more to a problem: what is compared with nothing teaches nothing",
            "--group",
            "--group 8, or --algorithm reinforce_plus_plus",
        )
    return found


def moves(
    chosen: Method,
    optimizer: OptimizerSpec,
    every: int,
    *,
    of: ModelSpec | None = None,
    passes: int = 1,
    minibatch: int | None = None,
    micro: int | None = None,
    temperature: float = 1.0,
) -> tuple[Move, ...]:
    """Return the moves of a step: pairs if the algorithm learns from them, Learn, Copy.

    Engines are compared where the objective does not: log-probs before pairs are made, the experts
    of a mixture.

    Args:
        chosen: The algorithm.
        optimizer: Of the policy.
        every: Steps between copies of the policy to the actor; 0: never.
        of: What the policy was made from, adapters left out.
        passes: As of Learn.
        minibatch: As of Learn.
        micro: As of Learn.
        temperature: At which answers are drawn.

    Raises:
        RecipeError: A distance between copies below 0.
    """
    if every < 0:
        raise _refusal(f"--every {every}", "0, for never, or more", "--every", "--every 1")
    learns_from_pairs = _needs_pairs(chosen)
    engines = Mismatch("actor", fn=Logprobs(temperature=temperature))
    before: tuple[Move, ...] = (engines, Pair()) if learns_from_pairs else ()
    learn = chosen.do("policy", optimizer, passes=passes, minibatch=minibatch, micro=micro)
    routes = (RouteMismatch("actor"),) if _has_experts(of) else ()
    return (*routes, *before, *learn, Copy("policy", "actor", every=every))


def models(
    spec: ModelSpec, do: Sequence[Move], reference: ModelSpec | None = None
) -> dict[str, ModelSpec | CopyOf]:
    """Return the policy, and what the moves name besides it: copies of it, or the reference."""
    found: dict[str, ModelSpec | CopyOf] = {"policy": spec}
    for move in do:
        name = _model_of(move)
        if name not in found:
            found[name] = reference if name == "ref" and reference is not None else CopyOf("policy")
    return found


def measured(
    writing: Writing,
    problems: int,
    test: Task | None = None,
    every: Span = share(0.05),
    show: int = 0,
) -> tuple[Monitor, ...]:
    """Return the monitor of solved problems: those of `test`, or new ones of a generated task.

    Raises:
        RecipeError: The task gives no problems.
    """
    task = test if test is not None else writing.task
    if not problems or (test is None and isinstance(task, Listed)):
        return ()
    check_task(task, writing.level)
    return (
        Solved(
            task=task, tokenizer=writing.tokenizer, template=writing.template,
            length=writing.length, sampling=writing.sampling, judge=writing.judge,
            level=writing.level, problems=problems, every=every, show=show,
        ),
    )  # fmt: skip


def tested(test: str | None, problems: int, form: Form) -> tuple[Monitor, ...]:
    """Return the monitor of `--test` for runs that learn from files; some answers become samples.

    Args:
        test: The problems; None: nothing is measured.
        problems: How many are asked, 10 times a run.
        form: How they are asked.
    """
    if test is None:
        return ()
    writing = Writing(task=task_of(test, "--test"), **form._asdict())
    return measured(writing, problems, writing.task, every=share(0.1), show=4)


def _needs_pairs(method: Method) -> bool:
    return "chosen" in method.objective.needs


def _compares(method: Method) -> bool:
    """Whether an answer's credit is what others to the same problem earned less."""
    baselines = {move.baseline for move in method.before if isinstance(move, Advantages)}
    return _needs_pairs(method) or bool(baselines & {"mean", "leave_one_out"})


def _has_experts(spec: ModelSpec | None) -> bool:
    """Return whether a model is a mixture of experts of ours."""
    shape = spec.transformer if isinstance(spec, Pretrained) else spec
    return isinstance(shape, Transformer) and shape.moe is not None


def _model_of(move: Move) -> str:
    """Return the model that a move reads or writes; the policy for those without."""
    if isinstance(move, Copy):
        return move.dst
    return move.model if isinstance(move, Score | Learn) else "policy"


def _refusal(given: str, expected: str, where: str, write: str) -> RecipeError:
    return RecipeError(given, expected=expected, where=where, write=write)
