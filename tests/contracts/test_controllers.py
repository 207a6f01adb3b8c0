"""One battery over every public controller: pure, and its state is plain data."""

import copy
import json
from collections.abc import Mapping

import pytest

from core_helpers import line_recipe, play
from lab import Script
from parts import public_dataclasses
from thalweg.controllers import (
    AdaptiveEntropy,
    AutoLrs,
    DecayBranches,
    EarlyStop,
    Hypergradient,
    Reached,
    Watch,
)
from thalweg.core.protocols import Controller, Set, Trial
from thalweg.core.time import steps

EXAMPLES: Mapping[str, Controller] = {
    "an entropy": AdaptiveEntropy(target=0.5, delta=0.01, path="lr", metric="loss"),
    "a search": AutoLrs(low=1e-4, high=1e-1, stage=8, longest=8, probe=0.5, tries=2),
    "decays that are kept": DecayBranches((4, 8), decay=steps(2), variants={"a": {}, "b": {}}),
    "decays that go on": DecayBranches((4, 8), decay=steps(2), then="branch"),
    "a hypergradient": Hypergradient(low=1e-5, high=1e-1, every=2),
    "an early stop": EarlyStop(against=((0.0, 9.0),), budget=steps(8)),
    "a goal": Reached("loss", 1e9),
    "a watch": Watch((1, 8), (0.1, 0.1), (0.0, 0.0), (0.2, 0.2), patience=1),
    "a script": Script(((2, (Set({"lr": 0.05}),)), (4, (Trial({"lr": 0.2}, 2),)))),
}
ELSEWHERE = {"GradientSwitch", "IdleExperts", "LearningProgress", "LossProportional", "SkillIt"}
"""Controllers of what this recipe lacks: test_mixture.py, test_switch.py, test_experts.py."""
EVERY = pytest.mark.parametrize("controller", EXAMPLES.values(), ids=list(EXAMPLES))


def test_every_public_controller_has_an_example():
    classes = {name: kind for name, kind in public_dataclasses().items() if hasattr(kind, "act")}
    assert set(classes) <= {type(example).__name__ for example in EXAMPLES.values()} | ELSEWHERE


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
    play(line_recipe(8, controllers=(watched,), watch=("grad_dot",)))
    assert watched.asked >= 8
