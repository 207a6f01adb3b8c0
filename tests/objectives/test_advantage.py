"""Credit: numbers worked out by hand, group statistics, macro actions, process rewards."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.objectives.advantage import (
    gae,
    group_advantage,
    group_mean,
    group_spread,
    process_advantage,
    process_rewards,
    segments_by_count,
    segments_by_surprise,
    to_go,
    whiten,
)

REWARDS = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 1.0], dtype=torch.float64)
GROUPS = torch.tensor([4, 4, 4, 9, 9, 9])


@pytest.mark.parametrize(
    ("baseline", "scale", "population", "expected"),
    [
        ("mean", "none", False, [2 / 3, -1 / 3, -1 / 3, 0, 0, 0]),
        ("leave_one_out", "none", False, [1, -0.5, -0.5, 0, 0, 0]),
        ("none", "none", False, [1, 0, 0, 1, 1, 1]),
        ("mean", "group", False, [2 / 3 * 3**0.5, -1 / 3 * 3**0.5, -1 / 3 * 3**0.5, 0, 0, 0]),
        ("mean", "group", True, [2**0.5, -(2**-0.5), -(2**-0.5), 0, 0, 0]),
        ("batch", "none", False, [1 / 3, -2 / 3, -2 / 3, 1 / 3, 1 / 3, 1 / 3]),
        ("batch", "batch", True, [0.5**0.5, -(2**0.5), -(2**0.5), *[0.5**0.5] * 3]),
    ],
)
def test_advantages_by_hand(baseline, scale, population, expected):
    found = group_advantage(
        REWARDS, GROUPS, baseline=baseline, scale=scale, population=population, eps=0.0
    )
    if scale == "group":
        found = torch.nan_to_num(found)  # 0 / 0 where a group is even; eps is above 0 in use
    assert found.tolist() == pytest.approx(expected)


@given(st.integers(2, 9), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_groups_are_known_by_their_id_and_not_by_their_place(count, seed):
    draw = np.random.default_rng(seed)
    rewards = torch.from_numpy(draw.integers(0, 2, 3 * count).astype(float))
    groups = torch.from_numpy(np.repeat([7, 1, 30], count))
    order = torch.from_numpy(draw.permutation(3 * count))
    for baseline in ("mean", "leave_one_out"):
        whole = group_advantage(rewards, groups, baseline=baseline)
        mixed = group_advantage(rewards[order], groups[order], baseline=baseline)
        assert torch.allclose(whole[order], mixed, atol=1e-12)


def test_a_group_of_equal_rewards_has_no_advantage_whatever_rounding_says():
    rewards = torch.tensor([0.1, 0.1, 0.1, 0.7, 0.7, 0.7], dtype=torch.float32)
    assert (rewards - rewards.reshape(2, 3).mean(1).repeat_interleave(3)).abs().sum() >= 0
    for eps in (1e-6, 1e-9, 1e-30):
        assert not group_advantage(rewards, GROUPS, eps=eps).any()
    assert not group_spread(rewards, GROUPS).any()


def test_a_group_of_one_has_nobody_to_compare_with():
    one = torch.tensor([3]), torch.tensor([1.0])
    for baseline in ("mean", "leave_one_out"):
        assert group_advantage(one[1], one[0], baseline=baseline).tolist() == [0.0]


def test_group_means():
    assert group_mean(REWARDS, GROUPS).tolist() == pytest.approx([1 / 3] * 3 + [1] * 3)


def slow_gae(rewards, values, gamma, lam):
    """The definition: sum over l of (gamma lam)^l delta_(t+l)."""
    count = len(rewards)
    after = [*values[1:], 0.0]
    delta = [rewards[t] + gamma * after[t] - values[t] for t in range(count)]
    return [sum((gamma * lam) ** k * delta[t + k] for k in range(count - t)) for t in range(count)]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.9, 0.0)])
def test_gae_is_its_definition_on_the_targets_that_count(gamma, lam):
    draw = np.random.default_rng(0)
    rewards, values = draw.normal(size=(2, 7))
    mask = np.array([0, 0, 1, 1, 0, 1, 1])  # a gap: what a tool wrote
    inside = mask > 0
    found = gae(*(torch.tensor(x)[None] for x in (rewards, values, mask)), gamma=gamma, lam=lam)
    expected = np.zeros(7)
    expected[inside] = slow_gae(rewards[inside], values[inside], gamma, lam)
    assert found[0].tolist() == pytest.approx(expected.tolist())


def rows(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).normal(size=shape))


def test_macro_actions_of_one_target_are_token_gae():
    rewards, values = rows(3, 6), rows(3, 6) * 2
    mask = torch.tensor([[0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 0, 0]])
    segments = segments_by_count(mask, 1)
    assert torch.allclose(
        gae(rewards, values, mask, segments_RT=segments), gae(rewards, values, mask)
    )


def test_a_macro_action_sums_rewards_and_averages_values():
    rewards, values = rows(1, 5), rows(1, 5) * 2
    mask = torch.ones(1, 5)
    segments = torch.tensor([[0, 0, 1, 1, 2]])
    found = gae(rewards, values, mask, gamma=0.9, lam=0.5, segments_RT=segments)
    r, v = rewards[0], values[0]
    macro = slow_gae(
        [float(r[:2].sum()), float(r[2:4].sum()), float(r[4])],
        [float(v[:2].mean()), float(v[2:4].mean()), float(v[4])],
        0.9,
        0.5,
    )
    assert found[0].tolist() == pytest.approx([macro[0]] * 2 + [macro[1]] * 2 + [macro[2]])


def test_segments_leave_the_last_target_alone():
    mask = torch.tensor([[0, 1, 1, 1, 1, 1, 0]])
    assert segments_by_count(mask, 2).tolist() == [[0, 0, 0, 1, 1, 2, 2]]
    assert segments_by_count(mask, 99)[0, 1:6].tolist() == [0, 0, 0, 0, 1]
    assert segments_by_count(torch.zeros(1, 3), 2).tolist() == [[0, 0, 0]]
    logprobs = torch.tensor([[-9.0, -1.0, -2.0, -1.5, -1.0, -0.5, 0.0]])
    assert segments_by_surprise(mask, logprobs)[0, 1:6].tolist() == [0, 1, 1, 1, 2]


def test_the_reward_of_a_process_leaves_the_end_to_the_outcome():
    prm, ref = torch.tensor([[-1.0, -1.0, -1.0]]), torch.tensor([[-2.0, -3.0, -4.0]])
    mask = torch.tensor([[1, 1, 1]])
    assert process_rewards(prm, ref, mask, 0.1).tolist()[0] == pytest.approx([0.1, 0.2, 0.0])


def slow_process_advantage(process, reward, mask, w_process, w_outcome):
    """One group, row by row, after the paper's eq. (5)."""
    k, width = process.shape
    dense = process * mask
    scale = max(abs(dense[i, t:].sum()) for i in range(k) for t in range(width) if mask[i, t])
    dense = dense / (scale + 1e-6)
    mean = [dense[i].sum() / mask[i].sum() for i in range(k)]
    out = np.zeros((k, width))
    for i in range(k):
        others = sum(mean[j] for j in range(k) if j != i) / (k - 1)
        outcome = reward[i] - sum(reward[j] for j in range(k) if j != i) / (k - 1)
        for t in range(width):
            if mask[i, t]:
                later = [dense[i, s] - others for s in range(t, width) if mask[i, s]]
                out[i, t] = w_process * sum(later) + w_outcome * outcome
    values = out[mask > 0]
    return np.where(mask > 0, (out - values.mean()) / (values.std(ddof=1) + 1e-8), 0.0)


def test_process_advantages_are_the_papers():
    draw = np.random.default_rng(2)
    process, reward = draw.normal(size=(4, 5)), np.array([1.0, 0.0, 0.0, 1.0])
    mask = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [0, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    found = process_advantage(
        torch.from_numpy(process),
        torch.from_numpy(reward),
        torch.zeros(4, dtype=torch.int64),
        torch.from_numpy(mask),
        process=2.0,
        outcome=3.0,
    )
    expected = slow_process_advantage(process, reward, mask, 2.0, 3.0)
    assert np.abs(found.numpy() - expected).max() < 1e-9


def test_sums_to_the_end_and_whitening():
    x, mask = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[1.0, 0.0, 1.0]])
    assert to_go(x, mask).tolist() == [[5.0, 0.0, 4.0]]
    white = whiten(x, mask)
    assert white[0, 1] == 0
    assert float(white.sum()) == pytest.approx(0.0, abs=1e-6)
