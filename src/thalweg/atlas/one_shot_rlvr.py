"""One-shot RLVR: rewards on a single problem bring out a skill that the model has."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.atlas.trained import Trained, ended
from thalweg.atlas.verdict import at_least, at_most, every
from thalweg.core.claim import Arm, Claim, Metrics, Results, Size, Verdict
from thalweg.core.learner import Learner
from thalweg.core.moves import Copy, Learn
from thalweg.core.protocols import Context, Grade, Monitor, Problem
from thalweg.core.recipe import CopyOf, Phase, Recipe
from thalweg.core.rng import rng
from thalweg.core.time import Time, share
from thalweg.core.world import World
from thalweg.data.score import history_score
from thalweg.models import Transformer
from thalweg.objectives import METHODS, NextToken
from thalweg.optim import AdamW
from thalweg.rollouts import Demonstrations, Rollouts, Sampling, Solved

__all__ = ["claim"]

POOL = 20
"""Problems that rewards may be given on; others are only measured."""
MODEL = Transformer(vocabulary=257, width=48, layers=2, heads=4, positions=12, tied=True)
LENGTH, TEMPLATE = 11, "{prompt}{answer}"


@dataclass(frozen=True)
class Sums:
    """Sums of two digits, answered as `#7`; a text mostly says `7`, which earns nothing."""

    asked: float = 1.0
    """Share of answers in the form that is asked for."""
    knows: bool = True
    """Whether sums are right, or any number."""
    first: int = 0
    """The first of the hundred sums, which have an order of their own."""
    size: int = 100
    """Lines: more than a hundred are a text that says each sum again and again."""

    def problem(self, index: int) -> Problem:
        """Return a line."""
        order, draw = rng(0, "sums").permutation(100), rng(0, "line", index)
        a, b = divmod(int(order[self.first + index % min(self.size, 100)]), 10)
        said = a + b if self.knows else int(draw.integers(19))
        form = "#" if draw.random() < self.asked else ""
        return Problem(f"{a}+{b}=", f"{form}{said}", {"sum": a + b})

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a line at random."""
        return self.problem(int(draw.integers(self.size)))

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge the form and the sum."""
        return Grade(float(answer == f"#{problem.facts['sum']}"), parsed=answer.startswith("#"))


@dataclass(frozen=True)
class PoolRates:
    """`rate/I`: how often the policy solves problem I of the pool: the history it is chosen by."""

    pool: int
    every: int

    def __call__(self, ctx: Context) -> dict[str, float]:
        """Return the rates."""
        each = (solved(Sums(first=index, size=1), answers=8) for index in range(self.pool))
        return {f"rate/{n}": one(ctx)["heldout/pass@1"] for n, one in enumerate(each)}


def solved(task: Sums, answers: int = 4) -> Solved:
    """Return the monitor of all problems of a list."""
    return Solved(
        task=task, problems=task.size, answers=answers, template=TEMPLATE, length=LENGTH,
        sampling=Sampling(new_tokens=5), every=share(0.5),
    )  # fmt: skip


def base(knows: bool, steps: int, seed: int) -> Trained:
    """Return a model that has read sums, right or any, with the form asked for in 3 of 10."""
    lines = Sums(0.3, knows, size=100_000)
    text = Demonstrations(task=lines, template=TEMPLATE, length=LENGTH, multiple=LENGTH)
    phase = Phase(steps, text, (Learn("policy", NextToken(), AdamW(lr=3e-3)),), rows=64)
    return ended(Recipe({"policy": MODEL}, (phase,), seed=seed)).policy


def before(start: Trained, monitor: Solved, seed: int) -> float:
    """Return held-out pass@1 of a model as it is."""
    learner = Learner("policy", start.build(seed), World())
    return monitor(Context(Time(0, 1), seed=seed, models={"policy": learner}))["heldout/pass@1"]


def rewarded(
    start: Trained, task: Sums, steps: int, seed: int, watch: tuple[Monitor, ...]
) -> list[dict[str, Any]]:
    """Return the history of GRPO on some problems."""
    source = Rollouts(
        task=task, template=TEMPLATE, length=LENGTH, sampling=Sampling(new_tokens=5),
        multiple=LENGTH, problems=task.size,
    )  # fmt: skip
    do = METHODS["grpo"](kl=0.0, entropy=1e-3).do("policy", AdamW(lr=1e-3, weight_decay=0.0))
    phase = Phase(steps, source, (*do, Copy("policy", "actor")), rows=64, monitors=watch)
    return ended(Recipe({"policy": start, "actor": CopyOf("policy")}, (phase,), seed=seed)).rows


def arms(size: Size) -> dict[str, Arm]:
    """Return a model with the skill and one without: rewards on all, on one problem, on none."""
    read, steps, pool, kept = size.pick(tiny=(2, 2, 2, 4), small=(500, 32, POOL, 80))

    def run(knows: bool, seed: int) -> Metrics:
        start, held = base(knows, read, seed), solved(Sums(first=POOL, size=kept))

        def after(first: int, *watch: Monitor, count: int = 1) -> list[dict[str, Any]]:
            task = Sums(first=first, size=count)
            return rewarded(start, task, steps, seed, (held, *watch))

        on_all = after(0, PoolRates(pool, max(steps // 4, 1)), count=pool)
        rates = [[row[f"rate/{n}"] for row in on_all if f"rate/{n}" in row] for n in range(pool)]
        best = int(np.argmax(history_score(rates)))
        drawn = int(rng(seed, "any problem").integers(pool))
        runs = {"all": on_all, "one": after(best), "random": after(drawn)}
        found = {name: float(rows[-1]["heldout/pass@1"]) for name, rows in runs.items()}
        return {"before": before(start, held, seed), **found}

    return {"knows": lambda seed: run(True, seed), "ignorant": lambda seed: run(False, seed)}


def judge(results: Results) -> Verdict:
    """The share of the gain that one problem brings, and what it brings without the skill."""
    known = {name: results.of("knows", name) for name in ("before", "all", "one")}
    gain = (known["one"] - known["before"]) / np.maximum(known["all"] - known["before"], 0.05)
    ignorant = results.of("ignorant", "one") - results.of("ignorant", "before")
    return every(
        at_least(gain, 0.6, "gain by one problem over gain by 20, held-out pass@1"),
        at_most(ignorant, 0.1, "gain by one problem without the skill, held-out pass@1"),
    )


claim = Claim(
    paper="arXiv:2504.20571",
    statement="GRPO on the one problem whose success varied most brings 0.6 of the gain of 20 "
    "problems on those held out, and at most 0.1 to a model that lacks the skill",
    arms=arms,
    judge=judge,
    seeds=3,
    deviations="A decoder of 60,000 parameters that has read sums, 3 of 10 in the form that is "
    "rewarded, instead of Qwen2.5-Math; 32 steps of 64 answers; 80 problems held out.",
    note="What is elicited is a form; `random` is a problem chosen blindly, reported, not judged.",
)
