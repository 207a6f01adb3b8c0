"""Zebra grids in words and back: two notations, each written and read by the same table.

`text` is English with names for everything; `compact` writes items as a letter for the attribute
and a digit for the value (`a1`), so that a model with a vocabulary of characters can play. Values
are listed in alphabetical order, which says nothing of the houses.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from thalweg.errors import DataError
from thalweg.tasks.grid import Clue, Grid, Puzzle

__all__ = [
    "Attribute",
    "compact_answer",
    "draw_words",
    "read_compact",
    "read_text",
    "write_compact",
    "write_text",
]


class Attribute(NamedTuple):
    """A group of values: what it is called, how a value is said, and the values."""

    name: str
    says: str
    values: tuple[str, ...]


ATTRIBUTES = (
    Attribute("Name", "{}", ("Ada", "Bruno", "Chen", "Dora", "Emil", "Farah")),
    Attribute("Pet", "the owner of the {}", ("cat", "dog", "goat", "horse", "parrot", "turtle")),
    Attribute(
        "Drink", "the person who drinks {}", ("cocoa", "coffee", "juice", "milk", "tea", "water")
    ),
    Attribute(
        "Job",
        "the person who works as a {}",
        ("baker", "doctor", "farmer", "nurse", "pilot", "tailor"),
    ),
    Attribute(
        "Door", "the person with the {} door", ("black", "blue", "green", "red", "white", "yellow")
    ),
    Attribute(
        "Sport",
        "the person who likes {}",
        ("chess", "fencing", "golf", "rowing", "rugby", "tennis"),
    ),
)

_CLUES = {
    "found_at": "{a} lives in house {b}",
    "not_at": "{a} does not live in house {b}",
    "same_house": "{a} is also {b}",
    "direct_left": "{a} lives directly left of {b}",
    "left_of": "{a} lives somewhere to the left of {b}",
    "side_by_side": "{a} lives next door to {b}",
    "one_between": "there is one house between {a} and {b}",
    "two_between": "there are two houses between {a} and {b}",
}
_RIGHT_OF = "{b} lives somewhere to the right of {a}"
_SIGNS = {
    "found_at": "@",
    "not_at": "!",
    "same_house": "=",
    "direct_left": "/",
    "left_of": "<",
    "side_by_side": "|",
    "one_between": ":",
    "two_between": ";",
}
_KINDS = {sign: kind for kind, sign in _SIGNS.items()}
_COMPACT = re.compile(r"([a-f])([1-6])([@!=/<|:;])([a-f]?)([1-6])")
_HEAD = (
    "{houses} houses stand in a row, numbered 1 to {houses} from left to right. One person lives "
    "in each. Every person differs from the others in each of these:\n"
)
_TAIL = (
    "\nWho lives where? End with a JSON object of this form, with every house and every entry:\n"
    '{{"solution": {{"House 1": {example}, ...}}}}\n'
)


def draw_words(draw: np.random.Generator, houses: int, attributes: int) -> tuple[Attribute, ...]:
    """Return attributes with values drawn and sorted: names first, then others at random."""
    others = 1 + draw.permutation(len(ATTRIBUTES) - 1)[: attributes - 1]
    chosen = [ATTRIBUTES[0], *(ATTRIBUTES[i] for i in others)]
    picks = [sorted(draw.permutation(len(a.values))[:houses]) for a in chosen]
    return tuple(
        a._replace(values=tuple(a.values[i] for i in pick))
        for a, pick in zip(chosen, picks, strict=True)
    )


def write_text(puzzle: Puzzle, words: Sequence[Attribute], draw: np.random.Generator) -> str:
    """Return the puzzle in English; half of the left_of clues are told from the right."""
    lists = "".join(f"- {a.name}: {', '.join(a.values)}\n" for a in words)
    said = [a.says.format(value) for a in words for value in a.values]
    lines = []
    for number, (kind, a, b) in enumerate(puzzle.clues, 1):
        form = _RIGHT_OF if kind == "left_of" and draw.random() < 0.5 else _CLUES[kind]
        other = str(b + 1) if kind in ("found_at", "not_at") else said[b]
        text = form.format(a=said[a], b=other)
        lines.append(f"{number}. {text[0].upper()}{text[1:]}.\n")
    example = "{" + ", ".join(f'"{a.name}": "..."' for a in words) + "}"
    tail = _TAIL.format(example=example)
    return f"{_HEAD.format(houses=puzzle.houses)}{lists}\nClues:\n{''.join(lines)}{tail}"


def read_text(prompt: str) -> tuple[Puzzle, tuple[Attribute, ...]]:
    """Return the puzzle that an English prompt describes, with the words it uses.

    Raises:
        DataError: A line that no clue is written like.
    """
    known = {a.name: a for a in ATTRIBUTES}
    lists = re.findall(r"^- (\w+): (.+)$", prompt, re.MULTILINE)
    words = tuple(known[name]._replace(values=tuple(v.split(", "))) for name, v in lists)
    said = {
        a.says.format(v): i * len(a.values) + j
        for i, a in enumerate(words)
        for j, v in enumerate(a.values)
    }
    lines = re.findall(r"^\d+\. (.+)\.$", prompt, re.MULTILINE)
    clues = tuple(_read_line(line, said) for line in lines)
    return Puzzle(len(words[0].values), len(words), clues), words


def write_compact(puzzle: Puzzle) -> str:
    """Return the puzzle in signs: size, clues in their order, `?`.

    Example:
        >>> write_compact(Puzzle(2, 2, (Clue("same_house", 0, 3), Clue("found_at", 1, 0))))
        '2x2 a1=b2 a2@1 ?'
    """
    items = [
        f"{'abcdef'[i]}{j + 1}" for i in range(puzzle.attributes) for j in range(puzzle.houses)
    ]
    clues = [
        items[a] + _SIGNS[kind] + (str(b + 1) if kind in ("found_at", "not_at") else items[b])
        for kind, a, b in puzzle.clues
    ]
    return f"{puzzle.houses}x{puzzle.attributes} {' '.join(clues)} ?"


def read_compact(prompt: str) -> Puzzle:
    """Return the puzzle that signs describe.

    Raises:
        DataError: A clue that is not item, sign, item or house.
    """
    size, *clues = prompt.rstrip(" ?").split(" ")
    houses, attributes = (int(n) for n in size.split("x"))
    return Puzzle(houses, attributes, tuple(_read_signs(clue, houses) for clue in clues))


def compact_answer(grid: Grid, houses: int) -> str:
    """Return for each house its value of every attribute: `21 12` for two houses."""
    rows = [[""] * (len(grid) // houses) for _ in range(houses)]
    for item, house in enumerate(grid):
        rows[house][item // houses] = str(item % houses + 1)
    return " ".join(map("".join, rows))


def _read_line(line: str, said: dict[str, int]) -> Clue:
    for kind, form in [*_CLUES.items(), ("left_of", _RIGHT_OF)]:
        pattern = re.escape(form).replace(r"\{a\}", "(?P<a>.+)").replace(r"\{b\}", "(?P<b>.+)")
        found = re.fullmatch(pattern, line, re.IGNORECASE)
        if found is None:
            continue
        a = _item(found["a"], said)
        if kind in ("found_at", "not_at"):
            return Clue(kind, a, int(found["b"]) - 1)
        return Clue(kind, a, _item(found["b"], said))
    raise _unread(line)


def _item(text: str, said: dict[str, int]) -> int:
    for known in (text, text[0].lower() + text[1:]):
        if known in said:
            return said[known]
    raise _unread(text)


def _read_signs(clue: str, houses: int) -> Clue:
    found = _COMPACT.fullmatch(clue)
    if found is None:
        raise _unread(clue)
    a, value, sign, other, number = found.groups()
    item = "abcdef".index(a) * houses + int(value) - 1
    kind = _KINDS[sign]
    return Clue(kind, item, int(number) - 1 + ("abcdef".index(other) * houses if other else 0))


def _unread(text: str) -> DataError:
    return DataError(
        f"the clue {text!r}",
        expected="a clue as Zebra writes it",
        where="a Zebra prompt",
        write="a prompt made by Zebra",
    )
