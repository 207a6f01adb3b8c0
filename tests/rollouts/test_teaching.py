"""Demonstrations, labels by majority, and problems kept for measuring."""

import json
from dataclasses import dataclass, replace

import pytest
import torch

from rollout_helpers import MODEL, SOURCE, Low, Room
from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, Problem
from thalweg.core.time import Time
from thalweg.data import Mixture
from thalweg.data.tokenizer import byte_tokenizer
from thalweg.errors import RecipeError
from thalweg.rollouts import Demonstrations, Majority, Sampling, Solved
from thalweg.tasks import Addition

TAUGHT = Demonstrations(
    task=Addition(digits=1), template="{prompt}{answer}", length=15, multiple=16
)


@dataclass(frozen=True)
class Letters(Low):
    """Low with a list of problems."""

    size: int = 5

    def problem(self, index):
        return Problem("abcde"[index], "a")


def ctx(rows: int = 4, logged: dict | None = None) -> Context:
    return Context(Time(0, 9), rows=rows, log=(logged if logged is not None else {}).update)


def test_a_demonstration_is_prompt_answer_and_end_and_only_the_answer_counts():
    batch, state = TAUGHT.next(TAUGHT.start(ctx()), ctx())
    assert (batch.rows, state) == (4, {"asked": 4})
    assert set(batch) == set(TAUGHT.makes)
    for row in range(4):
        counted = batch["tokens"][row, 1:][batch["weight"][row] > 0].tolist()
        text = byte_tokenizer().decode(batch["tokens"][row].tolist(), special=False)
        left, right = text.split("=")
        assert byte_tokenizer().decode(counted) == f"{right}<|endoftext|>"
        assert int(right) == sum(map(int, left.split("+")))


def test_rows_follow_from_the_state():
    state = {"asked": 7}
    batch, after = TAUGHT.next(state, ctx())
    again, _ = TAUGHT.next(json.loads(json.dumps(state)), ctx())
    assert state == {"asked": 7}
    assert after == {"asked": 11}
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    first, _ = TAUGHT.next({"asked": 8}, ctx(1))
    assert torch.equal(first["tokens"], batch["tokens"][1:2])


def test_problems_that_do_not_fit_are_left_out_and_if_none_does_it_says_so():
    logged: dict[str, float] = {}
    mixed = replace(TAUGHT, task=Addition(digits=5, fewest=1), length=9)
    batch, _ = mixed.next(mixed.start(ctx()), ctx(4, logged))
    assert batch.rows == 4
    assert logged["skipped"] > 0
    with pytest.raises(RecipeError, match="problems longer than a row"):
        replace(TAUGHT, length=3).next({"asked": 0}, ctx())


def test_demonstrations_and_rollouts_stand_in_one_mixture():
    own = replace(SOURCE, length=15, multiple=16)
    mixed = Mixture({"known": TAUGHT, "own": own}, {"known": 1, "own": 1})
    room = Room(rows=8)
    batch, _ = mixed.next(mixed.start(room.ctx), room.ctx)
    assert sorted(batch["source"].tolist()) == [0] * 4 + [1] * 4
    assert set(batch["group"][batch["source"] == 0].tolist()) == {-1, -2, -3, -4}


def test_most_of_a_group_label_its_problem():
    answers = [[5, 6], [7, 6], [5, 6], [5, 8], [1, 2], [3, 4]]
    batch = Batch(
        {
            "tokens": torch.tensor([[0, *answer] for answer in answers]),
            "weight": torch.ones(6, 2),
            "group": torch.tensor([0, 0, 0, 1, 1, 2]),
            "finished": torch.tensor([True, True, True, True, True, False]),
        }
    )
    logged: dict[str, float] = {}
    found = Majority(0.6)(batch, ctx(6, logged))
    assert found["weight"][:, 0].tolist() == [1, 0, 0, 0, 0, 0]
    assert logged == {
        "agreement": pytest.approx((2 / 3 + 1 / 2 + 0) / 3),
        "voted": pytest.approx(1 / 3),
    }
    assert Majority(0.5)(batch, ctx(6))["weight"][:, 0].tolist() == [1, 0, 0, 1, 0, 0]


def test_problems_kept_for_measuring_are_the_same_each_time():
    solved = Solved(
        task=Low(), model="actor", problems=6, answers=4, template="{prompt}{answer}", length=16,
        sampling=Sampling(new_tokens=4),
    )  # fmt: skip
    found = solved(Room(MODEL).ctx)
    assert found == solved(Room(MODEL, step=9).ctx)
    assert {"heldout/pass@1", "heldout/pass@2", "heldout/reward"} <= set(found)
    assert 0 <= found["heldout/pass@1"] <= found["heldout/pass@2"] <= 1


@pytest.mark.parametrize("task", [Low(), Letters()])
def test_runs_of_several_seeds_are_measured_alike(task):
    solved = Solved(
        task=task, model="actor", problems=6, answers=2, template="{prompt}{answer}", length=16,
        sampling=Sampling(new_tokens=4), show=6,
    )  # fmt: skip
    here, there = Room(MODEL), Room(MODEL)
    assert solved(here.ctx) == solved(replace(there.ctx, seed=4))
    assert here.samples == there.samples


def test_of_a_list_the_first_rows_are_measured_each_once():
    for problems, asked in ((2, "ab"), (9, "abcde")):
        room = Room(MODEL)
        Solved(
            task=Letters(), model="actor", problems=problems, template="{prompt}{answer}",
            length=16, sampling=Sampling(new_tokens=4), show=9,
        )(room.ctx)  # fmt: skip
        assert "".join(row["prompt"] for row in room.samples) == asked
