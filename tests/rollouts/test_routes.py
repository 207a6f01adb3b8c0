"""The share of tokens that meet other experts when the sampler reads them than in training."""

from dataclasses import replace

import pytest
import torch

from core_helpers import play
from rollout_helpers import MODEL, SOURCE, Room, batch_of, recipe
from thalweg.errors import RecipeError
from thalweg.models import Lora, Moe, Transformer
from thalweg.optim import AdamW
from thalweg.recipes.answers import method, moves
from thalweg.rollouts import RouteMismatch, cache

SPEC = Transformer(
    vocabulary=257, width=32, layers=2, heads=4, positions=48, hidden=64, initial_std=0.2,
    moe=Moe(experts=8, top=2),
)  # fmt: skip
KINDS = {
    "softmax": SPEC,
    "biased": replace(SPEC, moe=Moe(experts=8, top=2, score="sigmoid", bias=True, shared=8)),
    "adapted": Lora(base=SPEC, rank=2, targets=("qkv", "out")),
}


def measured(room: Room, rows: int = 16) -> float:
    RouteMismatch(every=1, rows=rows)(batch_of(SOURCE, room), room.ctx)
    return room.logged["route_mismatch"]


@pytest.mark.parametrize("kind", list(KINDS))
def test_one_engine_sends_every_token_of_an_answer_to_the_same_experts(kind):
    assert measured(Room(KINDS[kind])) == 0.0


def test_in_bfloat16_few_tokens_change_experts():
    room = Room(SPEC)
    room.ctx.models["actor"].dtype = torch.bfloat16
    assert measured(room) < 0.02


def test_another_router_in_the_sampler_is_seen(monkeypatch):
    room = Room(SPEC)
    batch = batch_of(SOURCE, room)
    whole = cache.twin

    def turned(decoder):
        made = whole(decoder)
        for block in made.blocks:
            block.mixture.router = torch.nn.Parameter(-block.mixture.router)
        return made

    monkeypatch.setattr(cache, "twin", turned)
    RouteMismatch(every=1)(batch, room.ctx)
    assert room.logged["route_mismatch"] > 0.9


def test_a_model_without_experts_is_refused_in_four_parts():
    with pytest.raises(RecipeError, match="without experts"):
        measured(Room(MODEL))


def test_rl_on_experts_writes_it_into_the_history():
    chosen = method("grpo", 0.0, 6)
    do = moves(chosen, AdamW(lr=0.01), 1, of=SPEC)
    assert do[0] == RouteMismatch("actor")
    assert not any(
        isinstance(move, RouteMismatch) for move in moves(chosen, AdamW(lr=0.01), 1, of=MODEL)
    )
    base = recipe(steps=3, every=1)
    phase = replace(base.phases[0], do=(replace(do[0], every=2), *do[1:]))
    _, _, memory = play(replace(base, models={**base.models, "policy": SPEC}, phases=(phase,)))
    assert [row.get("route_mismatch") for row in memory.history] == [0.0, None, 0.0]
