"""How many problems a run solves: measured on problems kept apart, or on those it learned from."""

from typing import NamedTuple

import numpy as np

from thalweg.report.numbers import MISSING, percent_text
from thalweg.report.run import History, Points

__all__ = ["Solving", "solving"]

_LAST = 0.05
"""Share of the measurements whose mean is the end, of a number that is measured at every step."""


class Solving(NamedTuple):
    """Shares of problems solved with one answer each; NaN where nothing was measured."""

    end: float
    """Last measurement on problems kept apart; else the mean of the last 5 % of the run's own."""
    start: float
    """The same when the last phase began (before its first step, if that was measured)."""
    reward: float
    """Mean reward of the last 5 % of the steps that had one."""

    @property
    def text(self) -> str:
        """The end, as text."""
        return percent_text(self.end)

    @property
    def note(self) -> str:
        """Where it came from, as text."""
        start = percent_text(self.start)
        return f"from {start}" if start != MISSING else "of the problems, one answer each"


def solving(history: History) -> Solving:
    """Return what a run solves at its end and solved before."""
    held = history.points("heldout/pass@1")
    points = held if len(held.step) else history.points("pass@1")
    if not len(points.step):
        return Solving(np.nan, np.nan, _end(history.points("reward")))
    end = float(points.value[-1]) if len(held.step) else _end(points)
    return Solving(end, _start(history, points), _end(history.points("reward")))


def _start(history: History, points: Points) -> float:
    """Return the value at the last phase's beginning: the last before it, or its first."""
    phases = history.phase
    last = [step for step, name in zip(history.step, phases, strict=False) if name == phases[-1]]
    begin = int(last[0]) if last else int(history.step[0])
    before = points.value[points.step < begin]
    if len(before):
        return float(before[-1])
    return float(points.value[0]) if len(points.value) > 1 else np.nan


def _end(points: Points) -> float:
    count = max(1, round(_LAST * len(points.value)))
    return float(points.value[-count:].mean()) if len(points.value) else np.nan
