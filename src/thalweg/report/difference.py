"""What differs between the recipes of runs: by path, parts written as code."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from thalweg.report.numbers import MISSING
from thalweg.report.run import Json, Run

__all__ = ["recipe_difference"]

_ABSENT = object()
_Row: TypeAlias = tuple[str, tuple[str, ...]]


def recipe_difference(runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """Return the paths at which the records of runs differ, with each run's value as text.

    Paths are those of the command line. A part of another kind is one row, not one for each of its
    fields.
    """
    return dict(_rows([run.tree for run in runs], ""))


def _rows(values: Sequence[object], path: str) -> Iterator[_Row]:
    if all(value == values[0] for value in values):
        return
    tables = [value for value in values if isinstance(value, Mapping)]
    lists = [value for value in values if isinstance(value, list)]
    if len(tables) == len(values) and len({table.get("$") for table in tables}) == 1:
        for key in dict.fromkeys(key for table in tables for key in table):
            yield from _rows([table.get(key, _ABSENT) for table in tables], _join(path, key))
    elif len(lists) == len(values) and len({_titles(one) for one in lists}) == 1:
        titles = _titles(lists[0])
        for place, title in enumerate(titles):
            above = path.rpartition(".")[0] if not title.isdigit() else path
            yield from _rows([one[place] for one in lists], _join(above, title))
    else:
        texts = tuple(_text(value) for value in values)
        yield path, texts if len(set(texts)) > 1 else tuple(map(_whole, values))


def _titles(parts: Sequence[object]) -> tuple[str, ...]:
    """Return what parts of a tuple are called in paths; numbers if one of them has no name."""
    names = [_title(part) for part in parts]
    if all(names) and len(set(names)) == len(names):
        return tuple(names)
    return tuple(str(place) for place in range(len(parts)))


def _title(part: object) -> str:
    """Return the name of a recorded part: its own, or its kind's and its model's; else nothing."""
    if not isinstance(part, Mapping) or "$" not in part:
        return ""
    kind = _kind(part).lower()
    return str(part.get("name") or (f"{kind}.{part['model']}" if "model" in part else kind))


def _text(value: object) -> str:
    """Return a recorded value as a person would write it."""
    if value is _ABSENT:
        return MISSING
    if isinstance(value, float) and len(repr(value)) > 9:
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"({', '.join(map(_text, value))})"
    if not isinstance(value, Mapping):
        return json.dumps(value)
    if "$" not in value:
        return "{" + ", ".join(f"{key}: {_text(one)}" for key, one in value.items()) + "}"
    if _kind(value) == "Span":
        return f"{value['unit']}({_text(value['count'])})"
    fields = (f"{key}={_text(one)}" for key, one in value.items() if key != "$")
    return f"{_kind(value)}({', '.join(fields)})"


def _whole(value: object) -> str:
    return MISSING if value is _ABSENT else json.dumps(value)


def _kind(part: Mapping[str, Json]) -> str:
    return str(part["$"]).rpartition(":")[2]


def _join(path: str, piece: str) -> str:
    return f"{path}.{piece}" if path else piece
