"""How rows become a mean."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.batch import Batch
from thalweg.core.weigh import AsGiven, RowMean, TokenMean, rescaled

RAGGED = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])


def weighed(weigh, weight: torch.Tensor) -> torch.Tensor:
    return weigh(Batch({"weight": weight}))["weight"]


def test_a_token_mean_gives_every_counted_target_the_same():
    assert weighed(TokenMean(), RAGGED).tolist() == (RAGGED / 4).tolist()


def test_a_row_mean_gives_every_counted_row_the_same():
    expected = [[1 / 6, 1 / 6, 1 / 6, 0], [0.5, 0, 0, 0], [0, 0, 0, 0]]
    assert torch.allclose(weighed(RowMean(), RAGGED), torch.tensor(expected))


def test_rows_without_a_weight_column_count_once():
    batch = Batch({"x": torch.zeros(4, 3)})
    assert TokenMean()(batch)["weight"].tolist() == [0.25] * 4
    assert RowMean()(batch)["weight"].tolist() == [0.25] * 4


def test_weights_as_given_are_times_a_constant():
    assert weighed(AsGiven(0.5), RAGGED).tolist() == (RAGGED / 2).tolist()


@pytest.mark.parametrize("weigh", [TokenMean(), RowMean(), AsGiven()])
def test_a_batch_where_nothing_counts_stays_at_zero(weigh):
    assert weighed(weigh, torch.zeros(2, 3)).sum() == 0


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
def test_minibatches_weigh_what_the_whole_batch_did(rows, size, seed):
    weight = torch.rand(rows, 3, generator=torch.Generator().manual_seed(seed)) + 0.1
    whole = TokenMean()(Batch({"weight": weight}))
    for part in whole.split(size):
        assert float(rescaled(part, whole)["weight"].sum()) == pytest.approx(1.0, rel=1e-5)


def test_rescaling_keeps_proportions_inside_a_minibatch():
    whole = Batch({"weight": torch.tensor([1.0, 3.0, 4.0])})
    part = rescaled(whole.take([0, 1]), whole)
    assert part["weight"].tolist() == [2.0, 6.0]
