"""The toys of the entries on data: what they claim to be, by small numbers."""

import numpy as np
import pytest
import torch

from thalweg.atlas import delt, medu, treasure_markers
from thalweg.atlas.corpora import CORPORA, TARGETS, corpora
from thalweg.atlas.parities import Parity, Perceptron
from thalweg.atlas.shown import Shown
from thalweg.core.protocols import Context
from thalweg.core.rng import rng
from thalweg.core.time import Time
from thalweg.core.weigh import TokenMean
from thalweg.objectives import NextToken


def test_corpora_are_a_hundredfold_apart_and_keep_their_proportions_when_cut():
    whole, cut = corpora(), corpora(0.125)
    assert max(c.count for c in whole.values()) == 100 * min(c.count for c in whole.values())
    assert [c.count for c in cut.values()] == [c.count // 8 for c in whole.values()]


def test_a_rater_calls_examples_great_and_another_language_useless():
    law = medu.written(TARGETS["law"], list(range(64)))
    wanted = medu.rater(medu.DESCRIBE.format(examples="\n\n".join(law)))

    def rating(text: str) -> str:
        return medu.rater(medu.RATE.format(description=wanted, document=text))

    assert rating(law[0]) == "Great"
    other = medu.written(CORPORA["crawl"][0], list(range(9)))
    assert all(rating(text) in ("Useless", "Poor") for text in other)


def test_a_parity_is_the_one_before_times_one_more_bit():
    ctx = Context(Time(0, 1), rows=50)
    batch, _ = Parity(3).next({"row": 0}, ctx)
    tokens = batch["tokens"]
    assert (tokens[:, 0] == 5).all()
    assert torch.equal(tokens[:, -1], tokens[:, 1:4].sum(1) % 2)
    assert float(batch["weight"].sum()) == 50
    held, _ = Parity(3, held_out=True).next({"row": 0}, ctx)
    assert not torch.equal(held["tokens"], tokens)


def test_only_the_answer_counts_in_the_loss_of_a_parity():
    ctx = Context(Time(0, 1), rows=8)
    batch, _ = Parity(1).next({"row": 0}, ctx)
    loss = NextToken()(Perceptron().build(0), TokenMean()(batch))
    assert float(loss.value.detach()) == pytest.approx(np.log(2), abs=0.1)


def test_documents_are_half_clean_a_quarter_noisy_a_quarter_junk():
    rows, kind = delt.documents(400, seed=0)
    assert np.bincount(kind).tolist() == [200, 100, 100]
    again = delt.documents(400, seed=0)
    assert (rows == again.rows_NT).all()
    assert delt.separation(-kind.astype(float), kind, 2) == 1.0
    assert delt.separation(np.zeros(400), kind, 2) == 0.5


def test_a_shown_task_is_done_to_every_word_and_judged_behind_its_markers():
    task = Shown("B")
    problem = task.make(rng(0, "x"), 0.0)
    first, second, last = problem.prompt.split(";")
    for example in (first, second, last + problem.answer):
        word, done = example.split(">")
        assert done == word[::-1]
    assert task.verify(problem, "B4" + problem.answer).score == 1.0
    assert task.verify(problem, problem.answer[:2]).parts == {"fits": 0.0}
    assert Shown("C", length=True).make(rng(0, "x"), 0.0).prompt[0] == "2"


def test_the_rarest_task_is_two_hundred_times_rarer_than_the_first():
    names = [row["task"] for row in treasure_markers.records(4000, seed=0)]
    assert 0.6 < names.count("A") / 4000 < 0.68
    assert 5 <= names.count("L") <= 35
