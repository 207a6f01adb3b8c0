"""What a run would do, before a model is built: dials over time, tokens and epochs a source.

The checks that need the data's own numbers stand here too: vocabulary, row length, ranks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from thalweg.core.dials import Dials
from thalweg.core.freeze import at
from thalweg.core.protocols import Context, Foreseen, Schedule
from thalweg.core.recipe import CopyOf, Phase, Recipe
from thalweg.core.time import Time
from thalweg.errors import DataError, RecipeError

__all__ = ["Plan", "Share", "plan"]


@dataclass(frozen=True)
class Share:
    """What a source is planned to give over the run."""

    tokens: float
    """Targets."""
    size: int
    """Targets of one epoch; 0 if unknown."""

    @property
    def epochs(self) -> float | None:
        """Passes over the source; None if its size is unknown."""
        return self.tokens / self.size if self.size else None


@dataclass(frozen=True)
class Plan:
    """The table of a recipe."""

    steps: int | None
    """Optimizer steps of all phases; None if one is endless."""
    tokens: float
    """Targets of all phases."""
    sources: Mapping[str, Share]
    dials: Mapping[str, Mapping[str, Mapping[str, list[float]]]]
    """Phase -> path -> {"step": [...], "value": [...]}, at most 1,000 points."""

    def to_json(self) -> dict[str, Any]:
        """Return what plan.json holds; the dials of all phases on the clock of the run."""
        merged: dict[str, dict[str, list[float]]] = {}
        for table in self.dials.values():
            for path, column in table.items():
                out = merged.setdefault(path, {"step": [], "value": []})
                out["step"] += column["step"]
                out["value"] += column["value"]
        shares = {
            name: {"tokens": s.tokens, "size": s.size, "epochs": s.epochs}
            for name, s in self.sources.items()
        }
        return {"steps": self.steps, "tokens": self.tokens, "sources": shares, "dials": merged}


@runtime_checkable
class Ending(Protocol):
    """A source that may come to an end and knows beforehand when."""

    def most(self, seed: int) -> float:
        """Return the most rows that it can give; infinite where there is no limit."""
        ...


def plan(recipe: Recipe, ranks: int = 1) -> Plan:
    """Return what the recipe would do. Starts every source once, and reads no text.

    Args:
        recipe: The recipe.
        ranks: Processes that would share each batch.

    Raises:
        RecipeError: Ids beyond a model's vocabulary, rows beyond its positions, a batch that the
            ranks cannot share evenly.
        DialError: A schedule that needs an end in an endless phase, a bad value in it, or saves
            counted in tokens of a source that does not count them.
        DataError: What a source refuses.
    """
    first, endless, total = 0, False, 0.0
    dials: dict[str, Mapping[str, Mapping[str, list[float]]]] = {}
    sources: dict[str, Share] = {}
    for phase in recipe.phases:
        _check_limits(recipe, phase)
        table = Dials.of(phase, {}, _nothing)
        clock = Time(0, table.steps or 10_000, batch_tokens=table.batch_tokens)
        for distance in (recipe.saves.every, recipe.saves.milestone):
            distance.of(clock)
        _start(recipe, phase, table)
        _check_rows(phase, table, ranks)
        dials[phase.name] = _shifted(table.table(), first)
        if table.steps is None:
            endless = True
            continue
        _check_most(recipe.seed, phase, table, first)
        for name, share in _shares(phase, table, first).items():
            before = sources[name].tokens if name in sources else 0.0
            sources[name] = Share(before + share.tokens, share.size)
        total += sum(s.tokens for s in _shares(phase, table, first).values())
        first += table.steps
    return Plan(None if endless else first, total, sources, dials)


def _start(recipe: Recipe, phase: Phase, dials: Dials) -> None:
    """Let the source refuse what it must, before anything is written."""
    time = Time(0, dials.steps, 0, 0, dials.batch_tokens)
    live = dials.live(time)
    if isinstance(live.source, Foreseen):  # others may need models to start
        live.source.start(Context(time, recipe.seed, int(live.rows)))
        _check_size(live.source, phase, time)


def _check_size(source: Foreseen, phase: Phase, time: Time) -> None:
    """Refuse text that does not fill one row; what is only measured on may be as short as it is."""
    size, part = sum(source.sizes.values()), float(sum(source.shares(time).values()))
    if 0 < size < source.row_tokens * part:
        raise DataError(
            f"a source of {size} targets, less than one row of {source.row_tokens}",
            expected="text for one row or more",
            where=f"{phase.name}.source",
            write=f"--length {size} (in Python length={size}), or more text",
        )


def _shares(phase: Phase, dials: Dials, first: int) -> dict[str, Share]:
    """Return the planned targets of each name, summed over every step of the phase."""
    source, steps = phase.source, dials.steps
    if not isinstance(source, Foreseen) or not steps:
        return {}
    time, rows = _rows(phase, dials, first)
    sizes = source.sizes
    shares = source.shares(time)
    tokens = {n: float(np.sum(rows * np.asarray(v, float))) for n, v in shares.items()}
    return {n: Share(t * source.row_tokens, sizes.get(n, 0)) for n, t in tokens.items()}


def _rows(phase: Phase, dials: Dials, first: int) -> tuple[Time, np.ndarray]:
    """Return every step of a phase, as one moment, and the rows of each."""
    grid = np.arange(dials.steps or 0)
    time = Time(grid, dials.steps, grid * dials.batch_tokens, grid + first, dials.batch_tokens)
    rows = np.round(np.asarray(at(phase.rows, time), float))
    return time, np.broadcast_to(rows, grid.shape)


def _check_most(seed: int, phase: Phase, dials: Dials, first: int) -> None:
    """Refuse a phase that its source cannot fill; one that a controller may end is left alone."""
    source = phase.source
    if not (isinstance(source, Ending) and isinstance(source, Foreseen)) or phase.controllers:
        return
    given, allowed = np.cumsum(_rows(phase, dials, first)[1]), source.most(seed)
    rows = float(given[-1]) if len(given) else 0.0
    asked = sum(share.tokens for share in _shares(phase, dials, first).values())
    if rows > allowed:
        most = math.floor(asked * allowed / rows)
        steps = int(np.searchsorted(given, allowed, side="right"))  # of whole batches
        raise DataError(
            f"{asked:,.0f} tokens of sources that give {most:,} at most: {asked - most:,.0f} "
            "tokens short",
            expected=f"a phase of at most {most:,} tokens, the largest possible",
            where=f"{phase.name}.steps",
            write=(f"--steps {steps} (in Python steps={steps}), " if steps else "fewer rows, ")
            + "a larger max_epochs, or more text",
        )


def _check_limits(recipe: Recipe, phase: Phase) -> None:
    if not isinstance(phase.source, Foreseen):
        return
    ids, length = phase.source.vocabulary, phase.source.row_tokens
    if "chosen" in phase.source.makes:
        length //= 2  # a row of two answers; the model reads one at a time
    for name, spec in recipe.models.items():
        if isinstance(spec, CopyOf):
            continue
        if 0 < spec.vocabulary < ids:
            raise RecipeError(
                f"token ids up to {ids - 1} in the data",
                expected=f"at most {spec.vocabulary - 1}, the vocabulary of model '{name}'",
                where=f"models.{name}.vocabulary",
                write=f"the model's own tokenizer: --tokenizer FOLDER; or vocabulary={ids} for a "
                "fresh model",
            )
        if 0 < spec.positions < length:
            raise RecipeError(
                f"rows of {length} tokens",
                expected=f"at most {spec.positions}, the positions of model '{name}'",
                where=f"models.{name}.positions",
                write=f"--length {spec.positions}; or positions={length} for a fresh model",
            )


def _check_rows(phase: Phase, dials: Dials, ranks: int) -> None:
    if isinstance(phase.rows, Schedule):
        values = dials.table().get("rows", {"value": []})["value"]
    else:
        values = [float(phase.rows)]
    bad = [value for value in values if round(value) % ranks or round(value) < 1]
    if bad:
        raise RecipeError(
            f"a batch of {bad[0]:g} rows on {ranks} ranks",
            expected=f"a multiple of {ranks}, 1 or more",
            where=f"{phase.name}.rows",
            write=f"rows={max(ranks, -(-int(bad[0]) // ranks) * ranks)}",
        )


def _shifted(
    table: Mapping[str, Mapping[str, list[float]]], first: int
) -> dict[str, dict[str, list[float]]]:
    return {
        path: {"step": [step + first for step in column["step"]], "value": column["value"]}
        for path, column in table.items()
    }


def _nothing(name: str) -> Any:
    raise AssertionError(f"no overrides, so no names to look up: {name}")
