"""What an answer earns: the task's verdict or a reward function's number, in bounded time.

A reward function is foreign code that runs some hundred thousand times. When a call raises (leaving
by `sys.exit` too), returns something that is no finite number, or takes longer than it may, the row
gets `otherwise`, its verdict says which of the three it was, and the step counts it; one line of
events.jsonl quotes the first of each step. Advantages are float32 and square what they are given,
so a reward beyond 1e18 is not finite either. When every call of a step fails, that is no accident
of one answer: `Rollouts` stops.

The clock is the process's alarm signal, which Python sees between two instructions. It stops
loops, sleeps, regular expressions and sympy; it cannot stop a single long call into C, and it
works in the main thread only, where a run is.
"""

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, MappingProxyType
from typing import NamedTuple, TypeAlias

from thalweg.core.protocols import Grade, Problem, Task

__all__ = ["FAILURES", "Judge", "Judged", "Reward"]

Reward: TypeAlias = Callable[[str, str, Problem], float]
"""prompt, answer, problem -> what the answer earns."""

FAILURES = ("raised", "not finite", "late")
"""Verdicts of calls that failed."""

_LARGEST = 1e18
"""The squares of a batch of such rewards have a sum in float32, which ends at 3.4e38."""


class Judged(NamedTuple):
    """What an answer earned and why."""

    reward: float
    verdict: str
    """right, wrong, unparsed, or one of FAILURES."""
    parts: Mapping[str, float] = MappingProxyType({})
    """Further numbers of the task's verdict."""
    problem: str = ""
    """Of a failed call: what happened."""

    @property
    def right(self) -> bool:
        """Whether the answer is right."""
        return self.verdict == "right"

    @property
    def failed(self) -> bool:
        """Whether the call failed."""
        return self.verdict in FAILURES


@dataclass(frozen=True, kw_only=True)
class Judge:
    """How answers are judged.

    Example:
        >>> from thalweg.tasks import Addition
        >>> Judge()(Addition(), Problem("2+2=", "4"), "4").verdict
        'right'
    """

    reward: Reward | None = None
    """A top-level function; None: the task's own verdict."""
    right: float = 1.0
    """What such a function must return for an answer to count as right."""
    seconds: float = 5.0
    """Most time of a call."""
    otherwise: float = 0.0
    """Reward of a row whose call failed."""

    def __call__(self, task: Task, problem: Problem, answer: str) -> Judged:
        """Return what an answer earns. Never raises what the task or the function raises."""
        try:
            with _within(self.seconds):
                found = self._ask(task, problem, answer)
        except _Late:
            return self._failed("late", f"more than {self.seconds:g} seconds")
        except (Exception, SystemExit) as error:  # foreign code may raise anything: it is quoted
            return self._failed("raised", f"{type(error).__name__}: {error}")
        if not abs(found.reward) <= _LARGEST:
            return self._failed("not finite", f"a reward of {found.reward}, not within 1e18 of 0")
        for name, value in found.parts.items():
            if not math.isfinite(value):
                return self._failed("not finite", f"a part {name!r} of {value}")
        return found

    def _ask(self, task: Task, problem: Problem, answer: str) -> Judged:
        if self.reward is not None:
            value = float(self.reward(problem.prompt, answer, problem))
            return Judged(value, "right" if value >= self.right else "wrong")
        verdict = task.verify(problem, answer)
        if not isinstance(verdict, Grade):
            raise TypeError(f"verify gave {type(verdict).__name__}, no Grade")
        word = "right" if verdict.right else "wrong" if verdict.parsed else "unparsed"
        parts = {name: float(value) for name, value in verdict.parts.items()}
        return Judged(float(verdict.score), word, parts)

    def _failed(self, verdict: str, problem: str) -> Judged:
        return Judged(self.otherwise, verdict, problem=problem)


class _Late(BaseException):
    """Time is up. Not an Exception, so that foreign `except Exception` lets it pass."""


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise `_Late` in the block after this time; outside the main thread there is no clock."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
