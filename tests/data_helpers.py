"""Small corpora for the tests of the data room."""

import json
from collections.abc import Sequence
from pathlib import Path

from thalweg.core.protocols import Context, Source, State
from thalweg.core.time import Time
from thalweg.data import build, build_pairs, build_preferences

REAL = Path(__file__).parents[1].parent / "shared" / "data"
"""Texts that lie beside the repository on the machines it is developed on."""


def ctx(rows: int = 4, seed: int = 0, step: int = 0, steps: int = 100) -> Context:
    return Context(Time(step, steps), seed=seed, rows=rows)


def write_lines(path: Path, records: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def text_store(folder: Path, texts: Sequence[str], name: str = "a") -> str:
    """Return a store of bytes of these documents."""
    file = write_lines(folder / f"{name}.jsonl", [{"text": text} for text in texts])
    return str(build(file, home=folder / "home", progress=False).train)


def pair_store(folder: Path, pairs: Sequence[tuple[str, str]]) -> str:
    """Return a store of bytes of these prompts and answers, joined by nothing."""
    records = [{"prompt": prompt, "answer": answer} for prompt, answer in pairs]
    file = write_lines(folder / "pairs.jsonl", records)
    built = build_pairs(file, template="{prompt}{answer}", home=folder / "home", progress=False)
    return str(built.train)


def preference_store(folder: Path, triples: Sequence[tuple[str, str, str]]) -> str:
    """Return a store of bytes of these prompts, better and worse answers, joined by nothing."""
    names = ("prompt", "chosen", "rejected")
    records = [dict(zip(names, triple, strict=True)) for triple in triples]
    file = write_lines(folder / "preferences.jsonl", records)
    built = build_preferences(
        file, template="{prompt}{answer}", home=folder / "home", progress=False
    )
    return str(built.train)


def states(source: Source, count: int, rows: int = 4) -> list[State]:
    """Return the states before each of `count` batches."""
    found = [source.start(ctx(rows))]
    for step in range(count - 1):
        found.append(source.next(found[-1], ctx(rows, step=step))[1])
    return found
