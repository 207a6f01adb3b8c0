"""The report of a step: named floats for the history, and per-row values for the next step."""

from collections.abc import Mapping
from typing import Any

from thalweg.core.batch import Batch
from thalweg.core.learner import Learned
from thalweg.core.returned import numbers

__all__ = ["Report"]


class Report:
    """Collects what the moves and monitors of one step say.

    The first model that learns in a step reports under plain names, others under `MODEL/`. A sum
    `x` with a partner `x/count` is reported as their ratio; so is a per-row value, over all rows
    and by source.

    Args:
        names: Names of the sources, in the order that the `source` column counts.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._logged: dict[str, float] = {}
        self._learned: dict[str, list[tuple[Batch, Learned]]] = {}

    def log(self, values: Mapping[str, float]) -> None:
        """Add numbers.

        Raises:
            RecipeError: They are none, or stand under a name of the loop's own.
        """
        named = numbers(values, "ctx.log, by a move or a monitor")
        self._logged.update({name: float(value) for name, value in named.items()})

    def learned(self, model: str, part: Batch, learned: Learned, of: int) -> None:
        """Add one optimizer step of a Learn."""
        self._learned.setdefault(model, []).append((part, learned))

    def values(self) -> dict[str, float]:
        """Return everything by name; means over the optimizer steps of a Learn."""
        out: dict[str, float] = {}
        for number, (model, parts) in enumerate(self._learned.items()):
            prefix = "" if number == 0 else f"{model}/"
            out.update({prefix + name: value for name, value in self._of(parts).items()})
        return {**out, **self._logged}

    def rows(self) -> dict[str, list[float]]:
        """Return the per-row values of the first model that learned, with `id` and `source`."""
        for parts in self._learned.values():
            if not parts[0][1].rows:
                return {}
            table: dict[str, list[float]] = {}
            for part, learned in parts:
                for name in ("id", "source"):
                    if name in part:
                        table.setdefault(name, []).extend(part[name].tolist())
                for name, value in learned.rows.items():
                    table.setdefault(name, []).extend(value)
            return table
        return {}

    def _of(self, parts: list[tuple[Batch, Learned]]) -> dict[str, float]:
        out = {
            "loss": sum(learned.loss for _, learned in parts) / len(parts),
            "grad_norm": sum(learned.grad_norm for _, learned in parts) / len(parts),
        }
        sums: dict[str, float] = {}
        for _, learned in parts:
            for name, value in learned.sums.items():
                sums[name] = sums.get(name, 0.0) + value
        out.update(_ratios(sums))
        if len(self._names) > 1:
            out.update(self._by_source(parts))
        return out

    def _by_source(self, parts: list[tuple[Batch, Learned]]) -> dict[str, float]:
        columns = [name for name in parts[0][1].rows if f"{name}/count" in parts[0][1].rows]
        sources = [source for part, _ in parts for source in part["source"].tolist()]

        def totals(column: str) -> list[float]:
            values = [value for _, learned in parts for value in learned.rows[column]]
            found = [0.0] * len(self._names)
            for source, value in zip(sources, values, strict=True):
                found[source] += value
            return found

        out: dict[str, float] = {}
        for column in columns:
            top, low = totals(column), totals(f"{column}/count")
            for name, a, b in zip(self._names, top, low, strict=True):
                if b > 0:
                    out[f"{column}/{name}"] = a / b
        return out


def _ratios(sums: Mapping[str, Any]) -> dict[str, float]:
    out = {}
    for name, value in sums.items():
        if name.endswith("/count"):
            continue
        count = sums.get(f"{name}/count")
        if count is None:
            out[name] = float(value)
        elif count > 0:
            out[name] = float(value / count)
    return out
