"""A recipe: models, phases, a seed. And the checks that run before anything is built."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import FunctionType
from typing import Any, Literal, get_args, get_type_hints

from thalweg.core.form import check_form
from thalweg.core.protocols import Controller, Dial, ModelSpec, Monitor, Move, Schedule, Source
from thalweg.core.time import Span, share
from thalweg.core.tree import flatten, no_record
from thalweg.errors import ColumnError, DialError, RecipeError, did_you_mean

__all__ = ["Compute", "CopyOf", "Phase", "Recipe", "Saves", "check", "origin"]


@dataclass(frozen=True)
class Phase:
    """A stretch of a run with one source and one list of moves."""

    steps: int | Span | None
    """Length: steps, `tokens(2e9)`, or None for endless (a controller or a signal ends it)."""
    source: Source
    """Where batches come from."""
    do: tuple[Move, ...]
    """The moves of a step, in order."""
    rows: Dial = 32
    """Rows of the global batch."""
    controllers: tuple[Controller, ...] = ()
    monitors: tuple[Monitor, ...] = ()
    name: str = "main"
    """Its place in paths; unique in the recipe."""


@dataclass(frozen=True)
class Compute:
    """How the run uses the machine. Changes speed and memory, never what is computed."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of activations; weights, losses and moments stay float32. auto: bfloat16 on GPUs."""
    compile: bool = False
    """Compile the models with torch.compile: pays after some 150 steps on a CPU."""
    shard: Literal["replicate", "full"] = "replicate"
    """Over several processes: every rank keeps all weights, or a part of them (FSDP2)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class Saves:
    """When checkpoints are written and which are kept. The end of a phase is always kept."""

    every: Span = share(0.05)
    """Distance between checkpoints."""
    last: int = 2
    """Newest checkpoints that are kept."""
    milestone: Span = share(0.2)
    """Checkpoints at multiples of this are kept for good, to branch from."""


@dataclass(frozen=True)
class CopyOf:
    """A model that starts with the architecture and weights of another of the recipe.

    It is frozen unless a move learns it or copies to it: a reference, a sampler, a reward model.
    """

    model: str


@dataclass(frozen=True)
class Recipe:
    """Everything a run is. Prints as JSON; code is the configuration, JSON the evidence."""

    models: Mapping[str, ModelSpec | CopyOf]
    phases: tuple[Phase, ...]
    seed: int = 0
    compute: Compute = Compute()
    saves: Saves = Saves()


def origin(recipe: Recipe, model: str) -> tuple[str, ModelSpec]:
    """Return the name and the spec of what a model is a copy of, in the end."""
    spec = recipe.models[model]
    while isinstance(spec, CopyOf):
        model, spec = spec.model, recipe.models[spec.model]
    return model, spec


def check(recipe: Recipe) -> None:
    """Refuse a recipe that cannot run, before anything is built.

    Raises:
        RecipeError: A part that is none of its kind, no phases or models, names used twice, a move
            or monitor names an unknown model, a batch that is not a positive number of rows.
        ColumnError: A move needs a column that nothing before it makes, or counts rows in which it
            is only filled in.
        DialError: A number is not a number, or a plain function stands where a schedule belongs.
    """
    _check_whole(recipe)
    places = flatten(recipe)
    for path, value in places.items():
        holder, _, field = path.rpartition(".")
        _check_dial(path, value, places.get(holder), field)
    check_form(recipe)
    _unique([phase.name for phase in recipe.phases], "phases", "Phase(name=...)")
    for name, spec in recipe.models.items():
        if isinstance(spec, CopyOf) and spec.model not in recipe.models:
            raise RecipeError(
                f"a copy of '{spec.model}'",
                expected="a model of the recipe",
                where=f"models.{name}",
                write=did_you_mean(spec.model, recipe.models),
            )
    if not recipe.models:
        raise RecipeError(
            "no models", expected="one or more", where="Recipe.models", write='{"policy": ...}'
        )
    from thalweg.core.grow import check_growth  # need torch, which writing a recipe does not
    from thalweg.core.join import check_counts
    from thalweg.core.moves import check_learn

    for phase in recipe.phases:
        _check_phase(phase, recipe.models)
        for move in phase.do:
            check_learn(move, f"{phase.name}.{move.name}")
        check_counts(phase.source, phase.do, phase.name)
    check_growth(recipe)


def _check_phase(phase: Phase, models: Mapping[str, ModelSpec | CopyOf]) -> None:
    several = "one move of a model or column; a move of your own may have a field `name`"
    _unique([move.name for move in phase.do], f"{phase.name}.do", several)
    if not (phase.steps is None or isinstance(phase.steps, Span)):
        _check_count(phase.steps, 0, f"{phase.name}.steps", "steps=1000, or steps=tokens(1e9)")
    if not isinstance(phase.rows, Schedule):
        _check_count(phase.rows, 1, f"{phase.name}.rows", "rows=32")
    have = list(phase.source.makes)
    for move in phase.do:
        where = f"{phase.name}.{move.name}"
        for column in move.needs:
            if column not in have:
                raise ColumnError(
                    f"{move.name} needs column '{column}'",
                    expected="a source or an earlier move that makes it; there are: "
                    + ", ".join(have),
                    where=where,
                    write=did_you_mean(column, have),
                )
        have += [column for column in move.makes if column not in have]
        for model in _models_of(move):
            if model not in models:
                raise RecipeError(
                    f"model '{model}'",
                    expected="a model of the recipe",
                    where=where,
                    write=did_you_mean(model, models),
                )
    _check_monitors(phase, models)


def _check_whole(recipe: Recipe) -> None:
    """Refuse fields of the recipe itself that are of another kind."""
    if not isinstance(recipe.models, Mapping):
        raise RecipeError(
            f"a {type(recipe.models).__name__}",
            expected="models by name",
            where="Recipe.models",
            write='{"policy": ...}',
        )
    _check_count(recipe.seed, 0, "Recipe.seed", "seed=1")
    for field, kind in get_type_hints(Compute).items():
        value, allowed = getattr(recipe.compute, field), get_args(kind) or (False, True)
        if value not in allowed:
            raise RecipeError(
                f"compute.{field} = {value!r}",
                expected=" or ".join(repr(one) for one in allowed),
                where=f"compute.{field}",
                write=f"{field}={allowed[0]!r}",
            )
    for field, value in (("every", recipe.saves.every), ("milestone", recipe.saves.milestone)):
        if not isinstance(value, Span):
            raise DialError(
                f"{field} = {value!r}",
                expected="a length",
                where=f"saves.{field}",
                write=f"{field}=steps(100), share(0.05) or tokens(1e8)",
            )


def _check_count(value: object, least: int, where: str, write: str) -> None:
    """Refuse what is no whole number of at least `least`."""
    if type(value) is not int or value < least:
        raise DialError(
            f"{where.rpartition('.')[2]} = {value!r}",
            expected=f"a whole number, {least} or more",
            where=where,
            write=write,
        )


def _check_monitors(phase: Phase, models: Mapping[str, ModelSpec | CopyOf]) -> None:
    names = [str(getattr(one, "name", type(one).__name__)) for one in phase.monitors]
    if names:  # what two of one name measure would stand in one column
        _unique(names, f"{phase.name}.monitors", "one monitor over several sources")
    for monitor in phase.monitors:
        every = monitor.every
        if not isinstance(every, Span | Schedule):
            _check_count(
                every, 1, f"{phase.name}.monitors.{type(monitor).__name__}.every", "every=50"
            )
        measured = getattr(monitor, "model", None)
        if isinstance(measured, str) and measured not in models:
            raise RecipeError(
                f"model '{measured}'",
                expected="a model of the recipe",
                where=f"{phase.name}.monitors.{type(monitor).__name__}",
                write=did_you_mean(measured, models),
            )


def _models_of(move: Move) -> list[str]:
    """Return the models that a move names in its fields `model`, `src` and `dst`."""
    if not is_dataclass(move):
        raise RecipeError(
            f"{type(move).__name__}, which is no dataclass",
            expected="a frozen dataclass: its fields are recorded",
            where=move.name,
            write=f"@dataclass(frozen=True) above class {type(move).__name__}",
        )
    names = {f.name for f in fields(move)} & {"model", "src", "dst"}
    return [str(getattr(move, name)) for name in sorted(names)]


def _check_dial(path: str, value: Any, holder: Any, field: str) -> None:
    if isinstance(value, float) and value != value:
        raise DialError(f"{path} = NaN", expected="a number", where=path, write=f"{path}=0.1")
    if isinstance(value, list):
        raise no_record(value, path)
    if isinstance(value, FunctionType) and not _takes_functions(holder, field):
        raise DialError(
            f"{path} is a plain function",
            expected="a number, a schedule, or a part that is a frozen dataclass",
            where=path,
            write="By(function) for a number; @dataclass(frozen=True) for a part",
        )


def _takes_functions(part: Any, field: str) -> bool:
    """Return whether a field of a part is annotated as a `Callable`, perhaps among others."""
    known = fields(part) if is_dataclass(part) else ()
    return any(one.name == field and "Callable" in str(one.type) for one in known)


def _unique(names: list[str], where: str, write: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise RecipeError(
            f"names {names}",
            expected="one or more, each used once",
            where=where,
            write=write,
        )


def scheduled(phase: Phase) -> dict[str, Schedule[Any]]:
    """Return the outermost schedules of a phase by path."""
    found: dict[str, Schedule[Any]] = {}
    for path, value in flatten(phase).items():
        inside = any(path.startswith(outer + ".") for outer in found)
        if isinstance(value, Schedule) and not inside and not path.startswith("controllers"):
            found[path] = value
    return found
