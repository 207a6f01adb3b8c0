"""The folder of a fork: a run that starts from a checkpoint of its parent, ready to be resumed.

Up to the branching step its dials are the parent's, so steps between the checkpoint and the
branching step are done again and give the same weights.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from thalweg.branches import Fork, phase_at, pinned
from thalweg.controllers import Watch
from thalweg.core.checkpoint import (
    checkpoints,
    damage_of,
    new_folder,
    read_state,
    seal,
    step_of,
    write_file,
)
from thalweg.core.plan import plan
from thalweg.core.protocols import Controller
from thalweg.core.recipe import Recipe, check
from thalweg.core.session import check_recipe, open_run
from thalweg.core.tree import flatten, record
from thalweg.errors import StateError

__all__ = ["as_it_went", "graft"]

PLACES = ("length", "select", "order")
"""Fields of sources that decide what their row of some number is."""


def graft(parent: Path, folder: Path, fork: Fork) -> int:
    """Make the folder of a fork, starting from its parent's nearest checkpoint; return its step.

    The folder is ready to be resumed.

    Args:
        parent: Folder of the trunk.
        folder: Of the branch; new.
        fork: Of the trunk's recipe; of `as_it_went`, if a controller ended a phase early.

    Raises:
        StateError: The folder exists, no whole checkpoint stands at or before the fork, it
            changes a dial that a controller sets, or the parent's recipe.json was changed.
        RecipeError: The fork's recipe cannot run.
    """
    recipe, file = open_run(parent)
    fork = replace(fork, recipe=_watched(fork.recipe, fork.step))
    check(fork.recipe)
    planned = plan(fork.recipe)
    source = _checkpoint(parent, fork)
    body = read_state(source)
    check_recipe(body, parent)
    about = json.loads((parent / "recipe.json").read_text())
    tree = record(fork.recipe)
    about |= {"name": folder.name, "tree": tree, "parent": {"run": parent.name, "step": fork.step}}
    about["changes"] = list(fork.changes)
    state = _carried(body["state"], body["recipe"], tree)
    body |= {"recipe": tree, "lengths": {}, "state": state}
    _check_set(parent, recipe, fork, body["state"])
    with new_folder(folder) as made:
        target = made / "checkpoints" / f"step-{step_of(source):08d}.trunk"
        shutil.copytree(source, target)
        write_file(target / "state.json", json.dumps(body))
        seal(target)
        if file is not None:
            shutil.copyfile(file, made / "recipe.py")
        write_file(made / "plan.json", json.dumps(planned.to_json(), indent=1))
        write_file(made / "recipe.json", json.dumps(about, indent=1))
    return step_of(source)


def _watched(recipe: Recipe, step: int) -> Recipe:
    """Return the recipe of a fork: the prediction of the trunk is none of what comes after it."""

    def cut(one: Controller) -> Controller:
        if not isinstance(one, Watch):
            return one
        return replace(one, until=step if one.until is None else min(step, one.until))

    phases = (
        replace(phase, controllers=tuple(map(cut, phase.controllers))) for phase in recipe.phases
    )
    return replace(recipe, phases=tuple(phases))


def as_it_went(recipe: Recipe, run: Path) -> Recipe:
    """Return the recipe with phases as long as they were, where a controller ended them early.

    Their dials stay on the clocks that they had. The last phase keeps its planned length.
    """
    phases = list(recipe.phases)
    ends = [path for path in checkpoints(run) if ".end-of-" in path.name and not damage_of(path)]
    for state in (read_state(path)["state"] for path in ends):
        number = int(state["phase"])
        if state["ended"] and number + 1 < len(phases):
            phases[number] = replace(pinned(recipe.phases[number]), steps=int(state["step"]))
    return replace(recipe, phases=tuple(phases))


def _check_set(parent: Path, recipe: Recipe, fork: Fork, state: Mapping[str, Any]) -> None:
    """Refuse a fork that changes a dial which controllers turn: theirs would win, in silence."""
    number, local = phase_at(fork.recipe, fork.step)
    newest = [path for path in checkpoints(parent) if not damage_of(path)][-1]
    journal = read_state(newest)["state"]["journal"]
    turned = {path for step, path, _ in journal if step >= fork.step - local}
    turned |= set(state["overrides"]) if state["phase"] == number else set()
    before = [recipe.phases[number], pinned(recipe.phases[number])]
    known = flatten(fork.recipe.phases[number])
    for path in sorted(turned & set(known)):
        if record(known[path]) not in [record(flatten(phase).get(path)) for phase in before]:
            raise StateError(
                f"another {path}, which a controller of this run sets",
                expected="a change of what the recipe alone decides: " + ", ".join(fork.changes),
                where=str(parent / "recipe.json"),
                write="a run of its own without the controller, or another change",
            )


def _carried(state: dict[str, Any], was: Any, now: Any) -> dict[str, Any]:
    """Return the state for the fork; a source that was changed starts anew, controllers with it.

    A run that a controller stopped, or whose last phase it ended, goes on in its fork.
    """
    last = state["phase"] == len(now["phases"]) - 1
    state = {**state, "stopped": "", "ended": state["ended"] and not last}
    number = min(state["phase"], len(was["phases"]) - 1, len(now["phases"]) - 1)
    old, new = was["phases"][number]["source"], now["phases"][number]["source"]
    return state if _kinds(old) == _kinds(new) else {**state, "source": None, "controllers": None}


def _kinds(data: Any, exact: bool = False) -> Any:
    """Return a record without its dials: what a source reads, not how much of it.

    Numbers stay where the position in a source depends on them.
    """
    if isinstance(data, dict):
        if str(data.get("$", "")).startswith(("thalweg.schedules", "thalweg.core.dials")):
            return "dial"
        return {key: _kinds(v, exact or key in PLACES) for key, v in data.items()}
    if isinstance(data, list):
        return [_kinds(value, exact) for value in data]
    return "dial" if isinstance(data, int | float) and not exact else data


def _checkpoint(parent: Path, fork: Fork) -> Path:
    whole = [path for path in checkpoints(parent) if not damage_of(path)]
    if fork.exact and fork.step not in map(step_of, whole):
        raise StateError(
            f"a change that needs a checkpoint at step {fork.step}: " + ", ".join(fork.changes),
            expected="a step with a checkpoint: " + ", ".join(str(step_of(p)) for p in whole),
            where=str(parent / "checkpoints"),
            write=f"--at {max((step_of(p) for p in whole if step_of(p) <= fork.step), default=0)}",
        )
    usable = [path for path in whole if step_of(path) <= fork.step]
    if not usable:
        raise StateError(
            f"no whole checkpoint at or before step {fork.step}",
            expected="a checkpoint from before the two runs differ",
            where=str(parent / "checkpoints"),
            write="thalweg branch RUN --at STEP with a step of: "
            + ", ".join(str(step_of(path)) for path in whole)
            + "".join(f" ({line})" for line in fork.changes[1:])
            if whole
            else "a folder restored from a backup, or a new run",
        )
    return usable[-1]
