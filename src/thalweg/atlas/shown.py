"""Twelve things to do to four letters, shown by two examples; asked and judged as a task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from thalweg.core.protocols import Context, Dial, Grade, Problem
from thalweg.core.time import Span, share
from thalweg.rollouts import Solved

__all__ = ["NAMES", "TASKS", "Asked", "Shown"]

TASKS: Mapping[str, Callable[[str], str]] = {
    "A": lambda s: s,
    "B": lambda s: s[::-1],
    "C": lambda s: s[:2],
    "D": lambda s: s[1:] + s[:1],
    "E": lambda s: s[0] * 4,
    "F": lambda s: s + s[::-1],
    "G": lambda s: s[2:],
    "H": lambda s: s[2:] + s[:2],
    "I": lambda s: s[3] * 4,
    "J": lambda s: s[1::-1],
    "K": lambda s: s + s,
    "L": lambda s: s[1] + s[0] + s[3] + s[2],
}
"""What is done to four letters, from the most frequent to the rarest."""
NAMES = "".join(TASKS)
LETTERS = "abcdefgh"


@dataclass(frozen=True)
class Shown:
    """Two examples of a task, and four letters to do the same to."""

    tasks: str = NAMES
    length: bool = False
    """Whether the prompt begins with the marker of the length."""

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a problem of one of the tasks."""
        name = self.tasks[int(draw.integers(len(self.tasks)))]
        words = ["".join(draw.choice(list(LETTERS), 4)) for _ in range(3)]
        done = [TASKS[name](word) for word in words]
        prompt = f"{words[0]}>{done[0]};{words[1]}>{done[1]};{words[2]}>"
        before = str(len(done[2])) if self.length else ""
        return Problem(before + prompt, done[2], {"task": name, "length": len(done[2])})

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge what stands behind the markers, and whether it is as long as it should be."""
        written = answer.lstrip(NAMES + "0123456789")
        fits = float(len(written) == len(problem.answer))
        return Grade(float(written == problem.answer), True, {"fits": fits})


@dataclass(frozen=True)
class Asked:
    """Several `Solved` under names of their own."""

    parts: Mapping[str, Solved]
    every: Dial | Span = share(1.0)

    @property
    def name(self) -> str:
        """Return `asked`, its place in paths."""
        return "asked"

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return right answers and fitting lengths, shares."""
        found: dict[str, float] = {}
        for name, part in self.parts.items():
            numbers = part(ctx)
            found |= {f"{name}/right": numbers["heldout/pass@1"],
                      f"{name}/fits": numbers["heldout/reward/fits"]}  # fmt: skip
        return found
