"""How hard a Zebra grid is for Z3: the conflicts that ZebraLogic publishes for each size.

Needs the extra `z3`. One Int per item, in its range of houses; Distinct for each attribute; one
assumption a clue, without which Z3's preprocessing solves small grids outright and the published
conflicts of those are not met. The statistic depends on the order of the clues and on the
solver's seed, so it is a mean over runs that shuffle both; and on the version of Z3.

Source: arXiv:2502.01100, section 2.3 (mean of `conflicts` over 32 runs).
"""

import importlib
from typing import Any

import numpy as np

from thalweg.errors import RecipeError
from thalweg.tasks.grid import Puzzle

__all__ = ["z3_conflicts"]


def z3_conflicts(puzzle: Puzzle, draw: np.random.Generator, runs: int = 32) -> float:
    """Return the mean number of conflicts Z3 meets on its way to the solution.

    Raises:
        RecipeError: The package z3-solver is missing.
    """
    try:
        z3 = importlib.import_module("z3")
    except ImportError as error:
        raise RecipeError(
            "no package z3",
            expected="the solver whose conflicts are counted",
            where="z3_conflicts",
            write="pip install 'thalweg[z3]'",
        ) from error
    return float(np.mean([_conflicts(z3, puzzle, draw) for _ in range(runs)]))


def _conflicts(z3: Any, puzzle: Puzzle, draw: np.random.Generator) -> int:
    houses = [z3.Int(f"item{i}") for i in range(puzzle.houses * puzzle.attributes)]
    solver = z3.Solver()
    solver.set("random_seed", int(draw.integers(1 << 30)))
    for house in houses:
        solver.add(house >= 0, house < puzzle.houses)
    for start in range(0, len(houses), puzzle.houses):
        solver.add(z3.Distinct(*houses[start : start + puzzle.houses]))
    assumed = []
    for i in draw.permutation(len(puzzle.clues)):
        assumed.append(z3.Bool(f"clue{i}"))
        solver.add(z3.Implies(assumed[-1], _assertion(z3, houses, puzzle, int(i))))
    solver.check(*assumed)
    counts = solver.statistics()
    return int(counts.get_key_value("conflicts")) if "conflicts" in counts.keys() else 0


def _assertion(z3: Any, houses: list[Any], puzzle: Puzzle, index: int) -> Any:
    kind, a, b = puzzle.clues[index]
    left, right = houses[a], b if kind in ("found_at", "not_at") else houses[b]
    distance = {"side_by_side": 1, "one_between": 2, "two_between": 3}
    if kind in distance:
        return z3.Or(left - right == distance[kind], right - left == distance[kind])
    if kind == "direct_left":
        return left + 1 == right
    return {"left_of": left < right, "not_at": left != right}.get(kind, left == right)
