"""Forgetting as numbers of curves: what a model still knows of before, measured all the way.

A score is better when higher: an accuracy, or minus a loss. E_1 .. E_K are the tasks in the order
in which they are learned, A(E_i, n) the score on E_i after iteration n, T_i the last iteration of
task i. With k the task that is being learned:

    min-ACC_k = mean over i < k of min over T_i < n <= now of A(E_i, n)
    WC-ACC_k  = A(E_k, now) / k + (1 - 1/k) min-ACC_k
    WF^w      = largest fall from one measurement to a later one among w consecutive ones
    WP^w      = largest rise, the same way

Whoever measures only when a task ends does not see a fall that recovers. Windows count
measurements: they mean the same number of steps only where the distance between those is even.

Source: arXiv:2205.13452, section 3, and its code (extremes over windows start at 0).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from thalweg.errors import RecipeError

__all__ = [
    "Gap",
    "gap",
    "learning_area",
    "minimum_score",
    "windowed_forgetting",
    "windowed_plasticity",
    "worst_case_score",
]

# K tasks, N measurements.


class Gap(NamedTuple):
    """How a loss on old text went while something new was learned; nats per token."""

    before: float
    """Before the first step."""
    worst: float
    """The highest; `before` if it never rose."""
    worst_step: int
    """Where; 0 if it never rose."""
    after: float
    """The last."""
    recovered: int | None
    """First step after the worst with a loss of `before` or less; None: not by the end."""

    @property
    def forgotten(self) -> float:
        """What is worse at the end than before; below 0 if it is better."""
        return self.after - self.before

    @property
    def depth(self) -> float:
        """How far it was above `before` at the worst."""
        return self.worst - self.before

    @property
    def hidden(self) -> float:
        """How much of that had come back by the end: the part that only measuring often shows."""
        return self.worst - self.after


def gap(step_N: ArrayLike, loss_N: ArrayLike, before: float) -> Gap:
    """Return the numbers of a loss curve on old text.

    Args:
        step_N: Steps done at each measurement, rising.
        loss_N: Nats per token, one value or more.
        before: Loss before the first step.

    Example:
        >>> found = gap([1, 2, 4, 8], [2.5, 3.0, 2.25, 2.0], before=2.0)
        >>> found.depth, found.worst_step, found.recovered, found.forgotten
        (1.0, 2, 8, 0.0)
    """
    steps, losses = np.asarray(step_N, np.int64), np.asarray(loss_N, np.float64)
    top = int(losses.argmax())
    last = float(losses[-1])
    if losses[top] <= before:
        return Gap(before, before, 0, last, 0)
    back = np.flatnonzero(losses[top:] <= before)
    recovered = int(steps[top + back[0]]) if len(back) else None
    return Gap(before, float(losses[top]), int(steps[top]), last, recovered)


def minimum_score(score_KN: ArrayLike, ends: Sequence[int]) -> float:
    """Return min-ACC: the mean over finished tasks of the lowest score since each was finished.

    Args:
        score_KN: Score on every task after every iteration; the task being learned is left out.
        ends: Last iteration of each finished task, an index into N; fewer than K.

    Returns:
        NaN without a finished task.

    Raises:
        RecipeError: More ends than other tasks, or an end without a measurement behind it.

    Example:
        >>> minimum_score([[0.1, 0.9, 0.4, 0.8], [0.0, 0.0, 0.5, 0.6]], ends=[1])
        0.4
    """
    table_KN = np.asarray(score_KN, np.float64)
    tasks, length = table_KN.shape
    if len(ends) >= tasks or any(not 0 <= end < length - 1 for end in ends):
        raise RecipeError(
            f"ends {list(ends)} for {tasks} tasks and {length} measurements",
            expected="one end for each task but the last at most, each before the last measurement",
            where="minimum_score",
            write=f"ends=[{length // 2}] for two tasks of equal length",
        )
    lowest = [float(table_KN[i, end + 1 :].min()) for i, end in enumerate(ends)]
    return float(np.mean(lowest)) if lowest else float("nan")


def worst_case_score(score_KN: ArrayLike, ends: Sequence[int]) -> float:
    """Return WC-ACC: the present score on the newest task, traded against min-ACC of the others.

    Args:
        score_KN: Score on every task after every iteration.
        ends: Last iteration of each finished task; task `len(ends)` is the one being learned.

    Example:
        >>> worst_case_score([[0.9, 0.4, 0.8], [0.0, 0.5, 0.6]], ends=[0])
        0.5
    """
    now = float(np.asarray(score_KN, np.float64)[len(ends), -1])
    if not ends:
        return now
    return now / (len(ends) + 1) + len(ends) / (len(ends) + 1) * minimum_score(score_KN, ends)


def windowed_forgetting(score_N: Iterable[float], window: int = 10) -> float:
    """Return WF^w, the largest fall within any `window` consecutive measurements, 0 or more.

    Reads a stream; memory O(window). Of several tasks the paper takes the mean.

    Args:
        score_N: Scores in their order.
        window: Measurements, 2 or more; the paper has 10 and 100.

    Raises:
        RecipeError: A window in which nothing can fall.

    Example:
        >>> windowed_forgetting([0.9, 0.8, 0.7, 0.6], window=2) < windowed_forgetting([0.9, 0.6], 2)
        True
    """
    if window < 2:
        raise RecipeError(
            f"window={window}", expected="2 measurements or more", where="windowed_forgetting",
            write="window=10",
        )  # fmt: skip
    largest = 0.0
    highest: deque[tuple[int, float]] = deque()  # falling values, those a later one may fall from
    for place, score in enumerate(score_N):
        while highest and highest[0][0] <= place - window:
            highest.popleft()
        while highest and highest[-1][1] <= score:
            highest.pop()
        highest.append((place, score))
        largest = max(largest, highest[0][1] - score)
    return largest


def windowed_plasticity(score_N: Iterable[float], window: int = 10) -> float:
    """Return WP^w, the largest rise within any `window` consecutive measurements, 0 or more.

    Args:
        score_N: Scores in their order.
        window: Measurements, 2 or more.

    Example:
        >>> windowed_plasticity([0.0, 0.25, 0.5, 0.75], window=3)
        0.5
    """
    return windowed_forgetting((-score for score in score_N), window)


def learning_area(score_N: Sequence[float], first: int = 10) -> float:
    """Return the mean of the first scores on a new task: how fast it is learned.

    Example:
        >>> learning_area([0.0, 0.5, 1.0, 1.0], first=3)
        0.5
    """
    return float(np.mean(score_N[:first]))
