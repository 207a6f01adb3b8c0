"""The dials of a phase: overrides applied, schedules frozen, values for the log."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from thalweg.core.freeze import at, freezing
from thalweg.core.moves import Learn
from thalweg.core.protocols import Foreseen, Schedule
from thalweg.core.recipe import Phase, scheduled
from thalweg.core.state import RunState
from thalweg.core.time import Span, Time
from thalweg.core.tree import keys_of, put, reach, read_record
from thalweg.errors import DialError, ThalwegError
from thalweg.optim import rates

__all__ = ["Dials", "From", "phase_length"]

T = TypeVar("T")


@dataclass(frozen=True)
class From(Schedule[Any]):
    """A schedule on a clock of its own, started at a step of the phase: a trial's or a branch's."""

    schedule: Schedule[Any]
    step: int
    """Step of the phase at which the clock starts."""
    steps: int | None = None
    """Length of the clock; None for the rest of the phase."""

    def __call__(self, time: Time) -> Any:
        """Return the schedule's value on its own clock."""
        own = time.since(self.step)
        return self.schedule(own if self.steps is None else own.within(self.steps))


@dataclass(frozen=True)
class Dials:
    """A phase with the overrides of a state applied, ready to be frozen at any time."""

    phase: Phase
    steps: int | None
    """Length in steps; None for endless."""
    batch_tokens: int
    """Mean target tokens of a step; 0 where the source does not know."""
    schedules: Mapping[str, Schedule[Any]]
    keys: Mapping[str, tuple[str | int, ...]]
    """What leads to each schedule in the phase."""
    constants: Mapping[str, Any]
    """Overridden dials that are numbers."""
    freeze: Callable[[Time], Phase] | None
    """Makes the phase of a moment, but for its controllers; None if nothing is scheduled."""
    values: Callable[[Phase], Mapping[str, float]]
    """Gives `dial/PATH` for every schedule, override and learning rate of what `live` returned."""

    @staticmethod
    def of(phase: Phase, overrides: Mapping[str, Any], find: Callable[[str], Any]) -> "Dials":
        """Return the dials of a phase under recorded overrides (path -> record)."""
        written = {path: read_record(value, find) for path, value in overrides.items()}
        for path, value in written.items():
            phase = put(phase, path, value)
        steps, batch_tokens = phase_length(phase)
        constants = {path: v for path, v in written.items() if not isinstance(v, Schedule)}
        schedules = scheduled(phase)
        keys = {path: keys_of(phase, path) for path in schedules}
        freeze = freezing(phase, only=("source", "do", "rows", "monitors"))
        values = _latest(partial(_values, constants, keys))
        return Dials(phase, steps, batch_tokens, schedules, keys, constants, freeze, values)

    def time(self, state: RunState) -> Time:
        """Return the moment of the next step."""
        return state.time(self.steps, self.batch_tokens)

    def live(self, time: Time) -> Phase:
        """Return the phase with every schedule frozen; controllers keep theirs.

        Raises:
            DialError: A number that a part refuses; less than one row.
        """
        phase = self.freeze(time) if self.freeze else self.phase
        if not phase.rows >= 1:
            raise DialError(
                f"rows = {phase.rows}",
                expected="1 or more",
                where=f"{self.phase.name}.rows, step {time.step} of the phase",
                write="rows=32",
            )
        return phase if type(phase.rows) is int else replace(phase, rows=round(phase.rows))

    def table(self, at_most: int = 1000) -> dict[str, dict[str, list[float]]]:
        """Return every dial over the phase: {path: {"step": [...], "value": [...]}}, sampled."""
        last = self.steps if self.steps is not None else 10_000
        grid = np.unique(np.linspace(0, max(last - 1, 0), min(at_most, max(last, 1))).astype(int))
        out: dict[str, dict[str, list[float]]] = {}
        for step in grid.tolist():
            time = Time(step, self.steps, step * self.batch_tokens, step, self.batch_tokens)
            for path, value in self.values(self.live(time)).items():
                column = out.setdefault(path.removeprefix("dial/"), {"step": [], "value": []})
                column["step"].append(step)
                column["value"].append(value)
        return out


def _values(
    constants: Mapping[str, Any], keys: Mapping[str, tuple[str | int, ...]], live: Phase
) -> Mapping[str, float]:
    found: dict[str, Any] = dict(constants)
    for move in live.do:
        if isinstance(move, Learn):
            found |= {f"{move.name}.optimizer.{k}": v for k, v in rates(move.optimizer).items()}
    for path, way in keys.items():
        if path not in found:
            found[path] = reach(live, way)
    return dict(_flat(found))


def _latest(answer: Callable[[Phase], T]) -> Callable[[Phase], T]:
    """Return a function that answers anew only about another phase than the last one."""
    kept: list[tuple[Phase, T]] = []

    def ask(phase: Phase) -> T:
        if not kept or kept[0][0] is not phase:
            kept[:] = [(phase, answer(phase))]
        return kept[0][1]

    return ask


def phase_length(phase: Phase) -> tuple[int | None, int]:
    """Return the steps of a phase (None: endless) and the mean target tokens of a step.

    Raises:
        DialError: A share as a length, or tokens from a source that does not count them.
    """
    width = _targets_of_a_row(phase)
    if not isinstance(phase.steps, Span):
        rows = _mean_rows(phase, phase.steps)
        return phase.steps, round(rows * width)
    if phase.steps.unit == "steps":
        count = round(phase.steps.count)
        return count, round(_mean_rows(phase, count) * width)
    if phase.steps.unit == "share" or width == 0:
        raise DialError(
            f"a phase of {phase.steps}",
            expected="steps, or tokens from a source with rows of known length",
            where=f"{phase.name}.steps",
            write="steps=1000",
        )
    return _steps_for_tokens(phase, phase.steps.count, width)


def _targets_of_a_row(phase: Phase) -> float:
    """Return the mean targets of a row at the start of the phase; 0 if the source cannot say."""
    if not isinstance(phase.source, Foreseen):
        return 0
    shares = phase.source.shares(Time(0, 1, batch_tokens=1))
    return phase.source.row_tokens * float(sum(shares.values()))


def _steps_for_tokens(phase: Phase, count: float, width: float) -> tuple[int, int]:
    """Return the steps after which a (perhaps scheduled) batch has given `count` tokens."""
    rows: Any = phase.rows
    if not isinstance(rows, Schedule):
        per_step = round(rows) * width
        return max(1, round(count / per_step)), round(per_step)
    first: Any = at(rows, Time(0, 1))
    guess = max(1, round(count / (width * first)))
    for _ in range(20):
        grid = Time(np.arange(guess), guess, run_step=np.arange(guess))
        total = float(np.sum(np.round(_rows_over(phase, grid)))) * width
        better = max(1, round(guess * count / total))
        if better == guess:
            break
        guess = better
    return guess, round(total / guess)


def _mean_rows(phase: Phase, steps: int | None) -> float:
    rows: Any = phase.rows
    if not isinstance(rows, Schedule) or not steps:
        return float(at(rows, Time(0, steps)))
    grid = np.unique(np.linspace(0, steps - 1, min(steps, 4096)).astype(int))
    return float(np.mean(_rows_over(phase, Time(grid, steps, run_step=grid))))


def _rows_over(phase: Phase, grid: Time) -> np.ndarray:
    """Return what a schedule of rows gives at all moments of a plan, asked at once.

    Raises:
        DialError: It only takes single moments, or gives what is no number.
    """
    rows: Any = phase.rows
    try:
        found = np.asarray(rows(grid), np.float64)
    except ThalwegError:
        raise
    except ValueError as error:  # numpy: the truth value of an array is ambiguous
        raise DialError(
            f"{rows!r}, which cannot be asked about all steps at once ({error})",
            expected="a schedule that takes an array of steps: the plan counts rows before the run",
            where=f"{phase.name}.rows",
            write="numpy.where(time.step < 5, a, b), Then(...), or By(function)",
        ) from error
    if not np.isfinite(found).all():
        raise DialError(
            f"rows that are {found[~np.isfinite(found)][0]}",
            expected="numbers at every step",
            where=f"{phase.name}.rows",
            write="rows=32",
        )
    return found


def _flat(found: Mapping[str, Any]) -> list[tuple[str, float]]:
    rows: list[tuple[str, float]] = []
    for path, value in found.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            rows.append((path if path.startswith("dial/") else f"dial/{path}", value))
        elif isinstance(value, Mapping):
            rows += _flat({f"{path}.{key}": item for key, item in value.items()})
    return rows
