"""A mixture of 21 texts, killed ten times and resumed with 1 and 2 processes in turn.

8 English domains and 13 languages, UniMax weights with a cap of 4 epochs, ramped: the English half
begins at 1.5 times its weights and falls as the languages rise, so that the mean over the run is
UniMax. A move writes a hash of every global batch into the history. The run is made
once undisturbed, and once under SIGKILL at random steps; the hashes and the tokens delivered by
each source must agree at every step, and the epochs at the end with the plan.

    python benchmarks/mixture_resume.py [--part 8] [--kills 10] [--data ../shared/data/domains]
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil

from thalweg.core.batch import Batch
from thalweg.core.moves import Learn
from thalweg.core.names import load_file
from thalweg.core.protocols import Context
from thalweg.core.recipe import Phase, Recipe, Saves
from thalweg.core.session import Origin, resume, train
from thalweg.core.time import steps as count
from thalweg.data import Corpus, Mixture, build, unimax
from thalweg.models import Transformer
from thalweg.objectives import NextToken
from thalweg.optim import AdamW
from thalweg.schedules import Blend

__all__ = ["Digest"]

LENGTH, ROWS, EPOCHS = 256, 64, 4.0


@dataclass(frozen=True)
class Digest:
    """Report a hash of the batch's ids, weights and sources: 52 bits, which a float holds."""

    name = "digest"
    needs = ("tokens", "weight", "source")
    makes: tuple[str, ...] = ()

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch unchanged."""
        parts = [batch[column].numpy().tobytes() for column in self.needs]
        ctx.log({"digest": int(hashlib.blake2b(b"".join(parts)).hexdigest()[:13], 16)})
        return batch


def main() -> None:
    """Build the stores, run twice, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    beside = Path(__file__).parents[2] / "shared" / "data" / "domains"
    parser.add_argument("--data", type=Path, default=beside)
    parser.add_argument("--part", type=int, default=8, help="use one document in so many")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--child", type=Path, default=None)
    chosen = parser.parse_args()
    if chosen.child is not None:
        child(chosen.child)
        return
    with tempfile.TemporaryDirectory() as home:
        stores = make_stores(chosen.data, Path(home), chosen.part)
        (Path(home) / "stores.json").write_text(json.dumps(stores))
        for verdict in compare(Path(home), chosen.kills):
            print(verdict)


def make_stores(data: Path, home: Path, part: int) -> dict[str, str]:
    """Return the stores of bytes by name, of every `part`-th document of each text."""
    files = sorted(data.glob("*.jsonl")) + sorted(data.glob("man-multilingual/*.jsonl"))
    stores = {}
    for file in files:
        few = home / "texts" / file.name
        few.parent.mkdir(exist_ok=True)
        with open(file, encoding="utf-8") as lines:
            few.write_text("".join(line for i, line in enumerate(lines) if i % part == 0))
        stores[file.stem] = str(build(few, home=home, progress=False).train)
    return stores


def recipe(stores: dict[str, str]) -> Recipe:
    """Return a tiny model on the mixture, for as long as fills the small sources' four epochs."""
    text = {n: Corpus(s, length=LENGTH, name=n, max_epochs=EPOCHS) for n, s in stores.items()}
    sizes = {name: float(corpus.size) for name, corpus in text.items()}
    budget = 0.7 * sum(sizes.values())
    weights = ramp(unimax(sizes, budget, EPOCHS))
    learn = Learn("policy", NextToken(), AdamW(lr=1e-3))
    model = Transformer(vocabulary=257, width=8, layers=1, heads=1, positions=LENGTH)
    steps = int(budget) // (LENGTH * ROWS)
    phase = Phase(steps, Mixture(text, weights), (Digest(), learn), rows=ROWS)
    return Recipe({"policy": model}, (phase,), saves=Saves(every=count(7), milestone=count(10**6)))


def ramp(mean: dict[str, float]) -> Blend:
    """Return weights that move by half, English down and languages up, around their mean."""
    english = {name for name in mean if "-" in name and name != "pt-br"}
    share = sum(mean[name] for name in english)
    tilt = {n: 0.5 if n in english else -0.5 * share / (1.0 - share) for n in mean}
    first, last = ({n: w * (1 + s * tilt[n]) for n, w in mean.items()} for s in (1, -1))
    return Blend(first, last)


def child(folder: Path) -> None:
    """Start the run, or go on with it; what a killed process was."""
    if (folder / "recipe.json").exists():
        resume(folder)
    else:
        stores = json.loads((folder.parent / "stores.json").read_text())
        file = Path(__file__).resolve()
        train(load_file(file).recipe(stores), folder, Origin(file=file))  # not as __main__


def compare(home: Path, kills: int) -> list[str]:
    """Return what the undisturbed and the killed run have in common, in lines."""
    wait(launch(home / "whole", 1), home)
    whole = history(home / "whole")
    draw, worlds, killed = random.Random(0), cycle((1, 2)), home / "killed"
    for number in range(kills):
        target = len(whole) * (number + draw.random()) / (kills + 1)
        process = launch(killed, next(worlds))
        while process.poll() is None and len(history(killed)) < target:
            time.sleep(0.02)
        if process.poll() is not None:
            wait(process, home)
        kill(process)
    wait(launch(killed, next(worlds)), home)
    broken = history(killed)
    names = [key for key in whole[-1] if key == "digest" or key.startswith("tokens")]
    same = [[row[key] for key in names] for row in whole]
    other = [[row[key] for key in names] for row in broken]
    stream = hashlib.blake2b(json.dumps(same).encode(), digest_size=8).hexdigest()
    again = hashlib.blake2b(json.dumps(other).encode(), digest_size=8).hexdigest()
    return [
        f"{len(whole)} steps, {kills} kills, {len(names) - 2} sources",
        f"hash of the stream: {stream} undisturbed, {again} killed",
        "the same" if same == other else "DIFFERENT",
        *epochs(home / "whole", whole[-1]),
    ]


def epochs(run: Path, last: dict[str, Any]) -> list[str]:
    """Return how far delivered epochs are from planned ones."""
    planned = json.loads((run / "plan.json").read_text())["sources"]
    gaps = {n: last[f"tokens/{n}"] / s["size"] - s["epochs"] for n, s in planned.items()}
    worst = max(gaps, key=lambda name: abs(gaps[name]))
    most = max(planned, key=lambda name: planned[name]["epochs"])
    rows = gaps[worst] * planned[worst]["size"] / LENGTH
    return [
        f"most epochs: {most}, {planned[most]['epochs']:.3f} planned, "
        f"{last[f'tokens/{most}'] / planned[most]['size']:.3f} delivered",
        f"largest gap: {worst}, {gaps[worst]:+.4f} epochs, which is {rows:+.2f} rows",
    ]


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a child and its ranks, which torchrun puts into sessions of their own, at once."""
    parent = psutil.Process(process.pid)
    for one in (parent, *parent.children(recursive=True)):
        one.kill()
    process.wait()


def launch(folder: Path, processes: int) -> subprocess.Popen[bytes]:
    """Start a child."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(torchrun if processes > 1 else []), __file__, "--child"]
    with open(folder.parent / "errors.txt", "ab") as errors:
        return subprocess.Popen([*command, str(folder)], stderr=errors)


def wait(process: subprocess.Popen[bytes], home: Path) -> None:
    """Wait for a child that must end well."""
    if process.wait():
        raise SystemExit((home / "errors.txt").read_text())


def history(run: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a run's history."""
    file = run / "history.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


if __name__ == "__main__":
    main()
