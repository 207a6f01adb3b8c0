"""How rows become a mean."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.batch import Batch
from thalweg.core.moves import Learn
from thalweg.core.weigh import AsGiven, Each, PerRow, RowMean, TokenMean
from thalweg.errors import RecipeError
from thalweg.optim import AdamW

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


def test_a_constant_for_each_row_does_not_look_at_lengths():
    expected = (RAGGED / (2 * 4.0)).tolist()  # the empty row does not count
    assert weighed(PerRow(4.0), RAGGED).tolist() == expected
    assert weighed(PerRow(), RAGGED).sum() == 2.0, "sums of 3 and 1 targets, averaged"


def test_each_column_has_its_own_mean():
    batch = Batch({"weight": RAGGED, "gold_weight": RAGGED.flip(0)})
    each = Each({"weight": RowMean(), "sft_weight": TokenMean("gold_weight")})
    after = each(batch)
    assert torch.equal(after["weight"], RowMean()(batch)["weight"])
    assert torch.equal(after["sft_weight"], RAGGED.flip(0) / 4)
    assert torch.equal(after["gold_weight"], batch["gold_weight"])


@pytest.mark.parametrize("weigh", [TokenMean(), RowMean(), PerRow(), AsGiven()])
def test_a_batch_where_nothing_counts_stays_at_zero(weigh):
    assert weighed(weigh, torch.zeros(2, 3)).sum() == 0


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
def test_a_mean_runs_over_the_rows_of_one_step(rows, size, seed):
    weight = torch.rand(rows, 3, generator=torch.Generator().manual_seed(seed)) + 0.1
    for weigh in (TokenMean(), RowMean(), PerRow(3.0)):
        for part in Batch({"weight": weight}).split(size):
            total = float(weigh(part)["weight"].sum())
            most = 1.0 if not isinstance(weigh, PerRow) else float(part["weight"].sum(1).mean()) / 3
            assert total == pytest.approx(most, rel=1e-5)


def test_a_loss_of_raw_weights_is_refused():
    @dataclass(frozen=True)
    class Two:
        needs = ("tokens", "weight", "sft_weight")

        def __call__(self, model: object, batch: object) -> object:
            return None

    with pytest.raises(RecipeError, match=r"sft_weight[\s\S]*weigh=Each"):
        Learn("policy", Two(), AdamW(lr=0.1))
    each = Each({"weight": TokenMean(), "sft_weight": TokenMean("gold_weight")})
    learn = Learn("policy", Two(), AdamW(lr=0.1), weigh=each)
    assert learn.needs == ("tokens", "gold_weight")
