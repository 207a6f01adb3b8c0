"""What controllers may do between steps: Set, Trial, Next, Stop, Save.

A Set is an entry in the journal of the run and an override in its state. A Trial runs the same
loop from here and rolls everything back: models, moments, state, and (unless told otherwise) data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from thalweg.core.dials import From
from thalweg.core.learner import Learner
from thalweg.core.loop import Bench, Memory, run_phase
from thalweg.core.protocols import Action, Context, Next, Save, Schedule, Set, State, Stop, Trial
from thalweg.core.recipe import Phase
from thalweg.core.state import RunState
from thalweg.core.tree import find_path, record

__all__ = ["steer"]


def steer(
    bench: Bench, phase: Phase, state: RunState, ctx: Context
) -> tuple[RunState, bool]:
    """Ask every controller, do what they say; return the state and whether the phase is over."""
    over = False
    for number, controller in enumerate(phase.controllers):
        ctx = replace(ctx, last=state.last, trial=())
        actions, own = controller.act(state.controllers[number], ctx)
        state = _remember(state, number, own)
        queue: list[Action] = list(actions)
        while queue:
            action = queue.pop(0)
            if isinstance(action, Trial):
                state, rows = _trial(bench, phase, state, action)
                more, own = controller.act(own, replace(ctx, trial=rows))
                state = _remember(state, number, own)
                queue += more
            elif isinstance(action, Next):
                over = True
            else:
                state = _act(bench, phase, state, action)
    return state, over


def _remember(state: RunState, number: int, own: State) -> RunState:
    controllers = list(state.controllers)
    controllers[number] = own
    return replace(state, controllers=controllers)


def _act(bench: Bench, phase: Phase, state: RunState, action: Action) -> RunState:
    if isinstance(action, Set):
        new = _records(phase, action.values, state.step, None)
        journal = tuple((state.run_step, path, value) for path, value in new.items())
        bench.recorder.note(state.run_step, "set", ", ".join(f"{k} = {v}" for k, v in new.items()))
        return replace(
            state, overrides={**state.overrides, **new}, journal=state.journal + journal
        )
    if isinstance(action, Stop):
        bench.recorder.note(state.run_step, "stop", action.reason)
        return replace(state, stopped=action.reason)
    assert isinstance(action, Save)
    bench.recorder.save(state, bench.learners, tag=action.tag)
    return state


def _trial(
    bench: Bench, phase: Phase, state: RunState, trial: Trial
) -> tuple[RunState, Sequence[Mapping[str, float]]]:
    """Return the state after the rollback, and the reports of the trial's steps."""
    before = {name: learner.snapshot() for name, learner in bench.learners.items()}
    new = _records(phase, trial.values, state.step, trial.steps)
    start = replace(state, overrides={**state.overrides, **new})
    memory = Memory()
    quiet = replace(bench, recorder=memory)
    end, _ = run_phase(quiet, phase, start, stop=state.step + trial.steps)
    facts = {"values": new, "steps": trial.steps, "data": trial.data, "keep": trial.keep}
    bench.recorder.trial(state, memory.history, facts)
    if trial.keep:
        bench.recorder.save(end, bench.learners, tag=trial.keep)
    _restore(bench.learners, before)
    spent = state.trial_tokens + end.tokens - state.tokens
    state = replace(state, trial_tokens=spent)
    if trial.data == "continue":
        state = replace(state, source=end.source)
    return state, tuple(memory.history)


def _restore(learners: Mapping[str, Learner], before: Mapping[str, Any]) -> None:
    for name, learner in learners.items():
        learner.restore(before[name])


def _records(
    phase: Phase, values: Mapping[str, Any], step: int, steps: int | None
) -> dict[str, Any]:
    """Return {full path: record}; schedules get a clock that starts now."""
    places = replace(phase, controllers=())  # a controller's own values are no dials of the phase
    out = {}
    for path, value in values.items():
        own = From(value, step, steps) if isinstance(value, Schedule) else value
        out[find_path(places, path)] = record(own, path)
    return out
