"""The most frequent n-grams of a store, counted exactly in bounded memory.

One scan of the stream for each length n = 2 ... K, as in the paper. A gram is counted only where
the grams without its first and without its last token are still in the running, since it cannot be
more frequent than they are. In the running are, after each scan, the `most` most frequent grams of
all lengths so far: an exact bound, which rises to the final one, where the paper drops counts below
5 from its second scan on. All lengths are ranked together; grams stay inside documents.

When more than `entries` different grams turn up in a scan, those of one half of all hashes are
dropped, and another scan counts them afterwards; halves are halved again where need be. So memory
is bounded, counts stay exact, and what a larger corpus costs is time.

Source: arXiv:2502.01637, sec. 3 and algorithm 2.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.data.grams import Grams, index_grams, mix, open_grams
from thalweg.data.store import Store, open_store
from thalweg.errors import DataError, DialError

__all__ = ["count_grams"]

# N positions, G grams, V vocabulary.

Ints = NDArray[np.int64]

_BLOCK = 1 << 20
"""Tokens read at once."""


class _Counted(NamedTuple):
    """Grams by key; the node in a key is a number of the set that they extend."""

    keys: Ints
    counts: Ints


_NONE = _Counted(np.zeros(0, np.int64), np.zeros(0, np.int64))


def count_grams(
    store: str | Path,
    folder: str | Path,
    *,
    most: int,
    longest: int = 5,
    least: int = 5,
    vocabulary: int | None = None,
    entries: int = 20_000_000,
) -> Grams:
    """Return the most frequent n-grams of a store; made now, or found in the folder.

    Args:
        store: Of tokens, see `open_store`.
        folder: Where they are kept.
        most: G, grams of all lengths together.
        longest: K, tokens of the longest.
        least: Occurrences below which no gram is kept.
        vocabulary: V; None for the store's own. Larger where a model's is.
        entries: Different grams held at once while counting, about 70 bytes each at the peak; the
            result does not depend on it.

    Raises:
        DataError: The vocabulary is not known, or no gram occurs `least` times.
        DialError: A number below what makes sense.

    Example:
        >>> import tempfile; from thalweg.data import build
        >>> folder = Path(tempfile.mkdtemp()); _ = (folder / "a.txt").write_text("abababab")
        >>> text = build(folder, home=folder / "h", progress=False).train
        >>> count_grams(text, folder / "grams", most=3, least=2).counts.tolist()
        [4, 3, 3]
    """
    for name, value, low in (
        *(("most", most, 1), ("longest", longest, 2), ("least", least, 1)),
        ("entries", entries, 1),
    ):
        if value < low:
            raise DialError(
                f"{name}={value}", expected=f"{low} or more", where="count_grams",
                write="count_grams(store, folder, most=100_000)",
            )  # fmt: skip
    text = open_store(store)
    size = _vocabulary(text, vocabulary, str(store))
    made = f"{text.fingerprint} V={size} most={most} longest={longest} least={least}"
    if Path(folder, "grams.json").is_file() and open_grams(folder).made == made:
        return open_grams(folder)
    grams = index_grams(*_NONE, size, longest)
    lengths = np.zeros(0, np.int64)
    for length in range(2, longest + 1):
        floor = max(least, int(grams.counts[-1]) + 1) if len(grams) == most else least
        fresh = _scan(text, grams, length, floor, most, entries)
        grams, lengths = _ranked(grams, lengths, fresh, length, most)
        if not len(fresh.keys):
            break
    if not len(grams):
        raise DataError(
            f"no pair of tokens that occurs {least} times",
            expected="grams to keep",
            where=str(store),
            write="a smaller least, or more text",
        )
    return open_grams(grams.save(folder, made))


def _vocabulary(text: Store, asked: int | None, where: str) -> int:
    size = text.vocabulary if asked is None else asked
    if size < max(text.vocabulary, 1):
        raise DataError(
            f"a vocabulary of {size}",
            expected="the store's own or more" if text.vocabulary else "a number: it says none",
            where=where,
            write=f"count_grams(..., vocabulary={text.vocabulary or 50_257})",
        )
    return size


def _scan(text: Store, grams: Grams, length: int, least: int, most: int, entries: int) -> _Counted:
    """Return the most frequent grams of a length, those that occur `least` times."""
    found, todo = _NONE, [(1, 0)]
    while todo:
        parts, part = todo.pop()
        table = _Table()
        for keys in _ends(text, grams, length):
            table.add(keys if parts == 1 else keys[mix(keys) % np.uint64(parts) == part])
            while table.full(entries):
                todo.append((2 * parts, part + parts))
                parts *= 2
                table.drop(mix(table.counted.keys) % np.uint64(parts) == part)
        table.settle()
        often = table.counted.counts >= least
        found = _best(_joined(found, table.counted, often), most)
    return found


def _ends(text: Store, grams: Grams, length: int) -> Iterator[Ints]:
    """Yield, block by block, the key of each gram of a length that may be frequent."""
    for start in range(0, len(text.tokens), _BLOCK):
        low, stop = max(start - length, 0), start + _BLOCK
        tokens_N = text.tokens[low:stop].astype(np.int64)
        joined_N = np.ones(len(tokens_N), bool)
        joined_N[0] = False
        first, last = np.searchsorted(text.documents, (low, low + len(tokens_N)))
        joined_N[text.documents[first:last] - low] = False
        node_N = _nodes(grams, tokens_N, joined_N, length - 1)
        at = start - low + np.flatnonzero(joined_N[start - low :])
        at = at[(node_N[at] >= 0) & (node_N[at - 1] >= 0)]
        yield node_N[at] * grams.vocabulary + tokens_N[at - (length - 1)]


def _nodes(grams: Grams, tokens_N: Ints, joined_N: NDArray[np.bool_], length: int) -> Ints:
    """Return the node of the gram of a length that ends at each position, -1 where none is."""
    if length == 1:
        return tokens_N
    node_N = np.full(len(tokens_N), -1, np.int64)
    levels = grams.climb(tokens_N, joined_N, np.flatnonzero(joined_N))
    for reached, (at, number) in enumerate(levels, start=2):
        if reached == length:
            node_N[at] = number + grams.vocabulary
            break
    return node_N


def _ranked(
    grams: Grams, lengths: Ints, fresh: _Counted, length: int, most: int
) -> tuple[Grams, Ints]:
    """Return the `most` most frequent of both, numbered anew, and their lengths."""
    keys = np.concatenate([grams.keys[:-1], fresh.keys])
    counts = np.concatenate([grams.counts, fresh.counts])
    lengths = np.concatenate([lengths, np.full(len(fresh.keys), length)])
    order = np.lexsort((keys, lengths, -counts))[:most]
    number = np.full(len(keys), -1, np.int64)
    number[order] = np.arange(len(order))
    node, first = np.divmod(keys[order], grams.vocabulary)
    inner = node >= grams.vocabulary
    node[inner] = number[node[inner] - grams.vocabulary] + grams.vocabulary
    renamed = node * grams.vocabulary + first
    return index_grams(renamed, counts[order], grams.vocabulary, grams.longest), lengths[order]


class _Table:
    """Counts by key, sorted; what is added waits until it is as much as what is there."""

    def __init__(self) -> None:
        self.counted = _NONE
        self._waiting: list[_Counted] = []
        self._held = 0

    def add(self, keys: Ints) -> None:
        """Count the keys of a block."""
        block = _Counted(*np.unique(keys, return_counts=True))
        self._waiting.append(block)
        self._held += len(block.keys)

    def full(self, entries: int) -> bool:
        """Return whether there are more than `entries` different keys."""
        if self._held > max(len(self.counted.keys), min(_BLOCK, entries)):
            self.settle()
        return len(self.counted.keys) > entries

    def drop(self, kept: NDArray[np.bool_]) -> None:
        """Forget all others."""
        self.counted = _Counted(self.counted.keys[kept], self.counted.counts[kept])

    def settle(self) -> None:
        """Add up what waits."""
        if self._waiting:
            keys, counts = (
                np.concatenate(x) for x in zip(self.counted, *self._waiting, strict=True)
            )
            order = np.argsort(keys, kind="stable")
            keys, counts = keys[order], counts[order]
            first = np.flatnonzero(np.diff(keys, prepend=-1))
            summed = np.add.reduceat(counts, first) if len(first) else counts
            self.counted = _Counted(keys[first], summed)
        self._waiting, self._held = [], 0


def _joined(a: _Counted, b: _Counted, kept: NDArray[np.bool_]) -> _Counted:
    return _Counted(
        np.concatenate([a.keys, b.keys[kept]]), np.concatenate([a.counts, b.counts[kept]])
    )


def _best(counted: _Counted, most: int) -> _Counted:
    order = np.lexsort((counted.keys, -counted.counts))[:most]
    return _Counted(counted.keys[order], counted.counts[order])
