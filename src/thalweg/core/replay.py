"""What a step saw: the batch at step s is a function of the recipe, the journal, and s."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from thalweg.core.batch import Batch
from thalweg.core.checkpoint import checkpoints, damage_of, read_state, step_of
from thalweg.core.control import overridden
from thalweg.core.dials import Dials
from thalweg.core.protocols import Context
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.state import RunState
from thalweg.errors import StateError

__all__ = ["batch_at"]


def batch_at(
    run: Path, recipe: Recipe, step: int, find: Callable[[str], Any]
) -> tuple[Batch, tuple[str, ...]]:
    """Return the global batch that a step of the run learned from, and the names of its sources.

    Goes on from the nearest checkpoint before the step, drawing batches without reading them.

    Args:
        run: The run's folder.
        recipe: Its recipe.
        step: From 1: the step number in the history.
        find: Looks up recorded names.

    Raises:
        StateError: The run has no such step, its source needs models to make a batch, or a trial
            has taken batches away since the checkpoint.
    """
    state, journal = _state_before(run, step)
    length = _length(recipe, state, find)
    while state.phase + 1 < len(recipe.phases) and (state.ended or state.step == length):
        state = state.next_phase()
        length = _length(recipe, state, find)
    phase = recipe.phases[state.phase]
    local = step - 1 - (state.run_step - state.step)
    if step < 1 or local < 0 or (length is not None and local >= length):
        raise StateError(
            f"step {step}",
            expected="a step of the run, from 1 on",
            where=str(run),
            write=f"--step {max(1, state.run_step)}",
        )
    _check_trials(run, state.run_step, step)
    return _replayed(recipe, phase, state, journal, step, find)


def _length(recipe: Recipe, state: RunState, find: Callable[[str], Any]) -> int | None:
    """Return the length of the phase that a state is in, as controllers have set it."""
    return Dials.of(recipe.phases[state.phase], state.overrides, find).steps


def _check_trials(run: Path, first: int, step: int) -> None:
    """Refuse a step behind a trial that kept its batches, unless a checkpoint stands between."""
    file = run / "trials.jsonl"
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    rows = map(json.loads, whole.splitlines())  # a killed run may leave half a line
    kept = [row["parent"] for row in rows if row["data"] == "continue"]
    between = [parent for parent in kept if first < parent < step]
    if between:
        raise StateError(
            f"step {step}, behind a trial at step {between[0]} that read batches for itself",
            expected="no such trial since the checkpoint before the step",
            where=str(file),
            write=f"--step {between[0]}",
        )


def _replayed(
    recipe: Recipe,
    phase: Phase,
    state: RunState,
    journal: Mapping[int, dict[str, Any]],
    step: int,
    find: Callable[[str], Any],
) -> tuple[Batch, tuple[str, ...]]:
    overrides = dict(state.overrides)
    dials = Dials.of(phase, overrides, find)
    source = state.source
    for run_step in range(state.run_step, step):
        if run_step in journal and run_step > state.run_step:
            overrides = overridden(overrides, journal[run_step])
            dials = Dials.of(phase, overrides, find)
        now = _moment(state, run_step, dials)
        time = dials.time(now)
        live = dials.live(time)
        ctx = Context(time, recipe.seed, int(live.rows), models=_NoModels(phase))
        if source is None:
            source = live.source.start(ctx)
        batch, source = live.source.next(source, ctx)
    return batch, live.source.names


class _NoModels(dict[str, Any]):
    """The models of a replay: none, and a source that asks for one is refused."""

    def __init__(self, phase: Phase) -> None:
        super().__init__()
        self.phase = phase

    def __contains__(self, name: object) -> bool:
        return bool(self[str(name)])

    def __missing__(self, name: str) -> Any:
        raise StateError(
            f"a {type(self.phase.source).__name__} that asks the model '{name}' for its rows",
            expected="a source that reads stored text",
            where=f"{self.phase.name}.source",
            write="thalweg report: its samples show what was generated",
        )


def _moment(state: RunState, run_step: int, dials: Dials) -> RunState:
    """Return the state's clock moved to a step; tokens as planned."""
    done = run_step - state.run_step
    return RunState(
        step=state.step + done, run_step=run_step, tokens=state.tokens + done * dials.batch_tokens
    )


def _state_before(run: Path, step: int) -> tuple[RunState, dict[int, dict[str, Any]]]:
    """Return the newest whole state before a step, and what controllers set at which step."""
    whole = [path for path in checkpoints(run) if not damage_of(path)]
    before = [path for path in whole if step_of(path) < step]
    journal: dict[int, dict[str, Any]] = {}
    newest = RunState.from_json(read_state(whole[-1])["state"]) if whole else RunState()
    for at, path, value in newest.journal:
        journal.setdefault(at, {})[path] = value
    return RunState.from_json(read_state(before[-1])["state"]) if before else RunState(), journal
