"""Demonstrations while their gradient is large."""

import numpy as np
import pytest

from thalweg.controllers import GradientSwitch
from thalweg.core.protocols import Context, Set
from thalweg.core.time import Time
from thalweg.errors import DialError

SWITCH = GradientSwitch(taught="sft", tried="rl", warmup=4, tail=2, refresh=5)


def played(norms, switch=SWITCH, seed=0):
    """Return the state after steps with these gradient norms, and the weights of each next step."""
    state, weights, found = switch.start(Context(Time(0, 99))), {"sft": 1.0, "rl": 0.0}, []
    for step, norm in enumerate(norms):
        report = {"report": {"grad_norm": norm}}
        ctx = Context(Time(step, 99, run_step=step), seed=seed, last=report)
        actions, state = switch.act(state, ctx)
        for action in actions:
            assert isinstance(action, Set)
            weights = dict(action.values["source.weights"])
        found.append(weights["sft"])
    return state, found


def test_the_warm_up_is_on_demonstrations_and_its_end_is_what_norms_are_held_against():
    state, weights = played([9.0, 7.0, 3.0])
    assert weights == [1.0, 1.0, 1.0]
    state, _ = played([9.0, 7.0, 3.0, 1.0])
    assert (state["total"], state["norm"]) == (4.0, 1.0)
    assert SWITCH.chance(state) == pytest.approx(1.0 / (1.0 + 2.0))


def test_the_chance_of_demonstrations_follows_their_gradient_and_not_the_other_one():
    shares = []
    for norm in (0.01, 1.0, 100.0):
        taught = []
        for seed in range(200):
            state, weights = played([2.0, 2.0, 2.0, norm], seed=seed)
            taught.append(weights[-1])
        shares.append(np.mean(taught))
    assert shares[0] < 0.05
    assert shares[1] == pytest.approx(1.0 / (1.0 + 1.5), abs=0.1)
    assert shares[2] == pytest.approx(100.0 / (100.0 + 51.0), abs=0.1)
    state, weights = played([2.0, 2.0, 2.0, 0.0, 50.0, 60.0])
    assert weights[-3:] == [0.0, 0.0, 0.0]
    assert state["norm"] == 0.0


def test_demonstrations_come_again_before_their_gradient_is_too_old():
    _, weights = played([2.0, 2.0, 2.0, *[0.0] * 12])
    rest = weights[3:]
    assert rest == [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]


def test_counts_that_do_not_fit_are_refused():
    with pytest.raises(DialError, match="tail=9"):
        GradientSwitch(taught="a", tried="b", warmup=4, tail=9).start(Context(Time(0, 1)))
