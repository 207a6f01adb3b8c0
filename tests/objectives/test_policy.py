"""The policy gradient: ratios, masks, metrics, aggregation; points 4 to 9 of the checklist."""

import pytest
import torch

from objectives.helpers import WIDTH, Given, draw, slope, token_batch
from test_laws import Bigram, answer_rows
from thalweg.core.batch import Batch
from thalweg.core.weigh import PerRow, RowMean, TokenMean
from thalweg.objectives import Clip, Entropy, KlToReference, Policy, Sum, aggregate, count
from thalweg.objectives.surrogates import Nft, Taken, importance_ratio, log_ratio, truncated


def test_a_ratio_is_clamped_before_it_is_exponentiated_and_one_where_masked():
    now, old = torch.tensor([[0.0, -500.0, -1.0]]), torch.tensor([[-500.0, 0.0, -700.0]])
    ratio = importance_ratio(now, old, torch.tensor([[1.0, 1.0, 0.0]]))
    assert torch.isfinite(ratio).all()
    assert log_ratio(now, old, torch.tensor([[1.0, 1.0, 0.0]])).tolist() == [[20.0, -20.0, 0.0]]
    assert ratio[0, 2] == 1.0


def test_a_masked_target_with_an_impossible_log_prob_does_no_harm():
    batch = token_batch()
    old = batch["old"].clone()
    old[:, 0] = -float("inf")  # weight 0 there
    found = slope(Policy(), batch.plus({"old": old}))
    assert torch.equal(found, slope(Policy(), batch))


def test_the_clip_counts_what_has_no_gradient_with_the_sign_of_its_advantage():
    ratio = torch.tensor([[1.5, 1.5, 0.5, 0.5, 1.0, 9.0]])
    advantage = torch.tensor([[1.0, -1.0, 1.0, -1.0, 0.0, -1.0]])
    taken = Taken(ratio.log(), ratio, advantage)
    assert Clip().clipped(taken).tolist() == [[True, False, False, True, False, False]]
    assert Clip(dual=3.0).clipped(taken).tolist() == [[True, False, False, True, False, True]]
    leaf = ratio.clone().requires_grad_()
    Clip(dual=3.0)(Taken(leaf.log(), leaf, advantage)).sum().backward()
    blocked = leaf.grad[0].eq(0) & advantage[0].ne(0)
    assert blocked.tolist() == [True, False, False, True, False, True]


def test_an_answer_without_credit_is_neither_right_nor_wrong():
    now = torch.tensor([[-1.0, -2.0, -3.0]], requires_grad=True)
    advantage = torch.tensor([[1.0, 0.0, -1.0]])
    taken = Taken(now, (now - now.detach()).exp(), advantage, {"rate": torch.tensor([[0.5]])})
    (found,) = torch.autograd.grad(Nft()(taken).sum(), now)
    assert found.tolist() == [[0.5, 0.0, -0.5]]


def test_metrics_are_means_over_counted_targets():
    batch = token_batch()
    sums = Policy()(Given(tokens=batch["logp"]), batch).sums
    mask = batch["weight"] > 0
    moved = (batch["logp"] - batch["old"])[mask]
    expected = {
        "mismatch_kl": float((moved.exp() - 1 - moved).mean()),
        "entropy": float(-batch["logp"][mask].mean()),  # what the helper calls entropy
        "clip_up": float(((moved.exp() > 1.2) & (batch["advantage"][mask] > 0)).double().mean()),
        "clip_down": float(((moved.exp() < 0.8) & (batch["advantage"][mask] < 0)).double().mean()),
    }
    for name, value in expected.items():
        assert float(sums[name] / sums[f"{name}/count"]) == pytest.approx(value), name
    both = sums["clip_up"] + sums["clip_down"]
    assert float(sums["clip"]) == float(both)
    assert 0 < float(both)


def test_sampler_and_trainer_agree_on_policy_at_any_temperature():
    model, batch = Bigram(), answer_rows()
    hot = model(batch["tokens"][:, :-1]).detach() / 0.7
    old = hot.log_softmax(-1).gather(-1, batch["tokens"][:, 1:, None])[..., 0]
    sums = Policy(temperature=0.7)(model, batch.plus({"old": old})).sums
    assert float(sums["mismatch_kl"]) == pytest.approx(0.0, abs=1e-12)
    assert float(Policy()(model, batch.plus({"old": old})).sums["mismatch_kl"]) > 0.01


# --- one mask, one count (point 4)

MEANS = {"tokens": TokenMean(), "sequences": RowMean(), "constant": PerRow(7.0)}


@pytest.mark.parametrize("over", list(MEANS))
def test_a_weight_column_is_the_mean_it_stands_for(over):
    mask = (token_batch()["weight"] > 0).double()
    x = draw(*mask.shape, seed=3)
    weight = MEANS[over](Batch({"weight": mask}))["weight"].double()
    expected = aggregate(x, mask, over, constant=7.0)
    assert float((weight * x).sum()) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("over", list(MEANS))
def test_micro_batches_add_up_if_the_totals_are_of_the_whole_step(over):
    mask = (token_batch()["weight"] > 0).double()
    x = draw(*mask.shape, seed=3)
    whole = aggregate(x, mask, over, constant=7.0)
    parts = [slice(0, 1), slice(1, 4), slice(4, 6)]
    added = sum(aggregate(x[p], mask[p], over, totals=count(mask), constant=7.0) for p in parts)
    assert float(added) == pytest.approx(float(whole), rel=1e-12)
    naive = sum(aggregate(x[p], mask[p], over, constant=7.0) for p in parts) / 3
    assert float(naive) != pytest.approx(float(whole), rel=1e-3)


# --- length bias (point 6)


def test_only_the_mean_over_each_answer_makes_a_long_answer_count_less():
    def force(over: str, repeats: int) -> float:
        mask = torch.zeros(2, 8, dtype=torch.float64)
        mask[0, :2], mask[1, : 2 * repeats] = 1, 1
        weight = MEANS[over](Batch({"weight": mask}))["weight"]
        return float(weight[1].sum() / weight[0].sum())

    assert force("sequences", 1) == force("sequences", 4) == pytest.approx(1.0)
    for over in ("tokens", "constant"):
        assert force(over, 4) == pytest.approx(4.0)


# --- empty cases (point 9)


@pytest.mark.parametrize(
    "objective",
    [
        Policy(),
        Policy(Clip(), level="sequence"),
        Sum({"policy": Policy(), "kl": KlToReference(), "entropy": Entropy()}),
    ],
)
def test_a_batch_where_nothing_counts_is_a_loss_of_zero_with_a_graph(objective):
    batch = answer_rows()
    batch = batch.plus({"weight": torch.zeros_like(batch["weight"])})
    model = Bigram()
    loss = objective(model, batch)
    (found,) = torch.autograd.grad(loss.value, [model.table])
    assert float(loss.value.detach()) == 0.0
    assert not found.any()


def test_the_factor_of_a_foreign_sampler_is_cut_or_dropped():
    old, sampler = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([0.0, -2.0, 2.0])
    assert truncated(old, sampler, high=2.0)[1] == 2.0
    assert truncated(old, sampler, low=0.5, high=2.0, drop=True).tolist() == [1.0, 0.0, 0.0]


def test_parts_of_a_sum_ask_the_model_once():
    batch = token_batch()
    model = Given(tokens=batch["logp"])
    parts = {"policy": Policy(), "kl": KlToReference(), "entropy": Entropy()}
    loss = Sum(parts, {"kl": 0.1})(model, batch)
    assert model.calls == 1
    assert {"clip", "kl/kl", "entropy/entropy"} <= set(loss.sums)
    assert WIDTH == batch["old"].shape[1]
