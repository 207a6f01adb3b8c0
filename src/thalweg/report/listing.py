"""The runs of a folder, a line each."""

import json
from pathlib import Path

from thalweg.report.numbers import number_text

__all__ = ["listing"]


def listing(home: Path) -> str:
    """Return a table of the runs under `home`: name, recipe, steps, loss, parent.

    Reads the last line of each history only. A run that cannot be read does not hide the others.
    """
    rows: list[tuple[str, ...]] = [("run", "recipe", "step", "loss", "branched from")]
    for file in sorted(home.glob("*/recipe.json"), key=lambda path: path.stat().st_mtime):
        try:
            rows.append(_row(file.parent))
        except (OSError, ValueError, KeyError, TypeError) as problem:
            rows.append((file.parent.name, "damaged: " + str(problem)[:60], "", "", ""))
    if len(rows) == 1:
        return f"no runs under {home}; start one: thalweg train quickstart"
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _row(run: Path) -> tuple[str, ...]:
    about = json.loads((run / "recipe.json").read_text())
    planned = json.loads((run / "plan.json").read_text())["steps"]
    last = _last_line(run / "history.jsonl")
    parent = about["parent"]
    step = f"{last.get('step', 0)}/{planned if planned is not None else 'endless'}"
    loss = number_text(float(str(last["loss"]))) if "loss" in last else ""
    origin = f"{parent['run']} @ {parent['step']}" if parent else ""
    return run.name, Path(str(about["recipe"])).name, step, loss, origin


def _last_line(file: Path) -> dict[str, object]:
    """Return the last whole line of a file of JSON lines, reading its end only."""
    if not file.exists():
        return {}
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 65536))
        lines = stream.read().split(b"\n")
    for line in reversed(lines[:-1]):
        try:
            found: dict[str, object] = json.loads(line)
        except ValueError:  # empty, or half written
            continue
        return found
    return {}
