"""The types of a run at a glance. Read this file first.

    Recipe   models, phases, seed                                  (core/recipe.py)
    Phase    steps, rows, source, do, controllers, monitors        (core/recipe.py)
      Source      gives the global batch and its own next state
      Move        turns a batch into a batch: Learn trains, Score and Copy use, others annotate
        Objective   what Learn minimises: a sum over rows
      Controller  looks at the run between steps and returns actions
      Monitor     measures, changes nothing
    Schedule   any number of any part, as a function of Time       (core/time.py)

Every part is a frozen dataclass. Any number in it may be a schedule: before each step the loop
replaces all schedules by their values, so the author of a part sees plain numbers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypeVar,
    runtime_checkable,
)

import numpy as np

from thalweg.core.rng import rng
from thalweg.core.time import Time

if TYPE_CHECKING:  # so that schedules and laws can import this file without torch
    import torch
    from torch import nn

    from thalweg.core.batch import Batch
    from thalweg.core.learner import Learned, Learner

__all__ = [
    "Action",
    "Context",
    "Controller",
    "Dial",
    "Foreseen",
    "FromStart",
    "Grade",
    "Listed",
    "Loss",
    "ModelSpec",
    "Monitor",
    "Move",
    "Next",
    "Objective",
    "Problem",
    "Routing",
    "Save",
    "Schedule",
    "Scored",
    "Set",
    "Source",
    "State",
    "Stop",
    "Task",
    "Trial",
]

T_co = TypeVar("T_co", covariant=True)

Dial: TypeAlias = Any
"""A number, or a Schedule until the loop freezes it. Checked when the recipe is built."""

State: TypeAlias = Any
"""Plain data: dicts with string keys, lists, numbers, strings, booleans, None, tensors."""


class Schedule(ABC, Generic[T_co]):
    """A pure function of time. A frozen dataclass with numpy inside; works on moments and on plans.

    Inherit from it to be recognised as a dial: many parts are callable, only schedules are frozen.
    """

    __slots__ = ()

    @abstractmethod
    def __call__(self, time: Time) -> T_co:
        """Return the value at `time`: a number, or an array when `time.step` is one."""


@dataclass(frozen=True)
class Context:
    """What a part may see of the run. Read-only."""

    time: Time
    seed: int = 0
    rows: int = 1
    """Rows of the global batch that the phase, or an outer source, asks for."""
    models: Mapping[str, "Learner"] = field(default_factory=dict)
    last: Mapping[str, Any] = field(default_factory=dict)
    """The report of the step before, and `rows`: per-row values with their `id`."""
    trial: Sequence[Mapping[str, float]] = ()
    """For a controller after a Trial: the reports of its steps."""
    sum: Callable[["torch.Tensor"], "torch.Tensor"] = lambda x: x
    """Sum of a tensor over all ranks; for objectives that couple rows of the global batch."""
    log: Callable[[Mapping[str, float]], None] = lambda values: None
    """Add numbers to the report of this step."""
    learned: Callable[[str, "Batch", "Learned", int], None] = lambda model, part, learned, of: None
    """For Learn: add what one of `of` optimizer steps on `part` reports."""
    note: Callable[[str, str], None] = lambda kind, text: None
    """Add a line to the run's events: what happened, for people."""
    sample: Callable[[Mapping[str, Any]], None] = lambda row: None
    """Add a text that a model wrote to the run's samples: `prompt`, `text`, and its `verdict`."""

    def rng(self, *key: str | int) -> np.random.Generator:
        """Return this run's generator for a key: what is drawn, and the step if it matters."""
        return rng(self.seed, *key)


class Source(Protocol):
    """Where batches come from."""

    @property
    def makes(self) -> tuple[str, ...]:
        """Columns of every batch."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what the `source` column counts."""
        ...

    def start(self, ctx: Context) -> State:
        """Return the state before the first batch. Bad data is refused here."""
        ...

    def next(self, state: State, ctx: Context) -> "tuple[Batch, State]":
        """Return the GLOBAL batch of about `ctx.rows` rows, and the next state; change nothing."""
        ...


@runtime_checkable
class Foreseen(Protocol):
    """A source that can say beforehand what it will give: text of known length and vocabulary."""

    @property
    def row_tokens(self) -> int:
        """Targets of a row."""
        ...

    @property
    def vocabulary(self) -> int:
        """One more than the largest token id."""
        ...

    def shares(self, time: Time) -> Mapping[str, Any]:
        """Return the planned share of rows of each name: numbers, or arrays if `time` is a plan."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """Targets of one epoch of each name."""
        ...


class Loss(NamedTuple):
    """What an objective returns. Everything is a sum over rows, so any split gives one total."""

    value: "torch.Tensor"
    """float32 scalar, to be minimised; the weight column makes it a mean."""
    sums: "Mapping[str, torch.Tensor]" = MappingProxyType({})
    """Scalars summed over rows; a pair `x`, `x/count` is reported as their ratio."""
    rows: "Mapping[str, torch.Tensor]" = MappingProxyType({})
    """Detached per-row values [R]; a pair `x`, `x/count` is reported per source."""


class Routing(NamedTuple):
    """What the router of one layer decided, float32. E experts, K chosen for each token."""

    probs: "torch.Tensor"
    """[R, T, E]: share of each expert before the choice, sums to 1. Differentiable."""
    chosen: "torch.Tensor"
    """int64 [R, T, K]: the experts, best first."""
    weight: "torch.Tensor"
    """[R, T, K]: what the chosen count in the output. Differentiable."""
    log_total: "torch.Tensor"
    """[R, T]: log-sum-exp of the router's logits. Differentiable."""


class Scored(NamedTuple):
    """What a language model returns when it is given targets."""

    loss: "torch.Tensor | None"
    """float32 scalar, minus the sum of weight * logprobs; None when no weight was given."""
    logprobs: "torch.Tensor"
    """float32 [R, T]: log-prob of each target, nats. Differentiable if no weight was given."""
    entropy: "torch.Tensor | None" = None
    """float32 [R, T]: of each distribution, nats, differentiable; None unless it was asked for."""
    routing: "tuple[Routing, ...]" = ()
    """Of each layer with experts; empty unless it was asked for."""
    hidden: "torch.Tensor | None" = None
    """[R, T, D]: what the head multiplies, differentiable; None unless it was asked for."""


class Objective(Protocol):
    """A loss that is additive over rows and sees one model."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        ...

    def __call__(self, model: "nn.Module", batch: "Batch") -> Loss:
        """Return the loss of these rows. `batch` is loaded and on the model's device."""
        ...


class Move(Protocol):
    """One line of an algorithm box."""

    @property
    def name(self) -> str:
        """Its place in paths, unique in a phase: `learn.policy`."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        ...

    @property
    def makes(self) -> tuple[str, ...]:
        """Columns it adds."""
        ...

    def __call__(self, batch: "Batch", ctx: Context) -> "Batch":
        """Return the batch for the next move."""
        ...


class ModelSpec(Protocol):
    """A model before it is built. `vocabulary` and `positions` are its limits; 0 means none."""

    @property
    def vocabulary(self) -> int:
        """Token ids it accepts."""
        ...

    @property
    def positions(self) -> int:
        """Longest row it accepts."""
        ...

    def build(self, seed: int) -> "nn.Module":
        """Return the module with weights that depend on the seed alone."""
        ...


@dataclass(frozen=True)
class Set:
    """Put numbers or schedules at paths of the phase, from the next step on."""

    values: Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """Run `steps` steps with `values` set, controllers off; then roll everything back.

    A schedule in `values` gets the trial's own clock: `Trial({"lr": Linear(1e-3, 0)}, 500)` decays.
    A trial whose loss is not finite ends there; its last report has an infinite loss.
    """

    values: Mapping[str, Any]
    steps: int
    data: Literal["rewind", "continue"] = "rewind"
    """Whether the run reads the trial's batches again, or goes on behind them."""
    keep: str | None = None
    """Name under which the end of the trial is kept: the run's folder `branches/NAME`."""


@dataclass(frozen=True)
class Next:
    """End this phase."""


@dataclass(frozen=True)
class Stop:
    """End the run."""

    reason: str


@dataclass(frozen=True)
class Save:
    """Write a checkpoint of this step that is never pruned, after all controllers have acted."""

    tag: str


Action: TypeAlias = Set | Trial | Next | Stop | Save


class Controller(Protocol):
    """Decides between steps. Sees reduced floats only, so every rank decides alike."""

    def start(self, ctx: Context) -> State:
        """Return the state before the first step."""
        ...

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Return what to do now, and the next state. Pure; called after each step and Trial."""
        ...


class Monitor(Protocol):
    """Reads the run, never changes it."""

    @property
    def every(self) -> Any:
        """Distance between measurements: steps (a dial), or a Span of the phase."""
        ...

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return named numbers for the history."""
        ...


@runtime_checkable
class FromStart(Protocol):
    """A monitor that also measures before the first step of its phase."""

    def before(self, ctx: Context) -> Mapping[str, float]:
        """Return named numbers for the line of that step, under names of their own."""
        ...


@dataclass(frozen=True)
class Problem:
    """One generated question."""

    prompt: str
    answer: str
    """A text that the task's own `verify` calls right."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Plain data that JSON can carry; `difficulty` is the task's own measure of it."""


class Grade(NamedTuple):
    """What a task says of an answer: right, wrong, or not readable, which is neither."""

    score: float
    """The reward: 1 for a right answer, less for any other."""
    parsed: bool = True
    """Whether an answer could be read from the text."""
    parts: Mapping[str, float] = MappingProxyType({})
    """Further numbers for the history, such as the share of right cells."""

    @property
    def right(self) -> bool:
        """Whether the answer was read and is right."""
        return self.parsed and self.score >= 1.0


class Task(Protocol):
    """A generator of problems and a judge of answers."""

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a problem; pure in the generator and the level.

        Level 0 is the task as it was constructed; each unit makes it one step harder.
        """
        ...

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge an answer. Total and quick: any text gives a verdict, none raises."""
        ...


@runtime_checkable
class Listed(Protocol):
    """A task whose problems are a list, so that an epoch or an evaluation sees each once."""

    @property
    def size(self) -> int:
        """How many problems there are."""
        ...

    def problem(self, index: int) -> Problem:
        """Return the problem at an index from 0 to `size` - 1."""
        ...
