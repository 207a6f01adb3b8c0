"""Rows of a table in a file, whoever wrote it: CSV, TSV, JSON lines, JSON; one run or several."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thalweg.errors import DataError, did_you_mean

__all__ = ["SKIPPED", "Row", "columns_of", "of_run", "rows_of", "runs_in"]

Row = Mapping[str, object]

SKIPPED = ("__MIN", "__MAX", "__step", "_step__MIN", "_step__MAX")
"""Ends of names of columns that say nothing of their own."""


def rows_of(path: Path) -> list[Row]:
    """Return the rows of a file, or of the history of a run folder.

    Raises:
        DataError: It cannot be read, or is no table.
    """
    file = path / "history.jsonl" if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(
            f"{file} cannot be read: {problem}",
            expected="a CSV, JSON or JSON-lines file, or a run folder",
            where=str(path),
            write="the path of a file that exists",
        ) from problem
    rows = _parse(text, file)
    if not rows:
        raise DataError(
            f"{file} has no rows", expected="one row a step", where=str(path), write="a logged run"
        )
    return rows


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return the names of the columns of some rows, sorted."""
    return sorted({key for row in rows for key in row})


def runs_in(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the runs that share a W&B panel export: the names before the last ` - `.

    Example:
        >>> runs_in(["Step", "warm - loss", "warm - loss__MIN", "cold - loss"])
        ('cold', 'warm')
    """
    named = [name for name in columns if " - " in name and not name.endswith(SKIPPED)]
    return tuple(sorted({name.rpartition(" - ")[0] for name in named}))


def of_run(rows: Sequence[Row], run: str, path: Path) -> list[Row]:
    """Return the rows without the columns of other runs.

    Raises:
        DataError: The table has columns of other runs only.
    """
    known = runs_in(columns_of(rows))
    if known and run not in known:
        raise DataError(
            f"no column of run '{run}'",
            expected="the same runs in the table of the losses and in that of the rates",
            where=str(path),
            write=f"an export with that run ({did_you_mean(run, known)})",
        )
    others = tuple(f"{name} - " for name in known if name != run)
    return [{k: v for k, v in row.items() if not k.startswith(others)} for row in rows]


def _parse(text: str, file: Path) -> list[Row]:
    kind = file.suffix.lower()
    if kind in (".csv", ".tsv", ".txt"):
        return _from_csv(text, file)
    rows: list[Row] = []
    lines = text.splitlines()
    place = str(file)
    try:
        if kind == ".json":
            return _from_json(json.loads(text))
        for number, line in enumerate(lines, 1):
            place = f"{file}, line {number}"
            rows += [{**json.loads(line)}] if line.strip() else []
    except (json.JSONDecodeError, TypeError, AttributeError, IndexError) as problem:
        raise DataError(
            f"{file.name} is no table: {problem}",
            expected="JSON lines with one object a line, or a JSON list of rows",
            where=place,
            write="the export as CSV, or one JSON object a line",
        ) from problem
    return rows


def _from_csv(text: str, file: Path) -> list[Row]:
    """Return the rows of a table that commas, semicolons or tabs divide."""
    lines = text.splitlines()
    head = lines[0] if lines else ""
    mark = max("\t;,", key=head.count)
    rows = list(csv.DictReader(lines, delimiter=mark))
    for number, row in enumerate(rows, 2):
        if None in row:
            raise DataError(
                f"more cells than columns: {lines[min(number, len(lines)) - 1]}",
                expected=f"{len(row) - 1} cells, divided by {mark!r}",
                where=f"{file}, line {number}",
                write="an export whose marks between cells are not in its numbers",
            )
    if mark != ";":
        return list(rows)
    return [{key: (cell or "").replace(",", ".") for key, cell in row.items()} for row in rows]


def _from_json(whole: Any) -> list[Row]:
    rows = whole["log_history"] if isinstance(whole, dict) and "log_history" in whole else whole
    if isinstance(rows, dict):  # columns
        keys = list(rows)
        return [dict(zip(keys, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    if rows and isinstance(rows[0], list):  # TensorBoard: [wall time, step, value]
        return [{"step": row[1], "value": row[2]} for row in rows]
    return [row for row in rows if isinstance(row, dict)]
