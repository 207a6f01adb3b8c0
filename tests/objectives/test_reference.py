"""References and averages: updated after the step, never sharing storage; padding never counts."""

import pytest
import torch

from objectives.helpers import pair_batch
from test_laws import Bigram, answer_rows
from thalweg.core.batch import Batch, places_of, targets_of
from thalweg.core.learner import Learner
from thalweg.core.moves import Copy, Learn, Score
from thalweg.core.protocols import Context
from thalweg.core.time import Time
from thalweg.core.weigh import TokenMean
from thalweg.core.world import World
from thalweg.objectives import KlToReference, Logprobs, Preference
from thalweg.optim import SGD


@pytest.mark.parametrize("mix", [1.0, 0.1])
def test_a_copy_shares_no_storage_with_the_policy(mix):
    models = {name: Learner(name, Bigram().float(), World()) for name in ("policy", "ref")}
    ctx = Context(Time(0, 9), models=models)
    batch = answer_rows()
    batch = batch.plus({n: batch[n].float() for n in batch if batch[n].is_floating_point()})
    learn = Learn("policy", KlToReference("k2"), SGD(lr=1.0), clip=None)
    for _ in range(3):
        before = models["ref"].module.table.detach().clone()
        learn(Score("ref", "ref")(batch, ctx), ctx)
        assert torch.equal(models["ref"].module.table, before), "only the Copy moves it"
        Copy("policy", "ref", mix=mix)(batch, ctx)
        after = (1 - mix) * before + mix * models["policy"].module.table
        assert torch.allclose(models["ref"].module.table, after)
        assert models["ref"].module.table.data_ptr() != models["policy"].module.table.data_ptr()


def test_scores_of_both_answers_at_a_temperature():
    learner = Learner("ref", Bigram(), World())
    batch = answer_rows()
    batch = Batch({"chosen": batch["tokens"], "rejected": batch["tokens"].flip(0)})
    ctx = Context(Time(0, 1), models={"ref": learner})
    for name in ("chosen", "rejected"):
        batch = Score("ref", f"ref_{name}", fn=Logprobs(name, temperature=0.5))(batch, ctx)
    shares = (learner.module(batch["chosen"][:, :-1]) / 0.5).log_softmax(-1)
    expected = shares.gather(-1, batch["chosen"][:, 1:, None])[..., 0].detach()
    assert torch.allclose(batch["ref_chosen"], expected)
    assert torch.allclose(batch["ref_rejected"], expected.flip(0))


def test_a_pair_counts_the_targets_of_both_answers():
    batch = pair_batch()
    both = (batch["chosen_weight"] > 0).sum(1) + (batch["rejected_weight"] > 0).sum(1)
    assert targets_of(batch).tolist() == both.tolist()
    assert places_of(batch) == 2 * batch["chosen_weight"].shape[1]
    assert targets_of(Batch({"x": torch.ones(3, 2)})).tolist() == [1, 1, 1]


def test_rows_that_pad_a_rank_weigh_nothing_in_any_column():
    batch = answer_rows().take([0, 1, 2])
    batch = batch.plus({"sft_weight": batch["weight"]})
    part = World(rank=1, size=2).mine(batch)
    for name in ("weight", "sft_weight"):
        assert part[name][0].any()
        assert not part[name][1].any()


def test_micro_batches_of_pairs_are_measured_in_tokens():
    calls = []

    class Counting(Bigram):
        def forward(self, tokens, *given, **named):
            calls.append(len(tokens))
            return super().forward(tokens, *given, **named)

    batch = pair_batch()
    learner = Learner("policy", Counting().float(), World())
    whole = TokenMean()(batch.plus({n: batch[n].float() for n in batch if "ref" in n}))
    learner.learn(Preference(), whole, SGD(lr=0.0), micro=2 * 2 * batch["ref_chosen"].shape[1])
    assert calls == [4, 4, 4], "two pairs at a time, both answers in one pass"
