"""The adaptive coefficient of the entropy bonus."""

import pytest

from core_helpers import line_recipe, play
from thalweg.controllers import AdaptiveEntropy
from thalweg.core.protocols import Context
from thalweg.core.time import Time


def told(control: AdaptiveEntropy, *entropies: float) -> list[float | None]:
    """Return what is set after each step."""
    state, found = control.start(Context(Time())), []
    for entropy in entropies:
        ctx = Context(Time(), last={"report": {"entropy": entropy}})
        actions, state = control.act(state, ctx)
        found.append(actions[0].values["w"] if actions else None)
    return found


def test_the_bonus_rises_while_entropy_is_low_and_is_off_while_it_is_high():
    control = AdaptiveEntropy(target=1.0, path="w", delta=0.1)
    found = told(control, 0.5, 0.5, 1.5, 1.5, 0.5)
    assert found[:3] == pytest.approx([0.1, 0.2, 0.0])
    assert found[3] is None, "nothing has changed"
    assert found[4] == pytest.approx(0.1), "0.2 less two steps of 0.1, and one up"


def test_the_coefficient_stays_in_its_bounds():
    control = AdaptiveEntropy(target=1.0, path="w", start_at=0.3, delta=0.4, most=0.5)
    assert told(control, 0.0, 0.0) == [0.5, None]


def test_a_report_without_the_metric_changes_nothing():
    control = AdaptiveEntropy(target=1.0)
    state = control.start(Context(Time()))
    assert control.act(state, Context(Time(), last={"report": {"loss": 1.0}})) == ((), state)


def test_it_moves_a_dial_of_a_run():
    control = AdaptiveEntropy(target=100.0, path="lr", metric="loss", start_at=0.01, delta=0.01)
    _, _, memory = play(line_recipe(3, controllers=(control,)))
    rates = [row["dial/learn.policy.optimizer.lr"] for row in memory.history]
    assert rates[1:] == pytest.approx([0.02, 0.03])
