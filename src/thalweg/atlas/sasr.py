"""SASR: demonstrations while their gradient is large, rewards as it falls, chosen step by step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from thalweg.atlas.bandit import Bandit, Exact, Pulls, Softmax, Table, adam
from thalweg.atlas.verdict import every, higher
from thalweg.controllers import GradientSwitch
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.moves import Copy, Learn
from thalweg.core.protocols import Action, Context, Controller, Dial, Set, State
from thalweg.core.recipe import CopyOf, Phase, Recipe
from thalweg.core.rng import rng
from thalweg.core.time import share
from thalweg.core.weigh import Each, RowMean, TokenMean
from thalweg.data import Mixture
from thalweg.objectives import Advantages, Likelihood, Policy, Sum, WeightOf
from thalweg.schedules import Staircase

__all__ = ["claim"]

WORLD = Bandit(prompts=128)
ASKED, HELD = tuple(range(64)), tuple(range(64, 128))
"""Prompts of the run, and those that are only measured; features are shared."""
WRONG = 0.2
"""Share of demonstrations that show a wrong answer."""


def taught() -> Table:
    """Return four demonstrations of every prompt: one right answer, with some wrong ones."""
    draw, right = rng(0, "teacher"), WORLD.is_right[:, 0]
    prompts = np.repeat(ASKED, 4)
    best = np.array([draw.permutation(np.flatnonzero(right[q]))[0] for q in ASKED]).repeat(4)
    bad = np.array([draw.permutation(np.flatnonzero(~right[q]))[0] for q in prompts])
    shown = np.where(draw.random(len(prompts)) < WRONG, bad, best)
    one = torch.ones(len(prompts), 1)
    tokens = torch.from_numpy(np.stack([prompts, shown], 1))
    return Table({"tokens": tokens, "weight": one, "token_right": one})


@dataclass(frozen=True)
class Drawn:
    """Take demonstrations with a chance that falls along a cosine, from 1 to 0."""

    steps: int

    def start(self, ctx: Context) -> State:
        """Return nothing."""
        return None

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Return what the next step is."""
        chance = 0.5 + 0.5 * np.cos(np.pi * (int(ctx.time.step) + 1) / self.steps)
        teaches = bool(ctx.rng("drawn", int(ctx.time.step)).random() < chance)
        weights = {"taught": float(teaches), "tried": float(not teaches)}
        return (Set({"source.weights": weights}),), state


def recipe(first: Dial, then: Dial, steps: int, controllers: tuple[Controller, ...] = ()) -> Recipe:
    """Return a run on demonstrations and on the policy's own answers, at these weights."""
    both = Mixture({"tried": Pulls(WORLD, among=ASKED), "taught": taught()},
                   {"tried": then, "taught": first})  # fmt: skip
    loss = Sum({"policy": Policy(weight="rl_weight"), "sft": Likelihood(weight="sft_weight")})
    means = Each({"rl_weight": RowMean("rl_weight"), "sft_weight": TokenMean("sft_weight")})
    do = (
        Advantages(),
        WeightOf("rl_weight", values=(0,)),
        WeightOf("sft_weight", values=(1,)),
        Learn("policy", loss, adam(), weigh=means),
        Copy("policy", "actor"),
    )
    watched = (Exact(WORLD, (1,), HELD, "held "), Exact(WORLD, (1,), ASKED, "asked "))
    phase = Phase(steps, both, do, rows=64, controllers=controllers, monitors=watched)
    return Recipe({"policy": Softmax(WORLD, skill=0.5), "actor": CopyOf("policy")}, (phase,))


def arms(size: Size) -> dict[str, Arm]:
    """Return demonstrations or rewards alone, two static plans, and the switch."""
    steps, warmup = size.pick(tiny=(6, 2), small=(300, 30))
    early, late = (Staircase(ends, at=(share(0.5),)) for ends in ((1.0, 0.0), (0.0, 1.0)))
    switch = GradientSwitch(taught="taught", tried="tried", warmup=warmup, tail=warmup // 2)
    return {
        "sft": recipe(1.0, 0.0, steps),
        "grpo": recipe(0.0, 1.0, steps),
        "half": recipe(early, late, steps),
        "cosine": recipe(1.0, 0.0, steps, (Drawn(steps),)),
        "sasr": recipe(1.0, 0.0, steps, (switch,)),
    }


def judge(results: Results) -> Verdict:
    """The switch against each kind alone, and against the static plans."""
    passed = {name: results.of(name, "held pass@1") for name in results.arms}
    ours, what = passed["sasr"], "held-out pass@1"
    return every(
        higher(ours, passed["sft"], f"SASR minus demonstrations alone, {what}", by=0.03),
        higher(ours, passed["grpo"], f"SASR minus rewards alone, {what}", by=0.03),
        higher(ours, passed["half"], f"SASR minus a switch at half, {what}", by=-0.01),
        higher(ours, passed["cosine"], f"SASR minus a cosine chance, {what}", by=-0.01),
    )


claim = Claim(
    paper="arXiv:2505.13026",
    statement="A switch by the gradient norm of demonstrations ends 0.03 above demonstrations "
    "alone and rewards alone, and no more than 0.01 below static plans, at equal steps",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="A bandit with a linear softmax policy instead of language models; a teacher that "
    "is wrong in a fifth of its answers; gamma 1 (a guess: no code was found); the gradient norm "
    "at the end of the warm-up is a mean, and demonstrations come every 50 steps at latest.",
    note="One Adam for both losses, 300 steps of 64 rows in every arm; only held-out prompts, "
    "whose features overlap with those asked, are judged.",
)
