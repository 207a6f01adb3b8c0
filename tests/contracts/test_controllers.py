"""One battery over every public controller: pure, and its state is plain data."""

import copy
import json
from collections.abc import Mapping

import pytest

from core_helpers import line_recipe, play
from lab import Script
from parts import public_dataclasses
from thalweg.core.protocols import Controller, Set, Trial

EXAMPLES: Mapping[str, Controller] = {
    "a script": Script(((2, (Set({"lr": 0.05}),)), (4, (Trial({"lr": 0.2}, 2),)))),
}
EVERY = pytest.mark.parametrize("controller", EXAMPLES.values(), ids=list(EXAMPLES))


def test_every_public_controller_has_an_example():
    classes = {name: kind for name, kind in public_dataclasses().items() if hasattr(kind, "act")}
    assert set(classes) <= {type(example).__name__ for example in EXAMPLES.values()}


class Watched:
    """Asks twice, with the state and with its copy through JSON, and compares."""

    def __init__(self, inner: Controller) -> None:
        self.inner = inner
        self.asked = 0

    def start(self, ctx):
        return self.inner.start(ctx)

    def act(self, state, ctx):
        before = copy.deepcopy(state)
        actions, after = self.inner.act(state, ctx)
        again, same = self.inner.act(json.loads(json.dumps(state)), ctx)
        assert state == before
        assert (list(actions), after) == (list(again), same)
        assert json.loads(json.dumps(after)) == after
        self.asked += 1
        return actions, after


@EVERY
def test_a_controller_is_a_pure_function_of_state_and_context(controller):
    watched = Watched(controller)
    play(line_recipe(8, controllers=(watched,)))
    assert watched.asked >= 8
