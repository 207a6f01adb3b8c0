"""Multiple choice: any task with its answer among answers to other problems of the same task."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thalweg.core.protocols import Grade, Problem, Task
from thalweg.errors import RecipeError
from thalweg.tasks.draw import check_whole

__all__ = ["LETTERS", "Choices", "verify_choice", "write_choices"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_LINE = re.compile(
    r"(?:(?:so|thus|therefore|hence),? )?(?:the )?(?:correct |right |best |final )?"
    r"(?:(?:answer|option|choice)(?: is|:)?:? ?)?[(\[]?([a-z])[)\]]?\.?",
    re.IGNORECASE | re.ASCII,
)
_TRIES = 50


@dataclass(frozen=True)
class Choices:
    r"""Ask another task's problems with lettered options.

    The wrong options are answers to other problems of the same level, so that they look right.

    Level: that of the task.

    Example:
        >>> from thalweg.tasks import Addition
        >>> problem = Choices(Addition(digits=1), options=3).make(np.random.default_rng(0), 0.0)
        >>> problem.prompt
        '5+3=\nA) 8\nB) 15\nC) 2\nAnswer: '
    """

    task: Task
    options: int = 4
    """Letters to choose from, 2 to 26."""

    def __post_init__(self) -> None:
        """Refuse a number of options out of range."""
        check_whole("Choices", "options", self.options, 2, len(LETTERS))

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a problem with options; pure in the generator and the level.

        Raises:
            RecipeError: The task has too few different answers.
        """
        problem = self.task.make(draw, level)
        options = [problem.answer]
        for _ in range(_TRIES * self.options):
            if len(options) == self.options:
                break
            other = self.task.make(draw, level).answer
            if other not in options and not self.task.verify(problem, other).right:
                options.append(other)
        else:
            raise RecipeError(
                f"{len(options)} different answers in {_TRIES * self.options} problems",
                expected=f"{self.options} options",
                where="Choices",
                write=f"options={max(2, len(options))}, or a task with more answers",
            )
        order = [int(i) for i in draw.permutation(self.options)]
        prompt = write_choices(problem.prompt, [options[i] for i in order])
        facts = {"difficulty": problem.facts.get("difficulty", 0.0), "options": self.options}
        return Problem(prompt, LETTERS[order.index(0)], facts)

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge the letter on the last line."""
        return verify_choice(problem.answer, answer, int(problem.facts["options"]))


def write_choices(question: str, options: Sequence[str]) -> str:
    r"""Return a question with lettered options.

    Example:
        >>> write_choices("Which?", ["this", "that"])
        'Which?\nA) this\nB) that\nAnswer: '
    """
    lines = [f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question.rstrip(), *lines, "Answer: "])


def verify_choice(truth: str, answer: str, options: int) -> Grade:
    r"""Judge the letter on the last line that is not empty: `B`, `(b).`, `The answer is B`.

    Args:
        truth: The right letter.
        answer: What a model wrote.
        options: How many letters there are; one beyond them is not readable.

    Example:
        >>> verify_choice("B", "It cannot be A.\nThe answer is (B).", 4).right
        True
        >>> verify_choice("B", "The answer is not B", 4).parsed
        False
    """
    *_, line = answer[-2000:].strip().rsplit("\n", 1)
    found = _LINE.fullmatch(line.strip())
    if found is None or found[1].upper() not in LETTERS[:options]:
        return Grade(0.0, parsed=False)
    return Grade(float(found[1].upper() == truth))
