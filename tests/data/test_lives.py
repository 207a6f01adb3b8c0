"""Lives in English: what is said of a person stays, how it is said changes."""

import re

import numpy as np
import pytest
import torch

from data_helpers import ctx
from thalweg.data.lives import Lives, _cities, _words
from thalweg.errors import DataError

LIVES = Lives(people=30)


def text(person: int, exposure: int, lives: Lives = LIVES) -> str:
    return "".join(piece.text for piece in lives.pieces(person, exposure, seed=1))


def test_every_exposure_says_the_same_in_other_words():
    life = LIVES.life(4)
    texts = {text(4, exposure) for exposure in range(5)}
    assert len(texts) == 5
    for one in texts:
        assert one.startswith(life.name)
        assert all(value in one for value in life.facts.values())
        assert len(re.findall(rf"\b{life.pronoun}\b", one)) == 5


def test_names_are_unique_and_the_values_those_of_the_paper():
    lives = Lives(people=2000)
    assert len({lives.life(person).name for person in range(2000)}) == 2000
    counts = {kind: len(set(words)) for kind, words in _words().items()}
    assert counts == {
        "first": 400, "middle": 400, "last": 1000, "city": 200,
        "university": 300, "major": 100, "company": 263,
    }  # fmt: skip
    known = {}
    for person in range(300):
        facts = lives.life(person).facts
        assert known.setdefault(facts["company"], facts["city"]) == facts["city"]
    assert len(_cities()) == 263


def test_a_row_is_the_text_its_end_and_filling_that_does_not_count():
    batch, state = LIVES.next(LIVES.start(ctx()), ctx(31))
    assert state == {"row": 31}
    for tokens, weight in zip(batch["tokens"], batch["weight"], strict=True):
        count = int(weight.sum())
        assert weight[:count].all()
        assert not weight[count:].any()
        assert tokens[0] == tokens[count] == 256
        assert (tokens[count:] == 256).all()
        assert bytes(tokens[1:count].tolist()).decode().endswith(".")


def test_who_is_asked_about_has_the_name_and_the_values_marked():
    batch, names, values = LIVES.asked(5, ctx())
    assert batch.rows == 5
    for person in range(5):
        life, targets = LIVES.life(person), batch["tokens"][person, 1:]
        assert bytes(targets[names[person]].tolist()).decode() == life.name
        said = bytes(targets[values[person]].tolist()).decode()
        facts = [value for fact, value in life.facts.items() if fact != "city"]
        assert sorted(said.replace(life.pronoun, "")) == sorted("".join(facts))
    again = LIVES.asked(5, ctx()).batch
    assert torch.equal(again["tokens"], batch["tokens"])


def test_another_key_is_other_people_and_an_order_can_be_fixed():
    assert LIVES.life(0) != Lives(people=30, key=1).life(0)
    still = Lives(people=30, shuffle=False)
    assert text(3, 0, still) == text(3, 7, still)
    batch, _ = still.next(still.start(ctx()), ctx(60))
    assert np.array_equal(batch["tokens"][:30], batch["tokens"][30:])


def test_rows_shorter_than_a_life_and_nobody_are_refused():
    with pytest.raises(DataError, match="a life of"):
        Lives(people=3, length=100).start(ctx())
    with pytest.raises(DataError, match="0 people"):
        Lives(people=0).start(ctx())
