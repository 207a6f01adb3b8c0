"""Curves of run folders: each step with the rate of its update, branches with their trunk.

`history.jsonl` counts steps done. A held-out loss in row s was measured after update s - 1, the
training loss in row s before it: that is after update s - 2.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from thalweg.errors import DataError
from thalweg.laws.curve import Curve
from thalweg.laws.files import read
from thalweg.laws.tables import rows_of

__all__ = ["HELD_OUT", "TRAINING", "metric_of", "run_curve"]

HELD_OUT, TRAINING = "heldout/loss", "loss"
ENOUGH = 8
"""Held-out measurements below which a run says more by its training loss."""


def metric_of(folders: Sequence[Path]) -> str:
    """Return the column to fit: the held-out loss if every run measured it, else the training loss.

    Args:
        folders: Folders of runs.
    """
    return HELD_OUT if all(_measured(folder) >= ENOUGH for folder in folders) else TRAINING


def run_curve(folder: Path, metric: str, dial: str) -> Curve:
    """Return the curve of a run.

    Args:
        folder: Of the run; the parents of a branch are looked for beside it.
        metric: HELD_OUT or TRAINING.
        dial: Path of the learning rate.

    Raises:
        DataError: No such columns, losses that are not finite, steps that do not rise.
    """
    trunk = _parent(folder)
    unknown = None if trunk is None else 0  # the trunk has the first rates
    curve = read(folder, loss=metric, lr=f"dial/{dial}", step="step", warmup=unknown)
    late = 1 if metric == HELD_OUT else 2
    curve = curve.since(late)
    curve = replace(curve, steps=curve.steps - late, lr=curve.lr[1:])
    if trunk is None:
        return curve
    own = min(int(str(row["step"])) for row in rows_of(folder))  # may be long before a measurement
    return curve.after(run_curve(trunk, metric, dial), at=own - 1)


def _parent(folder: Path) -> Path | None:
    parent = json.loads((folder / "recipe.json").read_text()).get("parent")
    if not parent:
        return None
    beside = folder.resolve().parent / str(parent["run"])
    if (beside / "history.jsonl").exists():
        return beside
    raise DataError(
        f"a branch whose trunk {parent['run']} is gone",
        expected=f"the trunk beside it: its steps before {parent['step']} belong to the curve",
        where=str(folder),
        write="put the trunk back, or plan from other runs",
    )


def _measured(folder: Path) -> int:
    file = folder / "history.jsonl"
    return file.read_text().count(f'"{HELD_OUT}":') if file.exists() else 0
