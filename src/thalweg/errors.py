"""Every error Thalweg raises on purpose. The ground floor: imports nothing.

    ThalwegError
    +-- RecipeError (a ValueError)   the recipe cannot run: at the latest before step 0
    |   +-- DialError                a number or schedule is out of range, or lacks its clock
    |   +-- ColumnError              a part needs a column that nothing before it makes
    +-- DataError (a ValueError)     text, tokens or a tokenizer cannot be read as asked
    +-- StateError                   a run folder or checkpoint does not fit or is damaged
    +-- Diverged                     a loss or gradient is not finite: before the optimizer step
    +-- NotReproduced                a claim of the atlas failed

A message has four parts, and the constructor asks for all of them: what was given, what was
expected, where, and what to write instead.
"""

import difflib
import errno
import os
from collections.abc import Iterable

__all__ = [
    "ColumnError",
    "DataError",
    "DialError",
    "Diverged",
    "NotReproduced",
    "RecipeError",
    "StateError",
    "ThalwegError",
    "did_you_mean",
    "no_room",
    "of_file",
]


class ThalwegError(Exception):
    """The root of the tree. Its text is the four parts, one a line.

    Args:
        given: What was found, with its value.
        expected: What would have been right.
        where: The path, file, line or step.
        write: What the user can write or do now.
    """

    def __init__(self, given: str, *, expected: str, where: str, write: str) -> None:
        super().__init__(given, expected, where, write)
        self.given = given
        self.expected = expected
        self.where = where
        self.write = write

    def __str__(self) -> str:
        """Return the four parts, one a line."""
        return (
            f"{self.given}\n  expected: {self.expected}\n"
            f"  where:    {self.where}\n  write:    {self.write}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the keyword-only parts when the error crosses a process boundary."""
        return _rebuild, (type(self), self.given, self.expected, self.where, self.write)


class RecipeError(ThalwegError, ValueError):
    """The recipe cannot run as written."""


class DialError(RecipeError):
    """A number or a schedule is out of its range, or lacks the clock it needs."""


class ColumnError(RecipeError):
    """A part needs a batch column that no earlier part makes."""


class DataError(ThalwegError, ValueError):
    """A text file, token store or tokenizer cannot be read as asked."""


class StateError(ThalwegError):
    """A run folder or a checkpoint does not fit, is damaged, or is in use."""


class Diverged(ThalwegError):
    """A loss or a gradient is not finite. The optimizer has not stepped."""


class NotReproduced(ThalwegError):
    """A claim of the atlas failed under its own judge."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return a suggestion such as ``did you mean 'lr'?``, or the list of what is known.

    Example:
        >>> did_you_mean("wamup", ["warmup", "peak"])
        "did you mean 'warmup'?"
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(given, names, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(f"'{name}'" for name in close) + "?"
    return "one of: " + ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def no_room(error: Exception) -> bool:
    """Return whether the system says that a disk, or what one may have of it, is full.

    Libraries written in Rust raise an error of their own, which quotes the system's number.
    """
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError):
        return error.errno in full
    return any(f"(os error {number})" in str(error) for number in full)


def of_file(error: OSError) -> StateError:
    """Return what the system says of a file, in four parts."""
    known = error.filename2 or error.filename
    name = os.fsdecode(known or "a file")
    return StateError(
        f"'{name}': {error.strerror or error}",
        expected="a file or folder that can be read or written as asked",
        where=os.path.abspath(name) if known else os.getcwd(),
        write="another path; or make room or grant the right, and the same command again",
    )


def _rebuild(
    kind: type[ThalwegError], given: str, expected: str, where: str, write: str
) -> ThalwegError:
    return kind(given, expected=expected, where=where, write=write)
