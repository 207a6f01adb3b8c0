"""Tasks and rewards by name on the command line: an expression, a file of rows, FILE.py:NAME.

    Addition(digits=2)           a task of `thalweg.tasks`; arguments are literals or tasks
    gsm8k.jsonl                  rows in the forms of GSM8K, MATH, multiple choice, or plain
    mine.py:Count(length=3)      a class, or an instance, of a Python file of yours
    mine.py:score                for rewards: a function (prompt, answer, problem) -> float

Nothing is evaluated but calls of these classes. The file is copied into the run's folder, so a run
is resumed with the code it began with.
"""

import ast
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from thalweg import tasks
from thalweg.core.names import load_file
from thalweg.core.protocols import Task
from thalweg.errors import RecipeError, did_you_mean
from thalweg.rollouts.judge import Reward
from thalweg.tasks import Rows

__all__ = ["file_of", "reward_of", "task_of"]


def task_of(text: str, option: str = "--task") -> Task:
    """Return the task of an expression, a file of rows, or FILE.py:NAME.

    Args:
        text: As the command line gives it.
        option: Which one, for messages.

    Raises:
        RecipeError: No such file or name, or something that is no task.

    Example:
        >>> task_of("Addition(digits=3)").digits
        3
    """
    if text.endswith((".jsonl", ".json")):
        return Rows(text, prompt="{}")
    file, name = _split(text)
    known: Mapping[str, Any] = {one: getattr(tasks, one) for one in tasks.__all__}
    if file is not None:
        known = {**known, **vars(_module(file, option))}
    try:
        tree = ast.parse(name, mode="eval").body
        found = _value(tree, known, option)
    except (SyntaxError, ValueError, TypeError) as error:
        raise _unknown(text, option, f"{type(error).__name__}: {error}") from error
    if not (hasattr(found, "make") and hasattr(found, "verify")):
        raise _unknown(text, option, f"{type(found).__name__}, which is no task")
    return cast(Task, found)


def reward_of(text: str, option: str = "--reward") -> Reward:
    """Return the function of FILE.py:NAME.

    Raises:
        RecipeError: No such file or function, or one that does not take three arguments.
    """
    file, name = _split(text)
    found = vars(_module(file, option)).get(name) if file is not None else None
    if not inspect.isfunction(found) or len(inspect.signature(found).parameters) != 3:
        raise RecipeError(
            f"'{text}'",
            expected="FILE.py:NAME of a function (prompt, answer, problem) -> float",
            where=option,
            write=f"{option} reward.py:score",
        )
    return cast(Reward, found)


def file_of(options: Mapping[str, Any]) -> Path | None:
    """Return the Python file that options name as FILE.py:NAME, or None.

    Raises:
        RecipeError: They name two: a run keeps one file.
    """
    texts = [value for value in options.values() if isinstance(value, str)]
    files = {file for text in texts if (file := _split(text)[0]) is not None}
    if len(files) > 1:
        raise RecipeError(
            "two files: " + ", ".join(sorted(map(str, files))),
            expected="tasks and rewards of a run in one file",
            where="--task and --reward",
            write="from other import NAME, in one of them",
        )
    return next(iter(files), None)


def _split(text: str) -> tuple[Path | None, str]:
    file, sign, name = text.partition(".py:")
    return (Path(file + ".py"), name) if sign else (None, text)


def _module(file: Path, option: str) -> Any:
    if not file.is_file():
        raise RecipeError(
            f"no file '{file}'",
            expected="FILE.py:NAME",
            where=option,
            write=f"{option} path/to/file.py:NAME",
        )
    return load_file(file)


def _value(tree: ast.expr, known: Mapping[str, Any], option: str) -> Any:
    """Return a literal, or what a name or a call of a name gives."""
    if isinstance(tree, ast.Call):
        kind = _named(tree.func, known, option)
        named = {one.arg: _value(one.value, known, option) for one in tree.keywords if one.arg}
        return kind(*(_value(one, known, option) for one in tree.args), **named)
    if isinstance(tree, ast.Name):
        found = _named(tree, known, option)
        return found() if isinstance(found, type) else found
    return ast.literal_eval(tree)


def _named(tree: ast.expr, known: Mapping[str, Any], option: str) -> Any:
    if not isinstance(tree, ast.Name) or tree.id not in known:
        raise _unknown(ast.unparse(tree), option, "which is not known", known)
    return known[tree.id]


def _unknown(
    text: str, option: str, why: str, known: Mapping[str, Any] | None = None
) -> RecipeError:
    kinds = [name for name, one in (known or {}).items() if isinstance(one, type)]
    return RecipeError(
        f"'{text}', {why}",
        expected="a task such as Addition(digits=2), a .jsonl file, or FILE.py:NAME",
        where=option,
        write=did_you_mean(text, kinds) if kinds else f"{option} 'Addition(digits=2)'",
    )
