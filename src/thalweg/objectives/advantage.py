"""How much better than expected: pure functions from rewards to the credit of rows and targets.

Group statistics need the whole group: call these before anything is filtered or split. Groups are
given by id, not by position. A group whose rewards do not differ (largest minus smallest is 0; a
standard deviation would carry rounding) gets exactly 0 where its mean is the baseline.
"""

from typing import Literal, TypeAlias

import torch

__all__ = [
    "Baseline",
    "Scale",
    "gae",
    "group_advantage",
    "group_mean",
    "group_spread",
    "process_advantage",
    "process_rewards",
    "segments_by_count",
    "segments_by_surprise",
    "to_go",
    "whiten",
]

# R rows, T targets of a row, K macro actions of a row.

Baseline: TypeAlias = Literal["mean", "leave_one_out", "batch", "none"]
Scale: TypeAlias = Literal["group", "batch", "none"]


def group_advantage(
    rewards_R: torch.Tensor,
    groups_R: torch.Tensor,
    *,
    baseline: Baseline = "mean",
    scale: Scale = "group",
    eps: float = 1e-6,
    population: bool = False,
) -> torch.Tensor:
    """Return the advantage of each row: (reward - baseline) / (std + eps).

    Args:
        rewards_R: Outcome of each row [R].
        groups_R: Rows of one prompt share an id, int64 [R].
        baseline: Mean of the group, of its other rows, of the batch, or 0.
        scale: Standard deviation of the group's rewards, of the batch's, or 1.
        eps: Added to the standard deviation.
        population: Divide squares by n (NFT's equality with GRPO needs it), not by n - 1.

    Returns:
        [R], in the type of the rewards; computed in float64.

    Source: arXiv:2402.03300 (mean, group), arXiv:2503.20783 (mean, none), arXiv:2402.14740
    (leave_one_out, none), arXiv:2501.03262 (batch, batch).

    Example:
        >>> rewards, groups = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([7, 7, 3, 3])
        >>> group_advantage(rewards, groups, scale="none").tolist()
        [0.5, -0.5, 0.0, 0.0]
    """
    rewards = rewards_R.double()
    size = _group_sum(torch.ones_like(rewards), groups_R)
    mean = group_mean(rewards, groups_R)
    from_mean = torch.where(group_spread(rewards, groups_R) > 0, rewards - mean, 0.0)
    centred = {
        "mean": from_mean,
        "leave_one_out": from_mean * size / (size - 1).clamp_min(1),
        "batch": rewards - rewards.mean(),
        "none": rewards,
    }[baseline]
    if scale == "none":
        return centred.to(rewards_R.dtype)
    if scale == "group":
        squares, counts = _group_sum(from_mean**2, groups_R), size
    else:
        squares = ((rewards - rewards.mean()) ** 2).sum().expand_as(rewards)
        counts = torch.full_like(rewards, rewards.numel())
    std = (squares / (counts - (0 if population else 1)).clamp_min(1)).sqrt()
    return (centred / (std + eps)).to(rewards_R.dtype)


def group_mean(x_R: torch.Tensor, groups_R: torch.Tensor) -> torch.Tensor:
    """Return the mean of each row's group [R]."""
    return _group_sum(x_R, groups_R) / _group_sum(torch.ones_like(x_R), groups_R)


def group_spread(x_R: torch.Tensor, groups_R: torch.Tensor) -> torch.Tensor:
    """Return the largest minus the smallest of each row's group [R]: exactly 0 if all are equal."""
    ids, index = torch.unique(groups_R, return_inverse=True)
    empty = x_R.new_zeros(len(ids))
    top = empty.scatter_reduce(0, index, x_R, "amax", include_self=False)
    low = empty.scatter_reduce(0, index, x_R, "amin", include_self=False)
    return (top - low)[index]


def gae(
    rewards_RT: torch.Tensor,
    values_RT: torch.Tensor,
    mask_RT: torch.Tensor,
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
    segments_RT: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return generalised advantages of targets, or of macro actions of several targets.

    delta_k = r_k + gamma V_{k+1} - V_k;  A_k = delta_k + gamma lam A_{k+1};  V behind the end is 0.
    A macro action's reward is the SUM of its targets' (the return of a semi-Markov process; the
    authors' code averages, which shrinks a KL penalty n-fold), its value their mean.

    Args:
        rewards_RT: Reward of each target [R, T].
        values_RT: Expected return before each target [R, T].
        mask_RT: Which targets were chosen by the policy [R, T].
        gamma: Discount of a step, 0 to 1.
        lam: Discount of the surprise, 0 to 1.
        segments_RT: Macro action of each target, int64 in 0 .. T-1, rising [R, T]; None: each its
            own.

    Returns:
        [R, T]; 0 where the mask is.

    Source: arXiv:1506.02438, eq. (16); arXiv:2410.02743, sec. 3.2 (segments).

    Example:
        >>> one = torch.ones(1, 3)
        >>> gae(one, 0 * one, one, gamma=0.5, lam=1.0).tolist()
        [[1.75, 1.5, 1.0]]
    """
    mask = (mask_RT > 0).to(rewards_RT.dtype)
    width = rewards_RT.shape[1]
    own = torch.arange(width, device=mask.device).expand_as(rewards_RT)
    index = own if segments_RT is None else segments_RT

    def gathered(x_RT: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(rewards_RT).scatter_add(1, index, x_RT * mask)

    counts_RK = gathered(torch.ones_like(mask))
    reward_RK, value_RK = gathered(rewards_RT), gathered(values_RT) / counts_RK.clamp_min(1)
    here_RK = counts_RK > 0
    found, after, ahead = torch.zeros_like(reward_RK), reward_RK[:, 0] * 0, reward_RK[:, 0] * 0
    for k in reversed(range(width)):
        surprise = reward_RK[:, k] + gamma * ahead - value_RK[:, k]
        after = torch.where(here_RK[:, k], surprise + gamma * lam * after, after)
        ahead = torch.where(here_RK[:, k], value_RK[:, k], ahead)
        found[:, k] = after
    return found.gather(1, index) * mask


def segments_by_count(mask_RT: torch.Tensor, size: int) -> torch.Tensor:
    """Return macro actions of `size` targets; the last target, with the outcome, stands alone.

    Returns:
        int64 [R, T], rising.

    Source: arXiv:2410.02743, sec. 3.1 (fixed n-grams).

    Example:
        >>> segments_by_count(torch.tensor([[0, 1, 1, 1, 1, 0]]), 2).tolist()
        [[0, 0, 0, 1, 2, 2]]
    """
    place_RT = (mask_RT > 0).long().cumsum(1) - 1
    count_R1 = place_RT.max(1, keepdim=True).values
    before_RT = place_RT.clamp_min(0) // size
    last_RT = (count_R1 - 1).clamp_min(0) // size + 1
    return torch.where((place_RT == count_R1) & (count_R1 > 0), last_RT, before_RT)


def segments_by_surprise(mask_RT: torch.Tensor, logprobs_RT: torch.Tensor) -> torch.Tensor:
    """Return macro actions that end where the next target is less likely than this one.

    Args:
        mask_RT: Which targets were chosen by the policy [R, T].
        logprobs_RT: Their log-probs under the sampler [R, T].

    Returns:
        int64 [R, T], rising; the last target stands alone.

    Source: arXiv:2410.02743, sec. 3.1 (perplexity).
    """
    mask = mask_RT > 0
    rises = torch.zeros_like(mask)
    rises[:, 1:] = (logprobs_RT[:, 1:] < logprobs_RT[:, :-1]) & mask[:, 1:] & mask[:, :-1]
    place = mask.long().cumsum(1)
    is_last = mask & (place == place[:, -1:]) & (place > 1)
    return (rises | is_last).long().cumsum(1)


def process_rewards(
    prm_RT: torch.Tensor, ref_RT: torch.Tensor, mask_RT: torch.Tensor, beta: float
) -> torch.Tensor:
    """Return the implicit reward of each target: beta (log prm - log ref); the last target's is 0.

    The last target ends the answer; what it is worth is the outcome's to say.

    Args:
        prm_RT: Log-probs under the reward model [R, T].
        ref_RT: Log-probs under its reference [R, T].
        mask_RT: Which targets were chosen by the policy [R, T].
        beta: Scale of a reward, above 0.

    Source: arXiv:2502.01456, eq. (3).
    """
    mask = mask_RT > 0
    place = mask.long().cumsum(1)
    inner = mask & (place < place[:, -1:])
    return torch.where(inner, beta * (prm_RT - ref_RT), torch.zeros_like(prm_RT))


def process_advantage(
    process_RT: torch.Tensor,
    rewards_R: torch.Tensor,
    groups_R: torch.Tensor,
    mask_RT: torch.Tensor,
    *,
    process: float = 1.0,
    outcome: float = 1.0,
) -> torch.Tensor:
    """Return advantages from two streams of rewards, each against the other rows of its group.

    process: r_t - mean over other rows of their mean reward a target, summed from t to the end;
    outcome: reward - mean of the other rows. Their weighted sum is whitened over the batch. The
    process stream is first divided by the largest |sum to the end| in the batch.

    Args:
        process_RT: Reward of each target [R, T].
        rewards_R: Outcome of each row [R].
        groups_R: Rows of one prompt share an id, int64 [R].
        mask_RT: Which targets were chosen by the policy [R, T].
        process: Weight of the first stream.
        outcome: Weight of the second.

    Source: arXiv:2502.01456, eq. (5); the released code's first stream differs by
    (r_t - mean_i) / (K - 1).
    """
    mask = (mask_RT > 0).to(process_RT.dtype)
    dense = process_RT * mask
    dense = dense / (to_go(dense, mask).abs().max() + 1e-6)
    means_R = dense.sum(1) / mask.sum(1).clamp_min(1)
    size_R = _group_sum(torch.ones_like(means_R), groups_R)
    others_R = (_group_sum(means_R, groups_R) - means_R) / (size_R - 1).clamp_min(1)
    first = to_go((dense - others_R[:, None]) * mask, mask)
    second = group_advantage(rewards_R, groups_R, baseline="leave_one_out", scale="none")
    both = process * first + outcome * second[:, None].to(first.dtype) * mask
    return whiten(both, mask)


def to_go(x_RT: torch.Tensor, mask_RT: torch.Tensor) -> torch.Tensor:
    """Return the sum from each target to the end of its row [R, T]; 0 where the mask is."""
    return (x_RT * mask_RT).flip(1).cumsum(1).flip(1) * mask_RT


def whiten(x_RT: torch.Tensor, mask_RT: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Return (x - mean) / (std + eps) over all targets that count, with n - 1; 0 elsewhere."""
    mask = (mask_RT > 0).to(x_RT.dtype)
    number = mask.sum().clamp_min(1)
    centred = (x_RT - (x_RT * mask).sum() / number) * mask
    return centred / ((centred**2).sum() / (number - 1).clamp_min(1)).sqrt().add(eps)


def _group_sum(x_R: torch.Tensor, groups_R: torch.Tensor) -> torch.Tensor:
    """Return the sum of each row's group [R]."""
    ids, index = torch.unique(groups_R, return_inverse=True)
    return x_R.new_zeros(len(ids)).index_add(0, index, x_R)[index]
