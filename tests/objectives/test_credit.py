"""Moves that give credit, where the contract battery does not look."""

import pytest
import torch

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context
from thalweg.core.time import Time
from thalweg.objectives import (
    Advantages,
    Correct,
    Filter,
    Gae,
    KlPenalty,
    MacroActions,
    Rates,
    TokenRewards,
    WeightOf,
)

ROWS = Batch(
    {
        "reward": torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 1.0]),
        "group": torch.tensor([3, 8, 3, 8, 5, 5]),
        "weight": torch.tensor([[0.0, 1.0, 1.0]] * 5 + [[0.0, 1.0, 0.0]]),
        "old": torch.full((6, 3), -1.0),
        "ref": torch.full((6, 3), -1.5),
        "source": torch.tensor([0, 0, 1, 1, 2, 2]),
    }
)


def ctx(log: dict | None = None, notes: list | None = None) -> Context:
    return Context(
        Time(0, 1),
        log={}.update if log is None else log.update,
        note=lambda kind, text: None if notes is None else notes.append((kind, text)),
    )


def test_advantages_lie_on_the_targets_that_count():
    found = Advantages(scale="none")(ROWS, ctx())["advantage"]
    assert found.tolist() == [
        [0.0, 0.5, 0.5], [0.0] * 3, [0.0, -0.5, -0.5], [0.0] * 3, [0.0] * 3, [0.0] * 3
    ]  # fmt: skip


def test_groups_without_a_spread_are_left_out_and_counted():
    log: dict[str, float] = {}
    kept = Filter()(Advantages()(ROWS, ctx()), ctx(log))
    assert kept["group"].tolist() == [3, 3]
    assert log == {"kept": pytest.approx(1 / 3)}


def test_groups_are_kept_by_their_mean():
    assert Filter(0.4, spread=False)(ROWS, ctx())["group"].tolist() == [3, 3, 5, 5]
    assert Filter(0.2, 0.8)(ROWS, ctx())["group"].tolist() == [3, 3]


def test_statistics_before_a_filter_are_those_of_the_whole_group():
    half = ROWS.take([0, 1, 4])  # a shard, or a filter of rows: one row of each group
    whole = Advantages(scale="none")(ROWS, ctx())["advantage"][[0, 1, 4]]
    assert not torch.equal(Advantages(scale="none")(half, ctx())["advantage"], whole)


def test_where_nothing_is_left_one_row_of_weight_zero_stays_and_it_is_said():
    notes: list[tuple[str, str]] = []
    rows = WeightOf("kl_weight", values=(0, 1, 2))(ROWS, ctx())
    kept = Filter(low=2.0)(rows, ctx(notes=notes))
    assert kept.rows == 1
    assert not kept["weight"].any()
    assert not kept["kl_weight"].any()
    assert notes == [("filtered", "none of 6 rows is left; this step learns nothing")]


def test_rates_stay_off_the_edges():
    found = Rates()(ROWS, ctx())["rate"].tolist()
    assert found == pytest.approx([0.5, 0.02, 0.5, 0.02, 0.98, 0.98])


def test_a_kl_in_the_reward_counts_targets_that_count():
    assert KlPenalty(0.1)(ROWS, ctx())["reward"].tolist() == pytest.approx(
        [0.9, -0.1, -0.1, -0.1, 0.9, 0.95]
    )
    process = TokenRewards(0.1)(ROWS, ctx())["process"]
    assert process[0].tolist() == pytest.approx([0.0, -0.05, 0.95])
    assert process[5].tolist() == pytest.approx([0.0, 0.95, 0.0])


def test_ppo_with_macro_actions_is_a_list_of_annotations():
    batch = ROWS.plus({"value": torch.full((6, 3), 0.5)})
    for move in (TokenRewards(), MacroActions(2), Gae(lam=1.0, macro=True)):
        batch = move(batch, ctx())
    assert batch["advantage"][0].tolist() == pytest.approx([0.0, 0.5, 0.5])
    assert torch.equal(batch["target_value"], batch["advantage"] + batch["value"])


def test_a_foreign_sampler_scales_the_advantage():
    batch = ROWS.plus({"advantage": torch.ones(6, 3), "sampler": torch.full((6, 3), -4.0)})
    assert Correct(high=2.0)(batch, ctx())["advantage"].unique().tolist() == [2.0]
    assert not Correct(high=2.0, drop=True)(batch, ctx())["advantage"].any()


def test_weights_of_some_sources():
    found = WeightOf("sft_weight", values=(0, 2))(ROWS, ctx())["sft_weight"]
    assert torch.equal(found[:2], ROWS["weight"][:2])
    assert not found[2:4].any()
