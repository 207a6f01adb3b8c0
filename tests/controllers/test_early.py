"""Runs judged by how they begin: the score, the ranking, and the controller's word."""

import json

import pytest

from core_helpers import line_recipe, play
from thalweg.controllers import Early, EarlyStop, early_dynamics, early_scores, survivors
from thalweg.core.protocols import Context, Next, Stop
from thalweg.core.time import Time, share, steps
from thalweg.errors import DialError, RecipeError


def test_the_score_is_the_difference_of_z_scores():
    runs = [Early(1.0, 2.0), Early(2.0, 2.5), Early(6.0, 1.2), Early(3.0, 3.0)]

    def z(values, i):
        mean = sum(values) / len(values)
        return (values[i] - mean) / (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5

    norms, losses = [r.grad_norm for r in runs], [r.loss for r in runs]
    want = [z(norms, i) - z(losses, i) for i in range(4)]
    assert early_scores(runs) == pytest.approx(want, rel=1e-12)


def test_low_gradient_norms_and_high_losses_are_kept():
    runs = [Early(5.0, 1.0), Early(1.0, 3.0), Early(4.0, 1.5), Early(2.0, 2.5)]
    assert survivors(early_scores(runs)) == [1, 3]
    assert survivors(early_scores(runs), keep=0.75) == [1, 3, 2]


def test_runs_that_agree_score_nothing_and_the_first_ones_stay():
    assert early_scores([Early(1.0, 2.0)] * 3) == [0.0] * 3
    assert survivors([0.0] * 3) == [0, 1]


def test_a_beginning_is_the_mean_of_the_steps_within_the_budget():
    rows = [{"tokens": 8 * k, "grad_norm": 2.0 * k, "loss": 5.0 - k} for k in range(1, 6)]
    assert early_dynamics(rows, 24) == (4.0, 3.0)
    with pytest.raises(RecipeError, match="no step within"):
        early_dynamics(rows, 7)


def told(controller: EarlyStop, length: int = 20) -> list[tuple[int, object]]:
    state, found = controller.start(Context(Time())), []
    for step in range(length):
        last = {"report": {"loss": 2.0 + step, "grad_norm": 1.0}}
        actions, state = controller.act(state, Context(Time(step, length), last=last))
        state = json.loads(json.dumps(state))
        found += [(step + 1, action) for action in actions]
    return found


def test_a_bad_beginning_ends_the_run_when_its_budget_is_spent():
    better = ((0.5, 9.0), (0.6, 8.0), (0.7, 7.0))
    ((step, action),) = told(EarlyStop(better, budget=share(0.2)))
    assert step == 4
    assert isinstance(action, Stop)
    assert "score +" in action.reason
    ((step, action),) = told(EarlyStop(better, budget=steps(7), then="next"))
    assert (step, action) == (7, Next())


def test_a_good_beginning_goes_on():
    assert told(EarlyStop(((3.0, 1.0), (2.0, 1.0)))) == []
    assert told(EarlyStop(((0.5, 9.0),), keep=1.0)) == []


def test_what_the_controller_sums_is_what_the_history_says():
    _, _, memory = play(line_recipe(20))
    own = early_dynamics(memory.history, memory.history[3]["tokens"])
    worse, better = (own.grad_norm + 1, own.loss - 1), (own.grad_norm - 1, own.loss + 1)
    end, _, _ = play(line_recipe(20, controllers=(EarlyStop((worse,), budget=steps(4)),)))
    assert end.stopped == ""
    end, _, _ = play(line_recipe(20, controllers=(EarlyStop((better,), budget=steps(4)),)))
    assert (end.run_step, end.stopped[:16]) == (4, "early score +2.0")


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"against": ()}, RecipeError),
        ({"against": ((1.0,),)}, RecipeError),
        ({"keep": 0.0}, DialError),
        ({"budget": steps(0)}, DialError),
    ],
)
def test_comparisons_with_nothing_are_refused(wrong, kind):
    with pytest.raises(kind):
        EarlyStop(**{"against": ((1.0, 2.0),), **wrong})
