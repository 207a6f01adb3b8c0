"""From a seed and an index to a problem, and from a level to a size.

A generated task makes problem `index` from a generator that depends on seed and index alone. A
listed one gives each of its rows once an epoch, in a new order each epoch. Either way the problem
is a function of (task, seed, index, level): nothing is remembered, so nothing need be saved.
"""

from functools import lru_cache
from inspect import signature
from math import isfinite

import numpy as np

from thalweg.core.protocols import Listed, Problem, Task
from thalweg.core.rng import rng
from thalweg.core.text import encodes
from thalweg.errors import DialError, RecipeError

__all__ = ["check_task", "check_whole", "no_levels", "problem_at", "rise", "row_at"]

_LEVELS = 1_000_000
_WRITE = {
    "make": 'def make(self, draw, level): return Problem("1 + 1 = ", "2")',
    "problem": 'def problem(self, index): return Problem("1 + 1 = ", "2")',
}


def problem_at(task: Task, seed: int, index: int, level: float = 0.0) -> Problem:
    """Return one problem of a task; the same arguments give the same problem.

    Args:
        task: What makes the problems.
        seed: The run's seed, or that of an evaluation.
        index: Counts problems from 0. A listed task goes round after `size` of them.
        level: How many steps harder than the task as constructed, at least 0.

    Raises:
        RecipeError: The task gives something that is no problem, or lists none.

    Example:
        >>> from thalweg.tasks import Addition
        >>> problem_at(Addition(digits=2), seed=0, index=3).prompt
        '25+11='
    """
    if isinstance(task, Listed):
        no_levels(type(task).__name__, level)
        epoch, place = divmod(index, _size(task))
        return row_at(task, int(_order(seed, epoch, task.size)[place]))
    return _fit(task, "make", task.make(rng(seed, "problem", index), level))


def row_at(task: Listed, index: int) -> Problem:
    """Return the problem of a row of a list, counted from 0.

    Raises:
        RecipeError: The task gives something that is no problem.
    """
    return _fit(task, "problem", task.problem(index))


def check_task(task: Task, level: float = 0.0) -> None:
    """Refuse, before a run begins, a task that gives no problems.

    Raises:
        RecipeError: Its `make` does not take a generator and a level, it gives something that is no
            problem, or it lists none.
        DialError: It has no such level.
    """
    draw = rng(0, "problem", 0)
    try:
        signature(task.make).bind(draw, level)
    except TypeError as error:
        given = f"make{signature(task.make)}: {error}"
        raise _unfit(task, "make", given, "one that takes a generator and a level") from error
    problem_at(task, 0, 0, level)


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


def _size(task: Listed) -> int:
    if task.size < 1:
        given, where = f"size = {task.size}", f"{type(task).__name__}.size"
        raise RecipeError(given, expected="1 problem or more", where=where, write="size = 1")
    return task.size


def _fit(task: object, method: str, problem: Problem) -> Problem:
    """Return what a task gave, if it is a problem that can be asked."""
    if not isinstance(problem, Problem):
        raise _unfit(task, method, f"{type(problem).__name__}, {problem!r:.80}", "a Problem")
    for name, text in (("prompt", problem.prompt), ("answer", problem.answer)):
        if not isinstance(text, str):
            raise _unfit(task, method, f"a problem with {name} {text!r:.80}", "text")
        if not encodes(text):
            given = f"a problem with {name} {text!r:.80}, which holds half of a surrogate pair"
            raise _unfit(task, method, given, "characters")
    return problem


def _unfit(task: object, method: str, given: str, expected: str) -> RecipeError:
    return RecipeError(
        given,
        expected=expected,
        where=f"{type(task).__name__}.{method}",
        write=_WRITE[method],
    )
