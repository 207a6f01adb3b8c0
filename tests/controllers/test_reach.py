"""A phase that ends when a number is reached."""

from thalweg.controllers import Reached
from thalweg.core.protocols import Context, Next
from thalweg.core.time import Time

RULE = Reached("heldout/pass@1", 0.4)


def acted(*, trial: bool = False, **report: float) -> tuple:
    named = {name.replace("_", "/pass@"): value for name, value in report.items()}
    ctx = Context(Time(3, 9), last={"report": named}, trial=({"loss": 1.0},) * trial)
    return tuple(RULE.act(None, ctx)[0])


def test_it_ends_the_phase_at_the_number_and_not_before():
    assert acted(heldout_1=0.39) == ()
    assert acted(heldout_1=0.4) == (Next(),)


def test_steps_without_the_number_and_trials_are_passed_over():
    assert acted(loss=3.0) == ()
    assert acted(heldout_1=0.9, trial=True) == ()
