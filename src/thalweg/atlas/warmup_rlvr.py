"""Warm up before you train: demonstrations of another domain, then rewards on few examples."""

import math

import numpy as np
import torch

from thalweg.atlas.bandit import Bandit, Exact, Pulls, Softmax, Table, adam
from thalweg.atlas.verdict import every, higher, lower
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.moves import AT_END, Copy, Learn
from thalweg.core.recipe import CopyOf, Phase, Recipe
from thalweg.core.rng import rng
from thalweg.core.weigh import PerRow
from thalweg.objectives import METHODS, Likelihood

__all__ = ["claim"]

WORLD = Bandit(prompts=128)
LOGIC, FEW, HELD = tuple(range(64)), tuple(range(64, 80)), tuple(range(80, 128))
"""Prompts of the other domain, of the target with rewards, and of the target held out."""
ALIKE = 0.7
"""Correlation between what makes an answer right in the two domains."""


def shown(alike: float) -> Table:
    """Return the best answer to every prompt of the other domain."""
    teacher_DV = WORLD.teacher[0]
    own_DV = rng(0, "other domain").standard_normal(teacher_DV.shape)
    best_Q = (WORLD.features @ (alike * teacher_DV + math.sqrt(1 - alike**2) * own_DV)).argmax(1)
    tokens = torch.from_numpy(np.stack([LOGIC, best_Q[list(LOGIC)]], 1))
    return Table({"tokens": tokens, "weight": torch.ones(len(LOGIC), 1)})


def recipe(alike: float | None, warmup: int, steps: int) -> Recipe:
    """Return a warm-up on a domain that is so much alike, or none, and rewards on the target."""
    watched = (Exact(WORLD, (1,), HELD, "held "), Exact(WORLD, (1,), FEW, "few "))
    fit = Learn("policy", Likelihood(), adam(), weigh=PerRow())
    first = Phase(
        warmup, shown(alike or 0.0), (fit, Copy("policy", "actor", every=AT_END)),
        rows=64, monitors=watched, name="warmup",
    )  # fmt: skip
    grpo = METHODS["grpo"](kl=0.0).do("policy", adam())
    then = Phase(
        steps, Pulls(WORLD, among=FEW), (*grpo, Copy("policy", "actor")),
        rows=64, monitors=watched, name="rl",
    )  # fmt: skip
    phases = ((first,) if alike is not None else ()) + ((then,) if steps else ())
    return Recipe({"policy": Softmax(WORLD, skill=0.3), "actor": CopyOf("policy")}, phases)


def arms(size: Size) -> dict[str, Arm]:
    """Return rewards alone, after a warm-up on a domain alike or on any, and the warm-up alone."""
    warmup, steps = size.pick(tiny=(3, 3), small=(100, 200))
    return {
        "rl": recipe(None, warmup, steps),
        "warm-up, rl": recipe(ALIKE, warmup, steps),
        "any, rl": recipe(0.0, warmup, steps),
        "warm-up": recipe(ALIKE, warmup, 0),
    }


def judge(results: Results) -> Verdict:
    """What the warm-up adds to rewards, what rewards add to it, and whether any domain does."""
    passed = {name: results.of(name, "held pass@1") for name in results.arms}
    both, what = passed["warm-up, rl"], "held-out pass@1"
    return every(
        higher(both, passed["rl"], f"warm-up and rewards minus rewards alone, {what}", by=0.05),
        higher(both, passed["warm-up"], f"warm-up and rewards minus warm-up alone, {what}"),
        lower(passed["any, rl"], both, f"any domain minus the one alike, then rewards, {what}"),
    )


claim = Claim(
    paper="arXiv:2505.13718",
    statement="Demonstrations of a domain that is alike, then rewards on 16 prompts, end 0.05 "
    "above rewards alone on held-out prompts, above the warm-up alone, and above a warm-up on a "
    "domain that is not alike",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="A bandit with a linear softmax policy instead of Qwen2.5 on Knights and Knaves and "
    "MATH: that domains are alike is put in (correlation 0.7), not found; no chains of thought.",
    note="It tests that what a warm-up brings survives rewards on few examples and adds to them. "
    "Whether logic puzzles help mathematics needs a large model.",
)
