r"""Problems from a file: JSON lines in the forms of GSM8K, of MATH, of multiple choice, or plain.

    gsm8k   question, answer     the answer ends in `#### 42`, and so must the model's
    math    problem, answer      a `solution` with `\boxed{}` serves as the answer to learn from
    choice  question, choices, answer   the answer is a letter, an index or one of the choices
    exact   prompt, answer       the same text but for spaces at its ends

The forms are told apart by what the first row holds. An answer is text or a whole number. Every row
is read when the file is opened first; one without an answer stops with its line.
"""

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from thalweg.core.protocols import Grade, Problem
from thalweg.core.text import encodes
from thalweg.errors import DataError, RecipeError, did_you_mean
from thalweg.tasks.choice import LETTERS, verify_choice, write_choices
from thalweg.tasks.draw import no_levels
from thalweg.tasks.mathqa import boxed, marked, verify_boxed, verify_marked

__all__ = ["Rows"]

Form: TypeAlias = Literal["auto", "gsm8k", "math", "choice", "exact"]

_FORMS = ("auto", "gsm8k", "math", "choice", "exact")


@dataclass(frozen=True)
class Rows:
    r"""The problems of a JSON-lines file, each with the verifier of its form.

    A listed task: `problem_at` gives every row once an epoch. It has no levels; the difficulty is
    the number in the row's `level`, where it has one.

    Example:
        >>> Path("sums.jsonl").write_text('{"question": "1 + 1?", "answer": "2\\n#### 2"}')
        45
        >>> task = Rows("sums.jsonl")
        >>> task.size, task.verify(task.problem(0), "#### 2.0").right
        (1, True)
    """

    path: str
    form: Form = "auto"
    _: KW_ONLY
    mark: str = "####"
    """What stands before the number in the form gsm8k."""
    prompt: str = "{}\n"
    """What a question is written into, in the place of `{}`. Multiple choice adds its own end."""

    def __post_init__(self) -> None:
        """Refuse unknown forms and a prompt without a place for the question."""
        if self.form not in _FORMS:
            raise RecipeError(
                f"form = {self.form!r}",
                expected="one of " + ", ".join(_FORMS),
                where="Rows",
                write=did_you_mean(str(self.form), _FORMS),
            )
        if "{}" not in self.prompt or not self.mark:
            raise RecipeError(
                f"prompt = {self.prompt!r}, mark = {self.mark!r}",
                expected="a prompt with {} in the place of the question, and a mark",
                where="Rows",
                write='prompt="Question: {}\\nAnswer: "',
            )

    @property
    def size(self) -> int:
        """How many rows the file has.

        Raises:
            DataError: The file is missing or empty, or a line has no question and answer.
        """
        return len(self._problems())

    def problem(self, index: int) -> Problem:
        """Return the problem of a row, counted from 0."""
        return self._problems()[index]

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return the problem of a random row.

        Raises:
            DialError: A level other than 0.
        """
        no_levels("Rows", level)
        return self.problem(int(draw.integers(self.size)))

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge an answer in the row's form."""
        truth, form = problem.facts["truth"], problem.facts["form"]
        if form == "gsm8k":
            return verify_marked(truth, answer, self.mark)
        if form == "math":
            return verify_boxed(truth, answer)
        if form == "choice":
            return verify_choice(truth, answer, int(problem.facts["options"]))
        given = answer.strip()
        return Grade(float(given == truth), parsed=bool(given))

    def _problems(self) -> tuple[Problem, ...]:
        path = Path(self.path)
        if not path.is_file():
            raise DataError(
                f"no file {self.path}",
                expected="JSON lines with questions and answers",
                where="Rows",
                write="the path of a .jsonl file",
            )
        stat = path.stat()
        return _read(self, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read(task: Rows, changed: int, size: int) -> tuple[Problem, ...]:
    """Return the problems of the file as it stood at this time."""
    rows = []
    with Path(task.path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                rows.append((f"{task.path}:{number}", _row(line, f"{task.path}:{number}")))
    if not rows:
        raise _unfit("no rows", "at least one", task.path)
    form = _form(*rows[0], task.mark) if task.form == "auto" else task.form
    return tuple(_problem(row, form, task, where) for where, row in rows)


def _row(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise _unfit(f"a line that is not JSON: {error}", "one object a line", where) from error
    if not isinstance(row, dict):
        raise _unfit(f"a line that holds {type(row).__name__}", "one object a line", where)
    if not encodes(json.dumps(row, ensure_ascii=False)):
        given = "text with half of a surrogate pair, which is no character"
        raise _unfit(given, "whole characters", where)
    return row


def _form(where: str, row: Mapping[str, Any], mark: str) -> str:
    if "choices" in row:
        return "choice"
    if "problem" in row and ("solution" in row or "answer" in row):
        return "math"
    if "answer" in row:
        return "gsm8k" if mark in _text(row["answer"], where) else "exact"
    raise _unfit(f"a row with {sorted(row)}", "a question and an answer", where)


def _text(answer: object, where: str) -> str:
    """Return an answer as text; a whole number has only one."""
    whole = isinstance(answer, int) and not isinstance(answer, bool)
    if not (whole or isinstance(answer, str)) or not str(answer).strip():
        raise _unfit(f"answer {answer!r:.80}", "an answer that is text or a whole number", where)
    return str(answer)


def _problem(row: Mapping[str, Any], form: str, task: Rows, where: str) -> Problem:
    question = next((row[key] for key in ("question", "problem", "prompt") if key in row), None)
    answer = row.get("answer", row.get("solution"))
    if not isinstance(question, str) or answer is None:
        raise _unfit(f"a row with {sorted(row)}", "a question and an answer", where)
    level = row.get("level")
    facts: dict[str, Any] = {
        "difficulty": float(level) if isinstance(level, int | float) else 0.0,
        "form": form,
    }
    if form == "choice":
        if not isinstance(row.get("choices"), list):
            raise _unfit(f"a row with {sorted(row)}", "a list of choices", where)
        choices = [str(choice) for choice in row["choices"]]
        letter = _letter(answer, choices, where)
        facts |= {"truth": letter, "options": len(choices)}
        return Problem(write_choices(task.prompt.replace("{}", question), choices), letter, facts)
    answer, truth = _answer(row, _text(answer, where), form, task.mark, where)
    return Problem(task.prompt.replace("{}", question), answer, {**facts, "truth": truth})


def _answer(
    row: Mapping[str, Any], answer: str, form: str, mark: str, where: str
) -> tuple[str, str]:
    """Return the text to learn from, and what an answer is compared with."""
    if form == "exact":
        return answer, answer.strip()
    if form == "gsm8k":
        number = marked(answer, mark)
        if number is None:
            raise _unfit(f"an answer that ends {answer[-40:]!r}", f"'{mark} NUMBER'", where)
        return answer, answer[answer.rindex(mark) :]
    solution = str(row.get("solution", ""))
    truth = boxed(answer) or (answer if "answer" in row else None)
    if truth is None:
        raise _unfit("a solution without a box", r"'\boxed{...}', or an 'answer'", where)
    return (solution if boxed(solution) else rf"\boxed{{{truth}}}"), truth


def _letter(answer: object, choices: list[str], where: str) -> str:
    if not 2 <= len(choices) <= len(LETTERS):
        raise _unfit(f"{len(choices)} choices", "2 to 26", where)
    if isinstance(answer, int) and 0 <= answer < len(choices):
        return LETTERS[answer]
    if isinstance(answer, str) and answer in LETTERS[: len(choices)] and len(answer) == 1:
        return answer
    if choices.count(str(answer)) == 1:
        return LETTERS[choices.index(str(answer))]
    raise _unfit(f"answer {answer!r}", "a letter, an index or one of the choices", where)


def _unfit(given: str, expected: str, where: str) -> DataError:
    return DataError(
        given,
        expected=expected,
        where=where,
        write='rows such as {"question": "1 + 1?", "answer": "#### 2"}',
    )
