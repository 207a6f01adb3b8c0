"""Knights and Knaves: statements as trees, their truth, their English, and a worked search.

A statement is a nested list, so that JSON holds it: `["telling-truth", 2]`, `["lying", 0]`,
`["not", s]`, and `["and" | "or" | "->" | "<=>", s, s]`. English is read back for what the
generator writes: leaves, negated leaves, and two of either joined, which is also the form of the
published puzzles.

Source: arXiv:2410.23123, section 2 (statements and their odds; the published text).
"""

import re
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from thalweg.errors import DataError

__all__ = [
    "Islanders",
    "Statement",
    "read_islanders",
    "reason",
    "say",
    "solve_islanders",
    "true_of",
]

Statement: TypeAlias = list[Any]
"""A kind, and below it people (by number) or statements."""

_SAYINGS = (
    '{n} said, "{s}".',
    "{n} told you that {s}.",
    "{n} said that {s}.",
    '{n} remarked, "{s}".',
    '"{s}," {n} claimed.',
    'In the words of {n}: "{s}".',
)
_INTRO = (
    "On an island live only knights, who always tell the truth, and knaves, who always lie. "
    "You meet {count} of them: {names}. "
)
_QUESTION = "Who is a knight and who is a knave?"


class Islanders(NamedTuple):
    """People and what each of them says."""

    names: tuple[str, ...]
    statements: tuple[Statement, ...]


def true_of(statement: Statement, knights: Sequence[bool | None]) -> bool | None:
    """Return whether a statement is true if these people are knights; None: not yet known.

    Example:
        >>> true_of(["or", ["telling-truth", 0], ["lying", 1]], [True, None])
        True
    """
    kind, *parts = statement
    if kind in ("telling-truth", "lying"):
        knight = knights[parts[0]]
        return None if knight is None else bool(knight == (kind == "telling-truth"))
    values = [true_of(part, knights) for part in parts]
    if kind == "<=>":
        return None if None in values else values[0] == values[1]
    if kind == "not":
        return None if values[0] is None else not values[0]
    if kind == "->":
        values[0] = None if values[0] is None else not values[0]
    decides = bool(kind != "and")  # one true part decides an or, one false part an and
    if decides in values:
        return decides
    return None if None in values else not decides


def solve_islanders(statements: Sequence[Statement]) -> list[tuple[bool, ...]]:
    """Return every assignment in which exactly the knights' statements are true.

    Example:
        >>> solve_islanders([["lying", 1], ["and", ["lying", 0], ["lying", 1]]])
        [(True, False)]
    """
    return [
        knights
        for knights in product((True, False), repeat=len(statements))
        if all(true_of(s, knights) == k for s, k in zip(statements, knights, strict=True))
    ]


def say(statement: Statement, names: Sequence[str]) -> str:
    """Return a statement in English.

    Example:
        >>> say(["->", ["telling-truth", 0], ["not", ["telling-truth", 1]]], ["Ada", "Bo"])
        'if Ada is a knight then Bo is not a knight'
    """
    kind, *parts = statement
    if kind in ("telling-truth", "lying"):
        return f"{names[parts[0]]} is a {_word(kind == 'telling-truth')}"
    said = [say(part, names) for part in parts]
    if kind == "not":
        return said[0].replace(" is a ", " is not a ")
    if kind == "->":
        return f"if {said[0]} then {said[1]}"
    return {"and": " and ", "or": " or ", "<=>": " if and only if "}[kind].join(said)


def write_islanders(island: Islanders, draw: np.random.Generator) -> str:
    """Return the puzzle in English, the ways of saying drawn at random."""
    names = island.names
    lines = []
    for name, statement in zip(names, island.statements, strict=True):
        saying = _SAYINGS[draw.integers(len(_SAYINGS))]
        text = say(statement, names)
        quoted = '"{s}' in saying
        lines.append(saying.format(n=name, s=text[0].upper() + text[1:] if quoted else text))
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{_INTRO.format(count=len(names), names=listed)}{' '.join(lines)} {_QUESTION}"


def read_islanders(prompt: str) -> Islanders:
    """Return the puzzle that English describes: ours, and that of the published sets.

    Raises:
        DataError: No list of names, or not one statement for each.
    """
    listed = re.search(r"(?:inhabitants|of them): ([^.]+)\.", prompt)
    names = tuple(re.split(r", and |, | and ", listed[1])) if listed else ()
    body = prompt[listed.end() :] if listed else ""
    leaf = rf"(?:{'|'.join(map(re.escape, names))}) is (?:not )?a (?:knight|knave)"
    clause = re.compile(
        rf"[Ii]f {leaf} then {leaf}|{leaf} if and only if {leaf}|{leaf} (?:and|or) {leaf}|{leaf}"
    )
    behind = re.compile(rf'(?:," |" - )({"|".join(map(re.escape, names))})\b')
    said: dict[str, Statement] = {}
    end = 0
    for found in clause.finditer(body) if names else ():
        after = behind.match(body, found.end())
        before = [name for name in re.findall(r"\w+", body[end : found.start()]) if name in names]
        speaker = after[1] if after else before[-1] if before else ""
        said[speaker] = _read_clause(found[0], names)
        end = after.end() if after else found.end()
    if not names or set(said) != set(names):
        raise DataError(
            f"statements of {sorted(said)} in the text {prompt[:80]!r} ...",
            expected=f"one statement for each of {list(names)}",
            where="a Knights and Knaves prompt",
            write="a prompt made by Knights, or one in the form of the published sets",
        )
    return Islanders(names, tuple(said[name] for name in names))


def reason(island: Islanders) -> str:
    """Return a search for the solution in words: assume, check, take back, go on.

    People are assumed knights first, then knaves. After each assumption every statement whose
    truth the assumptions decide is checked against its speaker.
    """
    names, statements = island
    lines: list[str] = []

    def clash(knights: list[bool | None]) -> int | None:
        pairs = enumerate(zip(statements, knights, strict=True))
        return next(
            (i for i, (s, k) in pairs if k is not None and true_of(s, knights) not in (None, k)),
            None,
        )

    def go(knights: list[bool | None], person: int) -> bool:
        if person == len(names):
            return True
        for guess in (True, False):
            knights = [*knights[:person], guess, *knights[person + 1 :]]
            lines.append(f"Assume {names[person]} is a {_word(guess)}.")
            wrong = clash(knights)
            if wrong is not None:
                truth = "true" if not knights[wrong] else "false"
                lines.append(f"Then the {_word(bool(knights[wrong]))} {names[wrong]} says")
                lines[-1] += f" something {truth}: a contradiction."
            elif go(knights, person + 1):
                return True
        lines.append(f"So {names[person]} can be neither: go back.")
        return False

    go([None] * len(names), 0)
    return "\n".join(lines)


def _word(knight: bool) -> str:
    return "knight" if knight else "knave"


def _read_clause(text: str, names: Sequence[str]) -> Statement:
    joined = re.fullmatch(r"[Ii]f (.+) then (.+)", text)
    if joined:
        return ["->", *(_read_leaf(part, names) for part in joined.groups())]
    for word, kind in ((" if and only if ", "<=>"), (" and ", "and"), (" or ", "or")):
        if word in text:
            return [kind, *(_read_leaf(part, names) for part in text.split(word))]
    return _read_leaf(text, names)


def _read_leaf(text: str, names: Sequence[str]) -> Statement:
    name, _, rest = text.partition(" is ")
    kind = "telling-truth" if rest.endswith("knight") else "lying"
    leaf: Statement = [kind, names.index(name)]
    return ["not", leaf] if rest.startswith("not ") else leaf
