"""PRIME: a reward model that learns from outcomes alone says which token was wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from thalweg.atlas.bandit import Bandit, Exact, Pulls, Softmax, adam, online, read_logprobs
from thalweg.atlas.runs import history
from thalweg.atlas.verdict import at_least, every
from thalweg.core.claim import Arm, Claim, Metrics, Results, Size, Verdict
from thalweg.core.moves import Learn, Score
from thalweg.core.protocols import Context, Dial, Move
from thalweg.core.recipe import CopyOf
from thalweg.core.weigh import PerRow
from thalweg.objectives import Advantages, ImplicitRewards, Outcome, Policy, ProcessAdvantages

__all__ = ["claim"]

WORLD = Bandit(length=4)
MODEL = Softmax(WORLD, skill=2.0)
BETA = 0.5
GOAL = 0.8
"""pass@1 whose first step is compared."""
OUTCOME: tuple[Move, ...] = (
    Advantages("leave_one_out", "batch"),
    Learn("policy", Policy(), adam()),
)
PROCESS: tuple[Move, ...] = (
    Score("ref", "ref"),
    Learn("prm", Outcome(beta=BETA), adam(), clip=10.0, weigh=PerRow()),
    Score("prm", "prm"),
    ImplicitRewards(beta=BETA),
    ProcessAdvantages(),
    Learn("policy", Policy(), adam()),
)


@dataclass(frozen=True)
class Localises:
    """`auc`: the chance that a wrong token of the policy earns less than a right one."""

    every: Dial = 5

    @torch.no_grad()
    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return the number."""
        policy, prm, ref = (
            read_logprobs(ctx.models[name].module, range(WORLD.prompts)).double().numpy()
            for name in ("policy", "prm", "ref")
        )
        odds, reward, right = np.exp(policy), prm - ref, WORLD.is_right
        order = np.argsort(reward[right])
        below = np.concatenate([[0.0], odds[right][order].cumsum()])
        wrong, known = odds[~right], reward[right][order]
        ends = (np.searchsorted(known, reward[~right], side) for side in ("left", "right"))
        lower = np.mean([below[end] for end in ends], axis=0)
        return {"auc": float(1.0 - (wrong * lower).sum() / (wrong.sum() * below[-1]))}


def arms(size: Size) -> dict[str, Arm]:
    """Return outcomes alone, and outcomes with process rewards: the step that reaches the goal."""
    steps = size.pick(tiny=10, small=300)

    def trained(moves: tuple[Move, ...], watch: tuple[Localises, ...], seed: int) -> Metrics:
        made = online(Pulls(WORLD), moves, steps, model=MODEL)
        phase = replace(made.phases[0], monitors=(Exact(WORLD, every=5), *watch))
        models = {**made.models, **({"prm": CopyOf("policy")} if watch else {})}
        rows = history(replace(made, models=models, phases=(phase,), seed=seed))
        there = [row["step"] for row in rows if row.get("pass@1", 0.0) >= GOAL]
        found = {"steps": float(there[0] if there else steps), "reached": float(bool(there))}
        if watch:
            found["auc"] = float(np.mean([row["auc"] for row in rows if "auc" in row]))
        return found | {"pass@1": [row["pass@1"] for row in rows if "pass@1" in row][-1]}

    return {
        "outcome": lambda seed: trained(OUTCOME, (), seed),
        "prime": lambda seed: trained(PROCESS, (Localises(),), seed),
    }


def judge(results: Results) -> Verdict:
    """Steps to the goal, and whether rewards of tokens point at the wrong ones."""
    ratio = results.of("outcome", "steps") / results.of("prime", "steps")
    return every(
        at_least(ratio, 1.2, f"steps to pass@1 {GOAL:g}, outcome alone over PRIME"),
        at_least(results.of("prime", "auc"), 0.65, "wrong token earns less than a right one, AUC"),
    )


claim = Claim(
    paper="arXiv:2502.01456",
    statement="With implicit process rewards the goal is reached in 1.2 times fewer steps, and "
    "wrong tokens earn less than right ones with AUC 0.65",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="A bandit of four-token answers instead of a 7B model; beta 0.5 (0.05 in the paper) "
    "as answers are short; no filter of groups; the reward model is updated before it scores.",
    note="Runs end at 300 steps, about where both arms reach the goal; one that does not counts "
    "all of them. The AUC is a mean over the run, tokens weighted as the policy draws them.",
)
