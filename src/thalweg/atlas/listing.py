"""The entries of the atlas: the files of this folder that set `claim`, read without importing them.

An entry's name is its file's name with dashes. Its code has a fingerprint, in which the words of
the claim, docstrings, comments, annotations and imports do not count: numbers are kept for as long
as it stays the same. Code of other files is not in it.
"""

import ast
import hashlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from thalweg.core.claim import Claim
from thalweg.errors import RecipeError, did_you_mean

__all__ = ["Entry", "entries", "find_entry", "open_claim"]

WORDS = {"paper", "statement", "deviations", "note"}
"""Fields of a claim that are for people."""


class Entry(NamedTuple):
    """What an entry's file says of itself."""

    name: str
    file: Path
    paper: str
    statement: str
    code: str
    """Fingerprint of the code: 12 hexadecimal digits."""


def entries() -> dict[str, Entry]:
    """Return every entry by name.

    Example:
        >>> entries()["rex"].paper
        'arXiv:2107.04197'
    """
    found = (_read(file) for file in sorted(Path(__file__).parent.glob("*.py")))
    return {entry.name: entry for entry in found if entry is not None}


def find_entry(name: str) -> Entry:
    """Return an entry by name, written with dashes or underscores.

    Raises:
        RecipeError: There is none of that name.
    """
    known = entries()
    entry = known.get(name.replace("_", "-"))
    if entry is None:
        raise RecipeError(
            f"entry '{name}'",
            expected="an entry of the atlas",
            where="thalweg.atlas",
            write=did_you_mean(name.replace("_", "-"), known),
        )
    return entry


def open_claim(entry: Entry) -> Claim:
    """Import an entry and return its claim.

    Raises:
        RecipeError: `claim` is no Claim.
    """
    claim = importlib.import_module(f"thalweg.atlas.{entry.file.stem}").claim
    if not isinstance(claim, Claim):
        raise RecipeError(
            f"claim is a {type(claim).__name__}",
            expected="claim = Claim(paper=..., statement=..., arms=..., judge=...)",
            where=str(entry.file),
            write="from thalweg.core.claim import Claim",
        )
    return claim


def _read(file: Path) -> Entry | None:
    """Return the entry of a file, or None if it sets no claim."""
    tree = ast.parse(file.read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            if "claim" in {part.id for part in node.targets if isinstance(part, ast.Name)}:
                words = {key.arg: key.value for key in node.value.keywords}
                name = file.stem.replace("_", "-")
                paper, statement = _text(words.get("paper")), _text(words.get("statement"))
                return Entry(name, file, paper, statement, _fingerprint(tree))
    return None


def _text(node: ast.expr | None) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _fingerprint(tree: ast.Module) -> str:
    """Return a digest of the code, the same in every version of Python."""
    return hashlib.sha256("\n".join(_parts(tree)).encode()).hexdigest()[:12]


def _parts(node: ast.AST) -> Iterator[str]:
    """Yield kinds, names and constants in order, without what says nothing to the machine."""
    yield type(node).__name__
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for part in value if isinstance(value, list) else [value]:
            if _is_silent(part):
                continue
            if isinstance(part, ast.AST):
                yield from _parts(part)
            elif part is not None:
                yield f"{name}={part!r}"


def _is_silent(part: object) -> bool:
    """Return whether this is a docstring, an import, or words of the claim."""
    if isinstance(part, ast.keyword):
        return part.arg in WORDS
    if isinstance(part, ast.Expr):
        return isinstance(part.value, ast.Constant)
    return isinstance(part, ast.Import | ast.ImportFrom)
