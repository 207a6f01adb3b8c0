"""A run is a trunk with branches: decay from any step, extend, continue with something changed.

A fork is a recipe. Up to its step the dials are the trunk's; `grafts` makes a run's folder of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from thalweg.core.dials import Dials, From, phase_length
from thalweg.core.freeze import at
from thalweg.core.moves import Learn
from thalweg.core.protocols import Schedule
from thalweg.core.recipe import Phase, Recipe, scheduled
from thalweg.core.time import Span, Time
from thalweg.core.tree import find_path, flatten, get, put
from thalweg.errors import StateError
from thalweg.laws.convex import extension_factor
from thalweg.optim import rates
from thalweg.schedules import Blend, Constant, Then, Times, Warmup

__all__ = [
    "Fork",
    "before_decay",
    "branch",
    "decayed",
    "every_value",
    "extended",
    "learning_rates",
    "main_path",
    "phase_at",
    "pinned",
    "rated",
    "still_from",
]

NEAR = 0.995
"""A proposed factor from here on is the rate itself."""


@dataclass(frozen=True)
class Fork:
    """A recipe that agrees with its parent's up to a step of the run."""

    recipe: Recipe
    step: int
    """Step of the run up to which both do the same."""
    changes: tuple[str, ...]
    """What was changed, for people."""
    notes: tuple[str, ...] = ()
    """What was not changed and could be, for people."""
    exact: bool = False
    """Whether only a checkpoint at just this step will do: steps before it would differ."""


def decayed(recipe: Recipe, step: int, steps: int, shape: Schedule[Any]) -> Fork:
    """Return a fork that lets every learning rate decay from `step` on, and ends after `steps`.

    Args:
        recipe: The trunk's.
        step: Step of the run at which the decay starts.
        steps: Length of the decay.
        shape: From 1 to its end on a clock of `steps` steps.
    """
    number, local = phase_at(recipe, step)
    trunk = recipe.phases[number]
    length, width = phase_length(trunk)
    phase = pinned(trunk)
    changes = [f"{phase.name}.steps = {local + steps}"]
    for path, rate in learning_rates(trunk).items():
        now = float(at(rate, Time(local, length, local * width, step, width)))
        falling = Times(Constant(now), shape)
        phase = put(phase, path, Then(_held(rate, length), falling, after=Span(local, "steps")))
        changes.append(f"{path}: from {now:.3g}, {type(shape).__name__} over {steps} steps")
    phase = replace(phase, steps=local + steps)
    phases = (*recipe.phases[:number], phase)
    return Fork(replace(recipe, phases=phases), step, tuple(changes))


def extended(recipe: Recipe, steps: int) -> Fork:
    """Return a fork whose last phase has `steps` more steps, and where the two first differ.

    Lengths that are shares grow with the phase, so a decay of the last fifth starts later and the
    fork leaves the trunk where the trunk's decay began. A warm-up is over by then and keeps its
    steps.
    """
    last = recipe.phases[-1]
    length, _ = phase_length(last)
    if length is None:
        raise StateError(
            "a run without end",
            expected="a run whose last phase has a length",
            where=f"{last.name}.steps",
            write="thalweg resume RUN: it goes on by itself",
        )
    longer = replace(_warmed(last, length), steps=length + steps)
    agree, dial = _first_difference(last, longer, length)
    before = sum(phase_length(phase)[0] or 0 for phase in recipe.phases[:-1])
    changed = [f"{last.name}.steps: {length} -> {length + steps}"]
    if dial:
        changed.append(f"{dial} depends on the length: it differs from step {before + agree} on")
    phases = (*recipe.phases[:-1], longer)
    return Fork(replace(recipe, phases=phases), before + agree, tuple(changed))


def branch(recipe: Recipe, step: int, values: Mapping[str, Any]) -> Fork:
    """Return a fork that goes on from `step` with other values at some paths.

    A number that a schedule may stand for, or a number inside a schedule, changes at that step of
    the same recipe. Anything else changes the recipe as a whole, so the fork needs a checkpoint at
    just that step. What is not named keeps the trunk's clock, in a phase of another length too.

    Raises:
        RecipeError: No such path, or a value of another kind.
    """
    number, local = phase_at(recipe, step)
    length, _ = phase_length(recipe.phases[number])
    within = f"{recipe.phases[number].name}."
    changed, dials, exact = recipe, set[str](), False
    for path, value in values.items():
        full = find_path(recipe, path)
        changed = put(changed, full, value)
        dial = _dial_of(recipe, full) if full.startswith(within) else None
        if dial is not None:
            dials.add(dial)
        elif not full.startswith(("compute", "saves")):  # these say how, not what
            exact = True
    later = phase_length(changed.phases[number])[0]
    if later is not None and later < local:
        raise StateError(
            f"{within}steps = {later}",
            expected=f"{local} or more: so many the branch has at its start",
            where=f"{within}steps",
            write="--at STEP with an earlier step, or more steps",
        )
    if later != length:
        phases = list(changed.phases)
        phases[number] = _on_clock_of(recipe.phases[number], phases[number])
        changed = replace(changed, phases=tuple(phases))
    for dial in sorted(dials):
        switched = _switched(get(recipe, dial), get(changed, dial), local, length)
        changed = put(changed, dial, switched)
    lines = tuple(f"{find_path(recipe, path)} = {value}" for path, value in values.items())
    return Fork(changed, step, lines, exact=exact)


def rated(trunk: Recipe, fork: Fork, rate: float | Literal["proposed", "keep"]) -> Fork:
    """Return a fork with its rates lowered from its step on, or with a note of what they could be.

    The proposal is the convex bound's: the trunk's rate is taken to have been the best one for the
    trunk's length, and a longer run wants a lower one.

    Args:
        trunk: The recipe that was forked.
        fork: Of another length than the trunk.
        rate: Take the proposal, leave the rates, or multiply them by a number.
    """
    number, local = phase_at(trunk, fork.step)
    before, after = trunk.phases[number], fork.recipe.phases[number]
    old, new = _main_rate(before), _main_rate(after)
    if old is None or new is None:
        found, why = 1.0, "an endless run has no best rate"
    else:
        found = extension_factor(old, new, local)
        why = f"{old.size:,} -> {new.size:,} steps by the convex bound"
    if rate == "keep":
        said = f"rates kept ({why})"
        if found < NEAR:
            said = f"rates kept; --rate proposed lowers them to x{found:.3f} from step "
            said += f"{fork.step} on ({why})"
        return replace(fork, notes=(*fork.notes, said))
    factor = found if rate == "proposed" else rate
    if rate != "proposed":
        why = f"as asked; proposed x{found:.3f}: {why}"
    if factor == 1.0:
        return replace(fork, notes=(*fork.notes, f"rates kept ({why})"))
    for path, dial in learning_rates(after).items():
        lower = Times(Constant(factor), _held(dial, None))
        after = put(after, path, _switched(dial, lower, local, phase_length(after)[0]))
    line = f"rates: x{factor:.3f} from step {fork.step} on ({why})"
    phases = (*fork.recipe.phases[:number], after, *fork.recipe.phases[number + 1 :])
    made = replace(fork.recipe, phases=phases)
    return replace(fork, recipe=made, changes=(*fork.changes, line))


def _main_rate(phase: Phase) -> np.ndarray | None:
    """Return the rate nearest to the root of a phase at every step; None without an end."""
    dials = learning_rates(phase)
    if phase_length(phase)[0] is None or not dials:
        return None
    return every_value(dials[main_path(dials)], phase)


def phase_at(recipe: Recipe, step: int) -> tuple[int, int]:
    """Return the number of the phase that a step of the run belongs to, and its step there."""
    first = 0
    for number, phase in enumerate(recipe.phases):
        length, _ = phase_length(phase)
        if length is None or step <= first + length:
            return number, step - first
        first += length
    raise StateError(
        f"step {step}",
        expected=f"a step of the run, at most {first}",
        where="--at",
        write=f"--at {first}",
    )


def pinned(phase: Phase) -> Phase:
    """Return the phase with every schedule held to its present clock, whatever the new length."""
    length, _ = phase_length(phase)
    for path, schedule in scheduled(phase).items():
        phase = put(phase, path, _held(schedule, length))
    return phase


def _on_clock_of(trunk: Phase, phase: Phase) -> Phase:
    """Return a phase of another length whose schedules, if still the trunk's, keep its clock."""
    length, _ = phase_length(trunk)
    known = flatten(phase)
    for path, schedule in scheduled(trunk).items():
        if known.get(path) is schedule:
            phase = put(phase, path, _held(schedule, length))
    return phase


def still_from(fork: Fork) -> int | None:
    """Return the step of the run, the fork's or later, from which every learning rate is 0.

    None where the last step has a rate, and where a later phase or no end follows.
    """
    number, local = phase_at(fork.recipe, fork.step)
    phase = fork.recipe.phases[number]
    dials, length = learning_rates(phase), phase_length(phase)[0]
    if number + 1 < len(fork.recipe.phases) or length is None or length <= local or not dials:
        return None
    moving = np.logical_or.reduce([every_value(rate, phase) > 0 for rate in dials.values()])
    still = max(local, length - int(np.argmax(moving[::-1])) if moving.any() else 0)
    return None if still == length else fork.step - local + still


def before_decay(recipe: Recipe, step: int) -> int:
    """Return the last step up to `step`, in its phase, at which the rate is at its highest."""
    number, local = phase_at(recipe, step)
    rates_then = _main_rate(recipe.phases[number])
    if rates_then is None or local == 0:
        return step
    before = rates_then[: local + 1]
    return step - local + int(np.flatnonzero(before == before.max())[-1])


def _held(dial: Any, length: int | None) -> Schedule[Any]:
    """Return a dial as a schedule on a clock of `length` steps, whatever the phase's is."""
    return From(_always(dial), 0, length)


def _switched(old: Any, new: Any, step: int, length: int | None) -> Schedule[Any]:
    """Return the old dial up to `step` and the new one from there, both on the phase's clock."""
    later = From(_always(new), -step, length)
    return Then(_held(old, length), later, after=Span(step, "steps"))


def _always(dial: Any) -> Schedule[Any]:
    """Return a dial as a schedule: itself, or what never moves."""
    if isinstance(dial, Schedule):
        return dial
    return Blend(dial, dial) if isinstance(dial, Mapping) else Constant(float(dial))


def _dial_of(recipe: Recipe, path: str) -> str | None:
    """Return the dial that a place belongs to: the schedule around it, or itself if a float."""
    pieces = path.split(".")
    known = flatten(recipe)
    for end in range(1, len(pieces) + 1):
        above = ".".join(pieces[:end])
        if isinstance(known.get(above), Schedule):
            return above
    return path if isinstance(known[path], float) else None


def _warmed(phase: Phase, length: int) -> Phase:
    """Return the phase with warm-ups that are shares of `length` written in steps."""
    for path, value in flatten(phase).items():
        above, _, field = path.rpartition(".")
        warms = field == "warmup" or (field == "over" and isinstance(get(phase, above), Warmup))
        if warms and isinstance(value, Span) and value.unit == "share":
            written = put(phase, path, Span(value.of(Time(0, length)), "steps"))
            if _first_difference(phase, written, length)[0] == length:  # not of a stage of Rewarm
                phase = written
    return phase


def learning_rates(phase: Phase) -> dict[str, Any]:
    """Return the learning rates of every Learn by path: schedules or numbers."""
    length = phase_length(phase)[0]
    start = Time(0, 1 if length == 0 else length)
    paths = [
        f"{move.name}.optimizer.{path}"
        for move in phase.do
        if isinstance(move, Learn)
        for path in rates(at(move.optimizer, start))
    ]
    return {path: get(phase, path) for path in paths}


def main_path(dials: Mapping[str, Any]) -> str:
    """Return the path nearest to the root of its phase: of Muon, that of the matrices."""
    return min(dials, key=lambda path: (path.count("."), path))


def every_value(dial: Any, phase: Phase, first: int = 0) -> np.ndarray:
    """Return a dial at every step of a phase; its first value where the phase has no end.

    Args:
        dial: A schedule or a number.
        phase: Whose clock it is on.
        first: Step of the run at which the phase begins.
    """
    length, width = phase_length(phase)
    grid = np.arange(length or 1)
    time = Time(grid, length, grid * width, grid + first, width)
    return np.broadcast_to(np.asarray(at(dial, time), float), grid.shape)


def _first_difference(old: Phase, new: Phase, length: int) -> tuple[int, str]:
    """Return the first step of the phase at which a dial of the two differs, and that dial.

    `length` and an empty string where none does.
    """
    grid = np.arange(length)
    first, dial = length, ""
    before, after = (Dials.of(phase, {}, lambda name: None) for phase in (old, new))
    for path, schedule in before.schedules.items():
        times = [
            Time(grid, d.steps, grid * d.batch_tokens, grid, d.batch_tokens)
            for d in (before, after)
        ]
        values = [
            _columns(at(s, t), length)
            for s, t in zip((schedule, after.schedules[path]), times, strict=True)
        ]
        differs = np.flatnonzero((values[0] != values[1]).any(0))
        if len(differs) and differs[0] < first:
            first, dial = int(differs[0]), path
    return first, dial


def _columns(value: Any, length: int) -> np.ndarray:
    """Return a dial over all steps as [k, length], one line for each number it holds."""
    items = list(value.values()) if isinstance(value, Mapping) else [value]
    return np.stack([np.broadcast_to(np.asarray(item, float), (length,)) for item in items])
