"""Which parameter goes to which spec: by kinds and patterns, never by numbers."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeAlias

from torch import nn

from thalweg.errors import did_you_mean
from thalweg.optim.groups import Groups
from thalweg.optim.mechanic import Mechanic
from thalweg.optim.plain import Muon
from thalweg.optim.project import Projected
from thalweg.optim.values import Leaf, Named, join, misfit

__all__ = ["Assigned", "OptimizerSpec", "assign", "leaves", "structure"]

OptimizerSpec: TypeAlias = Leaf | Groups
"""What may stand in `Learn.optimizer`: one of this room, or any frozen dataclass like them."""


class Assigned(NamedTuple):
    """A spec and its parameters."""

    path: str
    leaf: Leaf
    named: Named


def leaves(spec: OptimizerSpec, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """Yield every spec with its path, inner ones before their wrappers.

    A Muon stands for its matrices, a wrapper for what it does itself.
    """
    if isinstance(spec, Groups):
        for pattern, inner in spec.groups.items():
            yield from leaves(inner, join(path, f"groups.{pattern}"))
        return
    if isinstance(spec, Mechanic | Projected):
        yield from leaves(spec.inner, join(path, "inner"))
    yield path, spec
    if isinstance(spec, Muon):
        yield from leaves(spec.rest, join(path, "adam"))


def structure(spec: OptimizerSpec) -> tuple[object, ...]:
    """Return all of a spec but its numbers."""
    if isinstance(spec, Groups):
        return ("Groups", *((pattern, structure(one)) for pattern, one in spec.groups.items()))
    inner = (structure(spec.inner),) if isinstance(spec, Mechanic | Projected) else ()
    return (type(spec).__name__, *spec.fixed(), *inner)


def assign(spec: OptimizerSpec, named: Named, path: str = "") -> Iterator[Assigned]:
    """Yield every spec with its parameters, in the order in which they step.

    Raises:
        RecipeError: A parameter matches no pattern, a pattern or a Muon gets no parameter.
    """
    if isinstance(spec, Groups):
        for pattern, mine in _match(spec, named, path).items():
            yield from assign(spec.groups[pattern], mine, join(path, f"groups.{pattern}"))
    elif isinstance(spec, Muon):
        yield from _by_shape(spec, named, path)
    elif isinstance(spec, Mechanic | Projected):
        yield from assign(spec.inner, named, join(path, "inner"))
        takes = spec.takes if isinstance(spec, Projected) else lambda name, parameter: True
        mine = [(name, parameter) for name, parameter in named if takes(name, parameter)]
        if not mine:
            raise _nothing(spec, named, "a matrix whose name matches none of its `others`")
        yield Assigned(path, spec, mine)
    else:
        yield Assigned(path, spec, named)


def _by_shape(spec: Muon, named: Named, path: str) -> Iterator[Assigned]:
    hidden = [(name, p) for name, p in named if spec.takes(name, p)]
    if not hidden:
        raise _nothing(spec, named, f"a matrix whose name matches none of {spec.others}")
    yield Assigned(path, spec, hidden)
    rest = [(name, p) for name, p in named if not spec.takes(name, p)]
    if rest:
        yield Assigned(join(path, "adam"), spec.rest, rest)


def _nothing(spec: Leaf, named: Named, expected: str) -> Exception:
    kind = type(spec).__name__
    return misfit(
        f"{kind} for {', '.join(name for name, _ in named[:5])} ...",
        expected,
        f"AdamW for these parameters, or narrower patterns in {kind}.others",
    )


def _match(spec: Groups, named: Named, path: str) -> dict[str, list[tuple[str, nn.Parameter]]]:
    found: dict[str, list[tuple[str, nn.Parameter]]] = {pattern: [] for pattern in spec.groups}
    where = join("optimizer", join(path, "groups"))
    for name, parameter in named:
        pattern = next((p for p in spec.groups if fnmatchcase(name, p)), None)
        if pattern is None:
            raise misfit(
                f"parameter '{name}', which matches none of {list(spec.groups)}",
                "a pattern for every parameter",
                'a last pattern "*"',
                where,
            )
        found[pattern].append((name, parameter))
    for pattern, mine in found.items():
        if not mine:
            raise misfit(
                f"pattern '{pattern}', which gets no parameter",
                "patterns that match a trained parameter which no earlier pattern took",
                did_you_mean(pattern, [name for name, _ in named]),
                where,
            )
    return found
