"""Mistakes in parts of a user's own: said clearly, and before anything is lost."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from core_helpers import play
from lab import Linear2, Lines, Squared
from thalweg.core.batch import Batch
from thalweg.core.dials import Dials
from thalweg.core.moves import Learn
from thalweg.core.names import finder
from thalweg.core.protocols import Context, Loss, Save, Schedule, Set, State, Stop, Trial
from thalweg.core.recipe import Compute, Phase, Recipe, Saves, check
from thalweg.core.returned import check_columns
from thalweg.core.state import RunState, check_state
from thalweg.core.time import Time
from thalweg.core.tree import read_record, record
from thalweg.core.weigh import TokenMean
from thalweg.errors import ColumnError, DialError, RecipeError
from thalweg.objectives import NextToken
from thalweg.optim import SGD, AdamW
from thalweg.schedules import Linear

LEARN = Learn("policy", Squared(), SGD(0.1))


def recipe(**changes: Any) -> Recipe:
    parts = {"steps": 3, "source": Lines(), "do": (LEARN,), "rows": 4, **changes}
    return Recipe({"policy": Linear2()}, (Phase(**parts),))


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Holds:
    """A part that holds anything."""

    value: Any
    twice: Any = field(init=False, default=None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1.0, Linear(1, 0)], "a list"),
        ({0: 2.0}, "keys are not all text"),
        (Colour.RED, "Colour"),
        (Linear, "the class Linear"),
        (np.ones(2), "ndarray"),
    ],
)
def test_what_a_record_would_not_give_back_is_refused(value, text):
    with pytest.raises(RecipeError, match=text) as caught:
        record(Holds(value))
    assert caught.value.where == "value"


def test_fields_that_are_made_from_others_are_not_recorded():
    assert "twice" not in record(Holds(1))


@pytest.mark.parametrize("value", [np.float64(0.5), (1, (2.0, "a")), {"a": {"b": None}}, True])
def test_what_a_record_takes_it_gives_back(value):
    back = read_record(json.loads(json.dumps(record({"x": value}))), finder())["x"]
    assert back == value


@dataclass(frozen=True)
class Odd:
    """Lines whose states or batches are changed."""

    change: Any
    inner: Lines = Lines()
    makes: ClassVar[tuple[str, ...]] = Lines.makes
    names: ClassVar[tuple[str, ...]] = ("lines",)

    def start(self, ctx: Context) -> State:
        return self.inner.start(ctx)

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        kept = {key: value for key, value in state.items() if key != "more"}
        batch, after = self.inner.next(kept, ctx)
        return self.change(batch, after)


@pytest.mark.parametrize(
    "more", [{0: 1}, np.int64(1), (1, 2), {1, 2}, np.ones(2), [{"a": np.float32(1)}]]
)
def test_a_state_that_a_resume_would_change_is_refused_at_the_first_step(more):
    with pytest.raises(RecipeError, match="Odd") as caught:
        play(recipe(source=Odd(lambda batch, state: (batch, {**state, "more": more}))))
    assert "more" in caught.value.where


def test_plain_states_pass_and_survive_json():
    state = {"a": [1, 2.5, None, {"b": "c"}], "t": torch.ones(2, 2), "on": True}
    check_state(state, Lines())
    body = RunState(source=state).to_json()
    back = RunState.from_json(json.loads(json.dumps(body))).source
    assert torch.equal(back.pop("t"), state.pop("t"))
    assert back == state


TEXT = {"tokens": torch.ones(2, 5, dtype=torch.int64), "weight": torch.ones(2, 4)}


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"tokens": torch.ones(2, 5)}, "'tokens' of torch.float32"),
        ({"tokens": torch.ones(2, dtype=torch.int64)}, r"'tokens' of shape \[2\]"),
        ({"weight": torch.ones(2)}, r"'weight' of shape \[2\] beside"),
        ({"weight": np.ones((2, 4))}, "'weight' as a ndarray"),
        ({"source": torch.tensor([0, 2])}, "'source' from 0 to 2"),
    ],
)
def test_columns_are_what_the_table_says(columns, text):
    columns = {**TEXT, **columns}
    batch = Batch(columns)
    with pytest.raises(ColumnError, match=text):
        check_columns(batch, ("tokens",), ("one", "two"), "Mine")


def test_a_column_that_was_promised_is_there():
    with pytest.raises(ColumnError, match="no column 'reward'"):
        check_columns(Batch(TEXT), ("tokens", "reward"), (), "Mine")


def test_text_has_weights():
    with pytest.raises(ColumnError, match="'tokens' without 'weight'"):
        TokenMean()(Batch({"tokens": TEXT["tokens"]}))


@dataclass(frozen=True)
class Gives:
    """An objective whose loss is changed."""

    change: Any
    needs: ClassVar[tuple[str, ...]] = ("x", "y", "weight")

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        return self.change(Squared()(model, batch))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda loss: loss._replace(value=loss.value.item()), "value is a float"),
        (lambda loss: loss._replace(value=loss.value[None]), r"of shape \[1\]"),
        (lambda loss: loss._replace(sums={"x": 1.0}), "sum 'x' that is a float"),
        (lambda loss: loss._replace(sums={"x": torch.ones(3)}), r"sum 'x' .* \[3\]"),
        (lambda loss: loss._replace(sums={"tokens": torch.ones(())}), "'tokens', a name"),
        (lambda loss: loss._replace(rows={"x": torch.ones(3)}), r"rows 'x' .* \[3\], of 4 rows"),
        (lambda loss: loss._replace(rows={"x": [1.0] * 4}), "rows 'x' that are a list"),
    ],
)
def test_a_loss_is_a_scalar_with_metrics_of_their_form(change, text):
    with pytest.raises(RecipeError, match=text):
        play(recipe(do=(Learn("policy", Gives(change), SGD(0.1)),)))


@dataclass(frozen=True)
class Acts:
    """A controller that returns anything."""

    found: Any

    def start(self, ctx: Context) -> State:
        return None

    def act(self, state: State, ctx: Context) -> Any:
        return self.found if not ctx.trial else ((), None)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "None from Acts.act"),
        ((Set({"rows": 2}),), "a tuple from Acts.act"),
        ((Set({"rows": 2}), None), "a tuple from Acts.act"),
        (((Stop,), None), "the class Stop among"),
        ((("stop",), None), "a str among"),
        (((Trial({}, 0),), None), "steps: a whole number"),
        (((Trial({}, 2.5),), None), "steps: a whole number"),
        (((Trial({}, 2, data="foo"),), None), "'rewind' or 'continue'"),
        (((Set({"rows": 0}),), None), "rows = 0"),
    ],
)
def test_what_a_controller_asks_for_can_be_done(found, text):
    with pytest.raises((RecipeError, DialError), match=text):
        play(recipe(controllers=(Acts(found),)))


def test_no_action_and_a_save_are_fine():
    play(recipe(controllers=(Acts(((), None)), Acts(([Save("here")], None)))))


@dataclass(frozen=True)
class Says:
    """A monitor that says anything."""

    found: Any
    every: int = 1
    name: str = "says"

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        return self.found


@pytest.mark.parametrize(
    "found", [None, 1.0, {"a": "b"}, {1: 1.0}, {"loss": 0.0}, {"dial/lr": 1.0}]
)
def test_a_monitor_says_numbers_under_names_of_its_own(found):
    with pytest.raises(RecipeError, match="from Says"):
        play(recipe(monitors=(Says(found),)))


def test_logits_are_no_answer_to_a_question_for_log_probs():
    batch = TokenMean()(Batch(TEXT))
    with pytest.raises(RecipeError, match="a Tensor from a model that was asked for the log-probs"):
        NextToken()(lambda *given, **named: torch.zeros(2, 4, 3), batch)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"steps": 1e3}, "steps = 1000.0"),
        ({"steps": "9"}, "steps = '9'"),
        ({"rows": "4"}, "rows = '4'"),
        ({"rows": None}, "rows = None"),
        ({"do": [LEARN]}, "a list"),
        ({"monitors": (Says({}, every=0),)}, "every = 0"),
        ({"do": (replace(LEARN, weigh="mean"),)}, "str without __call__"),
        ({"do": (replace(LEARN, weigh=TokenMean),)}, "the class TokenMean"),
        ({"do": (replace(LEARN, optimizer=1e-3),)}, "float without"),
        ({"do": (replace(LEARN, optimizer=AdamW),)}, "the class AdamW"),
    ],
)
def test_numbers_and_parts_of_a_phase_are_of_their_kind(changes, text):
    with pytest.raises((RecipeError, DialError), match=text):
        check(recipe(**changes))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seed": 1.5}, "seed = 1.5"),
        ({"seed": True}, "seed = True"),
        ({"models": [Linear2()]}, "a list"),
        ({"compute": Compute(device="gpu")}, "compute.device = 'gpu'"),
        ({"compute": Compute(dtype="fp16")}, "compute.dtype = 'fp16'"),
        ({"saves": Saves(every=5)}, "every = 5"),
    ],
)
def test_what_stands_in_a_recipe_is_of_its_kind(changes, text):
    with pytest.raises((RecipeError, DialError), match=text):
        check(replace(recipe(), **changes))


def test_rows_that_a_schedule_makes_nothing_are_refused_where_they_are_planned():
    dials = Dials.of(recipe(rows=Linear(4, 0)).phases[0], {}, finder())
    assert dials.live(Time(0, 3)).rows == 4
    with pytest.raises(DialError, match="rows = 0"):
        dials.live(Time(3, 3))


@dataclass(frozen=True)
class Early(Schedule[float]):
    """A schedule that takes single moments only."""

    rows: float = 4

    def __call__(self, time: Time) -> float:
        return self.rows if time.step < 2 else 2 * self.rows


@dataclass(frozen=True)
class Lost(Schedule[float]):
    """A schedule of no number."""

    def __call__(self, time: Time) -> Any:
        return np.full(np.shape(time.step), np.nan)


@pytest.mark.parametrize(
    ("rows", "text"), [(Early(), "all steps at once"), (Lost(), "rows that are nan")]
)
def test_rows_are_known_before_the_run(rows, text):
    with pytest.raises(DialError, match=text):
        Dials.of(recipe(rows=rows).phases[0], {}, finder())
