"""From a seed and an index to a problem, and from a level to a size.

A generated task makes problem `index` from a generator that depends on seed and index alone. A
listed one gives each of its rows once an epoch, in a new order each epoch. Either way the problem
is a function of (task, seed, index, level): nothing is remembered, so nothing need be saved.
"""

from functools import lru_cache
from math import isfinite

import numpy as np

from thalweg.core.protocols import Listed, Problem, Task
from thalweg.core.rng import rng
from thalweg.errors import DialError

__all__ = ["check_whole", "no_levels", "problem_at", "rise"]

_LEVELS = 1_000_000


def problem_at(task: Task, seed: int, index: int, level: float = 0.0) -> Problem:
    """Return one problem of a task; the same arguments give the same problem.

    Args:
        task: What makes the problems.
        seed: The run's seed, or that of an evaluation.
        index: Counts problems from 0. A listed task goes round after `size` of them.
        level: How many steps harder than the task as constructed, at least 0.

    Example:
        >>> from thalweg.tasks import Addition
        >>> problem_at(Addition(digits=2), seed=0, index=3).prompt
        '25+11='
    """
    if isinstance(task, Listed):
        no_levels(type(task).__name__, level)
        epoch, place = divmod(index, task.size)
        return task.problem(int(_order(seed, epoch, task.size)[place]))
    return task.make(rng(seed, "problem", index), level)


def rise(draw: np.random.Generator, level: float) -> int:
    """Return a level as whole steps: 1.25 is 1, and in a quarter of the draws 2.

    Raises:
        DialError: A level below 0, or not finite.

    Example:
        >>> rise(rng(0), 3.0)
        3
    """
    if not (isfinite(level) and 0 <= level <= _LEVELS):
        raise DialError(
            f"level = {level!r}",
            expected=f"a number from 0 to {_LEVELS}; 0 is the task as constructed",
            where="Task.make",
            write="level=0.0, or a schedule such as Linear(0.0, 5.0)",
        )
    whole = int(level)
    return whole + int(draw.random() < level - whole)


def no_levels(where: str, level: float) -> None:
    """Refuse a level where a task has none.

    Raises:
        DialError: The level is not 0.
    """
    if level != 0:
        raise DialError(
            f"level = {level!r}",
            expected="0: these problems are as they are",
            where=where,
            write="level=0.0, or a file of harder problems",
        )


def check_whole(where: str, name: str, value: int, low: int, high: int) -> None:
    """Refuse a size that is no whole number of its range.

    Raises:
        DialError: The value is no int, or lies outside low..high.
    """
    if type(value) is not int or not low <= value <= high:
        raise DialError(
            f"{name} = {value!r}",
            expected=f"a whole number from {low} to {high}",
            where=where,
            write=f"{name}={min(max(low, 2), high)}",
        )


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return rng(seed, "problems", epoch).permutation(size)
