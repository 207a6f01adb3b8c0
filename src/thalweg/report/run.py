"""What a run's folder says, as values: columns of numbers by step, the plan, texts and events."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from thalweg.laws.prediction import Deviation, Prediction

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
    "Tried",
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
    verdict: str = ""
    """right, wrong, ..., of an answer that was judged."""


class Event(NamedTuple):
    """Something that happened at a step: a warning, a resume, a save, an action."""

    step: int
    kind: str
    text: str


class Tried(NamedTuple):
    """A trial: steps that were run with other values and rolled back."""

    step: int
    """Step of the run from which it started."""
    values: str
    """What was set, as JSON."""
    steps: int
    keep: str
    """Name under which its end was kept; empty: dropped."""
    loss: float
    """Training loss of its last step, nats a token."""


class Parent(NamedTuple):
    """Where a branch left its trunk."""

    run: str
    step: int


class ModelSize(NamedTuple):
    """Parameters, and training FLOPs a token."""

    parameters: float
    flops_per_token: float
    """At the end, where the model has grown."""


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
    sources: Mapping[str, PlannedSource] = field(default_factory=dict)
    dials: Mapping[str, Points] = field(default_factory=dict)
    prediction: Prediction | None = None
    """The loss that laws led to expect, where somebody asked."""


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
    flops_per_token: Mapping[str, float]
    """Training FLOPs of a target token by phase, of all models that learn there."""
    parent: Parent | None
    changes: tuple[str, ...]
    """What a branch does otherwise than its parent, in words."""
    plan: Plan
    history: History
    samples: tuple[Sample, ...]
    events: tuple[Event, ...]
    trials: tuple[Tried, ...]
    wall_seconds: float
    """Time spent, over all resumes; NaN when nothing was measured."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources that were planned or delivered."""
        seen = self.history.under("tokens/") + self.history.under("loss/")
        return tuple(dict.fromkeys([*self.plan.sources, *seen]))

    @property
    def flops(self) -> float:
        """Training FLOPs so far, a step's tokens at the price of its phase; NaN if unknown."""
        tokens = np.diff(self.history.column("tokens"), prepend=0.0)
        price = [self.flops_per_token.get(phase, math.nan) for phase in self.history.phase]
        return float(np.dot(tokens, price)) if price else math.nan

    @property
    def deviation(self) -> Deviation | None:
        """The last measured loss against its prediction; None without either.

        Held-out losses as they are; training losses as the mean of the last 2 % of the run's steps.
        """
        expected = self.plan.prediction
        if expected is None:
            return None
        points = self.history.points(expected.metric)
        if not len(points.step):
            return None
        last = max(1, len(self.history) // 50) if expected.metric == "loss" else 1
        return expected.judge(int(points.step[-1]), float(points.value[-last:].mean()))

    @property
    def finished(self) -> bool:
        """Whether the last planned step is done."""
        return len(self.history) > 0 and self.history.step[-1] >= self.plan.steps
