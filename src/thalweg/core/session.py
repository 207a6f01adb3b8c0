"""Starting a run and picking it up again: from a recipe to a folder, and from a folder alone."""

import json
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import thalweg
from thalweg.core.checkpoint import (
    checkpoints,
    damage_of,
    fill_learners,
    new_folder,
    newest_whole,
    read_state,
    write_file,
)
from thalweg.core.cost import flops_by_phase, model_facts, strain
from thalweg.core.grow import models_at
from thalweg.core.learner import Learner
from thalweg.core.loop import Bench, run
from thalweg.core.machine import peak_flops
from thalweg.core.names import called, finder
from thalweg.core.plan import Plan, plan
from thalweg.core.recipe import Recipe, check, origin
from thalweg.core.record import RunFolder, Watcher, held
from thalweg.core.rng import key_seed
from thalweg.core.state import RunState
from thalweg.core.tree import differences, read_record, record
from thalweg.core.world import World, open_world
from thalweg.errors import Diverged, StateError

__all__ = ["Origin", "Session", "build_learners", "check_recipe", "open_run", "resume", "train"]


@dataclass(frozen=True)
class Origin:
    """Where a recipe came from, for the record."""

    recipe: str = "recipe"
    """Name of the recipe, or path of its file."""
    options: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    """The recipe's file, copied into the run so that the folder is enough."""
    parent: Mapping[str, Any] | None = None
    """{"run": folder, "step": step} of the run this one branched from."""
    prediction: Mapping[str, Any] | None = None
    """The loss that laws expect, for plan.json; None: nobody asked."""


@dataclass(frozen=True)
class Session:
    """What a run is told besides its recipe."""

    watchers: Sequence[Callable[[], Watcher]] = ()
    """Makers of progress lines and sinks; called on the main rank."""
    interrupted: Callable[[], bool] = lambda: False
    warn: Callable[[str], None] = lambda text: None
    """Told what a person should know: a damaged checkpoint, a resumed step."""


def train(
    recipe: Recipe, folder: Path, origin: Origin = Origin(), session: Session = Session()
) -> RunState:
    """Run a recipe from its beginning in a new folder.

    Raises:
        RecipeError: The recipe cannot run; nothing was written.
        StateError: The folder exists.
        Diverged: A loss is not finite; the folder holds the checkpoints before it.
    """
    check(recipe)
    record(recipe)
    finder(origin.file)
    with open_world(recipe.compute.device, recipe.compute.shard) as world:
        folder = world.from_main(lambda: folder)  # a counter in the name: the ranks must agree
        planned = plan(recipe, ranks=world.size)
        learners = build_learners(recipe, world)
        tight = strain(recipe, learners, world)
        if tight is not None:
            session.warn(tight)
        world.from_main(lambda: _create(folder, recipe, origin, planned, learners, world))
        with held(folder, world):
            return _go(recipe, folder, world, learners, RunState(), {}, origin.file, session)


def resume(folder: Path, session: Session = Session()) -> RunState:
    """Go on where a run stopped, however it stopped; the folder is enough.

    Raises:
        StateError: No such run, a changed recipe or data, or no whole checkpoint.
    """
    recipe, file = open_run(folder)
    check(recipe)
    with open_world(recipe.compute.device, recipe.compute.shard) as world, held(folder, world):
        plan(recipe, ranks=world.size)  # data that is gone is said before models are built
        path = world.from_main(lambda: newest_whole(folder, session.warn))
        saved = read_state(path) if path is not None else {}
        if saved:
            check_recipe(saved, folder)
        state = RunState.from_json(saved["state"]) if saved else RunState()
        learners = build_learners(recipe, world, state)
        if path is not None:
            fill_learners(path, learners, world, finder(file))
        session.warn(f"resuming {folder.name} at step {state.run_step}")
        changed = _elsewhere(json.loads((folder / "recipe.json").read_text()), world)
        if changed:
            session.warn("perhaps not bit for bit from here on; since the run began: " + changed)
        return _go(recipe, folder, world, learners, state, saved, file, session)


def open_run(folder: Path) -> tuple[Recipe, Path | None]:
    """Return the recipe of a run, rebuilt from its record, and its recipe file if it has one.

    Raises:
        StateError: There is no run here, or its record cannot be read.
    """
    if not (folder / "recipe.json").exists():
        raise StateError(
            f"'{folder}'",
            expected="the folder of a run (it has a recipe.json)",
            where=str(folder.parent),
            write="thalweg list, to see the runs there are",
        )
    file = folder / "recipe.py"
    known = file if file.exists() else None
    try:
        about = json.loads((folder / "recipe.json").read_text())
    except ValueError as error:
        raise _unreadable(folder, str(error)) from error
    if not isinstance(about, dict) or not isinstance(about.get("tree"), dict):
        raise _unreadable(folder, "it holds no record of a recipe")
    recipe = read_record(about["tree"], finder(known))
    if not isinstance(recipe, Recipe):
        raise _unreadable(folder, f"its tree is a {type(recipe).__name__}")
    return recipe, known


def _unreadable(folder: Path, why: str) -> StateError:
    return StateError(
        f"recipe.json cannot be read: {why}",
        expected="the record that the run was started with",
        where=str(folder / "recipe.json"),
        write="put the file back; checkpoints/*/state.json hold its tree, as 'recipe'",
    )


def check_recipe(saved: Mapping[str, Any], folder: Path) -> None:
    """Refuse a run whose recipe.json is not what its checkpoint was written with.

    Args:
        saved: The state.json of a checkpoint.
        folder: The run.

    Raises:
        StateError: They differ; the first place is named.
    """
    changed = differences(saved["recipe"], json.loads((folder / "recipe.json").read_text())["tree"])
    if changed:
        path, was, is_now = changed[0]
        more = f" (and {len(changed) - 1} more places)" if len(changed) > 1 else ""
        raise StateError(
            f"{path} = {is_now!r}{more}",
            expected=f"{was!r}, as when the checkpoint was written",
            where=str(folder / "recipe.json"),
            write="put it back; then, for a run with something changed: "
            f"thalweg branch {called(folder)} PATH=VALUE",
        )


def build_learners(
    recipe: Recipe, world: World, state: RunState = RunState()
) -> dict[str, Learner]:
    """Build every model of a recipe in its world, weights drawn from the seed and the name.

    Args:
        recipe: The recipe.
        world: The ranks.
        state: Where the run is: models that have grown have the architecture of that moment.
    """
    compute = recipe.compute
    auto = torch.bfloat16 if world.device.type == "cuda" else torch.float32
    dtypes = {"auto": auto, "float32": torch.float32, "bfloat16": torch.bfloat16}
    learners = {}
    for name, spec in models_at(recipe, state.phase, state.step).items():
        module = spec.build(key_seed(recipe.seed, "model", origin(recipe, name)[0]))
        learners[name] = Learner(
            name, module, world, dtype=dtypes[compute.dtype], compiled=compute.compile
        )
    return learners


def _go(
    recipe: Recipe,
    folder: Path,
    world: World,
    learners: Mapping[str, Learner],
    state: RunState,
    saved: Mapping[str, Any],
    file: Path | None,
    session: Session,
) -> RunState:
    info = json.loads((folder / "recipe.json").read_text())
    priced = info.get("flops_per_token", {})
    flops = [float(priced.get(phase.name, 0.0)) for phase in recipe.phases]
    some = next(iter(learners.values()))
    peak = peak_flops(world.device.type, some.dtype) * world.size if world.main else 0.0
    watchers = [make() for make in session.watchers] if world.main else []
    recorder = RunFolder(
        folder, recipe, world, flops=flops, peak=peak, watchers=watchers,
        interrupted=session.interrupted,
    )  # fmt: skip
    with recorder:
        recorder.begin(state, saved.get("lengths", {}))
        try:
            return run(Bench(recipe, learners, world, recorder, finder(file)), state)
        except Diverged as error:
            raise _with_checkpoint(error, folder) from error


def _with_checkpoint(error: Diverged, folder: Path) -> Diverged:
    """Return the error with the checkpoint that a person can go back to."""
    good = [path for path in checkpoints(folder) if not damage_of(path)]
    last = f"the last good checkpoint is {good[-1].name}" if good else "there is no checkpoint yet"
    return Diverged(
        error.given,
        expected=error.expected,
        where=error.where,
        write=f"{error.write}; {last}: thalweg branch {called(folder)} lr=...",
    )


def _create(
    folder: Path,
    recipe: Recipe,
    origin: Origin,
    planned: Plan,
    learners: Mapping[str, Learner],
    world: World,
) -> None:
    models = {name: model_facts(name, learner, recipe) for name, learner in learners.items()}
    about = {
        "name": folder.name,
        "recipe": origin.recipe,
        "options": dict(origin.options),
        "overrides": dict(origin.overrides),
        "parent": origin.parent,
        "versions": versions(world),
        "seed": recipe.seed,
        "models": models,
        "flops_per_token": flops_by_phase(models, recipe),
        "tree": record(recipe),
    }
    with new_folder(folder) as made:
        (made / "checkpoints").mkdir()
        if origin.file is not None:
            shutil.copyfile(origin.file, made / "recipe.py")
        foreseen = {} if origin.prediction is None else {"prediction": dict(origin.prediction)}
        write_file(made / "plan.json", json.dumps(planned.to_json() | foreseen, indent=1))
        write_file(made / "recipe.json", json.dumps(about, indent=1))


def versions(world: World) -> dict[str, str]:
    """Return what a result depends on to its last bit, besides the recipe."""
    names = ("torch", "numpy", "transformers", "tokenizers")
    ours = {"thalweg": thalweg.__version__, "python": platform.python_version()}
    cuda = world.device.type == "cuda"
    kind = torch.cuda.get_device_name() if cuda else torch.backends.cpu.get_cpu_capability()
    machine = {"device": kind, "threads": torch.get_num_threads(), "processes": world.size}
    libraries = {name: metadata.version(name) for name in names}
    return ours | libraries | {name: str(value) for name, value in machine.items()}


def _elsewhere(about: Mapping[str, Any], world: World) -> str:
    """Return how the machine differs from the one that the run began on; nothing if it does not."""
    was, now = about.get("versions", {}), versions(world)
    return ", ".join(f"{n} {was[n]} -> {now[n]}" for n in now if was.get(n, now[n]) != now[n])
