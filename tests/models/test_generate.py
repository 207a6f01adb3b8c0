import json
from pathlib import Path
from typing import Any

import pytest
import torch

from thalweg.core.rng import rng
from thalweg.errors import RecipeError
from thalweg.models.generate import generate, pick
from thalweg.models.hub import Pretrained
from thalweg.models.transformer import Decoder, Transformer

STORIES = Path(__file__).parents[2].parent / "shared" / "data" / "stories260k"
SPEC = Transformer(
    vocabulary=31, width=32, layers=2, heads=4, kv_heads=2, positions=40, initial_std=0.3
)


@pytest.fixture(scope="module")
def model() -> Decoder:
    return SPEC.build(0)


class Plain(torch.nn.Module):
    """The same model without a cache: only the forward contract."""

    def __init__(self, inner: Decoder) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens_RT: torch.Tensor) -> torch.Tensor:
        return self.inner(tokens_RT)


PROMPTS = [[1, 2, 3, 4, 5], [7], [9, 8, 7]]


@pytest.mark.skipif(
    not STORIES.is_dir(), reason="the stories260k data is not beside the repository"
)
def test_greedy_text_of_a_real_model_is_the_known_one() -> None:
    golden = json.loads((STORIES / "golden.json").read_text())
    module = Pretrained(str(STORIES)).build(0)
    written = generate(module, [golden["prompt_ids"]], new_tokens=200, temperature=0)
    assert golden["prompt_ids"] + written[0] == golden["greedy_ids_from_bos_201"]


def test_the_cache_changes_nothing(model: Decoder) -> None:
    cached = generate(model, PROMPTS, new_tokens=20, temperature=0)
    assert cached == generate(Plain(model), PROMPTS, new_tokens=20, temperature=0)


def test_a_row_does_not_depend_on_its_neighbours(model: Decoder) -> None:
    together = generate(model, PROMPTS, new_tokens=20, temperature=0)
    alone = [generate(model, [prompt], new_tokens=20, temperature=0)[0] for prompt in PROMPTS]
    assert together == alone


def test_the_first_row_draws_the_same_in_any_company(model: Decoder) -> None:
    together = generate(model, PROMPTS, new_tokens=20, seed=5)
    assert together[0] == generate(model, PROMPTS[:1], new_tokens=20, seed=5)[0]
    assert together != generate(model, PROMPTS, new_tokens=20, seed=6)


def test_a_row_ends_with_the_end_token(model: Decoder) -> None:
    free = generate(model, PROMPTS, new_tokens=10, temperature=0)
    end = free[0][4]
    stopped = generate(model, PROMPTS, new_tokens=10, temperature=0, end_id=end)
    for long, short in zip(free, stopped, strict=True):
        assert short == (long[: long.index(end) + 1] if end in long else long)


def test_sampling_follows_the_probabilities() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(20000, 3)
    chosen = pick(logits, torch.from_numpy(rng(0, "test").random(20000)))
    share = torch.bincount(chosen, minlength=3) / 20000
    assert (share - torch.tensor([0.5, 0.3, 0.2])).abs().max() < 0.01


@pytest.mark.parametrize(
    ("limits", "uniform", "chosen"),
    [
        ({}, 0.99, 2),
        ({"top_k": 2}, 0.99, 0),
        ({"top_p": 0.6}, 0.99, 0),
        ({"top_p": 0.4}, 0.99, 1),
        ({"temperature": 0.0}, 0.99, 1),
        ({"temperature": 0.01}, 0.99, 1),
        ({}, 0.0, 0),
    ],
)
def test_limits_cut_the_unlikely(limits: dict[str, Any], uniform: float, chosen: int) -> None:
    logits = torch.tensor([[0.3, 0.5, 0.2]]).log()
    assert pick(logits, torch.tensor([uniform]), **limits).tolist() == [chosen]


def test_a_token_of_no_probability_is_never_drawn() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    almost_one = torch.tensor([1.0 - 1e-9], dtype=torch.float64)
    assert pick(logits, almost_one).tolist() == [1]


@pytest.mark.parametrize(
    ("prompts", "options", "said"),
    [
        ([[1], []], {}, "prompt 1 is empty"),
        ([[1]], {"temperature": -1.0}, "temperature=-1"),
        ([[1]], {"top_p": 0.0}, "top_p=0"),
        ([[1] * 30], {}, "of 41 positions"),
    ],
)
def test_what_cannot_be_sampled_is_refused(
    model: Decoder, prompts: list[list[int]], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        generate(model, prompts, new_tokens=11, **options)


def test_nothing_in_gives_nothing_out_and_the_mode_stays(model: Decoder) -> None:
    assert generate(model, [], new_tokens=3) == []
    assert generate(model, [[1]], new_tokens=0) == [[]]
    model.train()
    generate(model, [[1]], new_tokens=1)
    assert model.training
