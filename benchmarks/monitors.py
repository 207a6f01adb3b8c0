"""What monitors cost: seconds of a measurement over seconds of training between two of them.

A decoder of a million parameters trains on batches of 32 rows, as the recipes do. Each monitor is
let measure at every other step; steps with and without it take turns in one run, and the
difference of their medians is its price, whatever it touches. CPU seconds, so that a busy machine
does not count. With the number of measurements that its default interval makes in a run of `--run`
steps (20 tokens a parameter at the recipes' defaults are about 1,200) that is a share of the run.
Also printed is the run from which on the share is below 2 %. Ranges are over rounds, in which the
monitors go forwards and backwards.

    python benchmarks/monitors.py [--rounds 3] [--steps 16] [--run 1200] [--only heldout,memory]
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

from thalweg.core.moves import Learn
from thalweg.core.protocols import Context, Monitor
from thalweg.core.recipe import Phase, Recipe, Saves
from thalweg.core.session import Session, train
from thalweg.core.time import Span, Time
from thalweg.core.time import steps as count
from thalweg.data import Biographies, Corpus, build
from thalweg.models import Moe, size
from thalweg.monitors import (
    ExpertUse,
    HeldOut,
    Knowledge,
    Memory,
    Pathways,
    Sharpness,
    Sparsity,
    Stability,
)
from thalweg.objectives import NextToken
from thalweg.optim import AdamW

EVERY, ROWS, BAR = 2, 32, 0.02


@dataclass(frozen=True)
class Often:
    """A monitor that measures at every other step, whatever its own interval."""

    inner: Monitor
    name: str = "often"
    every: int = EVERY

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return what the monitor says; told that it is the first step, where all measure."""
        return self.inner(replace(ctx, time=replace(ctx.time, step=0)))


def main() -> None:
    """Measure each monitor in turns, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16, help="measured steps a run")
    parser.add_argument("--run", type=int, default=1200, help="steps of the run that is foreseen")
    parser.add_argument("--length", type=int, default=64, help="targets of a row")
    parser.add_argument("--only", default="", help="names, comma separated")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = monitors(corpora(Path(folder), chosen.length, 8))
        if chosen.only:
            cases = {name: cases[name] for name in chosen.only.split(",")}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        for number in range(chosen.rounds):
            for name in list(cases)[:: 1 if number % 2 == 0 else -1]:
                place = Path(folder, f"{name}-{number}")
                found[name].append(measure(cases[name], chosen, place))
    report(found, cases, chosen.run)


def corpora(folder: Path, length: int, texts: int) -> list[Corpus]:
    """Return texts of made-up words, the first to train on."""
    out = []
    for number in range(texts):
        file = folder / f"{number}.txt"
        file.write_text(" ".join(f"word{i % 977} {i * number % 89}" for i in range(20_000)))
        store = str(build(file, tokenizer="bytes", home=folder, progress=False).train)
        out.append(Corpus(store, length=length, shuffle=number == 0, name=f"text{number}"))
    return out


def monitors(text: list[Corpus]) -> dict[str, Monitor]:
    """Return each monitor at its defaults."""
    one, named = {"a": text[1]}, {t.name: t for t in text[1:]}
    return {
        "heldout": HeldOut(one),
        "heldout of 7": HeldOut(named, most=64 // 7),  # as the recipes share the rows
        "stability": Stability(one, {"b": text[2]}),
        "sparsity": Sparsity(text[1]),
        "memory": Memory(text[1], text[2]),
        "knowledge": Knowledge(Biographies(people=600)),
        "sharpness": Sharpness(text[1]),
        "experts": ExpertUse({"a": text[1], "b": text[2]}),
        "pathway": Pathways(text[1]),
    }


def measure(monitor: Monitor, chosen: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Return the seconds of a step, and those that a measurement adds to it: medians."""
    text = corpora(folder.parent, chosen.length, 1)[0]
    model = size("1m", 320, chosen.length)
    if isinstance(monitor, ExpertUse | Pathways):
        model = replace(model, moe=Moe(experts=8, top=2))
    learn = Learn("policy", NextToken(), AdamW(lr=1e-3))
    steps = chosen.steps + 2 * EVERY
    phase = Phase(steps, text, (learn,), rows=ROWS, monitors=(Often(monitor),))
    never = Saves(every=count(10**9), milestone=count(10**9))
    marks: list[float] = []
    watch = Session([lambda: lambda report, timing: marks.append(time.process_time())])
    train(Recipe({"policy": model}, (phase,), saves=never), folder, session=watch)
    spent = list(enumerate((b - a for a, b in pairwise(marks)), 2))[EVERY:-1]  # the last saves
    with_it = [seconds for step, seconds in spent if step % EVERY == 0]
    without = [seconds for step, seconds in spent if step % EVERY]
    return median(without), median(with_it) - median(without)


def report(
    found: dict[str, list[tuple[float, float]]], cases: dict[str, Monitor], run: int
) -> None:
    """Print seconds, shares and the shortest run below the bar."""
    print(
        f"{'monitor':14} {'a step':>9} {'measuring':>10} {'in steps':>9}   share of {run:,} steps"
    )
    for name, pairs in found.items():
        ratios = sorted(cost / step for step, cost in pairs)
        times = measurements(cases[name], run)
        share = [times * ratio / run for ratio in ratios]
        least = next((n for n in lengths() if is_cheap(cases[name], ratios, n)), None)
        print(
            f"{name:14} {1e3 * median(step for step, _ in pairs):6.1f} ms "
            f"{1e3 * median(cost for _, cost in pairs):7.1f} ms {median(ratios):9.2f}   "
            f"{median(share):.1%} ({share[0]:.1%} .. {share[-1]:.1%}), {times} times; "
            f"below {BAR:.0%} from {least or 'more than 100,000':,} steps on"
        )


def measurements(monitor: Monitor, run: int) -> int:
    """Return how often a monitor measures in a run, the beginning included."""
    first = int(isinstance(monitor, Stability | Sparsity))
    if isinstance(monitor, Stability):
        return first + sum(monitor.due(done) for done in range(1, run + 1))
    every = monitor.every
    every = every.of(Time(0, run)) if isinstance(every, Span) else int(every)
    return first + -(-run // max(1, every))


def is_cheap(monitor: Monitor, ratios: list[float], run: int) -> bool:
    """Return whether a monitor costs less than the bar in a run of that many steps."""
    return measurements(monitor, run) * median(ratios) / run < BAR


def lengths() -> range:
    """Return the runs that are tried."""
    return range(100, 100_001, 100)


if __name__ == "__main__":
    main()
