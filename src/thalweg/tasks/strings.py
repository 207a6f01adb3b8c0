"""Copy, reverse or sort a string: the tasks whose length generalisation is easiest to see."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from thalweg.core.protocols import Grade, Problem
from thalweg.errors import RecipeError
from thalweg.tasks.draw import check_whole, rise

__all__ = ["Strings"]

_MOST_LETTERS = 100_000


@dataclass(frozen=True)
class Strings:
    """Write a string of random letters again, as it is, backwards or in order.

    Level: letters of the longest string above `length`.

    Source: arXiv:2502.01612, section 3 (copy and reversal).

    Example:
        >>> task = Strings("reverse", length=5)
        >>> problem = task.make(np.random.default_rng(0), level=0.0)
        >>> problem.prompt, problem.answer
        ('reverse: fcdaa=', 'aadcf')
    """

    rule: Literal["copy", "reverse", "sort"] = "copy"
    length: int = 8
    """Letters of the longest string at level 0."""
    fewest: int | None = None
    """Letters of the shortest string, each length alike often; None: all have the most."""
    alphabet: str = "abcdefghij"
    """What letters are drawn from; sorting follows its order."""

    def __post_init__(self) -> None:
        """Refuse sizes out of range, unknown rules and alphabets that cannot be read back."""
        check_whole("Strings", "length", self.length, 1, _MOST_LETTERS)
        if self.fewest is not None:
            check_whole("Strings", "fewest", self.fewest, 1, self.length)
        if self.rule not in ("copy", "reverse", "sort"):
            raise RecipeError(
                f"rule = {self.rule!r}",
                expected="'copy', 'reverse' or 'sort'",
                where="Strings",
                write='rule="copy"',
            )
        letters = set(self.alphabet) - set(" \t\n=:")
        if len(letters) < 2 or len(letters) < len(self.alphabet):
            raise RecipeError(
                f"alphabet = {self.alphabet!r}",
                expected="at least 2 letters, each once, none a space, '=' or ':'",
                where="Strings",
                write='alphabet="abcdefghij"',
            )

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a string to rewrite; pure in the generator and the level."""
        most = self.length + rise(draw, level)
        check_whole("Strings.make", "length + level", most, 1, _MOST_LETTERS)
        low = most if self.fewest is None else self.fewest
        length = int(draw.integers(low, most + 1))
        text = "".join(self.alphabet[i] for i in draw.integers(len(self.alphabet), size=length))
        facts = {"difficulty": float(most), "length": length}
        return Problem(f"{self.rule}: {text}=", self._rewrite(text), facts)

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge the text between spaces; what holds other letters is not readable."""
        given = answer.strip()
        if not given or not set(self.alphabet).issuperset(given):
            return Grade(0.0, parsed=False)
        return Grade(float(given == problem.answer))

    def _rewrite(self, text: str) -> str:
        if self.rule == "sort":
            return "".join(sorted(text, key=self.alphabet.index))
        return text[::-1] if self.rule == "reverse" else text
