"""Plans of a large corpus: how long they take, what they hold, how fast a row is found.

A store of 20 million documents of drawn lengths (about 450 ids each; the ids themselves are a
sparse file). Measured for `Corpus` and for `Ordered` in a shuffled and in a folded order, each in a
process of its own: seconds from nothing to the first row, the rise of anonymous memory at its
highest (mapped files are the page cache's), the time to the addresses of a batch at a random step,
and the time to look up every id's place and document in one of its rows. Small times are CPU
seconds, so that a busy machine does not count.

    python benchmarks/data_plan.py [--documents 20000000]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np

from thalweg.core.protocols import Context
from thalweg.core.time import Time
from thalweg.data import Corpus, Folded, Ordered, open_store
from thalweg.data.orders import AsStored

LENGTH, ROWS = 2048, 64


def main() -> None:
    """Make the store, measure each plan in a process of its own, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=int, default=20_000_000)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "FOLDER"), default=None)
    chosen = parser.parse_args()
    if chosen.child is not None:
        print(json.dumps(measure(chosen.child[0], Path(chosen.child[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        tokens = make_store(Path(folder), chosen.documents)
        print(f"{chosen.documents:,} documents, {tokens:,} ids, rows of {LENGTH}")
        for kind in ("corpus", "shuffled", "folded", "stored"):
            command = [sys.executable, __file__, "--child", kind, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            print(
                f"{kind:9} {found['seconds']:6.2f} s ({found['cpu']:.2f} s CPU)   "
                f"+{found['anonymous']:4.0f} MB   addresses of a batch of {ROWS} "
                f"{1e6 * found['batch']:4.0f} us   a row looked up {1e6 * found['row']:4.0f} us"
            )


def make_store(folder: Path, documents: int) -> int:
    """Write a store whose documents have log-normal lengths, and scores of it; return its ids."""
    draw = np.random.default_rng(0)
    bounds = np.zeros(documents + 1, np.int64)
    for first in range(0, documents, 1 << 20):
        last = min(first + (1 << 20), documents)
        sizes = np.clip(draw.lognormal(5.6, 1.0, last - first), 2, 100_000).astype(np.int64)
        bounds[first + 1 : last + 1] = bounds[first] + np.cumsum(sizes)
    bounds.astype("<i8").tofile(folder / "documents.bin")
    count = int(bounds[-1])
    with open(folder / "tokens.bin", "wb") as stream:
        stream.truncate(2 * count)  # sparse: zeros that take no room
    index = {
        "version": 1, "tokens": count, "documents": documents, "dtype": "uint16", "end_id": 0,
        "vocabulary": 50_000, "fingerprint": "0" * 32, "learned": False, "text_bytes": 0,
    }  # fmt: skip
    (folder / "store.json").write_text(json.dumps(index))
    scores = folder / "scores"
    scores.mkdir()
    draw.standard_normal(documents, dtype=np.float32).tofile(scores / "lqs.f32")
    facts = {"fingerprint": "0" * 32, "documents": documents, "columns": {"lqs": "1"}}
    (scores / "scores.json").write_text(json.dumps(facts))
    return count


def measure(kind: str, folder: Path) -> dict[str, float]:
    """Return what one plan takes."""
    path, scores = str(folder), str(folder / "scores")
    source = {
        "corpus": Corpus(path, length=LENGTH),
        "shuffled": Ordered(path, length=LENGTH),
        "folded": Ordered(path, Folded("lqs"), scores=scores, length=LENGTH),
        "stored": Ordered(path, AsStored(), length=LENGTH),
    }[kind]
    ctx = Context(Time(), rows=1)
    before, peak = memory(), Peak()
    begin, cpu = time.perf_counter(), time.process_time()
    state = source.start(ctx)
    batch, _ = source.next(state, ctx)
    _ = batch["tokens"]
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    anonymous = peak.stop() - before
    rows = int(open_store(path).documents[-1]) // LENGTH - ROWS
    draw = np.random.default_rng(1)
    times = [timed(source, state, int(draw.integers(rows))) for _ in range(200)]
    batch_time, row_time = (median(column) for column in zip(*times, strict=True))
    return {
        "seconds": seconds, "cpu": cpu, "anonymous": anonymous,
        "batch": batch_time, "row": row_time,
    }  # fmt: skip


def timed(source: Corpus | Ordered, state: dict[str, object], row: int) -> tuple[float, float]:
    """Return the CPU seconds of a batch's addresses from `row` on, and of looking one row up."""
    begin = time.process_time()
    batch, _ = source.next({**state, "row": row}, Context(Time(), rows=ROWS))
    middle = time.process_time()
    _ = batch.take([ROWS // 2])["document"]
    return middle - begin, time.process_time() - middle


def memory() -> float:
    """Return the megabytes of this process's anonymous memory."""
    lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024


class Peak:
    """The highest anonymous memory until `stop`, looked at every few milliseconds."""

    def __init__(self) -> None:
        self.highest = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Return the highest value, in MB."""
        self._ended.set()
        self._thread.join()
        return self.highest

    def _watch(self) -> None:
        while not self._ended.wait(0.003):
            self.highest = max(self.highest, memory())


if __name__ == "__main__":
    main()
