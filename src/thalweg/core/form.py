"""Whether parts have what their kind asks for: the first thing that is looked at of a recipe."""

from functools import lru_cache
from typing import TYPE_CHECKING

from thalweg.core.protocols import Controller, ModelSpec, Monitor, Move, Source
from thalweg.errors import RecipeError

if TYPE_CHECKING:
    from thalweg.core.recipe import Recipe

__all__ = ["check_form", "check_part"]


def check_form(recipe: "Recipe") -> None:
    """Refuse a recipe whose phases hold what is no source, move, controller or monitor.

    Raises:
        RecipeError: A part that lacks something, a class in place of a part, no tuple of parts.
    """
    from thalweg.core.recipe import CopyOf

    for name, spec in recipe.models.items():
        if not isinstance(spec, CopyOf):
            check_part(spec, ModelSpec, f"models.{name}")
    _check_tuple(recipe.phases, "Recipe.phases")
    for phase in recipe.phases:
        check_part(phase.source, Source, f"{phase.name}.source")
        for field, kind in (("do", Move), ("controllers", Controller), ("monitors", Monitor)):
            parts = getattr(phase, field)
            _check_tuple(parts, f"{phase.name}.{field}")
            for part in parts:
                check_part(part, kind, f"{phase.name}.{field}")


def check_part(part: object, kind: type, where: str) -> None:
    """Refuse what lacks a member of a protocol, or is a class and no part.

    Args:
        part: What stands there.
        kind: The protocol.
        where: Its place, for the error.

    Raises:
        RecipeError: As above.
    """
    own: type = type(part)
    wanted = _wanted(kind)
    lacking = [name for name in _lacking(own, kind) if name not in getattr(part, "__dict__", {})]
    title = part.__name__ if isinstance(part, type) else own.__name__
    if isinstance(part, type):
        given, write = f"the class {title}", f"{title}(...)"
    elif lacking:
        given = f"{title} without {', '.join(lacking)}"
        write = f"{lacking[0]} in {title}; docs/own-recipe.md shows a part of each kind"
    else:
        return
    raise RecipeError(
        given, expected=f"{kind.__name__}, which has {', '.join(wanted)}", where=where, write=write
    )


@lru_cache(maxsize=1024)
def _lacking(own: type, kind: type) -> tuple[str, ...]:
    """Return the members of a protocol that neither a class nor those it comes from define."""
    has = {name for one in own.__mro__ for name in vars(one)}
    return tuple(name for name in _wanted(kind) if name not in has)


@lru_cache(maxsize=64)
def _wanted(kind: type) -> tuple[str, ...]:
    """Return the members of a protocol in its order."""
    named = dict.fromkeys((*getattr(kind, "__annotations__", ()), *vars(kind)))
    return tuple(name for name in named if name == "__call__" or not name.startswith("_"))


def _check_tuple(parts: object, where: str) -> None:
    if not isinstance(parts, tuple):
        raise RecipeError(
            f"a {type(parts).__name__}",
            expected="a tuple of parts",
            where=where,
            write=f"{where.rpartition('.')[2]}=(part,)",
        )
