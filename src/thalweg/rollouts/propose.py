"""Where the new problems of a round come from: an author, inspired by old ones, or a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from thalweg.core.protocols import Problem, Task
from thalweg.errors import DialError
from thalweg.rollouts.authors import Asker
from thalweg.tasks import problem_at

__all__ = ["PROPOSE", "Drawn", "Inspired", "Proposal", "Proposer"]

PROPOSE = """Here is a problem:

{problem}

Write one new problem inspired by it, with other numbers, other things or another question. It must
have one exact answer. Write the problem alone, without its solution."""
"""Asked of a model that follows instructions."""


class Proposal(NamedTuple):
    """A new problem, not yet solved."""

    text: str
    parent: int | None = None
    """Place in the pool of the problem it was made from; None: of none."""


class Proposer(Protocol):
    """Makes new problems out of those of the round before."""

    def __call__(self, pool: Sequence[Problem], number: int, asker: Asker) -> Sequence[Proposal]:
        """Return the proposals of a round, counted from 1."""
        ...


@dataclass(frozen=True)
class Inspired:
    """Asks the author for several new problems for each of the pool.

    Source: arXiv:2410.01560 (80 for each problem of MATH, 10 for each of GSM8K).
    """

    each: int = 2
    """New problems for each problem of the pool."""
    prompt: str = PROPOSE
    """With {problem}."""

    def __post_init__(self) -> None:
        """Refuse no problems, and a prompt without a place for one."""
        if self.each < 1 or "{problem}" not in self.prompt:
            raise DialError(
                f"each={self.each}, prompt={self.prompt[:60]!r}",
                expected="1 or more, and {problem} in the prompt",
                where="Inspired",
                write="Inspired(each=2)",
            )

    def __call__(self, pool: Sequence[Problem], number: int, asker: Asker) -> Sequence[Proposal]:
        """Return what the author wrote; what it did not finish is the empty text."""
        asked = asker([self.prompt.replace("{problem}", one.prompt) for one in pool], self.each)
        return [
            Proposal(one.text.strip() if one.finished else "", place)
            for place, said in enumerate(asked)
            for one in said
        ]


@dataclass(frozen=True)
class Drawn:
    """Draws problems of a task and forgets their answers: the labels are the author's own.

    With a rise of 1, round r asks for problems of level r: self-improvement (arXiv:2502.01612).
    """

    task: Task
    count: int = 100
    """Problems of a round."""
    rise: float = 0.0
    """Levels that problems rise by in each round."""
    seed: int = 1
    """Of the draws; another one than that of the seed problems."""

    def __call__(self, pool: Sequence[Problem], number: int, asker: Asker) -> Sequence[Proposal]:
        """Return the texts of new problems."""
        first = number * self.count
        return [
            Proposal(problem_at(self.task, self.seed, first + index, number * self.rise).prompt)
            for index in range(self.count)
        ]
