"""Read a run's folder into columns of numbers. Imports no torch.

The files are JSON lines that a run appends to, so the last line of a killed run may be half
written: it is left out. Anything else that cannot be read is damage and is reported with its line.
Where a step stands twice the later line counts.
"""

import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from thalweg.errors import StateError
from thalweg.laws.prediction import Prediction
from thalweg.report.run import (
    Event,
    Floats,
    History,
    Json,
    ModelSize,
    Parent,
    Plan,
    PlannedSource,
    Points,
    Run,
    Sample,
    Tried,
)

__all__ = ["number", "read_lines", "read_object", "read_plan", "read_run"]


def read_run(folder: Path) -> Run:
    """Return everything in a run's folder.

    Args:
        folder: The run's folder; only `recipe.json` must exist.

    Returns:
        The run; its history is empty when it has not made a step.

    Raises:
        StateError: No run stands there, or a file is damaged before its last line.
    """
    folder = Path(folder)
    about = read_object(folder / "recipe.json")
    lines = read_lines(folder / "timing.jsonl")
    parent = _mapping(about.get("parent"))
    seed = number(about.get("seed"))
    return Run(
        folder=folder,
        name=folder.resolve().name,
        recipe=_text(about.get("recipe")),
        seed=int(seed) if math.isfinite(seed) else None,
        tree=about.get("tree"),
        options=about.get("options"),
        overrides=about.get("overrides"),
        versions={key: _text(value) for key, value in _mapping(about.get("versions")).items()},
        models={name: _model(value) for name, value in _mapping(about.get("models")).items()},
        flops_per_token={
            phase: number(value) for phase, value in _mapping(about.get("flops_per_token")).items()
        },
        parent=Parent(_text(parent["run"]), _step(parent)) if "run" in parent else None,
        changes=tuple(_text(change) for change in _list(about.get("changes"))),
        plan=read_plan(folder),
        history=_history(read_lines(folder / "history.jsonl"), lines),
        samples=tuple(
            Sample(at, *words) for at, words in _texts(folder, "samples", Sample._fields)
        ),
        events=tuple(Event(at, *words) for at, words in _texts(folder, "events", Event._fields)),
        trials=_trials(read_lines(folder / "trials.jsonl")),
        wall_seconds=_wall([number(line.get("elapsed")) for line in lines]),
    )


def read_object(path: Path) -> dict[str, Json]:
    """Return the JSON object in a file.

    Raises:
        StateError: The file is missing or holds something else.
    """
    try:
        found: Json = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StateError(
            f"'{path.parent}', which has no {path.name}",
            expected="the folder of a run",
            where=str(path),
            write="the folder that `thalweg train` printed, or its name",
        ) from None
    except ValueError as error:
        raise _unreadable(path, str(error)) from None
    if not isinstance(found, dict):
        raise _unreadable(path, f"a {type(found).__name__}")
    return found


def read_lines(path: Path) -> list[dict[str, Json]]:
    """Return the objects of a file of JSON lines, without a half-written last one.

    Args:
        path: The file; a missing one has no lines.

    Raises:
        StateError: A line before the last is not a JSON object; says which.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    used = [index for index, line in enumerate(lines) if line.strip()]
    found: list[dict[str, Json]] = []
    for index in used:
        try:
            entry: Json = json.loads(lines[index])
            problem = "" if isinstance(entry, dict) else f"a {type(entry).__name__}"
        except ValueError as error:
            entry, problem = None, str(error)
        if isinstance(entry, dict):
            found.append(entry)
        elif index != used[-1]:
            raise _damaged(path, index + 1, problem)
    return found


def number(value: Json) -> float:
    """Return a JSON number as a float; NaN for anything else."""
    return float(value) if isinstance(value, (int, float)) else math.nan


def _unreadable(path: Path, problem: str) -> StateError:
    """Return the error for a file that is one object; of a run's files only the record must be."""
    back = "restore the file"
    if path.name == "recipe.json":
        back += "; checkpoints/*/state.json hold its tree, as 'recipe'"
    elif path.name == "plan.json":
        back += f", or go on without the plan: rm {shlex.quote(str(path))}"
    return StateError(
        f"{path.name} is not a JSON object: {problem}",
        expected="one JSON object",
        where=str(path),
        write=back,
    )


def _damaged(path: Path, line: int, problem: str) -> StateError:
    return StateError(
        f"a line that is not a JSON object: {problem}",
        expected="one JSON object a line; only the last may be half written",
        where=f"{path}, line {line}",
        write="restore the file, or remove that line to go on without it",
    )


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _text(value: Json) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _step(line: Mapping[str, Json]) -> int:
    step = number(line.get("step"))
    return int(step) if math.isfinite(step) else 0


def _texts(folder: Path, file: str, names: Sequence[str]) -> list[tuple[int, list[str]]]:
    lines = read_lines(folder / f"{file}.jsonl")
    return [(_step(line), [_text(line.get(name)) for name in names[1:]]) for line in lines]


def _model(value: Json) -> ModelSize:
    entry = _mapping(value)
    stages = entry.get("stages")
    last = _mapping(stages[-1]) if isinstance(stages, list) and stages else entry
    sizes = number(last.get("parameters")), number(last.get("flops_per_token"))
    return ModelSize(*sizes)


def read_plan(folder: Path) -> Plan:
    """Return what a run was to do; nothing without a plan.json.

    Args:
        folder: The run's folder.

    Raises:
        StateError: The file holds something else.
    """
    path = folder / "plan.json"
    if not path.exists():
        return Plan()
    plan = read_object(path)
    sources = {name: _mapping(value) for name, value in _mapping(plan.get("sources")).items()}
    dials = {name: _mapping(value) for name, value in _mapping(plan.get("dials")).items()}
    return Plan(
        steps=number(plan.get("steps")),
        tokens=number(plan.get("tokens")),
        sources={
            name: PlannedSource(*(number(entry.get(key)) for key in PlannedSource._fields))
            for name, entry in sources.items()
        },
        dials={name: _planned_dial(entry) for name, entry in dials.items()},
        prediction=_prediction(plan.get("prediction"), path),
    )


def _prediction(value: Json, path: Path) -> Prediction | None:
    return Prediction.from_json(value, where=str(path)) if isinstance(value, dict) else None


def _planned_dial(entry: Mapping[str, Json]) -> Points:
    step, value = _floats(entry.get("step")), _floats(entry.get("value"))
    keep = np.isfinite(step) & np.isfinite(value) if len(step) == len(value) else slice(0)
    step, value = step[keep] + 1, value[keep]  # a plan counts steps done before, a history after
    return Points(step.astype(np.int64), np.full(len(step), np.nan), value)


def _floats(value: Json) -> Floats:
    return np.array([number(entry) for entry in _list(value)], float)


def _history(lines: Sequence[Mapping[str, Json]], timing: Sequence[Mapping[str, Json]]) -> History:
    rows = {_step(line): line for line in lines}
    step = np.array(sorted(rows), np.int64)
    ordered = [rows[int(at)] for at in step]
    measured = {_step(line): line for line in timing}
    empty: Mapping[str, Json] = {}
    beside = [measured.get(int(at), empty) for at in step]
    names = _names(ordered)
    columns = {name: _column(ordered, name) for name in names}
    columns |= {name: _column(beside, name) for name in _names(beside)}
    return History(
        step=step,
        columns=columns,
        phase=tuple(_text(line.get("phase")) for line in ordered),
    )


def _names(lines: Iterable[Mapping[str, Json]]) -> list[str]:
    seen = dict.fromkeys(name for line in lines for name in line)
    return [name for name in seen if name not in ("step", "phase")]


def _column(lines: Sequence[Mapping[str, Json]], name: str) -> Floats:
    return np.array([number(line.get(name)) for line in lines], float)


def _trials(lines: Sequence[Mapping[str, Json]]) -> tuple[Tried, ...]:
    """Return one entry a trial; its steps stand in consecutive lines."""
    found: list[Tried] = []
    last = math.inf
    for line in lines:
        parent, steps = number(line.get("parent")), number(line.get("steps"))
        entry = Tried(
            int(parent) if math.isfinite(parent) else 0,
            json.dumps(line.get("values")),
            int(steps) if math.isfinite(steps) else 0,
            _text(line.get("keep")),
            number(line.get("loss")),
        )
        if found and found[-1][:4] == entry[:4] and _step(line) > last:
            found[-1] = entry
        else:
            found.append(entry)
        last = _step(line)
    return tuple(found)


def _wall(elapsed: Sequence[float]) -> float:
    """Return the time of all processes: the clock falls back when a run is resumed."""
    known = np.array([value for value in elapsed if math.isfinite(value)])
    if len(known) == 0:
        return math.nan
    ends = np.append(np.flatnonzero(np.diff(known) < 0), len(known) - 1)
    return float(known[ends].sum())
