"""Plans from past runs: which runs, which rates, which pilots. What laws say stands in `laws`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg import launch
from thalweg.branches import (
    Fork,
    decayed,
    every_value,
    learning_rates,
    main_path,
    pinned,
)
from thalweg.controllers import Watch
from thalweg.core.dials import phase_length
from thalweg.core.plan import plan as table_of
from thalweg.core.protocols import Schedule
from thalweg.core.recipe import Phase, Recipe, check
from thalweg.core.session import Origin
from thalweg.core.time import Span, steps
from thalweg.core.tree import put, record
from thalweg.describe import Cost, advice_text, cost, pilots_text
from thalweg.errors import RecipeError, StateError
from thalweg.grafts import graft
from thalweg.laws.files import origin_of
from thalweg.laws.pilots import Pilot, propose, warmup_of
from thalweg.laws.planner import Plan, advise, foresee, learn
from thalweg.laws.prediction import Prediction
from thalweg.laws.runs import TRAINING, metric_of, run_curve
from thalweg.monitors import HeldOut
from thalweg.report import read_run
from thalweg.schedules import Table, Wsd

__all__ = ["Ask", "answer", "foreseen", "pilot_recipe", "predict", "rates_of", "run_pilots"]

Elsewhere = Literal["refuse", "warn"]
MEASURED = 60
"""Held-out measurements of a pilot's trunk."""


@dataclass(frozen=True)
class Ask:
    """What a plan is asked for beside its table."""

    past: tuple[str, ...] = ()
    """Names or folders of runs."""
    pilot: bool = False
    """Whether pilots are run first."""
    elsewhere: Elsewhere = "refuse"
    name: str = ""
    """Of the planned run; its pilots are named after it."""
    quiet: bool = False


class Rates(NamedTuple):
    """The rate of a recipe that laws look at, and its tokens, after every update."""

    path: str
    """The one nearest to the root of its phase: of Muon, that of the matrices."""
    lr: NDArray[np.float64]
    tokens: NDArray[np.float64]


def answer(recipe: Recipe, origin: Origin, ask: Ask) -> tuple[str, int]:
    """Return what past runs or pilots say of a recipe, and an exit code.

    Without past runs the text proposes pilots; why there can be none is part of it.

    Raises:
        RecipeError: Past runs that cannot determine a law, or a recipe far from them.
        DataError: Histories that cannot be read.
        StateError: No such runs, or pilots of another recipe under this name.
    """
    base = ask.name or launch.new_run("", origin.recipe).name
    past = ask.past
    if not past:
        try:
            _check_pilots(recipe)
            pilots = propose(rates_of(recipe).lr)
        except RecipeError as problem:
            if ask.pilot:
                raise
            return f"pilots      none: {problem.given}; needed: {problem.expected}", 0
        text = pilots_text(pilots, table_of(recipe), cost(recipe))
        if not ask.pilot:
            return text, 0
        past, code = run_pilots(recipe, origin, pilots, base, quiet=ask.quiet)
        if code:
            return "", code
    _, text = predict(recipe, past, ask.elsewhere)
    return text, 0


def predict(
    recipe: Recipe, past: Sequence[str], elsewhere: Elsewhere = "refuse"
) -> tuple[Prediction, str]:
    """Return the prediction for a recipe from past runs, and it and advice as text.

    Raises:
        RecipeError: The runs cannot determine a law, or the recipe is far from them.
        DataError: A history cannot be read.
        StateError: There is no such run.
    """
    folders = [launch.find_run(name) for name in past]
    rates = rates_of(recipe)
    measures = any(isinstance(m, HeldOut) for phase in recipe.phases for m in phase.monitors)
    metric = metric_of(folders) if measures else TRAINING
    known = learn([run_curve(folder, metric, rates.path) for folder in folders], metric,
                  elsewhere=elsewhere)  # fmt: skip
    planned = table_of(recipe)
    readings = max((share.epochs or 0.0 for share in planned.sources.values()), default=0.0)
    about = {"tree": record(recipe), "models": _sizes(cost(recipe))}
    made_with = replace(origin_of(about), batch_tokens=rates.tokens[-1] / rates.lr.size or None)
    table = Plan(lr=rates.lr, tokens=rates.tokens, origin=made_with, readings=readings,
                 doubts=_doubts(recipe))  # fmt: skip
    prediction = foresee(known, table, elsewhere=elsewhere)
    advice = advise(known, lambda budget: rates_of(recipe, budget).lr, warmup_of(rates.lr))
    return prediction, advice_text(prediction, advice, rates.lr.size)


def foreseen(
    recipe: Recipe, origin: Origin, past: Sequence[str], elsewhere: Elsewhere
) -> tuple[Recipe, Origin, str]:
    """Return the recipe with a `Watch` in every phase, its origin with the prediction, and text."""
    prediction, text = predict(recipe, past, elsewhere)
    watch = Watch.of(prediction)
    phases = tuple(
        replace(phase, controllers=(*phase.controllers, watch)) for phase in recipe.phases
    )
    return (
        replace(recipe, phases=phases),
        replace(origin, prediction=prediction.to_json()),
        text,
    )


def rates_of(recipe: Recipe, budget: float = 1.0) -> Rates:
    """Return the learning rate of every update of a recipe.

    Args:
        recipe: The recipe.
        budget: Factor of the length of every phase.

    Raises:
        RecipeError: Nothing learns, a phase has no end, or every rate is 0.
    """
    path, lr, tokens, first = "", [], [], 0
    for phase in recipe.phases:
        phase = _scaled(phase, budget)
        length, width = phase_length(phase)
        dials = learning_rates(phase) if length is not None else {}
        if length is None or not dials:
            raise RecipeError(
                "an endless phase" if length is None else "a phase in which nothing learns",
                expected="phases with a length and a Learn: laws read the rates of all steps",
                where=phase.name,
                write="steps=10000",
            )
        path = main_path(dials)
        lr.append(every_value(dials[path], phase, first))
        tokens.append(np.full(length, float(width)))
        first += length
    if not max(float(part.max()) for part in lr) > 0:
        raise RecipeError(
            "a learning rate of 0 at every step",
            expected="a rate above 0 somewhere: laws read the rates of all steps",
            where=path,
            write=f"{path}=3e-4",
        )
    return Rates(path, np.concatenate(lr), np.cumsum(np.concatenate(tokens)))


def run_pilots(
    recipe: Recipe, origin: Origin, pilots: Sequence[Pilot], base: str, *, quiet: bool
) -> tuple[tuple[str, ...], int]:
    """Run the pilots that are not done yet; return their folders, and an exit code.

    Raises:
        StateError: A run of that name is no such pilot.
    """
    trunk = pilot_recipe(recipe, pilots[0])
    folders: list[Path] = []
    for pilot in pilots:
        folder = launch.new_run(f"{base}-pilot-{pilot.number}", "")
        fork = _fork(trunk, pilot)
        code = 0
        if _made(folder, fork.recipe):
            if not read_run(folder).finished:
                code = launch.resume_run(folder, quiet=quiet)[2]
        elif pilot.at:
            graft(folders[0], folder, fork)
            code = launch.resume_run(folder, quiet=quiet)[2]
        else:
            request = launch.Request(trunk, origin, str(folder), quiet=quiet)
            code = launch.run_recipe(request)[2]
        if code:
            return (), code
        folders.append(folder)
    return tuple(map(str, folders)), 0


def pilot_recipe(recipe: Recipe, pilot: Pilot) -> Recipe:
    """Return the recipe of the trunk: the first steps of the plan, with rates that are held.

    Everything else that is scheduled keeps the clock of the planned run.
    """
    phase = recipe.phases[0]
    held = pinned(phase)
    for path, dial in learning_rates(phase).items():
        lr = every_value(dial, phase)
        held = put(held, path, Wsd(float(lr.max()), warmup=steps(warmup_of(lr))))
    every = max(1, pilot.steps // MEASURED)
    monitors = tuple(
        replace(m, every=every) if isinstance(m, HeldOut) else m for m in phase.monitors
    )
    held = replace(held, steps=pilot.steps, monitors=monitors, controllers=())
    return replace(recipe, phases=(held,))


def _fork(trunk: Recipe, pilot: Pilot) -> Fork:
    """Return the trunk itself, or the decay that leaves it."""
    if not pilot.at:
        return Fork(trunk, 0, ())
    return decayed(trunk, pilot.at, pilot.new_steps, Table(pilot.shape))


def _check_pilots(recipe: Recipe) -> None:
    if len(recipe.phases) != 1:
        raise RecipeError(
            f"a recipe of {len(recipe.phases)} phases",
            expected="one phase: pilots of a text say nothing of the next one",
            where="pilots",
            write="thalweg plan RECIPE --from RUN... with runs that had the same phases",
        )
    check(recipe)


def _made(folder: Path, recipe: Recipe) -> bool:
    """Return whether the run is there already; refuse one that is something else."""
    file = folder / "recipe.json"
    if not file.exists():
        return False
    if json.loads(file.read_text())["tree"] == json.loads(json.dumps(record(recipe))):
        return True
    raise StateError(
        f"run '{folder.name}'",
        expected="no such run, or the pilot of this very recipe",
        where=str(folder),
        write="--run NAME, for pilots under another name",
    )


def _scaled(phase: Phase, budget: float) -> Phase:
    length = phase.steps
    if isinstance(length, Span):
        return replace(phase, steps=Span(length.count * budget, length.unit))
    return phase if length is None else replace(phase, steps=max(1, round(length * budget)))


def _doubts(recipe: Recipe) -> tuple[str, ...]:
    """Return what of a recipe no law over one rate can see."""
    found = []
    if len(recipe.phases) > 1:
        found.append("several phases: laws see rates, not a change of text or objective")
    if any(isinstance(phase.rows, Schedule) for phase in recipe.phases):
        found.append("a batch that changes: laws see rates, not the batch")
    for phase in recipe.phases:
        shapes = {name: _shape(dial, phase) for name, dial in learning_rates(phase).items()}
        path = main_path(shapes)
        for name, shape in shapes.items():
            if not np.allclose(shape, shapes[path], atol=0.02):
                found.append(f"{name} has another shape than {path}, the one laws see")
    return tuple(dict.fromkeys(found))


def _shape(dial: object, phase: Phase) -> NDArray[np.float64]:
    lr = every_value(dial, phase)
    return np.asarray(lr / max(float(lr.max()), 1e-300), dtype=np.float64)


def _sizes(found: Cost) -> Mapping[str, Mapping[str, int]]:
    return {name: {"parameters": count} for name, count in found.parameters.items()}
