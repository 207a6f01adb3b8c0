"""A token is drawn by inverting the distribution at one uniform."""

from typing import Any

import pytest
import torch

from thalweg.core.rng import rng
from thalweg.errors import DialError
from thalweg.rollouts import Sampling, draw

LOGITS = torch.tensor([[0.3, 0.5, 0.2]]).log()


def test_sampling_follows_the_probabilities():
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(20000, 3)
    drawn = draw(logits, torch.from_numpy(rng(0, "test").random(20000)))
    share = torch.bincount(drawn.tokens_R, minlength=3) / 20000
    assert (share - torch.tensor([0.5, 0.3, 0.2])).abs().max() < 0.01


@pytest.mark.parametrize(
    ("limits", "uniform", "chosen"),
    [
        ({}, 0.99, 2),
        ({"top_k": 2}, 0.99, 1),
        ({"top_k": 1}, 0.01, 1),
        ({"top_p": 0.6}, 0.99, 1),
        ({"top_p": 0.6}, 0.01, 0),
        ({"top_p": 0.4}, 0.01, 1),
        ({"min_p": 0.5}, 0.99, 1),
        ({"min_p": 0.7}, 0.01, 1),
        ({"temperature": 0.0}, 0.99, 1),
        ({"temperature": 0.01}, 0.99, 1),
        ({}, 0.0, 0),
    ],
)
def test_limits_cut_the_unlikely(limits: dict[str, Any], uniform: float, chosen: int):
    drawn = draw(LOGITS, torch.tensor([uniform]), Sampling(**limits))
    assert drawn.tokens_R.tolist() == [chosen]


@pytest.mark.parametrize("limits", [{}, {"top_k": 2}, {"top_p": 0.6}, {"min_p": 0.5}])
def test_the_log_prob_is_that_of_the_whole_distribution(limits: dict[str, Any]):
    drawn = draw(LOGITS, torch.tensor([0.99]), Sampling(**limits))
    assert float(drawn.logprobs_R) == pytest.approx(float(LOGITS[0, drawn.tokens_R]))


def test_the_log_prob_is_taken_after_temperature():
    drawn = draw(LOGITS, torch.tensor([0.5]), Sampling(temperature=0.5))
    squares = torch.tensor([0.09, 0.25, 0.04])
    expected = (squares / squares.sum()).log()[drawn.tokens_R]
    assert drawn.logprobs_R.tolist() == pytest.approx(expected.tolist())


def test_a_token_of_no_probability_is_never_drawn():
    logits = torch.tensor([[0.0, 0.0, -torch.inf, -torch.inf]])
    almost_one = torch.tensor([1.0 - 1e-9], dtype=torch.float64)
    assert draw(logits, almost_one).tokens_R.tolist() == [1]


def test_log_probs_are_float32_whatever_the_logits_are():
    assert draw(LOGITS.bfloat16(), torch.tensor([0.5])).logprobs_R.dtype == torch.float32


def test_an_empty_stop_text_is_refused():
    with pytest.raises(DialError, match="empty stop"):
        Sampling(stop=("",)).check("here")


def test_only_the_model_s_own_distribution_is_exact():
    assert Sampling(stop=("x",), new_tokens=3).exact
    inexact = ({"temperature": 0.9}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.1})
    assert not any(Sampling(**one).exact for one in inexact)
