"""What `thalweg reproduce` does: run, print a table, keep the verdicts."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from thalweg.atlas.harness import reproduce
from thalweg.atlas.listing import find_entry
from thalweg.atlas.table import record, text_list, text_table
from thalweg.core.claim import Size
from thalweg.errors import NotReproduced

__all__ = ["listed", "reproduced"]


def listed(names: Sequence[str]) -> str:
    """Return name, paper and claim of entries; nothing is imported or run.

    Raises:
        RecipeError: No such entry.
    """
    return text_list([find_entry(name) for name in names])


def reproduced(
    names: Sequence[str],
    size: Literal["tiny", "small"],
    seeds: int | None,
    file: Path | None,
    *,
    strict: bool,
) -> str:
    """Run entries one after the other and return the table of their verdicts.

    Args:
        names: Of entries; all are looked up before the first is run.
        size: How large.
        seeds: How many; None: what each claim says.
        file: JSON that gets each verdict as soon as it is there.
        strict: Whether a claim that is not reproduced is an error.

    Raises:
        RecipeError: No such entry.
        NotReproduced: A claim failed, and `strict`; the table was printed.
    """
    outcomes = []
    for entry in [find_entry(name) for name in names]:
        outcome = reproduce(entry.name, Size(size), seeds=seeds, say=_say)
        outcomes.append(outcome)
        if file is not None:
            record(file, [outcome])
    failed = [o.entry.name for o in outcomes if o.verdict.verdict == "not reproduced"]
    if strict and failed:
        print(text_table(outcomes))
        raise NotReproduced(
            ", ".join(failed) + f" at size {size}",
            expected="verdicts that are reproduced or inconclusive",
            where="thalweg reproduce --strict",
            write=f"thalweg reproduce {failed[0]}, and read its parts",
        )
    return text_table(outcomes)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
