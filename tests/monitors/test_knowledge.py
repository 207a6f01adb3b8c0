"""The meter against models whose knowledge is known, and the people it asks about."""

from dataclasses import replace
from math import log, log2

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.core.learner import Learner
from thalweg.core.protocols import Context, Scored
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.data import Biographies
from thalweg.errors import DataError, DialError
from thalweg.monitors import Knowledge

PEOPLE = Biographies(people=20, attributes=3, chunks=2, choices=8, name_tokens=2, name_choices=16)


class Oracle(nn.Module):
    """Knows all people by heart (`sure`), or only which tokens may stand where."""

    def __init__(self, *, sure: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(100))
        self.sure = sure

    def forward(self, tokens_RT, document_RT=None, *, targets_RT, weight_RT=None):
        values = torch.from_numpy(PEOPLE.value_targets)
        name = log(PEOPLE.people if self.sure else PEOPLE.all_names) / PEOPLE.name_tokens
        nats_T = torch.where(values, 0.0 if self.sure else log(PEOPLE.choices), 0.0)
        nats_T[: PEOPLE.name_tokens] = name
        return Scored(None, -nats_T.expand(targets_RT.shape) + 0 * self.weight[0])


def measured(*, sure: bool) -> dict[str, float]:
    learner = Learner("policy", Oracle(sure=sure), World())
    return dict(Knowledge(PEOPLE)(Context(Time(0, 1), models={"policy": learner})))


def test_who_knows_everything_is_at_the_most():
    found = measured(sure=True)
    most = PEOPLE.people * (log2(16**2 / 20) + 3 * 2 * 3) / 100
    assert found["knowledge/ratio"] == pytest.approx(found["knowledge/most"]) == pytest.approx(most)


def test_who_knows_nobody_has_no_bits():
    assert measured(sure=False)["knowledge/ratio"] == pytest.approx(0.0, abs=1e-5)


def rows(source: Biographies, count: int, seed: int = 0) -> np.ndarray:
    ctx = Context(Time(0), seed, rows=count)
    return source.next(source.start(ctx), ctx)[0]["tokens"].numpy()


def facts(row: np.ndarray) -> tuple[tuple[int, ...], frozenset[tuple[int, ...]]]:
    """Return the name and the attributes, whatever their order."""
    return tuple(row[1:3]), frozenset(tuple(part) for part in row[3:].reshape(3, 3))


def test_names_are_unique_and_every_exposure_says_the_same_of_everybody():
    table = rows(PEOPLE, 3 * PEOPLE.people)
    known = [facts(row) for row in table]
    assert len({name for name, _ in known}) == PEOPLE.people
    each = [set(known[i : i + 20]) for i in (0, 20, 40)]
    assert each[0] == each[1] == each[2]
    assert not np.array_equal(table[:20], table[20:40])


def test_tokens_stay_in_the_vocabulary_and_values_where_they_are_announced():
    table = rows(PEOPLE, 20)
    assert table.shape == (20, PEOPLE.row_tokens + 1)
    assert table.max() < PEOPLE.vocabulary
    first_value = 1 + PEOPLE.attributes + PEOPLE.name_choices
    assert np.array_equal(table[:, 1:] >= first_value, np.tile(PEOPLE.value_targets, (20, 1)))


def test_a_tag_is_the_last_id_and_changes_nothing_else():
    tagged = replace(PEOPLE, tagged=True)
    plain, own = rows(PEOPLE, 40), rows(tagged, 40)
    assert set(own[:, 0].tolist()) == {PEOPLE.vocabulary} == {tagged.vocabulary - 1}
    assert np.array_equal(plain[:, 1:], own[:, 1:])


def test_another_key_is_other_people_and_the_order_can_be_fixed():
    fixed = replace(PEOPLE, shuffle=False)
    assert np.array_equal(rows(fixed, 20, seed=1), rows(fixed, 20, seed=2))
    assert not np.array_equal(rows(fixed, 20), rows(replace(fixed, key=1), 20))


def test_more_people_than_names_and_nobody_to_ask_are_refused():
    with pytest.raises(DataError, match="no more than names"):
        Biographies(people=300, name_tokens=2, name_choices=16)
    with pytest.raises(DialError, match="1 or more"):
        Knowledge(PEOPLE, rows=0)
