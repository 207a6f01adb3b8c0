"""Named combinations run; what a phase has chosen is said; the table of the docs is right."""

import re
from pathlib import Path

import pytest
import torch

from core_helpers import play
from thalweg.core.moves import Copy, Learn
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.weigh import Each, RowMean, TokenMean
from thalweg.data import Corpus
from thalweg.errors import RecipeError
from thalweg.models import Transformer
from thalweg.objectives import METHODS, Entropy, Likelihood, Policy, Sum, choices
from thalweg.objectives.choices import short
from thalweg.optim import SGD
from thalweg.schedules import Linear

PAGE = Path(__file__).parents[2] / "docs" / "objectives.md"
NEEDED = {"dr_grpo": {"length": 8}}


def method(name: str):
    return METHODS[name](**NEEDED.get(name, {}))


@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_is_moves_that_end_with_learn(name):
    moves = method(name).do("policy", SGD(lr=0.1), passes=2, minibatch=4)
    assert isinstance(moves[-1], Learn)
    assert (moves[-1].passes, moves[-1].minibatch) == (2, 4)
    made = {column for move in moves[:-1] for column in move.makes}
    wanted = {c for c in moves[-1].needs if c.startswith(("ref", "advantage", "rate"))}
    assert wanted - {"advantage"} <= made
    assert "advantage" in made or "advantage" not in wanted or name == "ppo_clip"


def row_of(name: str) -> str:
    made = method(name)
    source = re.search(r"(arXiv:\d+\.\d+)", METHODS[name].__doc__ or "")
    assert source is not None
    first = "`, `".join(short(move) for move in made.before) or "nothing"
    cells = (name, first, short(made.objective), short(made.weigh))
    return f"| {source[1]} | " + " | ".join(f"`{cell}`" for cell in cells) + " |"


def test_the_table_of_papers_is_what_the_code_says():
    missing = [row_of(name) for name in METHODS if row_of(name) not in PAGE.read_text()]
    assert not missing, "\n".join(missing)


def test_choices_say_what_is_there_and_what_is_not():
    moves = (*METHODS["grpo"]().do("policy", SGD(lr=0.1)), Copy("policy", "actor", every=5))
    lines = choices(Phase(1, Corpus("x"), moves))
    text = "\n".join(lines)
    for said in (
        "score.ref: Score(model='ref', column='ref'",
        "eps=1e-06, population=False",
        "RowMean(column='weight'): mean over each answer, then over answers",
        "learn.policy.kl: 0.04 * KlToReference(estimator='k3', corrected=False",
        "Clip(low=0.2, high=0.2, dual=None)",
        "copy.actor: from policy, every 5 steps, mix=1.0",
        "entropy bonus: none",
        "sampler correction: none",
        "filter of groups: none",
    ):
        assert said in text, text
    assert "KL to a reference: none" not in text
    assert "KL to a reference: none" in "\n".join(
        choices(Phase(1, Corpus("x"), METHODS["dapo"]().do("policy", SGD(lr=0.1))))
    )


def test_choices_of_several_means_name_their_columns():
    parts = {"policy": Policy(), "sft": Likelihood(weight="sft_weight"), "entropy": Entropy()}
    each = Each({"weight": RowMean(), "sft_weight": TokenMean("sft_weight")})
    learn = Learn("policy", Sum(parts, {"sft": Linear(1.0, 0.0)}), SGD(lr=0.1), weigh=each)
    text = "\n".join(choices(Phase(1, Corpus("x"), (learn,))))
    assert "learn.policy: sft_weight: TokenMean(column='sft_weight'): mean over all" in text
    assert "learn.policy.sft: Linear(start=1.0, end=0.0" in text


def test_a_weight_of_a_part_that_is_not_there_is_refused():
    with pytest.raises(RecipeError, match="did you mean"):
        Sum({"policy": Policy()}, {"polcy": 1.0})
    with pytest.raises(RecipeError, match="one part or more"):
        Sum({})


def test_scheduled_weights_lead_from_one_loss_to_another(tmp_path):
    from data_helpers import text_store

    source = Corpus(text_store(tmp_path, ["some text to read"] * 9), length=8)
    model = Transformer(vocabulary=257, width=8, layers=1, heads=2, positions=8)
    parts = {"sft": Likelihood(), "entropy": Entropy()}
    learn = Learn("policy", Sum(parts, {"entropy": Linear(0.0, 1.0)}), SGD(lr=0.0))
    _, _, memory = play(Recipe({"policy": model}, (Phase(3, source, (learn,), rows=2),)))
    rows = memory.history
    entropy = [row["entropy/entropy"] for row in rows]
    likelihood = rows[0]["loss"]
    assert all(torch.isfinite(torch.tensor(entropy)))
    assert rows[0]["dial/learn.policy.objective.weights.entropy"] == 0.0
    assert rows[-1]["loss"] < likelihood


@pytest.mark.parametrize("name", ["grpo", "dapo", "gspo", "cispo", "nft", "rloo"])
def test_at_a_temperature_all_that_is_compared_with_the_sampler_is_divided_by_it(name):
    spec = {"grpo": {"entropy": 0.1}, "rloo": {"kl": 0.1}}.get(name, {})
    method = METHODS[name](**spec)
    warm = method.at(0.7)
    said = re.findall(r"temperature=([^,)]+)", repr(warm))
    assert set(said) == {"0.7"}
    assert (warm.weigh, method.at(1.0)) == (method.weigh, method)


def test_losses_of_pairs_have_no_temperature():
    assert METHODS["dpo"]().at(0.7) == METHODS["dpo"]()
