"""Parts of a user's own that lack something, or give something else than their kind."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from core_helpers import play
from lab import Linear2, Lines, Squared
from thalweg.core.batch import Batch
from thalweg.core.moves import Learn
from thalweg.core.recipe import Phase, Recipe, check
from thalweg.core.returned import check_columns
from thalweg.errors import ColumnError, RecipeError
from thalweg.optim import SGD

LEARN = Learn("policy", Squared(), SGD(0.1))


def recipe(**changes: object) -> Recipe:
    parts = {"steps": 2, "source": Lines(), "do": (LEARN,), "rows": 4, **changes}
    return Recipe({"policy": Linear2()}, (Phase(**parts),))


@dataclass(frozen=True)
class Half:
    """A source that cannot go on."""

    makes: ClassVar[tuple[str, ...]] = ("x", "y", "weight")
    names: ClassVar[tuple[str, ...]] = ("half",)

    def start(self, ctx: object) -> dict[str, int]:
        return {}


class Promised(Half):
    """A source that says it has a `next`, and has none."""

    next: object


@dataclass(frozen=True)
class Bare(Half):
    """A source that gives the columns alone."""

    def next(self, state: object, ctx: object) -> object:
        return {"x": torch.ones(4, 2)}


@dataclass(frozen=True)
class Columns(Half):
    """A source that gives columns in place of a batch."""

    def next(self, state: object, ctx: object) -> object:
        return {"x": torch.ones(4, 2)}, {}


@dataclass(frozen=True)
class Forgetful:
    """A move that returns nothing."""

    name: str = "forgetful"
    needs: ClassVar[tuple[str, ...]] = ()
    makes: ClassVar[tuple[str, ...]] = ()

    def __call__(self, batch: object, ctx: object) -> None:
        return None


@dataclass(frozen=True)
class Plain:
    """An objective that returns a tensor."""

    needs: ClassVar[tuple[str, ...]] = ("x", "y", "weight")

    def __call__(self, model: torch.nn.Module, batch: Batch) -> object:
        return (model(batch["x"]) - batch["y"]).square().sum()


@dataclass(frozen=True)
class Constant(Plain):
    """An objective that does not ask the model."""

    def __call__(self, model: torch.nn.Module, batch: Batch) -> object:
        return Squared()(model, batch)._replace(value=torch.zeros(()))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"source": Half()}, "Half without next"),
        ({"source": Promised()}, "Promised without next"),
        ({"source": Lines}, "the class Lines"),
        ({"do": LEARN}, "a Learn"),
        ({"do": (SGD(0.1),)}, "SGD without name, needs, makes, __call__"),
        ({"monitors": (LEARN,)}, "Learn without every"),
        ({"controllers": (LEARN,)}, "Learn without start, act"),
    ],
)
def test_a_part_of_another_kind_is_refused_before_anything_is_built(changes, text):
    with pytest.raises(RecipeError, match=text) as caught:
        check(recipe(**changes))
    assert "main." in caught.value.where


def test_what_is_no_objective_is_refused_where_it_is_written():
    with pytest.raises(RecipeError, match="SGD without needs, __call__"):
        Learn("policy", SGD(0.1), SGD(0.1))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"source": Bare()}, r"a dict from Bare\.next"),
        ({"source": Columns()}, "a dict from Columns"),
        ({"do": (Forgetful(), LEARN)}, "None from Forgetful"),
        ({"do": (Learn("policy", Plain(), SGD(0.1)),)}, "a Tensor"),
        ({"do": (Learn("policy", Constant(), SGD(0.1)),)}, "no weight has a part in"),
    ],
)
def test_what_a_part_gives_is_looked_at(changes, text):
    with pytest.raises(RecipeError, match=text):
        play(recipe(**changes))


def test_a_column_of_targets_is_one_narrower_than_the_tokens():
    tokens = torch.ones(2, 5, dtype=torch.int64)
    check_columns(Batch({"tokens": tokens, "weight": torch.ones(2, 4)}), (), (), "Mine")
    with pytest.raises(ColumnError, match=r"'weight' of shape \[2, 5\] beside tokens \[2, 5\]"):
        check_columns(Batch({"tokens": tokens, "weight": torch.ones(2, 5)}), (), (), "Mine")
