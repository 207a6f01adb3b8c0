"""Likelihood, coverage and packed rows."""

import math

import pytest
import torch

from objectives.helpers import Given, draw
from test_laws import Bigram, token_rows
from thalweg.core.batch import Batch
from thalweg.core.weigh import RowMean
from thalweg.objectives import Forget, Likelihood, NextToken
from thalweg.objectives.likelihood import coverage_factor, coverage_loss, weighted_likelihood


@pytest.mark.parametrize("n", [1.0, 2.0, 64.0, 1e6])
@pytest.mark.parametrize("score", [-1e-6, -0.01, -1.0, -20.0, -70.0, -300.0, -2000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coverage_is_finite_and_its_slope_is_the_factor(n, score, dtype):
    leaf = torch.tensor(score, dtype=dtype, requires_grad=True)
    loss = coverage_loss(leaf, n)
    (slope,) = torch.autograd.grad(loss, leaf)
    factor = coverage_factor(leaf.detach(), n)
    assert math.isfinite(float(loss.detach()))
    assert 0.0 <= float(factor) <= 1.0 + 1e-4
    assert float(-slope) == pytest.approx(float(factor), abs=2e-2 if score > -1e-5 else 1e-4)


def test_coverage_is_the_chance_of_one_hit():
    p, n = 0.3, 5
    loss = coverage_loss(torch.tensor(math.log(p), dtype=torch.float64), n)
    assert float(loss) == pytest.approx(-math.log(1 - (1 - p) ** n))


def test_coverage_of_one_is_next_token():
    batch = RowMean()(token_rows())
    ours, theirs = Likelihood()(Bigram(), batch), NextToken()(Bigram(), batch)
    assert float(ours.value.detach()) == pytest.approx(float(theirs.value.detach()))
    for name in ("loss", "loss/count"):
        assert ours.rows[name].tolist() == pytest.approx(theirs.rows[name].tolist())


def packed() -> tuple[Batch, Batch, torch.Tensor]:
    """Return two answers in one row of 5 targets, the same two in rows of their own, log-probs."""
    logp = draw(1, 5)
    document = torch.tensor([[0, 0, 0, 1, 1, 1]], dtype=torch.int32)
    weight = torch.tensor([[1.0, 1.0, 0.0, 1.0, 1.0]], dtype=torch.float64) / 4
    ref = draw(1, 5, seed=1)
    one = {"tokens": torch.zeros(1, 6, dtype=torch.int64), "document": document}
    row = Batch({**one, "weight": weight, "ref": ref})
    first = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 1.0]])
    rows = Batch(
        {
            "tokens": torch.zeros(2, 6, dtype=torch.int64),
            "weight": first.double() / 4,
            "ref": ref.expand(2, 5),
        }
    )
    return row, rows, logp


@pytest.mark.parametrize("objective", [Likelihood(coverage=8.0), Forget(0.5), Likelihood()])
def test_answers_packed_in_a_row_are_what_they_are_alone(objective):
    row, rows, logp = packed()
    together = objective(Given(tokens=logp), row).value
    apart = objective(Given(tokens=logp.expand(2, 5)), rows).value
    assert float(together.detach()) == pytest.approx(float(apart.detach()))


def test_token_weights_are_a_weighted_mean():
    logprobs, mask = draw(2, 3), torch.tensor([[1, 1, 0], [1, 1, 1]])
    weight = torch.tensor([[2.0, 1.0, 9.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    found = weighted_likelihood(logprobs, mask, weight)
    first = -(2 * logprobs[0, 0] + logprobs[0, 1]) / 3
    assert found.tolist() == pytest.approx([float(first), float(-logprobs[1].mean())])
    covered = weighted_likelihood(logprobs, mask, coverage=4.0)
    assert float(covered[1]) == pytest.approx(float(coverage_loss(logprobs[1].sum(), 4.0)))
