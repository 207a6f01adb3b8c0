"""Vectors of n-grams from a file in the page cache: how many positions a second, on one core.

Text is a walk in which each of 50,000 tokens has a few drawn successors; the grams are all its
pairs, and triples up to the number that is asked for, so that one ends at nearly every position.
Successors are drawn alike, so that most rows of the file come from memory, or mostly from few
tokens, as in text, so that frequent ones are at hand. A look-up is all that a position needs: the
longest gram that ends there, and its vector put into the answer. Best of five; CPU seconds, so that
a busy machine does not count. A decoding step reads windows of 5 tokens for the last one's vector.

    python benchmarks/scone.py [--grams 1000000] [--width 256] [--lookups 1000000]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from thalweg.data.grams import Grams, index_grams
from thalweg.models import GramFile, Transformer
from thalweg.models.scone import GramModule

BAR = 1_000_000
VOCABULARY, LONGEST, ROW = 50_000, 5, 1000
SKEW = {"alike": 1, "skewed": 4}


def main() -> None:
    """Make sets and their file, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--grams", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--lookups", type=int, default=1_000_000)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    spec = Transformer(vocabulary=VOCABULARY, width=chosen.width, layers=1, heads=1, positions=8)
    for kind, skew in SKEW.items():
        with tempfile.TemporaryDirectory() as folder:
            grams, rows = make(chosen.grams, chosen.lookups, skew)
            grams.save(Path(folder, "grams"), "benchmark")
            size = make_table(Path(folder, "table.npy"), len(grams), chosen.width)
            print(f"{kind}: {len(grams):,} grams, width {chosen.width}, {size / 1e6:,.0f} MB")
            measure(GramFile(folder).module(spec), rows, chosen.width)


def measure(module: GramModule, rows: NDArray[np.int64], width: int) -> None:
    """Print what one core does in a second, and how long a decoding step waits."""
    tokens = torch.nn.Embedding(1, width)
    number = module.known.match(rows)
    empty = torch.zeros(*rows.shape, width, dtype=torch.float16)
    finding = rows.size / seconds(partial(module.known.match, rows))
    read = partial(module, empty, torch.from_numpy(rows), None, tokens)
    rate = rows.size / seconds(read)
    print(
        f"  a gram at {(number >= 0).mean():.1%} of {rows.size:,} positions, "
        f"{len(np.unique(number)):,} different; finding alone {finding / 1e6:.2f} M/s\n"
        f"  look-ups: {rate / 1e6:.2f} M/s, {'reached' if rate >= BAR else 'NOT reached'}: 1 M/s"
    )
    for batch in (1, 64):
        window = torch.from_numpy(rows.reshape(-1, LONGEST)[:batch].copy())
        one = partial(module, empty.view(-1, 1, width)[:batch], window, None, tokens)
        print(f"  a decoding step of {batch:2} rows: {1e6 * seconds(one, 100):.0f} us")


def make(count: int, positions: int, skew: int) -> tuple[Grams, NDArray[np.int64]]:
    """Return a set of grams, and text made of them [rows, 1000]."""
    draw = np.random.default_rng(0)
    each = max(2, count // 3 // VOCABULARY)
    after_VS = (VOCABULARY * draw.random((VOCABULARY, each)) ** skew).astype(np.int64)
    pairs = np.unique(after_VS * VOCABULARY + np.arange(VOCABULARY)[:, None])
    pairs = draw.permutation(pairs)
    known = index_grams(pairs, np.ones(len(pairs), np.int64), VOCABULARY, LONGEST)
    walk = walked(after_VS, draw, 4 * count // 3, 3)
    node = VOCABULARY + known.find(walk[:, 2] * VOCABULARY + walk[:, 1])
    triples = draw.permutation(np.unique(node * VOCABULARY + walk[:, 0]))[: count - len(pairs)]
    keys = np.concatenate([pairs, triples])
    grams = index_grams(keys, np.ones(len(keys), np.int64), VOCABULARY, LONGEST)
    return grams, walked(after_VS, draw, positions // ROW, ROW)


def walked(
    after_VS: NDArray[np.int64], draw: np.random.Generator, rows: int, length: int
) -> NDArray[np.int64]:
    """Return walks [rows, length]."""
    text = np.empty((rows, length), np.int64)
    text[:, 0] = after_VS[draw.integers(0, VOCABULARY, rows), 0]
    for place in range(1, length):
        step = draw.integers(0, after_VS.shape[1], rows)
        text[:, place] = after_VS[text[:, place - 1], step]
    return text


def make_table(file: Path, grams: int, width: int) -> int:
    """Write a file of drawn vectors, which leaves it in the page cache; return its bytes."""
    table = np.lib.format.open_memmap(file, "w+", np.dtype("float16"), (grams, width))
    some = np.random.default_rng(1).standard_normal((1000, width), np.float32)
    for start in range(0, grams, 1000):
        table[start : start + 1000] = some[: min(1000, grams - start)]
    table.flush()
    return file.stat().st_size


def seconds(work: Callable[[], object], times: int = 1) -> float:
    """Return the CPU seconds of one call, the least of five measurements."""
    spent = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(times):
            work()
        spent.append((time.process_time() - begun) / times)
    return min(spent)


if __name__ == "__main__":
    main()
