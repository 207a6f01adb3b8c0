"""One battery over every public move: it needs what it says and makes what it says."""

from dataclasses import is_dataclass

import pytest
import torch

import thalweg.objectives as room
from lab import Linear2, Squared
from parts import public_dataclasses
from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.moves import Copy, Learn, Score
from thalweg.core.protocols import Context, Move
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.optim import SGD


def predictions(model, batch: Batch) -> torch.Tensor:
    return model(batch["x"]).squeeze(1)


EXAMPLES: list[Move] = [
    Learn("policy", Squared(), SGD(lr=0.1)),
    Score("policy", "ref", predictions),
    Copy("policy", "actor"),
    room.Advantages(),
    room.Correct(),
    room.Filter(),
    room.Gae(macro=True),
    room.ImplicitRewards(),
    room.KlPenalty(0.1),
    room.Load(2),
    room.MacroActions(2),
    room.ProcessAdvantages(),
    room.Rates(),
    room.TeacherGap(),
    room.TokenRewards(0.1),
    room.WeightOf("sft_weight"),
]
ELSEWHERE = {
    *("Cut", "Grow", "LaggedLoad", "Majority", "Margins", "Mismatch", "Pair", "Rebias"),
    "RouteMismatch",
}
"""Moves with tests of their own: they need a model with experts or one that grows, read a language
model or its hidden states, make other rows, or read which answers ended."""
EVERY = pytest.mark.parametrize("move", EXAMPLES, ids=lambda move: type(move).__name__)


def moved(move: Move, batch: Batch) -> Batch:
    names = ("policy", "actor")
    models = {n: Learner(n, Linear2().build(i), World()) for i, n in enumerate(names)}
    return move(batch, Context(Time(0, 1), models=models))


DRAWN = ("old", "ref", "prm", "teacher", "sampler", "process", "value", "advantage")
BATCH = Batch(
    {
        "x": torch.ones(4, 3),
        "y": torch.zeros(4),
        "id": torch.arange(4),
        "source": torch.tensor([0, 0, 1, 1]),
        "group": torch.tensor([5, 2, 5, 2]),
        "reward": torch.tensor([1.0, 0.0, 0.0, 1.0]),
        "weight": torch.tensor([[0.0, 1.0, 1.0]] * 3 + [[0.0, 1.0, 0.0]]),
        "segment": torch.tensor([[0, 0, 1]] * 4),
        "load": torch.ones(4, 2, 3),
        **{name: torch.randn(4, 3) - 2.0 for name in DRAWN},
    }
)


def test_every_public_move_has_an_example():
    kinds = public_dataclasses().values()
    moves = {k.__name__ for k in kinds if hasattr(k, "needs") and hasattr(k, "makes")}
    moves = {n for n in moves if "name" in dir(public_dataclasses()[n]) and callable_move(n)}
    assert moves <= {type(move).__name__ for move in EXAMPLES} | ELSEWHERE


def callable_move(name: str) -> bool:
    """Return whether this is a move: called with a batch and a context."""
    call = vars(public_dataclasses()[name]).get("__call__")
    return call is not None and "ctx" in call.__code__.co_varnames


@EVERY
def test_a_move_adds_the_columns_it_says_and_keeps_the_rest(move):
    names = [name for name in BATCH if not (isinstance(move, Learn) and name == "weight")]
    batch = Batch({name: BATCH[name] for name in names})  # this Learn's rows have no targets
    after = moved(move, batch)
    assert set(after) == set(batch) | set(move.makes)
    rest = set(batch) - set(move.makes)
    assert all(torch.equal(after[name], batch[name]) for name in rest)


@EVERY
def test_a_move_reads_no_column_but_those_it_needs(move):
    needed = {name: BATCH[name] for name in move.needs} or {"x": BATCH["x"]}
    assert moved(move, Batch(needed)).rows == 4


@EVERY
def test_a_move_is_a_frozen_value_with_a_name(move):
    assert is_dataclass(move)
    assert "." in move.name
    assert isinstance(move.needs, tuple)
