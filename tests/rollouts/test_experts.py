"""Mixtures of experts under RL: the sampler and the trainer send a token to the same experts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from core_helpers import play
from rollout_helpers import SOURCE, Room, batch_of, recipe
from thalweg.core.learner import Learner
from thalweg.core.world import World
from thalweg.errors import RecipeError
from thalweg.models import Decoder, Moe, Transformer
from thalweg.models.moe import Mixture
from thalweg.rollouts import Mismatch, Sampling, generate

SPEC = Transformer(
    vocabulary=257, width=32, layers=2, heads=4, positions=48, hidden=64, initial_std=0.2,
    moe=Moe(experts=8, top=2),
)  # fmt: skip
PROMPTS = [[1, 2, 3, 4, 5], [7], [9, 8, 7], [250, 11, 5, 6], [11] * 12, [4, 4]]
KINDS = {
    "softmax": Moe(experts=8, top=2),
    "biased": Moe(experts=8, top=2, score="sigmoid", bias=True, shared=8),
}


@contextmanager
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.Tensor]]:
    """Yield the list of the experts that every call of a router chose, best first."""
    seen: list[torch.Tensor] = []
    route = Mixture.route

    def recorded(self: Mixture, x_RTD: torch.Tensor) -> object:
        routing = route(self, x_RTD)
        seen.append(routing.chosen.detach().sort(-1).values)
        return routing

    with monkeypatch.context() as patch:
        patch.setattr(Mixture, "route", recorded)
        yield seen


def disagreement(
    decoder: Decoder, write: Callable[[list[int]], list[int]], monkeypatch: pytest.MonkeyPatch
) -> float:
    """Return the share of pairs of token and layer whose experts differ in the two passes."""
    differ = total = 0
    for prompt in PROMPTS:
        with watching(monkeypatch) as sampled:
            answer = write(prompt)
        row = torch.tensor([[*prompt, *answer]])
        with watching(monkeypatch) as trained, torch.no_grad():
            decoder(row[:, :-1], targets_RT=row[:, 1:])
        layers = decoder.spec.layers
        for layer in range(layers):
            ours = torch.cat([chosen[0] for chosen in sampled[layer::layers]])
            theirs = trained[layer][0]
            assert ours.shape == theirs.shape
            differ += int((ours != theirs).any(-1).sum())
            total += len(ours)
    return differ / total


def writer(decoder: Decoder) -> Callable[[list[int]], list[int]]:
    def write(prompt: list[int]) -> list[int]:
        return generate(decoder, [prompt], Sampling(new_tokens=30), seed=3)[0][0].tokens

    return write


@pytest.mark.parametrize("kind", list(KINDS))
def test_in_float32_every_token_meets_the_same_experts(kind, monkeypatch):
    decoder = replace(SPEC, moe=KINDS[kind]).build(0)
    assert disagreement(decoder, writer(decoder), monkeypatch) == 0.0


def test_in_bfloat16_few_tokens_change_experts(monkeypatch):
    learner = Learner("actor", SPEC.build(0), World(), dtype=torch.bfloat16)
    assert isinstance(learner.module, Decoder)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        share = disagreement(learner.module, writer(learner.module), monkeypatch)
    assert share < 0.02


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-8), (torch.bfloat16, 1e-3)])
def test_log_probs_of_padded_rows_of_groups_agree(dtype, most):
    room = Room(SPEC)
    room.ctx.models["actor"].dtype = dtype
    Mismatch(every=1)(batch_of(SOURCE, room), room.ctx)
    assert room.logged["engine_kl"] <= most


def test_they_stay_equal_over_50_steps_at_rate_0():
    still = recipe(steps=50, every=1, lr=0.0)
    phase = still.phases[0]
    do = (Mismatch(every=7), *phase.do)
    _, _, memory = play(
        replace(still, models={**still.models, "policy": SPEC}, phases=(replace(phase, do=do),))
    )
    found = [row["engine_kl"] for row in memory.history if "engine_kl" in row]
    assert len(found) == 8
    assert max(found) < 1e-8


def test_experts_that_drop_tokens_in_training_are_refused():
    dropping = replace(SPEC, moe=Moe(experts=8, top=2, capacity=1.25))
    with pytest.raises(RecipeError, match=r"experts of capacity 1\.25"):
        SOURCE.start(Room(dropping).ctx)
