"""What `thalweg branch` and `thalweg extend` do: a fork of a run, its rate, and its folder."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from thalweg.branches import Fork, before_decay, decayed, extended, rated, still_from
from thalweg.branches import branch as forked
from thalweg.core.checkpoint import checkpoints, no_checkpoint, step_of
from thalweg.core.dials import phase_length
from thalweg.core.names import called
from thalweg.core.session import open_run
from thalweg.core.world import open_world
from thalweg.errors import RecipeError
from thalweg.grafts import as_it_went, graft
from thalweg.launch import new_run, parse_override
from thalweg.schedules import OneMinusSqrt

__all__ = ["branch_run", "extend_run"]


def branch_run(
    parent: Path,
    at: int | None,
    decay: int | None,
    changes: Sequence[str],
    name: str,
    rate: str = "keep",
) -> Path:
    """Make the folder of a branch, ready to be resumed; say what it changes.

    Args:
        parent: The trunk's folder.
        at: Step to leave it at; its end if not given.
        decay: Steps of a decay.
        changes: Overrides.
        name: Of the branch.
        rate: `proposed`, `keep`, or a factor as text; for another length than the trunk's.

    Raises:
        StateError: The step is beyond the run, or no checkpoint stands before it.
        RecipeError: Nothing to change, a bad path or value, or a branch where nothing learns.
    """
    recipe = as_it_went(open_run(parent)[0], parent)
    step = at if at is not None else _last_step(parent)
    _check_count("--at", step, least=0)
    _check_count("--decay", 1 if decay is None else decay)
    values = dict(parse_override(text) for text in changes)
    if decay is not None:
        fork = decayed(recipe, step, decay, OneMinusSqrt(1.0, 0.0))
        fork = rated(recipe, fork, _rate(rate))
        if values:  # what the trunk did up to the step stays as it was
            changed = forked(fork.recipe, step, values)
            fork = replace(changed, changes=(*fork.changes, *changed.changes), notes=fork.notes)
    elif values:
        fork = forked(recipe, step, values)
        fork = fork if rate == "keep" else rated(recipe, fork, _rate(rate))
    else:
        raise RecipeError(
            "a branch that changes nothing",
            expected="--decay STEPS, or path=value",
            where="thalweg branch",
            write=f"thalweg branch {called(parent)} --at {before_decay(recipe, step)} "
            f"--decay {max(1, step // 10)}",
        )
    still = still_from(fork)
    if still == step:
        raise _nothing_learns(parent, fork, before_decay(recipe, step), decay)
    if still is not None:
        said = f"every learning rate is 0 from step {still} on, where the trunk's schedule ends"
        fork = replace(fork, notes=(*fork.notes, said))
    return _grafted(parent, fork, name or f"{parent.name}-at-{step}")


def extend_run(
    parent: Path, tokens: float | None, steps: int | None, name: str, rate: str = "keep"
) -> Path:
    """Make the folder of a longer run, ready to be resumed; say where it leaves the first.

    Raises:
        StateError: No checkpoint stands before the two runs differ.
        RecipeError: Neither or both lengths.
    """
    recipe = as_it_went(open_run(parent)[0], parent)
    if (tokens is None) == (steps is None):
        raise RecipeError(
            "neither --steps nor --tokens" if steps is None else "both --steps and --tokens",
            expected="one of the two",
            where="thalweg extend",
            write=f"thalweg extend {called(parent)} --steps 1000",
        )
    _check_count("--steps", 1 if steps is None else steps)
    _check_count("--tokens", 1 if tokens is None else tokens)
    per_step = phase_length(recipe.phases[-1])[1]
    more = steps if steps is not None else max(1, round((tokens or 0) / max(per_step, 1)))
    fork = rated(recipe, extended(recipe, more), _rate(rate))
    return _grafted(parent, fork, name or f"{parent.name}-plus-{more}")


def _nothing_learns(parent: Path, fork: Fork, earlier: int, decay: int | None) -> RecipeError:
    """Return the refusal of a branch that leaves its trunk when the rate has fallen to 0."""
    run, length = called(parent), sum(phase_length(one)[0] or 0 for one in fork.recipe.phases)
    instead = f"thalweg branch {run} --at {earlier} --decay {decay}"
    if decay is None:
        instead = f"thalweg extend {run} --steps {length - fork.step}, whose decay begins later"
    return RecipeError(
        f"a branch at step {fork.step}, where every learning rate has fallen to 0",
        expected=f"a step before the decay, as {earlier}",
        where="--at",
        write=instead,
    )


def _grafted(parent: Path, fork: Fork, name: str) -> Path:
    """Make the folder of a fork, once for all ranks."""
    with open_world("auto", "replicate") as world:
        return world.from_main(lambda: _made(parent, fork, name))


def _made(parent: Path, fork: Fork, name: str) -> Path:
    folder = new_run(name, name)
    start = graft(parent, folder, fork)
    print(
        f"{folder.name}: leaves {parent.name} at step {fork.step}, from its checkpoint at {start}"
    )
    for change in (*fork.changes, *fork.notes):
        print(f"  {change}")
    return folder


def _rate(text: str) -> float | Literal["proposed", "keep"]:
    """Return what --rate asks for."""
    named: dict[str, Literal["proposed", "keep"]] = {"proposed": "proposed", "keep": "keep"}
    if text in named:
        return named[text]
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if 0 < factor < math.inf:
        return factor
    raise RecipeError(
        f"--rate {text}",
        expected="proposed, keep, or a factor above 0",
        where="the command line",
        write="--rate proposed",
    )


def _check_count(option: str, value: float, least: int = 1) -> None:
    if not least <= value < math.inf:
        raise RecipeError(
            f"{option} {value:g}",
            expected=f"{least} or more",
            where="the command line",
            write=f"{option} {max(least, 100)}",
        )


def _last_step(run: Path) -> int:
    known = checkpoints(run)
    if not known:
        raise no_checkpoint(run)
    return step_of(known[-1])
