"""Answers that were paid for, kept in a file of JSON lines: a killed call buys nothing twice.

A line is a key and what was answered under it. A key says what was asked, and of whom, as a hash;
several lines of a key are several answers. A line is on disk before the next is asked for. The
last line of a killed writer is cut off; any other damage stops the reader.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thalweg.errors import DataError

__all__ = ["Ledger", "key_of"]


def key_of(*parts: str) -> str:
    """Return 32 hex digits that depend on every part and on where it ends.

    Example:
        >>> key_of("ab", "c") == key_of("a", "bc")
        False
    """
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


class Ledger:
    """Plain data by key, in memory and in a file. One writer at a time.

    Args:
        path: The file; it and its folder are made by the first entry.

    Raises:
        DataError: A line that this class did not write.

    Example:
        >>> ledger = Ledger("answers.jsonl")
        >>> ledger.add("a", {"text": "4"})
        >>> Ledger("answers.jsonl").known("a")
        [{'text': '4'}]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._known: dict[str, list[Mapping[str, Any]]] = {}
        if self.path.is_file():
            self._read()

    def known(self, key: str) -> Sequence[Mapping[str, Any]]:
        """Return the entries under a key, oldest first."""
        return self._known.get(key, [])

    def add(self, key: str, entry: Mapping[str, Any]) -> None:
        """Write one more entry."""
        line = json.dumps({"key": key, "entry": entry}) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as out:
            out.write(line)
        self._known.setdefault(key, []).append(entry)

    def __len__(self) -> int:
        """Return how many entries there are."""
        return sum(map(len, self._known.values()))

    def _read(self) -> None:
        whole = 0
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                try:
                    row = json.loads(line)
                    self._known.setdefault(row["key"], []).append(row["entry"])
                except (ValueError, KeyError, TypeError) as error:
                    raise _damaged(self.path, number) from error
        if whole < self.path.stat().st_size:
            os.truncate(self.path, whole)


def _damaged(path: Path, number: int) -> DataError:
    return DataError(
        "a line that is no kept answer",
        expected='{"key": ..., "entry": ...}',
        where=f"{path}, line {number}",
        write="delete this line, or name another file",
    )
