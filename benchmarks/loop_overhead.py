"""What the loop costs: everything outside forward, backward and optimizer step.

A small decoder reads one text, packed pairs of prompts and answers, documents in an order of their
own, and a mixture of three texts at weights that move, with a progress line, a run folder and the
history; the time inside forward and backward, the gradient norm, clipping and the optimizer is
taken off. Printed per step, and as a share of a step of 50 ms.

    python benchmarks/loop_overhead.py [--steps 400] [--rows 16]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from thalweg.core import learner as learner_file
from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.moves import Learn
from thalweg.core.protocols import Source
from thalweg.core.recipe import Phase, Recipe, Saves
from thalweg.core.session import Session, train
from thalweg.core.time import share
from thalweg.core.time import steps as count
from thalweg.data import Corpus, Mixture, Ordered, Pairs, build, build_pairs
from thalweg.models import Transformer
from thalweg.objectives import NextToken
from thalweg.optim import AdamW, Optimizers
from thalweg.report import Progress
from thalweg.schedules import Blend, Wsd

STEP_SECONDS = 0.05
COUNT = range(20_000)
"""Of examples."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rows", type=int, default=16)
    chosen = parser.parse_args()
    spent: dict[str, float] = {}
    for owner, name in (
        (Learner, "_backward"),
        (Learner, "_norm"),
        (Batch, "loaded"),
        (Optimizers, "step"),
        (Optimizers, "zero"),
        (learner_file, "clip_grads_with_norm_"),
    ):
        setattr(owner, name, _timed(getattr(owner, name), name, spent))
    for name, source in SOURCES.items():
        with tempfile.TemporaryDirectory() as folder:
            marks = run(Path(folder), chosen.steps, chosen.rows, source(Path(folder)), spent)
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(marks[10:])]
        outside = sorted(whole - inside for whole, inside in steps)
        half = outside[len(outside) // 2]
        print(f"{name}; a step: {1e3 * median(whole for whole, _ in steps):.2f} ms")
        print(f"outside the model: {1e3 * half:.3f} ms (median), {1e3 * outside[0]:.3f} ms (least)")
        print(f"that is {100 * half / STEP_SECONDS:.2f} % of a step of 50 ms")


def run(
    folder: Path, steps: int, rows: int, source: Source, spent: dict[str, float]
) -> list[tuple[float, float]]:
    """Train; return the clock, and the seconds spent in the model so far, after each step."""
    model = Transformer(vocabulary=320, width=16, layers=1, heads=1, positions=256)
    rate = Wsd(1e-3, warmup=share(0.02), decay=share(0.2))
    phase = Phase(steps, source, (Learn("policy", NextToken(), AdamW(lr=rate)),), rows=rows)
    recipe = Recipe(
        {"policy": model}, (phase,), saves=Saves(every=count(10**9), milestone=count(10**9))
    )
    marks: list[tuple[float, float]] = []

    def mark(report: object, timing: object) -> None:
        reading = 2 * spent["loaded"]  # counted once in _backward and once by itself
        marks.append((now(), sum(spent.values()) - reading))

    with Progress(steps=steps) as bar:
        watchers = [lambda: bar.update, lambda: mark]
        train(recipe, folder / "run", session=Session(watchers))
    return marks


def now() -> float:
    """Return seconds that only rise."""
    return time.perf_counter()


def _corpus(folder: Path, name: str = "text") -> Corpus:
    file = folder / f"{name}.txt"
    file.write_text(" ".join(f"{name}{i % 977} {i % 89}" for i in range(60_000)))
    return Corpus(str(build(file, home=folder, progress=False).train), length=256, name=name)


def _pairs(folder: Path) -> Pairs:
    rows = ({"prompt": f"{i % 97} + {i % 89}", "answer": f"is {i % 97 + i % 89}"} for i in COUNT)
    file = _written(folder, rows)
    built = build_pairs(file, prompt="prompt", answer="answer", home=folder, progress=False)
    return Pairs(str(built.train), length=256)


def _ordered(folder: Path) -> Ordered:
    file = _written(folder, ({"text": f"words of {i % 977} " * 6} for i in COUNT))
    return Ordered(str(build(file, home=folder, progress=False).train), length=256)


def _mixture(folder: Path) -> Mixture:
    weights = Blend({"a": 1.0, "b": 1.0, "c": 0.0}, {"a": 0.0, "b": 1.0, "c": 1.0})
    return Mixture({name: _corpus(folder, name) for name in "abc"}, weights)


def _written(folder: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


SOURCES: Mapping[str, Callable[[Path], Source]] = {
    "one text": _corpus,
    "pairs": _pairs,
    "documents in order": _ordered,
    "a mixture of three texts": _mixture,
}


def _timed(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = now()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] = spent.get(name, 0.0) + now() - begin

    return timed


if __name__ == "__main__":
    main()
