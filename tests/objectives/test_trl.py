"""TRL as an oracle: the same log-probs give the same losses and gradients.

TRL's own `_compute_loss` runs on a stand-in for its trainer that holds the numbers it reads and a
model that gives fixed log-probs.
"""

import warnings
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from objectives.helpers import ROWS, WIDTH, Given, draw, pair_batch, token_batch
from thalweg.core.batch import Batch
from thalweg.core.weigh import PerRow, RowMean, TokenMean, Weigh
from thalweg.objectives import (
    Alpha,
    Cispo,
    Clip,
    Entropy,
    ForwardKl,
    Hinge,
    JensenShannon,
    KlToReference,
    Logistic,
    Policy,
    Preference,
    Soft,
    Squared,
    Sum,
)
from thalweg.objectives.advantage import group_advantage

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("trl", reason="the oracle: pip install 'thalweg[trl]'")
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.grpo_trainer import GRPOTrainer


class Accelerator:
    """One process."""

    device = torch.device("cpu")
    num_processes = 1
    sync_gradients = True

    def gather(self, x):
        return x

    def gather_for_metrics(self, x):
        return x

    def reduce(self, x, reduction="sum"):
        return x


MODE = SimpleNamespace(training=True)


def trl_dpo(batch: Batch, loss_type: str, beta: float, divergence: str) -> list[torch.Tensor]:
    leaves = [batch[f"logp_{side}"].clone().requires_grad_() for side in ("chosen", "rejected")]
    masks = [batch[f"{side}_weight"] for side in ("chosen", "rejected")]
    mask = torch.cat(masks)
    given = torch.cat(leaves) * mask
    of_ref = torch.cat([batch["ref_chosen"], batch["ref_rejected"]]) * mask
    outs = [
        SimpleNamespace(log_probs=x, entropy=x, mean_logits=x, is_top1=mask.bool())
        for x in (given, of_ref)
    ]
    trainer = SimpleNamespace(
        model=MODE,
        accelerator=Accelerator(),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type=divergence,
        f_alpha_divergence_coef=0.8,
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=beta,
        use_weighting=False,
        label_smoothing=0.0,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    first = torch.zeros(2 * ROWS, 1, dtype=mask.dtype)  # the first id is no target
    inputs = {
        "input_ids": torch.zeros(2 * ROWS, WIDTH + 1, dtype=torch.int64),
        "attention_mask": torch.ones(2 * ROWS, WIDTH + 1),
        "completion_mask": torch.cat([first, mask], 1),
        "ref_chosen_logps": of_ref.sum(1)[:ROWS],
        "ref_rejected_logps": of_ref.sum(1)[ROWS:],
    }
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outs[0], inputs, False)
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


DPO = {
    "sigmoid": (Preference(Logistic(0.3)), "reverse_kl"),
    "hinge": (Preference(Hinge(0.3)), "reverse_kl"),
    "ipo": (Preference(Squared(0.3), normalise="mean"), "reverse_kl"),
    "sigmoid_norm": (Preference(Logistic(0.3), normalise="mean"), "reverse_kl"),
    "sigmoid forward_kl": (Preference(Logistic(0.3), divergence=ForwardKl()), "forward_kl"),
    "sigmoid js": (Preference(Logistic(0.3), divergence=JensenShannon()), "js_divergence"),
    "sigmoid alpha": (Preference(Logistic(0.3), divergence=Alpha(0.2)), "alpha_divergence"),
}


@pytest.mark.parametrize("name", list(DPO))
def test_dpo_is_trls(name):
    objective, divergence = DPO[name]
    batch = pair_batch()
    batch = Batch(
        {k: batch[k].float() if batch[k].is_floating_point() else batch[k] for k in batch}
    )
    batch = batch.plus({"weight": torch.full((ROWS,), 1 / ROWS)})
    model = Given(chosen=batch["logp_chosen"], rejected=batch["logp_rejected"])
    ours = objective(model, batch).value
    found = [ours.detach(), *torch.autograd.grad(ours, list(model.parameters()))]
    expected = trl_dpo(batch, name.split()[0], 0.3, divergence)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert found[1].any()


def trl_grpo(batch: Batch, loss_type: str, **how: object) -> list[torch.Tensor]:
    leaf = batch["logp"].clone().requires_grad_()
    mask = (batch["weight"] > 0).to(leaf.dtype)
    settings = {
        "beta": 0.0,
        "importance_sampling_level": "token",
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "delta": None,
        "entropy_coef": 0.0,
        "use_bias_correction_kl": False,
        **how,
    }
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (leaf, -leaf, None),
        model=MODE,
        accelerator=Accelerator(),
        args=SimpleNamespace(
            delta=settings["delta"],
            use_bias_correction_kl=settings["use_bias_correction_kl"],
            sapo_temperature_pos=1.0,
            sapo_temperature_neg=1.05,
            steps_per_generation=1,
        ),
        loss_type=loss_type,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=WIDTH + 3,
        _entropy_bonus_enabled=settings["entropy_coef"] != 0.0,
        use_adaptive_entropy=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        **settings,
    )
    inputs = {
        "prompt_ids": torch.zeros(ROWS, 1, dtype=torch.int64),
        "prompt_mask": torch.ones(ROWS, 1, dtype=torch.int64),
        "completion_ids": torch.zeros(ROWS, WIDTH, dtype=torch.int64),
        "completion_mask": mask,
        "advantages": batch["advantage"],
        "old_per_token_logps": batch["old"],
        "ref_per_token_logps": batch["ref"],
        "num_items_in_batch": mask.sum(),
    }
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    clipped = trainer._metrics["train"].get("clip_ratio/region_mean", [None])[0]
    return [loss.detach(), *torch.autograd.grad(loss, leaf), clipped]


def with_kl(policy: Policy, kl: KlToReference) -> Sum:
    return Sum({"policy": policy, "kl": kl}, {"kl": 0.04})


CONSTANT = PerRow(WIDTH + 3.0)
GRPO: dict[str, tuple[object, Weigh, dict[str, object]]] = {
    "grpo": (with_kl(Policy(), KlToReference()), RowMean(), {"beta": 0.04}),
    "dapo": (Policy(Clip(0.2, 0.28)), TokenMean(), {"epsilon_high": 0.28}),
    "bnpo": (Policy(), TokenMean(), {}),
    "dr_grpo": (Policy(), CONSTANT, {}),
    "cispo": (Policy(Cispo(1.2)), TokenMean(), {"epsilon_high": 1.2}),
    "sapo": (Policy(Soft()), RowMean(), {}),
    "luspo": (
        Policy(Clip(0.05, 0.1), level="sequence"),
        PerRow(),
        {"importance_sampling_level": "sequence", "epsilon_low": 0.05, "epsilon_high": 0.1},
    ),
    "grpo gspo": (
        Policy(Clip(0.05, 0.1), level="sequence"),
        RowMean(),
        {"importance_sampling_level": "sequence", "epsilon_low": 0.05, "epsilon_high": 0.1},
    ),
    "grpo dual": (Policy(Clip(dual=1.4)), RowMean(), {"delta": 1.4}),
    "dapo corrected": (
        with_kl(Policy(), KlToReference(corrected=True)),
        TokenMean(),
        {"beta": 0.04, "use_bias_correction_kl": True},
    ),
    "dapo entropy": (
        Sum({"policy": Policy(), "entropy": Entropy()}, {"entropy": 0.01}),
        TokenMean(),
        {"entropy_coef": 0.01},
    ),
}


@pytest.mark.parametrize("name", list(GRPO))
def test_grpo_is_trls(name):
    objective, weigh, how = GRPO[name]
    batch = token_batch()
    mask = (batch["weight"] > 0).double()
    rows = batch["advantage"].mean(1, keepdim=True).expand_as(mask)
    batch = batch.plus({"weight": mask, "advantage": rows})
    final = weigh(batch)["weight"].double()
    model = Given(tokens=batch["logp"])
    ours = objective(model, batch.plus({"weight": final}))
    expected = trl_grpo(batch.plus({"advantage": rows[:, 0]}), name.split()[0], **how)
    (found,) = torch.autograd.grad(ours.value, list(model.parameters()))
    assert float(ours.value.detach()) == pytest.approx(float(expected[0]), abs=1e-6)
    assert torch.allclose(found, expected[1], atol=1e-6)
    assert found.any()
    if expected[2] is not None and name != "grpo dual":  # TRL leaves the dual bound out of it
        share = ours.sums["clip"] / ours.sums["clip/count"]
        by_row = "sequence" in how.values()
        assert by_row or float(share) == pytest.approx(expected[2])


def test_advantages_follow_trls_formula():
    rewards = draw(12, seed=1).float()
    grouped = rewards.view(3, 4)
    expected = (grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-4)
    groups = torch.arange(3).repeat_interleave(4)
    assert torch.allclose(group_advantage(rewards, groups, eps=1e-4), expected.view(-1), atol=1e-6)
