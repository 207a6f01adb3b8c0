"""Zebra grids: the clues, a solver that counts solutions, and minimal sets of clues.

An item is one value of one attribute, numbered `attribute * houses + value`. A grid says in which
house each item stands; the items of an attribute stand in different houses. Every clue is a
relation of house numbers, so the solver knows no kind of clue: it keeps for each item a bit mask
of houses, and a table per relation says which houses a mask allows the other item.

Source: arXiv:2502.01100, section 2 (clue types, minimal clues by deletion). Deviations: left_of
stands for right_of too, which only the text tells apart; instead of trying the clues one by one,
a binary search finds the next one that cannot go. The result is that of one-by-one deletion in
the same order, with about 20 times fewer calls of the solver on large grids.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import factorial
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np

__all__ = ["RELATIONS", "Clue", "Grid", "Puzzle", "make_puzzle", "solve"]

Grid: TypeAlias = tuple[int, ...]
"""The house of each item, counted from 0."""

RELATIONS: Mapping[str, Callable[[int, int], bool]] = MappingProxyType(
    {
        "found_at": lambda a, b: a == b,
        "not_at": lambda a, b: a != b,
        "same_house": lambda a, b: a == b,
        "direct_left": lambda a, b: a + 1 == b,
        "left_of": lambda a, b: a < b,
        "side_by_side": lambda a, b: abs(a - b) == 1,
        "one_between": lambda a, b: abs(a - b) == 2,
        "two_between": lambda a, b: abs(a - b) == 3,
    }
)
"""What each kind of clue says of the houses of its first item and of its second, or of a house."""

_PLACED = ("found_at", "not_at")
_MUTUAL = ("same_house", "side_by_side", "one_between", "two_between")


class Clue(NamedTuple):
    """One clue: a kind, an item, and a second item (for found_at and not_at a house)."""

    kind: str
    a: int
    b: int

    def holds(self, grid: Grid) -> bool:
        """Whether the grid agrees with it."""
        b = self.b if self.kind in _PLACED else grid[self.b]
        return RELATIONS[self.kind](grid[self.a], b)


class Puzzle(NamedTuple):
    """A number of houses and attributes, and what is known of them."""

    houses: int
    attributes: int
    clues: tuple[Clue, ...]

    @property
    def search_space(self) -> int:
        """How many grids there are without the clues: (houses!)^attributes."""
        return int(factorial(self.houses) ** self.attributes)


def solve(puzzle: Puzzle, at_most: int = 2) -> list[Grid]:
    """Return solutions, at most so many: two are enough to see that a puzzle is not unique.

    Example:
        >>> solve(Puzzle(2, 1, (Clue("not_at", 0, 1),)))
        [(0, 1)]
    """
    full = (1 << puzzle.houses) - 1
    masks = [full] * (puzzle.houses * puzzle.attributes)
    links = []
    for kind, a, b in puzzle.clues:
        forth, back = _tables(kind, puzzle.houses)
        if kind in _PLACED:
            masks[a] &= back[1 << b]
        else:
            links.append((a, b, forth, back))
    found: list[Grid] = []
    _search(masks, links, puzzle.houses, at_most, found)
    return found


def make_puzzle(
    draw: np.random.Generator, houses: int, attributes: int, weights: Mapping[str, float]
) -> tuple[Puzzle, Grid]:
    """Return a puzzle with one solution from which no clue can be taken, and the solution.

    Args:
        draw: Where the grid and the order of deletion come from.
        houses: Items of each attribute.
        attributes: Groups of items.
        weights: How early clues of each kind are deleted, above 0: the next clue to try is drawn
            with these odds.
    """
    grid = tuple(int(h) for _ in range(attributes) for h in draw.permutation(houses))
    clues = _true_clues(grid, houses)
    odds = np.array([weights[clue.kind] for clue in clues])
    order = np.argsort(draw.exponential(size=len(clues)) / odds, kind="stable")
    kept = _minimal([clues[i] for i in order], houses, attributes)
    shuffled = tuple(kept[i] for i in draw.permutation(len(kept)))
    return Puzzle(houses, attributes, shuffled), grid


def _true_clues(grid: Grid, houses: int) -> list[Clue]:
    items = range(len(grid))
    out = [Clue("found_at", a, grid[a]) for a in items]
    out += [Clue("not_at", a, h) for a in items for h in range(houses) if h != grid[a]]
    for kind in RELATIONS.keys() - set(_PLACED):
        pairs = ((a, b) for a in items for b in items if a != b)
        if kind in _MUTUAL:
            pairs = ((a, b) for a, b in pairs if a < b)
        out += [clue for clue in (Clue(kind, a, b) for a, b in pairs) if clue.holds(grid)]
    return sorted(out)


def _minimal(clues: Sequence[Clue], houses: int, attributes: int) -> list[Clue]:
    """Delete clues in this order where the solution stays unique; return those that are left."""

    def unique(kept: list[Clue], first: int) -> bool:
        return len(solve(Puzzle(houses, attributes, (*kept, *clues[first:])))) == 1

    kept: list[Clue] = []
    first = 0
    while not unique(kept, len(clues)):
        low, high = first, len(clues)  # unique without clues[:low], not without clues[:high]
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if unique(kept, middle) else (low, middle)
        kept.append(clues[low])
        first = low + 1
    return kept


@lru_cache(maxsize=256)
def _tables(kind: str, houses: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return, for every mask of one item's houses, the mask it allows the other: both ways."""
    relation = RELATIONS[kind]
    ahead = [sum(1 << b for b in range(houses) if relation(a, b)) for a in range(houses)]
    behind = [sum(1 << a for a in range(houses) if relation(a, b)) for b in range(houses)]
    return _unions(ahead), _unions(behind)


def _unions(rows: Sequence[int]) -> tuple[int, ...]:
    out = [0]
    for row in rows:
        out += [mask | row for mask in out]
    return tuple(out)


_Link: TypeAlias = tuple[int, int, tuple[int, ...], tuple[int, ...]]


def _search(
    masks: list[int], links: Sequence[_Link], houses: int, at_most: int, found: list[Grid]
) -> None:
    if not _narrow(masks, links, houses):
        return
    open_items = [i for i, mask in enumerate(masks) if mask & (mask - 1)]
    if not open_items:
        found.append(tuple(mask.bit_length() - 1 for mask in masks))
        return
    item = min(open_items, key=lambda i: masks[i].bit_count())
    for house in range(houses):
        if masks[item] >> house & 1 and len(found) < at_most:
            branch = masks.copy()
            branch[item] = 1 << house
            _search(branch, links, houses, at_most, found)


def _narrow(masks: list[int], links: Sequence[_Link], houses: int) -> bool:
    """Take impossible houses out of the masks until nothing changes; False: one is empty."""
    before: list[int] = []
    while before != masks:
        before = masks.copy()
        for a, b, forth, back in links:
            masks[b] &= forth[masks[a]]
            masks[a] &= back[masks[b]]
        for start in range(0, len(masks), houses):
            _differ(masks, start, start + houses)
        if not all(masks):
            return False
    return True


def _differ(masks: list[int], start: int, stop: int) -> None:
    """Items of an attribute stand apart: a fixed one blocks its house, a lonely house fixes."""
    once = twice = 0
    for item in range(start, stop):
        mask = masks[item]
        twice |= once & mask
        once |= mask
    lonely = once & ~twice
    fixed = sum({mask for mask in masks[start:stop] if not mask & (mask - 1)})
    for item in range(start, stop):
        mask = masks[item]
        if mask & (mask - 1):
            masks[item] = mask & lonely or mask & ~fixed
        elif masks[start:stop].count(mask) > 1:
            masks[item] = 0
    if once != (1 << (stop - start)) - 1:
        masks[start] = 0
