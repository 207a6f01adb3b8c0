"""Read a run's folder into columns of numbers. Imports no torch.

The files are JSON lines that a run appends to, so the last line of a killed run may be half
written: it is left out. Anything else that cannot be read is damage and is reported with its line. Where a
step stands twice (a resumed run repeats the steps after its checkpoint) the later line counts.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from thalweg.errors import StateError

__all__ = [
    "TIMING",
    "Event",
    "Floats",
    "History",
    "Ints",
    "Json",
    "ModelSize",
    "Parent",
    "Plan",
    "PlannedSource",
    "Points",
    "Run",
    "Sample",
    "number",
    "read_lines",
    "read_object",
    "read_run",
]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

TIMING = ("seconds", "tokens_per_second", "utilisation", "memory_bytes", "elapsed")
"""Columns of `timing.jsonl`; all others come from `history.jsonl`."""


class Points(NamedTuple):
    """The steps at which a column has a finite value. All arrays have the same length."""

    step: Ints
    tokens: Floats
    value: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """`history.jsonl` joined with `timing.jsonl` by step: one row a step."""

    step: Ints
    """Steps done in the run, 1-based, rising, [N]."""
    columns: Mapping[str, Floats]
    """Name -> float64 [N]; NaN at steps without a value."""
    phase: tuple[str, ...] = ()
    """Name of the phase of each step."""

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.step)

    def column(self, name: str) -> Floats:
        """Return a column [N]; all NaN when the run never wrote it."""
        empty = np.full(len(self.step), np.nan)
        return self.columns.get(name, empty)

    def points(self, name: str) -> Points:
        """Return the finite values of a column with their steps and cumulative tokens."""
        values = self.column(name)
        keep = np.isfinite(values)
        return Points(self.step[keep], self.column("tokens")[keep], values[keep])

    def last(self, name: str) -> float:
        """Return the last finite value of a column, or NaN."""
        values = self.points(name).value
        return float(values[-1]) if len(values) else math.nan

    def under(self, prefix: str) -> tuple[str, ...]:
        """Return the columns under a prefix, without it, sorted.

        Example:
            >>> one = np.ones(1)
            >>> h = History(step=np.array([1]), columns={"loss/web": one, "loss": one})
            >>> h.under("loss/")
            ('web',)
        """
        start = len(prefix)
        return tuple(sorted(name[start:] for name in self.columns if name.startswith(prefix)))


class Sample(NamedTuple):
    """A text the model wrote at a step."""

    step: int
    prompt: str
    text: str


class Event(NamedTuple):
    """Something that happened at a step: a warning, a resume, a save, an action."""

    step: int
    kind: str
    text: str


class Parent(NamedTuple):
    """Where a branch left its trunk."""

    run: str
    step: int


class ModelSize(NamedTuple):
    """Parameters, and training FLOPs a token."""

    parameters: float
    flops_per_token: float


class PlannedSource(NamedTuple):
    """Target tokens planned from a source, the epochs they make, and its size in tokens."""

    tokens: float
    epochs: float
    size: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """`plan.json`: what the recipe promises. NaN or empty where nothing was planned."""

    steps: float = math.nan
    tokens: float = math.nan
    rows: float = math.nan
    sources: Mapping[str, PlannedSource] = field(default_factory=dict)
    dials: Mapping[str, Points] = field(default_factory=dict)
    memory_bytes: float = math.nan
    flops: float = math.nan


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """All that a run's folder says."""

    folder: Path
    name: str
    recipe: str
    """Name of the recipe it was made from."""
    seed: int | None
    tree: Json
    """The recipe's record."""
    options: Json
    overrides: Json
    versions: Mapping[str, str]
    models: Mapping[str, ModelSize]
    parent: Parent | None
    plan: Plan
    history: History
    samples: tuple[Sample, ...]
    events: tuple[Event, ...]
    wall_seconds: float
    """Time spent, over all resumes; NaN when nothing was measured."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources that were planned or delivered."""
        seen = self.history.under("tokens/") + self.history.under("loss/")
        return tuple(dict.fromkeys([*self.plan.sources, *seen]))

    @property
    def finished(self) -> bool:
        """Whether the last planned step is done."""
        return len(self.history) > 0 and self.history.step[-1] >= self.plan.steps


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
        parent=Parent(_text(parent["run"]), _step(parent)) if "run" in parent else None,
        plan=_plan(folder / "plan.json"),
        history=_history(read_lines(folder / "history.jsonl"), lines),
        samples=tuple(
            Sample(_step(line), _text(line.get("prompt")), _text(line.get("text")))
            for line in read_lines(folder / "samples.jsonl")
        ),
        events=tuple(
            Event(_step(line), _text(line.get("kind")), _text(line.get("text")))
            for line in read_lines(folder / "events.jsonl")
        ),
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
        raise _damaged(path, 1, str(error)) from None
    if not isinstance(found, dict):
        raise _damaged(path, 1, f"a {type(found).__name__}")
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


def _damaged(path: Path, line: int, problem: str) -> StateError:
    return StateError(
        f"a line that is not a JSON object: {problem}",
        expected="one JSON object a line; only the last may be half written",
        where=f"{path}, line {line}",
        write="restore the file, or remove that line to go on without it",
    )


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _step(line: Mapping[str, Json]) -> int:
    step = number(line.get("step"))
    return int(step) if math.isfinite(step) else 0


def _model(value: Json) -> ModelSize:
    entry = _mapping(value)
    return ModelSize(number(entry.get("parameters")), number(entry.get("flops_per_token")))


def _plan(path: Path) -> Plan:
    if not path.exists():
        return Plan()
    plan = read_object(path)
    sources = {name: _mapping(value) for name, value in _mapping(plan.get("sources")).items()}
    dials = {name: _mapping(value) for name, value in _mapping(plan.get("dials")).items()}
    return Plan(
        steps=number(plan.get("steps")),
        tokens=number(plan.get("tokens")),
        rows=number(plan.get("rows")),
        sources={
            name: PlannedSource(*(number(entry.get(key)) for key in PlannedSource._fields))
            for name, entry in sources.items()
        },
        dials={name: _planned_dial(entry) for name, entry in dials.items()},
        memory_bytes=number(plan.get("memory_bytes")),
        flops=number(plan.get("flops")),
    )


def _planned_dial(entry: Mapping[str, Json]) -> Points:
    step, value = _floats(entry.get("step")), _floats(entry.get("value"))
    keep = np.isfinite(step) & np.isfinite(value) if len(step) == len(value) else slice(0)
    step, value = step[keep], value[keep]
    return Points(step.astype(np.int64), np.full(len(step), np.nan), value)


def _floats(value: Json) -> Floats:
    return np.array([number(entry) for entry in value] if isinstance(value, list) else [], float)


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


def _wall(elapsed: Sequence[float]) -> float:
    """Return the time of all processes: the clock falls back when a run is resumed."""
    known = np.array([value for value in elapsed if math.isfinite(value)])
    if len(known) == 0:
        return math.nan
    ends = np.append(np.flatnonzero(np.diff(known) < 0), len(known) - 1)
    return float(known[ends].sum())
