"""Zebra grids: who lives in which house, from clues that have exactly one solution.

Source: arXiv:2502.01100. Deviations: our words and form of prompt, no example grid in it; sizes
from 2 x 1 to 6 x 6.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log10
from types import MappingProxyType
from typing import Literal

import numpy as np

from thalweg.core.protocols import Grade, Problem
from thalweg.errors import RecipeError, did_you_mean
from thalweg.tasks.draw import check_whole, rise
from thalweg.tasks.grid import RELATIONS, Grid, Puzzle, make_puzzle
from thalweg.tasks.jsontext import last_object
from thalweg.tasks.zebra_text import (
    Attribute,
    compact_answer,
    draw_words,
    read_compact,
    read_text,
    write_compact,
    write_text,
)

__all__ = ["ZEBRA_WEIGHTS", "Zebra", "read_zebra"]

ZEBRA_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "same_house": 1.5,
        "found_at": 2.0,
        "not_at": 2.5,
        "direct_left": 3.0,
        "left_of": 4.0,
        "side_by_side": 4.0,
        "one_between": 4.0,
        "two_between": 4.0,
    }
)
"""How early clues of a kind are deleted; calibrated, see `tests/tasks/test_zebra.py`."""

_MOST = 6


@dataclass(frozen=True)
class Zebra:
    """Fill a grid of houses and attributes from clues.

    The answer to `text` is JSON, `{"solution": {"House 1": {"Name": "Ada", ...}, ...}}`; to
    `compact` the values of house 1, of house 2, ...: `a1=b2 a2@1` has `21 12`.

    Level: steps from the size as constructed, an attribute and a house more by turns; the
    difficulty is log10 of the number of grids, (houses!)^attributes.

    Example:
        >>> problem = Zebra(3, 2, notation="compact").make(np.random.default_rng(1), level=0.0)
        >>> problem.prompt, problem.answer
        ('3x2 b3!3 a1/a2 b2<a2 a1!2 ?', '12 23 31')
    """

    houses: int = 3
    attributes: int = 3
    notation: Literal["text", "compact"] = "text"
    reward: Literal["puzzle", "cell"] = "puzzle"
    """Score 1 for the whole grid and else 0, or the share of right cells."""
    weights: Mapping[str, float] = field(default_factory=lambda: ZEBRA_WEIGHTS)
    """For each kind of clue, how early it is deleted, above 0; more means fewer of it."""

    def __post_init__(self) -> None:
        """Refuse sizes out of range, unknown words and weights that leave a kind out."""
        check_whole("Zebra", "houses", self.houses, 2, _MOST)
        check_whole("Zebra", "attributes", self.attributes, 1, _MOST)
        for name, value, known in (
            ("notation", self.notation, ("text", "compact")),
            ("reward", self.reward, ("puzzle", "cell")),
        ):
            if value not in known:
                raise RecipeError(
                    f"{name} = {value!r}",
                    expected=" or ".join(map(repr, known)),
                    where="Zebra",
                    write=did_you_mean(str(value), known),
                )
        if set(self.weights) != set(RELATIONS) or not all(w > 0 for w in self.weights.values()):
            raise RecipeError(
                f"weights = {dict(self.weights)!r}",
                expected=f"a number above 0 for each of {', '.join(RELATIONS)}",
                where="Zebra",
                write='weights={**ZEBRA_WEIGHTS, "not_at": 8.0}',
            )

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a grid with a minimal set of clues; pure in the generator and the level."""
        steps = rise(draw, level)
        houses, attributes = self.houses + steps // 2, self.attributes + (steps + 1) // 2
        check_whole("Zebra.make", "houses at this level", houses, 2, _MOST)
        check_whole("Zebra.make", "attributes at this level", attributes, 1, _MOST)
        puzzle, grid = make_puzzle(draw, houses, attributes, self.weights)
        facts = {
            "difficulty": log10(puzzle.search_space),
            "houses": houses,
            "attributes": attributes,
            "clues": len(puzzle.clues),
        }
        if self.notation == "compact":
            return Problem(write_compact(puzzle), compact_answer(grid, houses), facts)
        words = draw_words(draw, houses, attributes)
        return Problem(write_text(puzzle, words, draw), _answer(grid, words), facts)

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge a grid; `parts` has the share of right cells.

        Missing cells are wrong. Cells that the grid does not have are no part of an answer: a text
        with one is not readable.
        """
        cells = _compact_cells if self.notation == "compact" else _json_cells
        wanted, given = cells(problem.answer), cells(answer)
        if not given or not given.keys() <= wanted.keys():
            return Grade(0.0, parsed=False)
        share = sum(given.get(cell) == value for cell, value in wanted.items()) / len(wanted)
        score = share if self.reward == "cell" else float(share == 1.0)
        return Grade(score, parts={"cell": share})


def read_zebra(prompt: str) -> Puzzle:
    """Return the puzzle in a prompt of `Zebra`, whatever its notation.

    Raises:
        DataError: The prompt has a clue that `Zebra` does not write.

    Example:
        >>> read_zebra("2x1 a1@2 ?").clues
        (Clue(kind='found_at', a=0, b=1),)
    """
    return read_text(prompt)[0] if "\n" in prompt else read_compact(prompt)


def _answer(grid: Grid, words: tuple[Attribute, ...]) -> str:
    houses = len(words[0].values)
    rows: list[dict[str, str]] = [{} for _ in range(houses)]
    for item, house in enumerate(grid):
        attribute = words[item // houses]
        rows[house][attribute.name] = attribute.values[item % houses]
    return json.dumps({"solution": {f"House {i}": row for i, row in enumerate(rows, 1)}})


def _json_cells(text: str) -> dict[tuple[str, str], str]:
    """Return what an answer says of each (house, attribute); nothing if it says one twice."""
    found = last_object(text) or {}
    solution = found.get("solution", found)
    said = [
        ((house.strip().lower(), name.strip().lower()), _only(value).strip().lower())
        for house, row in (solution.items() if isinstance(solution, dict) else ())
        for name, value in (row.items() if isinstance(row, dict) else ())
    ]
    cells = dict(said)
    return cells if len(cells) == len(said) and any(cells.values()) else {}


def _only(value: object) -> str:
    """Return a text, or that of a list of one; '' for anything else, which is no value."""
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    return one if isinstance(one, str) else ""


def _compact_cells(text: str) -> dict[tuple[str, str], str]:
    rows = text.split() if len(text) <= 1000 else []
    if not rows or not all(row.isascii() and row.isdigit() for row in rows):
        return {}
    return {(str(i), str(j)): value for i, row in enumerate(rows) for j, value in enumerate(row)}
