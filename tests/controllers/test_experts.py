from dataclasses import replace

import pytest

from thalweg.controllers import IdleExperts
from thalweg.core.protocols import Context
from thalweg.core.time import Time
from thalweg.errors import DialError


def told(loads: list[list[float]], patience: int) -> list[str]:
    """Return the notes of steps whose experts received these tokens."""
    notes: list[str] = []
    controller = IdleExperts(patience=patience)
    ctx = Context(Time(0, 9), note=lambda kind, text: notes.append(text))
    state = controller.start(ctx)
    for step, row in enumerate(loads):
        report = {f"load/2/{expert}": tokens for expert, tokens in enumerate(row)}
        now = replace(ctx, time=Time(step, 9, run_step=step), last={"report": report})
        actions, state = controller.act(state, now)
        assert actions == ()
    return notes


def test_an_expert_without_tokens_is_named_once_with_the_step_since_when():
    loads = [[5, 5], [9, 1], [10, 0], [10, 0], [10, 0], [10, 0]]
    assert told(loads, 3) == ["expert 1 of layer 2 has received no token since step 3"]


def test_an_expert_that_wakes_up_is_named_again():
    loads = [[10, 0], [10, 0], [9, 1]]
    assert told(loads, 2)[1] == "expert 1 of layer 2 receives tokens again, the first since step 1"


def test_a_short_pause_is_no_news():
    assert told([[10, 0], [9, 1], [10, 0], [9, 1]], 2) == []


def test_no_patience_is_refused():
    with pytest.raises(DialError):
        IdleExperts(patience=0)
