"""Knights and Knaves: who tells the truth, when everybody only talks of everybody.

Source: arXiv:2410.23123 and its generator (github AlphaPav/mem-kk-logic). Deviation: statements
are at most two leaves deep, as in the published sets; the wording is ours.
"""

import re
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np

from thalweg.core.protocols import Grade, Problem
from thalweg.errors import RecipeError
from thalweg.tasks.draw import check_whole, rise
from thalweg.tasks.islanders import (
    Islanders,
    Statement,
    reason,
    solve_islanders,
    write_islanders,
)

__all__ = ["Knights"]

NAMES = (
    "Ada",
    "Bruno",
    "Chen",
    "Dora",
    "Emil",
    "Farah",
    "Goran",
    "Hana",
    "Ivo",
    "Jun",
    "Kim",
    "Lena",
)
_PAIRS = ("and", "or", "->", "<=>")
_LONGEST_CLAIM = 100  # characters; `1. Bruno is a knight, and` has 26
_MOST_TRIES = 10_000
_MARK = re.compile(r"<answer>|answer:", re.IGNORECASE)


@dataclass(frozen=True)
class Knights:
    """Say of each inhabitant whether he is a knight or a knave; the solution is unique.

    Level: people above `people`.

    Example:
        >>> problem = Knights(people=2).make(np.random.default_rng(0), level=0.0)
        >>> problem.answer
        'Jun is a knight and Chen is a knight.'
    """

    people: int = 3
    """Inhabitants at level 0, from 2 to 12."""
    _: KW_ONLY
    scratchpad: bool = False
    """Whether the answer shows the search (assume, check, take back) before `Answer:`."""

    def __post_init__(self) -> None:
        """Refuse a number out of range."""
        check_whole("Knights", "people", self.people, 2, len(NAMES))

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a puzzle with one solution; pure in the generator and the level."""
        people = self.people + rise(draw, level)
        check_whole("Knights.make", "people + level", people, 2, len(NAMES))
        names = tuple(NAMES[i] for i in draw.permutation(len(NAMES))[:people])
        statements = [_statement(draw, i, people) for i in range(people)]
        while len(solve_islanders(statements)) != 1:
            statements = [_statement(draw, i, people) for i in range(people)]
        return self._problem(Islanders(names, tuple(statements)), draw)

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge a list of `X is a knight`, in any order; `parts` has the share of right people.

        What follows the last `Answer:` or `<answer>` counts, or all of the text. Whoever is
        missing, named twice, or put in other words makes it unreadable.
        """
        names = problem.facts["names"]
        wanted, given = _roles(problem.answer, names), _roles(answer, names)
        if given is None or wanted is None:
            return Grade(0.0, parsed=False)
        right = sum(given[name] == wanted[name] for name in names)
        return Grade(float(right == len(names)), parts={"person": right / len(names)})

    def perturb(
        self, problem: Problem, draw: np.random.Generator, kind: Literal["statement", "leaf"]
    ) -> Problem:
        """Return the problem with one statement, or one leaf of one, replaced.

        The new puzzle has one solution again, and it is another one: whoever memorised the old
        answer is wrong.

        Raises:
            RecipeError: No such puzzle was found.
        """
        names = tuple(problem.facts["names"])
        old = problem.facts["statements"]
        before = solve_islanders(old)
        for _ in range(_MOST_TRIES):
            who = int(draw.integers(len(names)))
            new = _statement(draw, who, len(names))
            if kind == "leaf":
                new = _with_leaf(old[who], _leaf(draw, who, len(names)), draw)
            statements = (*old[:who], new, *old[who + 1 :])
            after = solve_islanders(statements)
            if len(after) == 1 and after != before:
                return self._problem(Islanders(names, statements), draw)
        raise RecipeError(
            f"no {kind} of this puzzle can be replaced",
            expected="a change that leaves one solution, and another one",
            where="Knights.perturb",
            write='kind="statement", or another problem',
        )

    def _problem(self, island: Islanders, draw: np.random.Generator) -> Problem:
        [knights] = solve_islanders(island.statements)
        roles = [
            f"{name} is a {'knight' if knight else 'knave'}"
            for name, knight in zip(island.names, knights, strict=True)
        ]
        answer = f"{', '.join(roles[:-1])} and {roles[-1]}."
        if self.scratchpad:
            answer = f"{reason(island)}\nAnswer: {answer}"
        facts = {
            "difficulty": float(len(roles)),
            "names": list(island.names),
            "statements": list(island.statements),
        }
        return Problem(write_islanders(island, draw), answer, facts)


def _statement(draw: np.random.Generator, speaker: int, people: int) -> Statement:
    """Return a leaf, a negated leaf or two leaves joined, all six kinds alike often."""
    dice = int(draw.integers(6))
    first = _leaf(draw, speaker, people)
    if dice == 0:
        return first
    if dice == 1:
        return ["not", first]
    second = first
    while second == first:
        second = _leaf(draw, speaker, people)
    return [_PAIRS[dice - 2], first, second]


def _leaf(draw: np.random.Generator, speaker: int, people: int) -> Statement:
    """Return a leaf; nobody says of himself that he lies, which neither kind could."""
    who = int(draw.integers(people))
    lying = bool(draw.integers(2)) and who != speaker
    return ["lying" if lying else "telling-truth", who]


def _with_leaf(statement: Statement, leaf: Statement, draw: np.random.Generator) -> Statement:
    kind, *parts = statement
    if kind in ("telling-truth", "lying"):
        return leaf
    which = int(draw.integers(len(parts)))
    return [kind, *(leaf if i == which else part for i, part in enumerate(parts))]


def _roles(text: str, names: list[str]) -> dict[str, str] | None:
    """Return who is said to be what, or None if that is not all the text says."""
    *_, text = _MARK.split(text.strip().removesuffix("</answer>"))
    if len(text) > _LONGEST_CLAIM * len(names):
        return None
    anyone = "|".join(map(re.escape, names))
    claim = re.compile(rf"(?:\(?\d{{1,3}}[.)] ?)?({anyone}) is a (knight|knave)")
    found = claim.findall(text)
    rest = claim.sub("", text)
    roles = dict(found)
    whole = len(found) == len(roles) == len(names) and not re.sub(r"[\s,.;*-]|\band\b", "", rest)
    return roles if whole else None
