"""What controllers may do between steps: Set, Trial, Next, Stop, Save.

A Set is an entry in the journal of the run and an override in its state. A Trial runs the same
loop from here and rolls everything back: models, moments, state, and (unless told otherwise) data.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from thalweg.core.dials import From
from thalweg.core.learner import Learner
from thalweg.core.loop import Bench, Memory, run_phase
from thalweg.core.protocols import Context, Next, Save, Schedule, Set, State, Stop, Trial
from thalweg.core.recipe import Phase
from thalweg.core.returned import check_actions
from thalweg.core.state import RunState
from thalweg.core.tree import find_path, record
from thalweg.errors import Diverged

__all__ = ["overridden", "steer"]


def steer(bench: Bench, phase: Phase, state: RunState, ctx: Context) -> tuple[RunState, list[str]]:
    """Ask every controller, do what they say; return the state and the tags to save it under.

    A Save is left to the caller: what is written must hold what every controller did.
    """
    tags: list[str] = []
    for number, controller in enumerate(phase.controllers):
        ctx = replace(ctx, last=state.last, trial=())
        queue, own = check_actions(controller.act(state.controllers[number], ctx), controller)
        state = _remember(state, number, own)
        while queue:
            action = queue.pop(0)
            if isinstance(action, Trial):
                state, rows = _trial(bench, phase, state, action)
                asked = controller.act(own, replace(ctx, trial=rows))
                more, own = check_actions(asked, controller)
                state = _remember(state, number, own)
                queue += more
            elif isinstance(action, Save):
                tags.append(action.tag)
            else:
                state = _act(bench, phase, state, action)
    return state, tags


def _remember(state: RunState, number: int, own: State) -> RunState:
    controllers = list(state.controllers)
    controllers[number] = own
    return replace(state, controllers=controllers)


def _act(bench: Bench, phase: Phase, state: RunState, action: Set | Next | Stop) -> RunState:
    if isinstance(action, Set):
        new = _records(phase, action.values, state.step, None)
        journal = tuple((state.run_step, path, value) for path, value in new.items())
        bench.recorder.note(state.run_step, "set", ", ".join(f"{k} = {v}" for k, v in new.items()))
        overrides = overridden(state.overrides, new)
        return replace(state, overrides=overrides, journal=state.journal + journal)
    if isinstance(action, Next):
        bench.recorder.note(state.run_step, "next", f"phase '{phase.name}' ended")
        return replace(state, ended=True)
    bench.recorder.note(state.run_step, "stop", action.reason)
    return replace(state, stopped=action.reason or "a controller's Stop")


def _trial(
    bench: Bench, phase: Phase, state: RunState, trial: Trial
) -> tuple[RunState, Sequence[Mapping[str, float]]]:
    """Return the state after the rollback, and the reports of the trial's steps."""
    before = {name: (one.snapshot(), one.spec) for name, one in bench.learners.items()}
    new = _records(phase, trial.values, state.step, trial.steps)
    overrides = overridden(state.overrides, new)
    start = replace(state, overrides=overrides, ended=False, stopped="")
    end, rows, diverged = _tried(bench, phase, start, trial.steps)
    facts = {"values": new, "steps": trial.steps, "data": trial.data, "keep": trial.keep}
    bench.recorder.trial(state, rows, {**facts, "diverged": True} if diverged else facts)
    if trial.keep and not diverged:
        bench.recorder.keep(end, bench.learners, trial.keep, state.run_step)
    _restore(bench.learners, before)
    spent = state.trial_tokens + end.tokens - state.tokens
    state = replace(state, trial_tokens=spent)
    if trial.data == "continue":
        state = replace(state, source=end.source)
    failed = {"step": end.run_step + 1, "loss": math.inf}
    return state, (*rows, failed) if diverged else tuple(rows)


def _tried(
    bench: Bench, phase: Phase, start: RunState, steps: int
) -> tuple[RunState, list[dict[str, float]], bool]:
    """Run a trial; return its end, its reports, and whether its loss became infinite or NaN."""
    memory = Memory()
    try:
        quiet = replace(bench, recorder=memory)
        end, _ = run_phase(quiet, phase, start, stop=start.step + steps)
    except Diverged:  # trials are there to find this out; the run itself is unharmed
        return memory.last or start, memory.history, True
    return end, memory.history, False


def overridden(now: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides with new ones put last; what stood inside a place that is set anew goes."""
    kept = {
        path: value
        for path, value in now.items()
        if not any(path == place or path.startswith(place + ".") for place in new)
    }
    return {**kept, **new}


def _restore(learners: Mapping[str, Learner], before: Mapping[str, Any]) -> None:
    for name, learner in learners.items():
        learner.restore(*before[name])


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
