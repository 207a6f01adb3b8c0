"""Objectives beside the laws in tests/test_laws.py: what they need and what they report."""

from dataclasses import is_dataclass

import pytest
import torch

import thalweg.objectives as room
from test_laws import OBJECTIVES, Bigram
from thalweg.core.batch import Batch
from thalweg.core.weigh import TokenMean

EVERY = pytest.mark.parametrize("name", list(OBJECTIVES))


@EVERY
def test_an_objective_needs_what_it_says_and_nothing_else(name):
    objective, batch = OBJECTIVES[name]
    assert is_dataclass(objective)
    assert "weight" in objective.needs
    objective(Bigram(), Batch({column: batch[column] for column in objective.needs}))


@EVERY
def test_reported_rows_come_with_their_counts(name):
    objective, batch = OBJECTIVES[name]
    rows = objective(Bigram(), batch).rows
    for key, value in rows.items():
        assert value.shape == (batch.rows,)
        assert key.endswith("/count") or f"{key}/count" in rows


def test_the_next_token_loss_is_the_mean_of_minus_log_p():
    tokens = torch.tensor([[0, 1, 2]])
    weight = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    model = Bigram()
    batch = TokenMean()(Batch({"tokens": tokens, "weight": weight}))
    loss = room.NextToken()(model, batch)
    expected = -model.table.detach()[0].log_softmax(0)[1]
    assert float(loss.value.detach()) == pytest.approx(float(expected), rel=1e-6)
    assert loss.rows["loss/count"].tolist() == [1.0]
