"""Verdicts as text for people, as JSON that is kept, and as the table of the docs."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from thalweg.atlas.harness import Outcome
from thalweg.atlas.listing import Entry
from thalweg.core.checkpoint import write_file
from thalweg.core.claim import Verdict

__all__ = ["markdown_table", "read_record", "record", "text_list", "text_table"]

HEAD = ("name", "paper", "verdict", "effect", "95 % interval", "seconds")


def text_table(outcomes: Sequence[Outcome]) -> str:
    """Return one line an entry; below it, what each effect is, and the parts of a verdict."""
    rows = [HEAD, *(_cells(outcome) for outcome in outcomes)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    for outcome in outcomes:
        lines += ["", f"{outcome.entry.name}: {outcome.entry.statement}"]
        for part in outcome.verdict.parts or (outcome.verdict,):
            lines.append(f"  {part.verdict:15} {_effect(part)} {_interval(part)}  {part.what}")
    if any(outcome.size.name == "tiny" for outcome in outcomes):
        lines += ["", "tiny shows that an entry runs; evidence is --size small"]
    return "\n".join(lines)


def text_list(entries: Iterable[Entry]) -> str:
    """Return name, paper and claim of every entry."""
    return "\n".join(f"{e.name:24} {e.paper:18} {e.statement}" for e in entries)


def record(file: Path, outcomes: Iterable[Outcome]) -> None:
    """Put verdicts into a JSON file, beside or in place of what it holds of the same entries."""
    kept = read_record(file) if file.exists() else {}
    for outcome in outcomes:
        kept[outcome.entry.name] = {
            "paper": outcome.entry.paper,
            "size": outcome.size.name,
            "seeds": outcome.seeds,
            "seconds": round(outcome.seconds, 1),
            "date": date.today().isoformat(),
            "code": outcome.entry.code,
            **_plain(outcome.verdict),
            "parts": [_plain(part) for part in outcome.verdict.parts],
        }
    write_file(file, json.dumps(dict(sorted(kept.items())), indent=1) + "\n")


def read_record(file: Path) -> dict[str, dict[str, Any]]:
    """Return what `record` has written, by name of the entry."""
    found: dict[str, dict[str, Any]] = json.loads(file.read_text())
    return found


def markdown_table(entries: Mapping[str, Entry], kept: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of the docs: every entry, with its recorded verdict where it has one.

    Args:
        entries: As `entries()` returns them.
        kept: As `read_record` returns it.
    """
    lines = [
        "| entry | claim | verdict | effect, 95 % interval | what | size, seeds, seconds | date |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in entries.values():
        head = f"| [{entry.name}](https://arxiv.org/abs/{entry.paper.removeprefix('arXiv:')}) "
        if not entry.paper.startswith("arXiv:"):
            head = f"| {entry.name} ({entry.paper}) "
        row = kept.get(entry.name)
        lines.append(head + f"| {entry.statement} | " + _markdown_row(row, entry.code) + " |")
    return "\n".join(lines) + "\n"


def _markdown_row(row: Mapping[str, Any] | None, code: str) -> str:
    if row is None:
        return "not run | | | | "
    effect, low, high = (
        math.nan if row[key] is None else float(row[key]) for key in ("effect", "low", "high")
    )
    verdict = Verdict(row["verdict"], row["what"], effect, low, high)
    stale = "" if row["code"] == code else " (code changed since)"
    held = sum(part["verdict"] == "reproduced" for part in row["parts"])
    parts = f" ({held} of {len(row['parts'])} parts reproduced)" if row["parts"] else ""
    cost = f"{row['size']}, {row['seeds']}, {row['seconds']:.0f}"
    return " | ".join(
        (
            f"**{verdict.verdict}**{parts}{stale}",
            f"{_effect(verdict)} {_interval(verdict)}".strip(),
            verdict.what,
            cost,
            row["date"],
        )
    )


def _cells(outcome: Outcome) -> tuple[str, ...]:
    verdict = outcome.verdict
    return (
        outcome.entry.name,
        outcome.entry.paper,
        verdict.verdict,
        _effect(verdict),
        _interval(verdict),
        f"{outcome.seconds:.1f}",
    )


def _effect(verdict: Verdict) -> str:
    return "" if math.isnan(verdict.effect) else f"{verdict.effect:+.4g}"


def _interval(verdict: Verdict) -> str:
    return "" if math.isnan(verdict.low) else f"[{verdict.low:+.4g}, {verdict.high:+.4g}]"


def _plain(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON; what is not finite is null."""
    numbers = {key: getattr(verdict, key) for key in ("effect", "low", "high")}
    plain = {key: float(f"{x:.6g}") if math.isfinite(x) else None for key, x in numbers.items()}
    return {"verdict": verdict.verdict, "what": verdict.what, **plain}
