"""Trees of frozen dataclasses: paths, changes, and the JSON record.

A path names a place: field names and mapping keys joined by dots. A tuple of named parts adds the
parts' names in place of its own field, so `phases[0].do[1].optimizer.lr` reads
`main.learn.policy.optimizer.lr`. A unique ending is enough to address a place: `lr`.

The record keeps a class as `module:name`. Reading back looks names up in the caller's `find`
only, so a record cannot run code that the caller did not offer.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from types import FunctionType
from typing import Any, TypeAlias, TypeVar

from thalweg.core.protocols import Schedule
from thalweg.errors import DialError, RecipeError, did_you_mean

__all__ = [
    "differences",
    "find_path",
    "flatten",
    "get",
    "keys_of",
    "no_record",
    "put",
    "reach",
    "read_record",
    "record",
]

Key: TypeAlias = str | int
Keys: TypeAlias = tuple[Key, ...]
T = TypeVar("T")


def flatten(tree: Any) -> dict[str, Any]:
    """Return every place below the root by its path, inner nodes before their leaves.

    Example:
        >>> from thalweg.core.time import steps
        >>> list(flatten({"a": steps(3)}))
        ['a', 'a.count', 'a.unit']
    """
    return {path: value for path, (_, value) in _places(tree).items()}


def find_path(tree: Any, path: str) -> str:
    """Return the full path that `path` is, or is the unique ending of.

    Raises:
        RecipeError: No place, or more than one, ends like this.
    """
    known = flatten(tree)
    if path in known:
        return path
    matches = [name for name in known if name.endswith("." + path)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise RecipeError(
            f"path '{path}' ends {len(matches)} places",
            expected="an ending that only one place has",
            where="the recipe",
            write="one of: " + ", ".join(matches[:8]),
        )
    depth = path.count(".") + 1
    endings = {".".join(name.split(".")[-depth:]) for name in known}
    raise RecipeError(
        f"path '{path}'",
        expected="a path of the recipe, or the unique ending of one",
        where="the recipe",
        write=did_you_mean(path, endings),
    )


def get(tree: Any, path: str) -> Any:
    """Return what stands at a path (or unique ending).

    Raises:
        RecipeError: As `find_path`.
    """
    return flatten(tree)[find_path(tree, path)]


def keys_of(tree: Any, path: str) -> Keys:
    """Return the fields, keys and positions that lead to a full path; for `reach`."""
    return _places(tree)[path][0]


def reach(tree: Any, keys: Keys) -> Any:
    """Return what stands at the end of `keys` in a tree of the same form; faster than `get`."""
    for key in keys:
        if isinstance(tree, tuple):
            tree = tree[int(key)]
        else:
            tree = tree[key] if isinstance(tree, Mapping) else getattr(tree, str(key))
    return tree


def put(tree: T, path: str, value: Any) -> T:
    """Return the tree with another value at a path (or unique ending). The tree is not changed.

    Numbers and schedules may replace each other; anything else must keep its kind.

    Raises:
        RecipeError: As `find_path`, or the value is of another kind.
    """
    full = find_path(tree, path)
    keys, old = _places(tree)[full]
    new: T = _put(tree, keys, _like(old, value, full))
    return new


def record(tree: Any, path: str = "") -> Any:
    """Return the tree as plain JSON data, from which `read_record` makes the same tree.

    Raises:
        RecipeError: Something has no record (an open file, a lambda, an array ...), or would be
            read back as something else: a list, a mapping with keys that are no text, an Enum.
    """
    if tree is None or type(tree) in (bool, str, int):
        return tree
    if isinstance(tree, float):
        return float(tree) if math.isfinite(tree) else {"$float": str(float(tree))}
    if _is_node(tree):
        kind: type = type(tree)
        body = {n: record(getattr(tree, n), _join(path, n)) for n in _field_names(kind)}
        return {"$": _name(kind, path), **body}
    if isinstance(tree, Mapping) and all(type(key) is str for key in tree):
        return {key: record(value, _join(path, key)) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return [record(value, _join(path, str(i))) for i, value in enumerate(tree)]
    if isinstance(tree, FunctionType):
        return {"$function": _name(tree, path)}
    raise no_record(tree, path or "the recipe")


def no_record(value: Any, where: str) -> RecipeError:
    """Return what to say of a value that a record cannot give back as it is."""
    if isinstance(value, list):
        given, write = "a list", "a tuple: (a, b), or (a,) of one"
    elif isinstance(value, Mapping):
        given, write = "a mapping whose keys are not all text", '{"0": ...}, or a tuple of pairs'
    elif isinstance(value, type):
        given, write = f"the class {value.__name__}", f"{value.__name__}(...)"
    else:
        given = f"a value of type {type(value).__name__}"
        write = "a frozen dataclass, or By(function) with a function defined by 'def' in the file"
    return RecipeError(
        given,
        expected="numbers, text, tuples, mappings by text, frozen dataclasses, functions of a file",
        where=where,
        write=write,
    )


def read_record(data: Any, find: Callable[[str], Any]) -> Any:
    """Return the tree that a record describes. Lists become tuples.

    Args:
        data: What `record` returned, through JSON or not.
        find: Looks up `module:name`; raises for what may not be used.
    """
    if isinstance(data, dict):
        if "$" in data:
            body = {k: read_record(v, find) for k, v in data.items() if k != "$"}
            return _construct(find(data["$"]), body, data["$"])
        if "$function" in data:
            return find(data["$function"])
        if "$float" in data:
            return float(data["$float"])
        return {key: read_record(value, find) for key, value in data.items()}
    if isinstance(data, list):
        return tuple(read_record(value, find) for value in data)
    return data


def differences(first: Any, second: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Return (path, in first, in second) for every place where two records differ.

    Example:
        >>> differences({"a": 1, "b": [2]}, {"a": 1, "b": [3]})
        [('b.0', 2, 3)]
    """
    if isinstance(first, dict) and isinstance(second, dict):
        keys = [*first, *(key for key in second if key not in first)]
        pairs = [(str(key), first.get(key), second.get(key)) for key in keys]
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = [(str(i), a, b) for i, (a, b) in enumerate(zip(first, second, strict=True))]
    else:
        return [] if first == second else [(path, first, second)]
    return [row for key, a, b in pairs for row in differences(a, b, _join(path, key))]


@lru_cache(maxsize=1024)
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.init)


def _is_node(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _part_name(value: Any) -> str:
    """Return the name of a named part, or nothing."""
    name = getattr(value, "name", "") if _is_node(value) else ""
    return name if isinstance(name, str) else ""


def _edges(node: Any) -> Iterator[tuple[Keys, str, Any]]:
    """Yield (keys, path piece, child) of a node."""
    if _is_node(node):
        for field in fields(node):
            value = getattr(node, field.name)
            names = [_part_name(v) for v in value] if isinstance(value, tuple) else []
            if names and all(names) and len(set(names)) == len(names):
                for i, (name, item) in enumerate(zip(names, value, strict=True)):
                    yield (field.name, i), name, item
            else:
                yield (field.name,), field.name, value
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield (key,), str(key), value
    elif isinstance(node, tuple):
        for i, value in enumerate(node):
            yield (i,), str(i), value


def _places(tree: Any) -> dict[str, tuple[Keys, Any]]:
    found: dict[str, tuple[Keys, Any]] = {}

    def visit(node: Any, path: str, keys: Keys) -> None:
        for more, piece, child in _edges(node):
            here = _join(path, piece)
            found[here] = (keys + more, child)
            visit(child, here, keys + more)

    visit(tree, "", ())
    return found


def _put(node: Any, keys: Keys, value: Any) -> Any:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(node, Mapping):
        return {**node, key: _put(node[key], rest, value)}
    if isinstance(node, tuple):
        assert isinstance(key, int)
        return (*node[:key], _put(node[key], rest, value), *node[key + 1 :])
    return replace(node, **{str(key): _put(getattr(node, str(key)), rest, value)})


def _like(old: Any, new: Any, path: str) -> Any:
    """Return `new` if it may stand where `old` stood."""
    number = int | float
    if isinstance(new, Schedule) or old is None or new is None:
        fits = old is None or isinstance(old, number | Schedule | Mapping) or new is None
    elif isinstance(old, bool) or isinstance(new, bool):
        fits = isinstance(old, bool) and isinstance(new, bool)
    elif isinstance(old, Schedule):
        fits = isinstance(new, number | Mapping)
    elif isinstance(old, int):
        fits = isinstance(new, int) or (isinstance(new, float) and new.is_integer())
        new = int(new) if fits else new
    elif isinstance(old, float):
        fits = isinstance(new, number)
    elif _is_node(old):
        fits = _is_node(new)
    else:
        fits = isinstance(new, type(old)) or (isinstance(old, Mapping) and isinstance(new, Mapping))
    if not fits:
        raise DialError(
            f"{path} = {new!r}",
            expected=f"a value like the present one, {_shown(old)}",
            where=path,
            write=_instead(old, path),
        )
    return new


def _is_part(value: Any) -> bool:
    """Return whether a value has numbers of its own that a person may set one by one."""
    return _is_node(value) and not isinstance(value, Schedule)


def _shown(value: Any) -> str:
    """Return a value, or the kind of a part: all of its fields would fill the screen."""
    return type(value).__name__ if _is_part(value) else repr(value)


def _instead(value: Any, path: str) -> str:
    """Return what could be written at a path whose value is this one."""
    if _is_part(value):
        return f"a part in a recipe file; here its numbers: {path}.NAME=VALUE"
    return f"{path}=0.001" if isinstance(value, Schedule) else f"{path}={value!r}"


def _name(part: Any, path: str) -> str:
    name = f"{part.__module__}:{part.__qualname__}"
    if "<" in name or "." in part.__qualname__:
        raise RecipeError(
            f"{part.__qualname__}",
            expected="a class or function at the top level of a file",
            where=path or "the recipe",
            write="move it to the top level: a run is rebuilt from the names in its record",
        )
    return name


def _construct(kind: Any, body: dict[str, Any], name: str) -> Any:
    try:
        return kind(**body)
    except TypeError as error:
        raise RecipeError(
            f"recorded fields {sorted(body)}",
            expected=f"the fields of {name} ({error})",
            where="the record of the run",
            write="resume with the version of the code that wrote the run (recipe.json: versions)",
        ) from error


def _join(path: str, piece: str) -> str:
    return f"{path}.{piece}" if path else piece
