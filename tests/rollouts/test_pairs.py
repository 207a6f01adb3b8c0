"""Groups become pairs; a group without a difference gives none."""

import pytest
import torch

from rollout_helpers import Room
from thalweg.core.batch import COLUMNS, Batch
from thalweg.errors import DialError
from thalweg.rollouts import Pair


def answers(groups: list[list[tuple[float, int]]]) -> Batch:
    """Rows of (reward, length); row i has the tokens 0, i + 1, i + 1, ..."""
    rows = [(g, reward, length) for g, group in enumerate(groups) for reward, length in group]
    tokens = torch.zeros(len(rows), 9, dtype=torch.int64)
    weight = torch.zeros(len(rows), 8)
    for row, (_, _, length) in enumerate(rows):
        tokens[row, 1 : 1 + length] = row + 1
        weight[row, :length] = 1
    return Batch(
        {
            "tokens": tokens,
            "weight": weight,
            "reward": torch.tensor([reward for _, reward, _ in rows]),
            "group": torch.tensor([g for g, _, _ in rows]),
            "id": torch.arange(len(rows)),
            "source": torch.zeros(len(rows), dtype=torch.int64),
        }
    )


def pairs(rule: Pair, batch: Batch, room: Room | None = None) -> list[tuple[int, int]]:
    """Return the rows that were paired, from their tokens."""
    made = rule(batch, (room or Room()).ctx)
    chosen, rejected = made["chosen"].max(1).values - 1, made["rejected"].max(1).values - 1
    return list(zip(chosen.tolist(), rejected.tolist(), strict=True))


GROUP = [(0.0, 2), (1.0, 3), (0.0, 5), (1.0, 8), (0.5, 1)]


@pytest.mark.parametrize(
    ("rule", "expected"), [("first", (1, 0)), ("best_worst", (1, 2)), ("margin", (1, 0))]
)
def test_each_rule_picks_its_pair(rule, expected):
    assert pairs(Pair(rule), answers([GROUP])) == [expected]


def test_a_margin_takes_the_couple_closest_in_length():
    group = [(0.0, 2), (1.0, 8), (0.0, 7), (1.0, 4)]
    assert pairs(Pair("margin"), answers([group])) == [(1, 2)]


def test_a_pair_is_one_row_with_its_weights():
    room = Room()
    batch = answers([[(0.5, 2), (0.5, 3)], [(0.0, 2), (1.0, 4)]])
    made = Pair()(batch, room.ctx)
    assert made["chosen"].tolist() == batch["tokens"][[3]].tolist()
    assert made["rejected_weight"].tolist() == batch["weight"][[2]].tolist()
    assert made["weight"].tolist() == [1.0]
    assert made["id"].tolist() == [3]
    assert room.logged == {"pairs": 1, "paired_groups": 0.5, "pair_length_gap": 2}
    for name in Pair.makes:
        assert made[name].dtype == getattr(torch, COLUMNS[name].dtype)


def test_rewards_must_differ_by_more_than_the_least():
    batch = answers([[(0.0, 1), (0.5, 1)], [(0.0, 1), (0.75, 1)]])
    assert pairs(Pair(least=0.5), batch) == [(3, 2)]


def test_rows_of_weight_zero_are_not_paired():
    batch = answers([[(0.0, 2), (1.0, 0), (0.5, 3)]])
    assert pairs(Pair(), batch) == [(2, 0)]


def test_lengths_can_be_balanced():
    longer = [[(1.0, 3), (0.0, 2)], [(1.0, 8), (0.0, 2)], [(1.0, 4), (0.0, 2)]]
    shorter, equal = [[(1.0, 2), (0.0, 4)]], [[(1.0, 4), (0.0, 4)]]
    room = Room()
    assert pairs(Pair(balance=True), answers(longer + shorter + equal), room) == [
        (0, 1),
        (6, 7),
        (8, 9),
    ]
    assert room.logged["pair_length_gap"] == pytest.approx((1 - 2 + 0) / 3)


def test_a_batch_without_pairs_is_one_pair_that_counts_nothing():
    room = Room()
    made = Pair()(answers([[(1.0, 2), (1.0, 3)]]), room.ctx)
    assert made.rows == 1
    assert not made["weight"].any()
    assert not made["chosen_weight"].any()
    assert not made["rejected_weight"].any()
    assert room.logged["pairs"] == 0
    assert room.notes[0][0] == "empty"


def test_an_unknown_rule_is_refused():
    with pytest.raises(DialError, match="rule='longest'"):
        Pair("longest")
