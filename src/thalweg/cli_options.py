"""A recipe's arguments as options of the command line."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

__all__ = ["Own", "repeated", "signature_of"]

Own = Mapping[str, tuple[Any, Any]]
"""Options of a verb that are not the recipe's: name -> annotation and default."""


def repeated(arguments: Sequence[str], option: str) -> list[str]:
    """Return `--from A B` as `--from A --from B`: up to the next option or path=value."""
    found: list[str] = []
    open_ = False
    for word in arguments:
        more = open_ and not word.startswith("-") and "=" not in word
        if more and found[-1] != option:
            found.append(option)
        found.append(word)
        open_ = word == option or more
    return found


def signature_of(function: Callable[..., Any], own: Own) -> inspect.Signature:
    """Return the signature that Typer reads: the recipe's options, overrides, the verb's own."""
    helps = _argument_help(function.__doc__ or "")
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(
            p.name,
            keyword,
            default=... if p.default is inspect.Parameter.empty else p.default,
            annotation=Annotated[p.annotation, typer.Option(help=helps.get(p.name, ""))],
        )
        for p in inspect.signature(function, eval_str=True).parameters.values()
    ]
    changes = Annotated[
        list[str] | None, typer.Argument(help="path=value: a value at any place of the recipe.")
    ]
    parameters.append(inspect.Parameter("changes", keyword, default=None, annotation=changes))
    parameters += [
        inspect.Parameter(name, keyword, default=default, annotation=annotation)
        for name, (annotation, default) in own.items()
    ]
    return inspect.Signature(parameters)


def _argument_help(doc: str) -> dict[str, str]:
    """Return what a docstring's Args section says of each argument."""
    found: dict[str, str] = {}
    name = ""
    for line in doc.partition("Args:")[2].split("\n"):
        text = line.strip()
        head, colon, rest = text.partition(": ")
        if colon and head.isidentifier() and not line.startswith(" " * 12):
            name, found[head] = head, rest
        elif name and text and line.startswith(" " * 12):
            found[name] += " " + text
    return found
