"""The tree of branches: which runs came from which. Reads the folders beside a run."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from thalweg.errors import StateError
from thalweg.report.read import number, read_object
from thalweg.report.run import Json

__all__ = ["Member", "family"]

_TAIL = 1 << 17


class Member(NamedTuple):
    """One run of a family, in the order in which the tree is drawn."""

    name: str
    parent: str | None
    depth: int
    """0 for the trunk."""
    start: int
    """Step at which it left its parent."""
    end: int
    """Last step it made."""
    loss: float
    """Training loss of its last step, nats a token."""


def family(folders: Sequence[Path]) -> tuple[Member, ...]:
    """Return the runs related to the given ones: trunks first, each before its branches.

    Parents and branches are looked for among the folders that stand beside each run.

    Args:
        folders: Folders of runs.
    """
    known: dict[str, tuple[Path, str | None, int]] = {}
    for shelf in dict.fromkeys(folder.resolve().parent for folder in folders):
        for file in sorted(shelf.glob("*/recipe.json")):
            known.setdefault(file.parent.name, (file.parent, *_origin(file)))
    wanted = {_trunk(folder.resolve().name, known) for folder in folders}
    return tuple(m for name in known if name in wanted for m in _grow(name, known, 0))


def _origin(file: Path) -> tuple[str | None, int]:
    try:
        parent = read_object(file).get("parent")
    except StateError:  # a stranger's broken run must not spoil this report
        return None, 0
    if not isinstance(parent, dict) or not isinstance(parent.get("run"), str):
        return None, 0
    step = number(parent.get("step"))
    return Path(str(parent["run"])).name, int(step) if math.isfinite(step) else 0


def _trunk(name: str, known: Mapping[str, tuple[Path, str | None, int]]) -> str:
    seen = {name}
    while (parent := known[name][1]) is not None and parent in known and parent not in seen:
        name = parent
        seen.add(name)
    return name


def _grow(name: str, known: Mapping[str, tuple[Path, str | None, int]], depth: int) -> list[Member]:
    folder, parent, start = known[name]
    step, loss = _end(folder / "history.jsonl")
    members = [Member(name, parent, depth, start, max(step, start), loss)]
    branches = [key for key, (_, origin, _) in known.items() if origin == name and key != name]
    for branch in sorted(branches, key=lambda key: known[key][2]):
        if depth < len(known):
            members += _grow(branch, known, depth + 1)
    return members


def _end(path: Path) -> tuple[int, float]:
    """Return the last whole line's step and loss, reading only the end of the file."""
    if not path.exists():
        return 0, math.nan
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        lines = file.read().split(b"\n")
    for line in reversed(lines):
        try:
            entry: Json = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            step = number(entry.get("step"))
            return int(step) if math.isfinite(step) else 0, number(entry.get("loss"))
    return 0, math.nan
