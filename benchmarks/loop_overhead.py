"""What the loop costs: everything outside forward, backward and optimizer step.

A small decoder reads one text, packed pairs of prompts and answers, documents in an order of their
own, and a mixture of three texts at weights that move, with a progress line, a run folder and the
history; the time inside forward and backward, the gradient norm, clipping and the optimizer is
taken off. Printed per step, and as a share of a step of 50 ms.

With --whole it is `pretrain` on Python's own sources: a compiled model of a million weights, in
bfloat16, with the monitors and checkpoints of the recipe. Without --steps it is as long as
`pretrain` makes it, half an hour on two cores.

    python benchmarks/loop_overhead.py [--steps 400] [--rows 16]
    python benchmarks/loop_overhead.py --whole [--steps 2000] [--rows 5]
"""

import argparse
import json
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

from thalweg.core import learner as learner_file
from thalweg.core import loop as loop_file
from thalweg.core.batch import Batch
from thalweg.core.dials import phase_length
from thalweg.core.learner import Learner
from thalweg.core.moves import Learn
from thalweg.core.protocols import Source
from thalweg.core.recipe import Phase, Recipe, Saves
from thalweg.core.record import RunFolder
from thalweg.core.session import Session, train
from thalweg.core.time import share
from thalweg.core.time import steps as count
from thalweg.data import Corpus, Mixture, Ordered, Pairs, build, build_pairs
from thalweg.models import Transformer
from thalweg.objectives import NextToken
from thalweg.optim import AdamW, Optimizers
from thalweg.recipes import pretrain
from thalweg.report import Progress
from thalweg.schedules import Blend, Wsd

STEP = 50.0
"""Milliseconds."""
COUNT = range(20_000)
"""Of examples."""
WATCHED = (
    (Learner, "_backward", "model"),
    (Learner, "_norm", "model"),
    (Optimizers, "step", "model"),
    (Optimizers, "zero", "model"),
    (learner_file, "clip_grads_with_norm_", "model"),
    (Batch, "loaded", "loop"),  # also where _backward asks for it
    (loop_file, "_measure", "monitors"),
    (RunFolder, "_write", "checkpoints"),
)
"""What is timed, and as what. The rest is the loop's."""


class Clock:
    """Adds up the milliseconds in functions; those of one inside another are the inner one's."""

    def __init__(self) -> None:
        self._spent = {kind: 0.0 for _, _, kind in WATCHED}
        self._inner = [0.0]
        for owner, name, kind in WATCHED:
            setattr(owner, name, self._timed(getattr(owner, name), kind))

    def read(self) -> dict[str, float]:
        """Return the milliseconds so far of each kind, and of all; `loop` is the rest."""
        known = {kind: spent for kind, spent in self._spent.items() if kind != "loop"}
        every = 1e3 * time.perf_counter()
        return {"all": every, "loop": every - sum(known.values()), **known}

    def _timed(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                spent = 1e3 * (time.perf_counter() - begin)
                self._spent[kind] += spent - self._inner.pop()
                self._inner[-1] += spent

        return timed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rows", type=int)
    chosen = parser.parse_args()
    clock = Clock()
    if chosen.whole:
        whole(clock, chosen.steps, chosen.rows or 5)
        return
    for name, source in SOURCES.items():
        with tempfile.TemporaryDirectory() as folder:
            recipe = small(source(Path(folder)), chosen.steps or 400, chosen.rows or 16)
            steps = run(clock, recipe, Path(folder))
        spent = [step["loop"] for step in steps]
        print(f"{name}; a step: {median(step['all'] for step in steps):.2f} ms")
        print(f"outside the model: {mean(spent):.3f} ms (mean), {median(spent):.3f} ms (median)")
        print(f"that is {100 * mean(spent) / STEP:.2f} % of a step of 50 ms")


def whole(clock: Clock, steps: int | None, rows: int) -> None:
    """Run `pretrain`; print what each kind took of a step."""
    sources = str(Path(sysconfig.get_paths()["stdlib"]) / "*.py")
    recipe = pretrain.recipe(
        [sources], "1m", steps=steps, length=256, batch=rows, dtype="bfloat16", compile=True
    )
    with tempfile.TemporaryDirectory() as folder:
        found = run(clock, recipe, Path(folder))
    mean_of = {kind: mean(step[kind] for step in found) for kind in found[0]}
    for kind, spent in mean_of.items():
        print(f"{kind:12} {spent:7.3f} ms a step, {100 * spent / mean_of['all']:6.2f} %")
    outside = mean_of["all"] - mean_of["model"]
    print(f"{len(found)} steps; outside the model {100 * outside / mean_of['all']:.2f} % in all")


def small(source: Source, steps: int, rows: int) -> Recipe:
    """Return a recipe whose model costs little, without checkpoints on the way."""
    model = Transformer(vocabulary=320, width=16, layers=1, heads=1, positions=256)
    rate = Wsd(1e-3, warmup=share(0.02), decay=share(0.2))
    phase = Phase(steps, source, (Learn("policy", NextToken(), AdamW(lr=rate)),), rows=rows)
    saves = Saves(every=count(10**9), milestone=count(10**9))
    return Recipe({"policy": model}, (phase,), saves=saves)


def run(clock: Clock, recipe: Recipe, folder: Path) -> list[dict[str, float]]:
    """Train; return the milliseconds by kind of each step, but for the first ten."""
    marks: list[dict[str, float]] = []
    with Progress(steps=phase_length(recipe.phases[0])[0]) as bar:
        watchers = [lambda: bar.update, lambda: lambda report, timing: marks.append(clock.read())]
        train(recipe, folder / "run", session=Session(watchers))
    return [{kind: b[kind] - a[kind] for kind in b} for a, b in pairwise(marks[10:])]


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


if __name__ == "__main__":
    main()
