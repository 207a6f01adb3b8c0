"""A policy that is rewarded learns; one whose rewards are shuffled does not; for every rule.

A bandit as a language model: one prompt token, one answer token of eight, three of them right. The
policy is a table, so a run takes a second and the whole of RL is in it: sampling by the actor,
stored log-probs, groups, the surrogate, several optimizer steps a batch, weights copied back.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.freeze import at
from thalweg.core.learner import Learner
from thalweg.core.protocols import Context, Scored
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.objectives import METHODS, Method
from thalweg.optim import SGD
from thalweg.recipes.answers import moves
from thalweg.rollouts import Sampling, generate

PROMPTS, TOKENS, GROUP, ROWS = 4, 8, 8, 64
ARGUMENTS = {"dr_grpo": {"length": 1}, "grpo": {"kl": 0.01}, "gspo": {"low": 0.2, "high": 0.2}}
POLICY = (
    *("grpo", "dr_grpo", "dapo", "rloo", "reinforce_plus_plus"),
    *("gspo", "cispo", "sapo", "nft", "dpo", "ipo", "slic", "simpo"),
)
RATES = {"nft": 1200.0, "ipo": 0.2, "dpo": 16.0, "slic": 4.0}
"""Of plain gradient descent, where 2 is not a fair one: nft divides by 1,000."""


class Table(nn.Module):
    """Logits of the next token by the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(PROMPTS, TOKENS))

    def forward(self, tokens, document=None, *, targets_RT=None, temperature=1.0, entropy=False):
        logits = self.logits[tokens % PROMPTS] / temperature
        if targets_RT is None:
            return logits
        shares = logits.log_softmax(-1)
        chosen = shares.gather(-1, targets_RT[..., None])[..., 0]
        return Scored(None, chosen, -(shares.exp() * shares).sum(-1))


def right(prompts: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """Return 1 for the three right answers of a prompt."""
    return ((answers - prompts) % TOKENS < 3).float()


def rollout(actor: Learner, step: int, *, shuffled: bool) -> Batch:
    """Return groups of one-token answers, as `Rollouts` would give them."""
    prompts = [number % PROMPTS for number in range(step, step + ROWS // GROUP)]
    with actor.evaluating():
        found = generate(
            actor.module, [[p] for p in prompts], Sampling(new_tokens=1), group=GROUP,
            keys=[step * 1000 + n for n in range(len(prompts))], longest=2,
        )  # fmt: skip
    rows = [(p, one) for p, group in zip(prompts, found, strict=True) for one in group]
    tokens = torch.tensor([[p, *one.tokens] for p, one in rows])
    reward = right(tokens[:, 0], tokens[:, 1])
    if shuffled:
        reward = reward[torch.randperm(ROWS, generator=torch.Generator().manual_seed(step))]
    columns = {
        "tokens": tokens,
        "weight": torch.ones(ROWS, 1),
        "old": torch.tensor([one.logprobs for _, one in rows]),
        "reward": reward,
        "group": torch.arange(ROWS) // GROUP,
        "id": torch.arange(ROWS),
        "source": torch.zeros(ROWS, dtype=torch.int64),
        "version": torch.full((ROWS,), step),
    }
    return Batch(columns)


def play(name: str, *, shuffled: bool = False, steps: int = 30) -> tuple[float, float]:
    """Return the chance of a right answer before and after a run."""
    method: Method = METHODS[name](**ARGUMENTS.get(name, {}))
    do = moves(method, SGD(lr=RATES.get(name, 2.0)), 1, minibatch=ROWS // 2)
    if "chosen" in method.objective.needs:
        do = moves(method, SGD(lr=RATES.get(name, 2.0)), 1)
    models = {model: Learner(model, Table(), World()) for model in ("policy", "actor", "ref")}
    before = chance(models["policy"])
    for step in range(steps):
        ctx = Context(Time(step, steps, run_step=step), models=models, rows=ROWS)
        batch = rollout(models["actor"], step, shuffled=shuffled)
        for move in do:
            batch = replace_clip(at(move, ctx.time))(batch, ctx)
    return before, chance(models["policy"])


def replace_clip(move):
    """Return Learn without the clip of gradient norms: a table's are as large as it likes."""
    return replace(move, clip=None) if hasattr(move, "clip") else move


@torch.no_grad()
def chance(policy: Learner) -> float:
    shares = policy.module.logits.softmax(-1)
    prompts = torch.arange(PROMPTS)[:, None]
    return float((shares * right(prompts, torch.arange(TOKENS)[None])).sum(-1).mean())


@pytest.mark.parametrize("name", POLICY)
def test_the_reward_rises_for_every_rule(name):
    before, after = play(name)
    assert before == pytest.approx(3 / 8)
    assert after > before + 0.3


@pytest.mark.parametrize("name", ["grpo", "rloo", "nft", "dpo"])
def test_it_does_not_rise_with_shuffled_rewards(name):
    before, after = play(name, shuffled=True)
    assert after < before + 0.15
