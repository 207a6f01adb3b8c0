"""Every objective's gradient in the log-probs is minus its closed-form score weight."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from objectives.helpers import pair_batch, slope, token_batch
from reference import score_weights as by_hand
from thalweg.core.batch import Batch
from thalweg.objectives import (
    Alpha,
    Asymmetric,
    Centred,
    Cispo,
    Clip,
    Forget,
    ForwardKl,
    Hellinger,
    Hinge,
    JensenShannon,
    KlToReference,
    Likelihood,
    Logistic,
    Nft,
    Outcome,
    Policy,
    Preference,
    Rehearsal,
    Reinforce,
    ReverseKl,
    Shaped,
    Soft,
    Squared,
    Sum,
    Unclipped,
)

COLUMNS = ("logp", "old", "ref", "advantage", "weight", "current", "rate", "reward")
ARRAYS = {name: token_batch()[name].numpy() for name in COLUMNS}
LOGP, OLD, REF, A, W = (ARRAYS[name] for name in COLUMNS[:5])
MASK = W > 0
R = by_hand.ratio(LOGP, OLD, MASK, "token")
S = by_hand.ratio(LOGP, OLD, MASK, "sequence")
U = np.exp(LOGP - REF)
CENTRE = np.exp(ARRAYS["current"] - OLD)


def compared() -> tuple[np.ndarray, np.ndarray]:
    """Return log(pi / ref) of each row and the mean weight of its targets, spread over targets."""
    total = np.where(MASK, LOGP - REF, 0.0).sum(1, keepdims=True)
    return total, np.where(MASK, W.sum(1, keepdims=True) / MASK.sum(1, keepdims=True), 0.0)


TOTAL, EACH = compared()
RATE, REWARD = ARRAYS["rate"], ARRAYS["reward"][:, None]

TOKENS: dict[str, tuple[object, Callable[[], np.ndarray]]] = {
    "likelihood with token weights": (Likelihood(), lambda: by_hand.likelihood(W)),
    "unclipped": (Policy(Unclipped()), lambda: W * A * R),
    "reinforce": (Policy(Reinforce()), lambda: W * A),
    "clip": (Policy(Clip(0.2, 0.2)), lambda: W * by_hand.clip(R, A, 0.2, 0.2)),
    "clip-higher": (Policy(Clip(0.1, 0.4)), lambda: W * by_hand.clip(R, A, 0.1, 0.4)),
    "dual clip": (
        Policy(Clip(0.2, 0.2, dual=1.4)),
        lambda: W * by_hand.clip(R, A, 0.2, 0.2, 1.4),
    ),
    "gspo": (
        Policy(Clip(0.05, 0.1), level="sequence"),
        lambda: by_hand.sequence_clip(S, A, W, 0.05, 0.1),
    ),
    "moved centre": (
        Policy(Centred(0.1, 0.1)),
        lambda: W * by_hand.centred(R, A, CENTRE, 0.1, 0.1),
    ),
    "cispo": (Policy(Cispo(1.2)), lambda: W * by_hand.cispo(R, A, 1.2)),
    "soft": (Policy(Soft(1.0, 1.05)), lambda: W * by_hand.soft(R, A, 1.0, 1.05)),
    "shaped": (Policy(Shaped(0.3)), lambda: W * by_hand.shaped(R, A, 0.3)),
    "k3 corrected": (
        KlToReference("k3", corrected=True),
        lambda: -W * R * ((1 / U - 1 + np.log(U)) + 1 - 1 / U),
    ),
    "unlearning": (Forget(0.3), lambda: EACH * by_hand.forget(TOTAL, 0.3)),
    "outcome": (Outcome(0.5), lambda: EACH * by_hand.outcome(TOTAL, REWARD, 0.5)),
}
for omega in ("one", "miss", "odds"):
    for floor in (1.0, 0.4):
        TOKENS[f"nft {omega} {floor}"] = (
            Policy(Nft(omega, floor=floor, negative=0.7)),
            lambda omega=omega, floor=floor: W * by_hand.nft(R, A, RATE, omega, floor, 0.7),
        )
for n in (1.0, 2.0, 16.0, 1024.0):
    TOKENS[f"coverage {n:g}"] = (
        Likelihood(coverage=n),
        lambda n=n: by_hand.coverage(LOGP, W, n) if n > 1 else W,
    )
for kind in (ForwardKl(), ReverseKl(), JensenShannon(), Alpha(0.2), Hellinger()):
    TOKENS[type(kind).__name__] = (
        Rehearsal(kind),
        lambda kind=kind: W * by_hand.f_divergence(U, type(kind).__name__),
    )
for estimator in ("k1", "k2", "k3"):
    TOKENS[estimator] = (
        KlToReference(estimator),
        lambda estimator=estimator: W * by_hand.kl(U, estimator),
    )
TOKENS["a sum"] = (
    Sum({"policy": Policy(), "kl": KlToReference("k2")}, {"kl": 0.3}),
    lambda: W * (by_hand.clip(R, A, 0.2, 0.2) + 0.3 * by_hand.kl(U, "k2")),
)


@pytest.mark.parametrize("name", list(TOKENS))
def test_the_gradient_is_minus_the_score_weight(name):
    objective, expected = TOKENS[name]
    found = -slope(objective, token_batch()).numpy()
    assert np.abs(found - np.where(MASK, expected(), 0.0)).max() < 1e-9
    assert np.abs(found).max() > 1e-3


PAIRS = pair_batch()
SIDE = ("chosen", "rejected")
MASKS = [PAIRS[f"{side}_weight"].numpy() > 0 for side in SIDE]
SUMS = [
    np.where(mask, (PAIRS[f"logp_{side}"] - PAIRS[f"ref_{side}"]).numpy(), 0.0).sum(1)
    for side, mask in zip(SIDE, MASKS, strict=True)
]
BARE = [
    np.where(mask, PAIRS[f"logp_{side}"].numpy(), 0.0).sum(1) / mask.sum(1)
    for side, mask in zip(SIDE, MASKS, strict=True)
]
LENGTHS = [mask.sum(1) for mask in MASKS]
AVERAGES = [total / length for total, length in zip(SUMS, LENGTHS, strict=True)]


def spread(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """Return what each target carries [2 R, T]: plus on chosen, minus on rejected."""
    pair = PAIRS["weight"].numpy()
    halves = [(pair * better)[:, None] * MASKS[0], -(pair * worse)[:, None] * MASKS[1]]
    return np.concatenate(halves)


def of_f(kind: str) -> np.ndarray:
    """f-DPO: scores are f'(u) of the sequence, so each side is times u f''(u)."""
    first = {
        "ForwardKl": lambda u: 1 - 1 / u,
        "JensenShannon": lambda u: np.log(2 * u / (1 + u)),
    }[kind]
    second = {
        "ForwardKl": lambda u: 1 / u,
        "JensenShannon": lambda u: 1 / (1 + u),
    }[kind]
    u = [np.exp(total) for total in SUMS]
    w = by_hand.dpo(first(u[0]), first(u[1]), 0.3)
    return spread(w * second(u[0]), w * second(u[1]))


BOTH: dict[str, tuple[object, Callable[[], np.ndarray]]] = {
    "dpo": (Preference(Logistic(0.3)), lambda: spread(*[by_hand.dpo(*SUMS, 0.3)] * 2)),
    "hinge": (Preference(Hinge(0.3)), lambda: spread(*[by_hand.hinge(*SUMS, 0.3)] * 2)),
    "ipo": (
        Preference(Squared(0.3), normalise="mean"),
        lambda: spread(*[by_hand.ipo(*AVERAGES, 0.3) / length for length in LENGTHS]),
    ),
    "simpo": (
        Preference(Logistic(2.0, 0.5), normalise="mean", reference=False),
        lambda: spread(*[by_hand.dpo(*BARE, 2.0, 0.5) / length for length in LENGTHS]),
    ),
    "redi": (
        Preference(Asymmetric(0.8), normalise="mean", reference=False),
        lambda: spread(1 / LENGTHS[0], 0.8 / LENGTHS[1]),
    ),
    "f-dpo forward": (
        Preference(Logistic(0.3), divergence=ForwardKl()),
        lambda: of_f("ForwardKl"),
    ),
    "f-dpo jensen-shannon": (
        Preference(Logistic(0.3), divergence=JensenShannon()),
        lambda: of_f("JensenShannon"),
    ),
}


@pytest.mark.parametrize("name", list(BOTH))
def test_the_gradient_of_pairs_is_minus_the_score_weight(name):
    objective, expected = BOTH[name]
    assert np.abs(-slope(objective, PAIRS).numpy() - expected()).max() < 1e-9


def test_steps_count_alone_where_the_prefix_has_weight_zero():
    masks = {"chosen_weight": PAIRS["chosen_weight"].clone()}
    masks["chosen_weight"][:, :3] = 0
    found = slope(Preference(), PAIRS.plus(masks))
    assert not found[: PAIRS.rows, :3].any()
    assert found[: PAIRS.rows, 4].any()


def on_policy(right: int, of: int) -> Batch:
    """Return one group on-policy with its rate, two targets a row."""
    reward = torch.tensor([1.0] * right + [0.0] * (of - right), dtype=torch.float64)
    logp = torch.full((of, 2), -1.0, dtype=torch.float64)
    columns = {"logp": logp, "old": logp, "weight": torch.ones_like(logp) / (2 * of)}
    tokens = torch.zeros(of, 3, dtype=torch.int64)
    rate = torch.full((of,), right / of, dtype=torch.float64)
    return Batch({"tokens": tokens, "reward": reward, "rate": rate, **columns})


@pytest.mark.parametrize(("omega", "scale"), [("miss", "none"), ("odds", "group")])
def test_on_policy_nft_is_grpo(omega, scale):
    from thalweg.objectives.advantage import group_advantage

    batch = on_policy(3, 8)
    group = torch.zeros(8, dtype=torch.int64)
    advantage = group_advantage(batch["reward"], group, scale=scale, eps=0.0, population=True)
    batch = batch.plus({"advantage": advantage[:, None].expand(8, 2)})
    ours, theirs = slope(Policy(Nft(omega)), batch), slope(Policy(Clip()), batch)
    assert torch.allclose(ours, theirs, atol=1e-15)
