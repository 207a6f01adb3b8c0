"""How evenly the experts of each layer are used: one figure of what `Balanced` reports of each."""

from collections.abc import Sequence

import numpy as np

from thalweg.report.draw import Figure, Series, figure
from thalweg.report.run import History, Run

__all__ = ["load_figures"]


def load_figures(runs: Sequence[Run]) -> list[Figure]:
    """Return the largest load of each layer's experts over their even share; nothing without any.

    1 is even; the number of experts, all tokens to one.
    """
    series = []
    for colour, run in enumerate(runs):
        for layer, names in _layers(run.history).items():
            points = [run.history.points(name) for name in names]
            load_ES = np.stack([p.value for p in points])
            most_S = load_ES.max(0) / np.maximum(load_ES.mean(0), 1e-12)
            name = f"layer {layer}" if len(runs) == 1 else f"{run.name}, layer {layer}"
            series.append(Series(name, points[0].step, most_S, layer if len(runs) == 1 else colour))
    title = "largest load of a layer's experts (1 is even)"
    return [figure("experts", title, series, ("step", ""))] if series else []


def _layers(history: History) -> dict[int, list[str]]:
    """Return the columns `load/LAYER/EXPERT` by layer."""
    found: dict[int, list[str]] = {}
    for name in sorted(history.columns):
        if name.startswith("load/"):
            found.setdefault(int(name.split("/")[1]), []).append(name)
    return dict(sorted(found.items()))
