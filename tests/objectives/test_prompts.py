"""Prompts that a model reads once: which batches, and that nothing else changes."""

from dataclasses import replace

import pytest
import torch

from thalweg.core.batch import Batch
from thalweg.models import Moe, Transformer
from thalweg.models.shared import Shared
from thalweg.objectives import Entropy, Policy, Preference, Sum
from thalweg.objectives.forward import once, score
from thalweg.objectives.prompts import shared_prompts

PROMPT, LENGTH = 9, 16
SPEC = Transformer(vocabulary=31, width=16, layers=2, heads=2, positions=LENGTH, initial_std=0.3)


def batch_of(sizes: tuple[int, ...] = (4, 4, 4), **more: torch.Tensor) -> Batch:
    draw = torch.Generator().manual_seed(0)
    rows = sum(sizes)
    prompts = torch.randint(31, (len(sizes), PROMPT), generator=draw)
    group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    answers = torch.randint(31, (rows, LENGTH - PROMPT), generator=draw)
    weight = torch.zeros(rows, LENGTH - 1)
    weight[:, PROMPT - 1 :] = 1.0
    columns = {
        "tokens": torch.cat([prompts[group], answers], 1),
        "weight": weight,
        "old": -torch.rand(rows, LENGTH - 1, generator=draw).double(),
        "advantage": torch.randn(rows, LENGTH - 1, generator=draw).double(),
        "group": group,
    }
    return Batch({**columns, **more})


def pairs_of(rows: int = 3) -> Batch:
    draw = torch.Generator().manual_seed(0)
    prompts = torch.randint(31, (rows, PROMPT), generator=draw)
    columns = {"weight": torch.ones(rows)}
    for answer in ("chosen", "rejected"):
        rest = torch.randint(31, (rows, LENGTH - PROMPT), generator=draw)
        columns[answer] = torch.cat([prompts, rest], 1)
        columns[f"{answer}_weight"] = (
            (torch.arange(LENGTH - 1) >= PROMPT - 1).float().repeat(rows, 1)
        )
        columns[f"ref_{answer}"] = -torch.rand(rows, LENGTH - 1, generator=draw).double()
    return Batch(columns)


def without(batch: Batch, name: str) -> Batch:
    return Batch({key: batch[key] for key in batch if key != name})


class Plainly(torch.nn.Module):
    """A model that does not say that it can read packed groups."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *given, **named):
        return self.model(*given, **named)


def test_whole_groups_are_packed_up_to_the_last_token_of_the_prompt():
    assert shared_prompts(SPEC.build(0), batch_of()) == Shared(4, PROMPT - 1)
    assert shared_prompts(SPEC.build(0), pairs_of(), ("chosen", "rejected")) == Shared(
        2, PROMPT - 1
    )


@pytest.mark.parametrize(
    "batch",
    [
        batch_of((4, 3, 4)),
        batch_of((1, 1, 1)),
        without(batch_of(), "group"),
        batch_of(document=torch.zeros(12, LENGTH, dtype=torch.int32)),
        batch_of(weight=torch.ones(12, LENGTH - 1)),
        batch_of(tokens=torch.arange(12 * LENGTH).view(12, LENGTH) % 31),
    ],
    ids=["uneven", "single rows", "no groups", "packed rows", "prompts count", "nothing alike"],
)
def test_other_batches_are_read_as_they_are(batch):
    assert shared_prompts(SPEC.build(0), batch) is None


def test_models_with_experts_and_other_modules_are_asked_row_by_row():
    experts = replace(SPEC, moe=Moe(experts=4, top=2)).build(0)
    assert shared_prompts(experts, batch_of()) is None
    assert shared_prompts(Plainly(SPEC.build(0)), batch_of()) is None


def test_answers_that_agree_do_not_make_the_prompt_longer():
    tokens = batch_of()["tokens"].clone()
    tokens[:, PROMPT:] = 5
    assert shared_prompts(SPEC.build(0), batch_of(tokens=tokens)) == Shared(4, PROMPT - 1)
    nothing = torch.zeros(12, LENGTH - 1)
    assert shared_prompts(SPEC.build(0), batch_of(tokens=tokens, weight=nothing)).prefix == 14


@pytest.mark.parametrize(
    ("objective", "batch"),
    [
        (Policy(), batch_of()),
        (Policy(temperature=0.7, level="sequence"), batch_of()),
        (Sum({"policy": Policy(), "entropy": Entropy()}, {"entropy": 0.1}), batch_of()),
        (Preference(), pairs_of()),
    ],
    ids=["policy", "sequences", "sum", "pairs"],
)
def test_losses_and_gradients_are_those_of_single_rows(objective, batch):
    found = []
    for model in (SPEC.build(0).double(), Plainly(SPEC.build(0).double())):
        loss = objective(model, batch)
        loss.value.backward()
        slopes = torch.cat([p.grad.flatten() for p in model.parameters()])
        found.append((loss.value, torch.stack([loss.sums[n] for n in sorted(loss.sums)]), slopes))
    for packed, plain in zip(*found, strict=True):
        assert torch.allclose(packed.double(), plain.double(), rtol=1e-11, atol=1e-12)


def test_what_is_asked_twice_is_packed_and_remembered():
    model, calls = SPEC.build(0), []
    model.register_forward_hook(lambda _, given, __: calls.append(given))
    asked = once(model)
    first, again = (score(asked, batch_of()) for _ in range(2))
    assert first is again
    assert len(calls) == 1
    assert isinstance(calls[0][1], Shared)
