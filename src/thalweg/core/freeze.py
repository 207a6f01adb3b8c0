"""Freezing: every schedule of a tree becomes its value at a moment."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

from thalweg.core.protocols import Schedule
from thalweg.core.time import Time

__all__ = ["at", "freezing"]

T = TypeVar("T")


def at(tree: T, time: Time) -> T:
    """Return the tree with every schedule replaced by its value at `time`.

    Subtrees without schedules are returned as they are, the same object.
    """
    freeze = freezing(tree)
    return freeze(time) if freeze else tree


def freezing(tree: T, only: Sequence[str] | None = None) -> Callable[[Time], T] | None:
    """Return the function of time that `at` is for this tree; None if nothing is scheduled.

    Looks for the schedules once, so that a loop need not walk the tree at every step. What has the
    numbers of the moment that was asked for before is the same object as then.

    Args:
        tree: Any tree.
        only: Of a dataclass, the fields to freeze; None for all.
    """
    if isinstance(tree, Schedule):
        return _freezing_value(tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        kind: type = type(tree)
        held: Any = {field.name: getattr(tree, field.name) for field in fields(tree) if field.init}
        return _freezing_parts(held, held if only is None else only, lambda now: kind(**now))
    if isinstance(tree, Mapping):
        return _freezing_parts(tree, tree, lambda now: now)
    if isinstance(tree, tuple):
        held = dict(enumerate(tree))
        return _freezing_parts(held, held, lambda now: tuple(now.values()))
    return None


def _freezing_value(schedule: Schedule[Any]) -> Callable[[Time], Any]:
    last: Any = None

    def freeze(time: Time) -> Any:
        nonlocal last
        value = _plain(schedule(time))
        if not _same(value, last):
            last = value
        return last

    return freeze


def _freezing_parts(
    held: Mapping[Any, Any], names: Iterable[Any], make: Callable[[dict[Any, Any]], Any]
) -> Callable[[Time], Any] | None:
    found = {name: freezing(held[name]) for name in names}
    parts = {name: freeze for name, freeze in found.items() if freeze}
    if not parts:
        return None
    last: dict[Any, Any] = {}
    made: Any = None

    def freeze(time: Time) -> Any:
        nonlocal last, made
        now = {name: part(time) for name, part in parts.items()}
        if not last or any(now[name] is not last[name] for name in now):
            made, last = make({**held, **now}), now
        return made

    return freeze


def _same(one: Any, other: Any) -> bool:
    """Return whether two values of a schedule are the same number, or mapping to such, bit for bit.

    Whatever else a schedule gives is not compared.
    """
    if type(one) is float and type(other) is float:
        return one == other and math.copysign(1.0, one) == math.copysign(1.0, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    return type(one) is int and type(other) is int and one == other


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
