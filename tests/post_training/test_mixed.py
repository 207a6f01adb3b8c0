"""Demonstrations and judged answers in one batch: one gradient, whatever the split, and one run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core_helpers import play, resumed_equals_undisturbed
from data_helpers import pair_store
from rollout_helpers import MODEL, SOURCE, Room, batch_of
from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.moves import Copy, Learn
from thalweg.core.protocols import Context, Source
from thalweg.core.recipe import CopyOf, Phase, Recipe, check
from thalweg.core.time import Time
from thalweg.core.weigh import Each, RowMean, TokenMean, Weigh
from thalweg.core.world import World
from thalweg.data import Mixture, Pairs
from thalweg.errors import ColumnError
from thalweg.objectives import Advantages, Filter, Likelihood, Policy, Sum, WeightOf
from thalweg.optim import AdamW
from thalweg.rollouts import Demonstrations, Majority, Rollouts
from thalweg.schedules import Linear
from thalweg.tasks import Addition

CREDIT = (
    Advantages(),
    WeightOf("rl_weight", values=(0,)),
    WeightOf("sft_weight", values=(1,)),
)
BOTH = Sum({"policy": Policy(weight="rl_weight"), "sft": Likelihood(weight="sft_weight")})
MEANS = Each({"rl_weight": RowMean("rl_weight"), "sft_weight": TokenMean("sft_weight")})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Pairs:
    pairs = [(f"say {n}: ", "yes" * (1 + n % 3)) for n in range(13)]
    return Pairs(pair_store(Path(tmp_path_factory.mktemp("pairs")), pairs), length=24)


def mixture(source: Source, **weights: object) -> Mixture:
    return Mixture({"rl": SOURCE, "sft": source}, weights or {"rl": 1, "sft": 1})


def judged(batch: Batch) -> Batch:
    """Return the rows with rewards that differ, as an untrained model earns none."""
    reward = (batch["id"] % 3 == 0).float() * (batch["group"] >= 0)
    return batch.plus({"reward": reward})


def moved(batch: Batch, room: Room) -> Batch:
    for move in CREDIT:
        batch = move(batch, room.ctx)
    return batch


def gradient(objective, weigh: Weigh, batch: Batch, micro: int | None = None) -> torch.Tensor:
    """Return the gradient of the sum over micro-batches of this many rows, from new weights."""
    learner = Learner("policy", MODEL.build(1), World())
    weighed = weigh(batch)
    parts = weighed.split(micro or batch.rows)
    found = [learner.gradient(objective, part) for part in parts]
    return sum(torch.cat([one[name].flatten() for name in sorted(one)]) for one in found)


def test_the_gradient_of_a_mixed_batch_is_the_sum_of_the_two_alone(pairs):
    room, alone = Room(rows=16), Room(rows=8)
    both = mixture(pairs)
    mixed = judged(both.next(both.start(room.ctx), room.ctx)[0])
    assert set(mixed) == set(SOURCE.makes) | set(pairs.makes)
    rl = Advantages()(judged(batch_of(SOURCE, alone)), alone.ctx)
    sft, _ = pairs.next(pairs.start(alone.ctx), alone.ctx)
    first = gradient(Policy(), RowMean(), rl)
    second = gradient(Likelihood(), TokenMean(), sft)
    assert min(float(first.abs().max()), float(second.abs().max())) > 1e-3
    whole = moved(mixed, room)
    for micro in (None, 3, 7):
        assert torch.allclose(gradient(BOTH, MEANS, whole, micro), first + second, atol=2e-7)


def test_two_ranks_learn_what_one_does_and_read_their_own_rows(pairs):
    room, both = Room(rows=20), mixture(pairs)
    whole = moved(judged(both.next(both.start(room.ctx), room.ctx)[0]), room)
    weighed = MEANS(whole)
    parts = [World(rank, 3).mine(weighed) for rank in range(3)]
    assert {part.rows for part in parts} == {7}
    shares = [gradient(BOTH, lambda batch: batch, part) for part in parts]
    assert torch.allclose(sum(shares), gradient(BOTH, MEANS, whole), atol=2e-7)


@pytest.mark.parametrize("rows", [8, 16])
def test_a_step_of_one_kind_has_all_columns(pairs, rows):
    room = Room(rows=rows)
    for weights in ({"rl": 1.0, "sft": 0.0}, {"rl": 0.0, "sft": 1.0}):
        both = mixture(pairs, **weights)
        batch, _ = both.next(both.start(room.ctx), room.ctx)
        assert set(batch) == set(both.makes)
        assert moved(batch, room)["advantage"].isfinite().all()


def recipe(source: Source, weights: dict[str, object], rows: int = 16, steps: int = 6) -> Recipe:
    learn = Learn("policy", BOTH, AdamW(lr=1e-2), weigh=MEANS, micro=64)
    do = (*CREDIT, learn, Copy("policy", "actor", every=2))
    phase = Phase(steps, mixture(source, **weights), do, rows=rows)
    return Recipe({"policy": MODEL, "actor": CopyOf("policy")}, (phase,))


def test_demonstrations_give_way_to_rewards_by_a_schedule_and_a_run_resumes(pairs):
    faded = recipe(pairs, {"rl": Linear(0.0, 1.0), "sft": Linear(1.0, 0.0)})
    check(faded)
    resumed_equals_undisturbed(faded, (2, 5))
    _, _, memory = play(faded)
    first, last = memory.history[0], memory.history[-1]
    assert first["tokens/sft"] > 0
    assert last["tokens/rl"] > 0


def test_what_only_some_rows_have_may_not_be_counted_in_all(pairs):
    wrong = recipe(pairs, {"rl": 1.0, "sft": 1.0})
    learn = Learn("policy", Policy(), AdamW(lr=1e-2))
    phase = replace(wrong.phases[0], do=(Advantages(), learn))
    with pytest.raises(ColumnError, match="counts every row by 'weight' and reads 'old'"):
        check(replace(wrong, phases=(phase,)))


def test_rows_that_nobody_drew_enter_no_statistics():
    rewards = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    batch = Batch(
        {
            "tokens": torch.zeros(6, 3, dtype=torch.int64),
            "weight": torch.ones(6, 2),
            "reward": rewards,
            "group": torch.tensor([0, 0, 1, 1, -1, -1]),
            "finished": torch.ones(6, dtype=torch.bool),
        }
    )
    logged: dict[str, float] = {}
    ctx = Context(Time(0, 1), log=logged.update)
    for move in (Advantages("batch", "batch"), Advantages(), Advantages("none", "none")):
        alone = move(batch.take(range(4)), ctx)["advantage"]
        assert torch.equal(move(batch, ctx)["advantage"], torch.cat([alone, torch.zeros(2, 2)]))
    kept = Filter()(batch, ctx)
    assert kept["group"].tolist() == [0, 0, -1, -1]
    assert logged["kept"] == 0.5
    voted = Majority(0.5)(batch, ctx)
    assert voted["weight"][:, 0].tolist() == [1, 0, 1, 0, 1, 1]
    assert (logged["voted"], logged["agreement"]) == (1.0, 1.0)


def test_rollouts_of_any_width_stand_beside_demonstrations():
    taught = Demonstrations(
        task=Addition(digits=1), template="{prompt}{answer}", length=15, multiple=1
    )
    own: Rollouts = replace(SOURCE, multiple=1)
    room, both = Room(rows=12), Mixture({"rl": own, "sft": taught}, {"rl": 2, "sft": 1})
    batch, _ = both.next(both.start(room.ctx), room.ctx)
    assert batch["tokens"].shape[1] == batch["old"].shape[1] + 1
    assert torch.bincount(batch["source"]).tolist() == [8, 4]
