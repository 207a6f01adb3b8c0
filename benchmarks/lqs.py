"""How long LQS takes on a 1M model: the sweep, the regressor, and scoring a corpus.

Times a part of each and extrapolates to 2,000 proxy documents and 100,000 scored ones; with --whole
it does all of it and prints the peak of memory. The corpus is the English text of a folder, cut
into documents of 240 characters; the target is one of its files, cut likewise.

    python benchmarks/lqs.py [--part 20] [--length 128] [--whole] [--data ../shared/data/domains]
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from thalweg.data import build, open_store
from thalweg.data.lqs import learnability, row_loss
from thalweg.data.regress import _sample, fit_regressor, predicted, score_learnability
from thalweg.data.score import score_documents
from thalweg.models import size

PROXY, STEPS, ROWS, CORPUS = 2_000, 100, 16, 100_000
CHARACTERS = 240


def main() -> None:
    """Build a store, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    beside = Path(__file__).parents[2] / "shared" / "data" / "domains"
    parser.add_argument("--data", type=Path, default=beside)
    parser.add_argument("--part", type=int, default=20, help="time one in so many")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--whole", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        text = cut(sorted(chosen.data.glob("*.jsonl")), Path(home, "corpus.jsonl"))
        aim = cut([chosen.data / "dictionary-foldoc.jsonl"], Path(home, "target.jsonl"))
        built = [build(file, home=Path(home), held_out=0, progress=False) for file in (text, aim)]
        store, target = (open_store(one.train) for one in built)
        begin = time.perf_counter()
        if chosen.whole:
            spec = size("1m", store.vocabulary, chosen.length)
            folder = Path(home, "scores")
            score_learnability(store, target, folder, spec, 128, rate=0.03, length=chosen.length)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            scored, seconds = len(store.documents) - 1, time.perf_counter() - begin
            print(f"whole: {seconds:.0f} s, {scored:,} documents scored, peak {peak:.0f} MiB")
            return
        parts(store, target, Path(home), chosen.length, chosen.part)


def cut(files: list[Path], out: Path) -> Path:
    """Write at most CORPUS documents of a few hundred characters each; return where."""
    with out.open("w") as stream:
        for text in islice(pieces(files), CORPUS):
            stream.write(json.dumps({"text": text}) + "\n")
    return out


def pieces(files: list[Path]) -> Iterator[str]:
    """Yield the texts of files in pieces."""
    for file in files:
        for line in file.open():
            text = json.loads(line)["text"]
            yield from (text[i : i + CHARACTERS] for i in range(0, len(text), CHARACTERS))


def parts(store, target, home: Path, length: int, part: int) -> None:  # type: ignore[no-untyped-def]
    """Time one visit, one stretch of the sweep, a pass of the regressor and a block of scoring."""
    spec = size("1m", store.vocabulary, length)
    model = spec.build(0)
    theta = {name: value.detach() for name, value in model.named_parameters()}
    loss, aims = row_loss(model), _sample(target, "target", 64, length, 0)
    few = _sample(store, "proxy", PROXY // part, length, 0)
    one = _sample(store, "proxy", 1, length, 0)
    batches = _sample(store, "steps", 4 * ROWS, length, 0).chunk(4)
    sweep = timed(lambda: learnability(loss, theta, one, batches, aims, every=4)) * STEPS / 4
    both = [timed(lambda n=n: learnability(loss, theta, n, batches[:1], aims)) for n in (few, one)]
    visit = (both[0] - both[1]) * part * 10
    scores = np.random.default_rng(0).normal(size=len(few))
    fit = timed(lambda: fit_regressor(model, 128, few[:, :-1], scores, epochs=1)) * part * 5
    regressor = fit_regressor(model, 128, few[:40, :-1], scores[:40], epochs=1).model
    measure, done = predicted(regressor, length=length), []

    def stop(now: int, total: int) -> None:
        done.append(now)
        if now * part >= CORPUS:
            raise StopIteration

    def score() -> None:
        try:
            score_documents(store, home / "scores", "lqs", measure, progress=stop)
        except StopIteration:
            pass

    whole = timed(score) / done[-1] * CORPUS
    rows = {"sweep": sweep, "visits": visit, "regressor": fit, "corpus": whole}
    for name, seconds in {**rows, "together": sum(rows.values())}.items():
        print(f"{name:10} {seconds:7.0f} s of one core, extrapolated")


def timed(work) -> float:  # type: ignore[no-untyped-def]
    """Return the CPU seconds of a call."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
