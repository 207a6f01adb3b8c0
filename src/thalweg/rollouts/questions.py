"""Prompts and reference answers from files, as a task."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from thalweg.core.protocols import Grade, Problem
from thalweg.data.files import find_each, plan_parts
from thalweg.data.read import records, text_of
from thalweg.errors import DataError

__all__ = ["Questions"]


@dataclass(frozen=True)
class Questions:
    """Rows of a file with a prompt and an answer; each comes once an epoch.

    Judged by equality of the stripped texts, unless `Judge.reward` judges. For GSM8K and the like
    see `thalweg.tasks`, which know how numbers are written.
    """

    path: str
    """JSON lines, parquet, a folder or a pattern of them, `hf:owner/name`."""
    prompt: str = "prompt"
    """Field of the prompt."""
    answer: str = "answer"
    """Field of the reference answer."""

    @property
    def size(self) -> int:
        """How many rows there are."""
        return len(_rows(self))

    def problem(self, index: int) -> Problem:
        """Return the row at an index from 0 to `size` - 1."""
        prompt, answer = _rows(self)[index]
        return Problem(prompt, answer, {"row": index})

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a row at random; there are no levels."""
        return self.problem(int(draw.integers(self.size)))

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Compare the texts."""
        return Grade(float(answer.strip() == problem.answer.strip()))


@lru_cache(maxsize=8)
def _rows(questions: Questions) -> tuple[tuple[str, str], ...]:
    """Read all rows.

    Raises:
        DataError: No file, no row, or a row without these fields.
    """
    fields = (questions.prompt, questions.answer)
    rows = tuple(
        (
            text_of(record, segment, questions.prompt, 0),
            text_of(record, segment, questions.answer, 1),
        )
        for part in plan_parts(find_each(questions.path))
        for segment in part
        for record in records(segment, fields, ("prompt", "answer"))
    )
    if not rows:
        raise DataError(
            "a file without rows",
            expected="one or more records with the fields " + " and ".join(fields),
            where=questions.path,
            write='{"prompt": "...", "answer": "..."}, one a line',
        )
    return rows
