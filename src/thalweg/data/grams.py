"""A set of frequent n-grams, and the longest of them that ends at each position of a text.

    keys.npy    int64 [G + 1]: node(gram without its first token) * V + first token; at last -1
    counts.npy  int64 [G]: how often each occurs
    slots.npy   int32 [2^p]: hash table of numbers, at most half full; -1 where it is empty
    grams.json  version, vocabulary, longest, fingerprint, where they were counted

Grams are numbered from the most frequent on; equally frequent ones from the shortest on. What a
gram without its first or last token is therefore stands before it, and the first numbers are a set
by themselves (`take`). That is also what makes looking up exact and quick: token v is node v, gram
g is node V + g, and from the node of the last n tokens one step to the left is one key. Nothing is
hashed that is not compared. All positions go together, so there is no loop over tokens; the arrays
may be larger than memory, and are read from the page cache.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import DataError

__all__ = ["Grams", "Spelled", "index_grams", "make_grams", "mix", "open_grams"]

# N positions, R rows, T positions of a row, G grams, V vocabulary, K tokens of the longest gram.

Ints = NDArray[np.int64]

_VERSION = 1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Knuth 6.4, multiplicative hashing
_TOGETHER = 1 << 15
"""Positions looked up at once: their arrays stay in the second cache."""


class Spelled(NamedTuple):
    """Grams as tokens."""

    tokens: Ints
    """[N, K], 0 behind a gram's end."""
    length: Ints
    """[N], 2 to K."""


@dataclass(frozen=True, eq=False)
class Grams:
    """A closed set of n-grams, opened."""

    keys: Ints
    """[G + 1], see above."""
    counts: Ints
    """[G], not rising."""
    slots: NDArray[np.int32]
    """[2^p]."""
    vocabulary: int
    """V; larger tokens must not be looked up."""
    longest: int
    """K."""
    made: str = ""
    """What they were counted in."""

    def __len__(self) -> int:
        """Return G."""
        return len(self.counts)

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits over the grams."""
        digest = hashlib.blake2b(f"{self.vocabulary} {self.longest}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.keys).data)
        return digest.hexdigest()

    def match(self, tokens_RT: Ints, document_RT: NDArray[Any] | None = None) -> Ints:
        """Return the number of the longest gram that ends at each position, -1 for none [R, T].

        Args:
            tokens_RT: Tokens, each below the vocabulary.
            document_RT: A gram stays inside equal neighbours; None: one document a row.

        Raises:
            DataError: A token that is not in the vocabulary.

        Example:
            >>> grams = make_grams([[1, 2], [3, 1, 2], [3, 1]], [9, 7, 7], vocabulary=5)
            >>> grams.match(np.array([[3, 1, 2, 2], [1, 2, 3, 1]])).tolist()
            [[-1, 1, 2, -1], [-1, 0, -1, 1]]
        """
        joined_RT = np.ones(tokens_RT.shape, bool)
        joined_RT[:, :1] = False
        if document_RT is not None:
            joined_RT[:, 1:] = document_RT[:, 1:] == document_RT[:, :-1]
        tokens_N = np.ascontiguousarray(tokens_RT, np.int64).ravel()
        if len(tokens_N) and not 0 <= tokens_N.min() <= tokens_N.max() < self.vocabulary:
            raise DataError(
                f"tokens from {tokens_N.min()} to {tokens_N.max()}",
                expected=f"0 to {self.vocabulary - 1}, the vocabulary that grams were counted in",
                where="Grams.match",
                write="count_grams(...) on a store of this tokenizer",
            )
        return self.longest_at(tokens_N, joined_RT.ravel()).reshape(tokens_RT.shape)

    def longest_at(self, tokens_N: Ints, joined_N: NDArray[np.bool_]) -> Ints:
        """Return the number of the longest gram that ends at each position of a stream, or -1.

        Args:
            tokens_N: int64.
            joined_N: Whether a position goes on where the one before it ended; not the first.
        """
        found_N = np.full(len(tokens_N), -1, np.int64)
        for start in range(0, len(tokens_N), _TOGETHER):
            inside = joined_N[start : start + _TOGETHER]
            for at, number in self.climb(tokens_N, joined_N, start + np.flatnonzero(inside)):
                found_N[at] = number
        return found_N

    def climb(
        self, tokens_N: Ints, joined_N: NDArray[np.bool_], at: Ints
    ) -> Iterator[tuple[Ints, Ints]]:
        """Yield for n = 2, 3, ... K where among `at` grams of n tokens end, and their numbers.

        Args:
            tokens_N: A stream.
            joined_N: See `longest_at`.
            at: Positions to end at, each joined.
        """
        node = tokens_N[at]
        for length in range(2, self.longest + 1):
            if not at.size:
                return
            number = self.find(node * self.vocabulary + tokens_N[at - (length - 1)])
            known = number >= 0
            at, number = at[known], number[known]
            yield at, number
            more = joined_N[at - (length - 1)]
            at, node = at[more], number[more] + self.vocabulary

    def find(self, key_N: Ints) -> Ints:
        """Return the number of each key, -1 where it is none of ours."""
        place = _home(key_N, len(self.slots))
        held = self.slots[place]
        hit = self.keys[held] == key_N  # an empty slot, -1, reads the -1 behind the keys
        found = np.where(hit, held, -1).astype(np.int64)
        others = np.flatnonzero((held >= 0) & ~hit)
        while others.size:
            place[others] = (place[others] + 1) & (len(self.slots) - 1)
            held = self.slots[place[others]]
            hit = self.keys[held] == key_N[others]
            found[others[hit]] = held[hit]
            others = others[(held >= 0) & ~hit]
        return found

    def spell(self, number_N: Ints) -> Spelled:
        """Return grams as tokens.

        Example:
            >>> grams = make_grams([[1, 2], [3, 1, 2], [3, 1]], [9, 7, 7], vocabulary=5)
            >>> grams.spell(np.array([0, 2])).tokens.tolist()
            [[1, 2, 0], [3, 1, 2]]
        """
        tokens_NK = np.zeros((len(number_N), self.longest), np.int64)
        length_N = np.zeros(len(number_N), np.int64)
        node_N, left = np.asarray(number_N, np.int64) + self.vocabulary, np.arange(len(number_N))
        for place in range(self.longest):
            last = node_N[left] < self.vocabulary
            tokens_NK[left[last], place] = node_N[left[last]]
            length_N[left[last]] = place + 1
            left = left[~last]
            node_N[left], tokens_NK[left, place] = np.divmod(
                self.keys[node_N[left] - self.vocabulary], self.vocabulary
            )
        return Spelled(tokens_NK, length_N)

    def take(self, most: int) -> "Grams":
        """Return the `most` first grams: those that a smaller set would have."""
        keys = self.keys[: min(most, len(self))]
        return index_grams(keys, self.counts[: len(keys)], self.vocabulary, self.longest)

    def save(self, folder: str | Path, made: str) -> Path:
        """Write a folder that `open_grams` reads; it appears whole or not at all.

        Args:
            folder: Replaced if it is there.
            made: What they were counted in.
        """
        place = Path(folder)
        fresh = place.with_name(f".{place.name}-{os.getpid()}")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for name in ("keys", "counts", "slots"):
            np.save(fresh / f"{name}.npy", getattr(self, name))
        index = {
            "version": _VERSION,
            "vocabulary": self.vocabulary,
            "longest": self.longest,
            "fingerprint": self.fingerprint,
            "made": made,
        }
        (fresh / "grams.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
        return place


def make_grams(grams: list[list[int]], counts: list[int], *, vocabulary: int) -> Grams:
    """Return the set of some grams of which each has its shorter ends among the others.

    For small sets made by hand; `count_grams` counts those of a store.

    Args:
        grams: Of two tokens or more, from the most frequent on; any order among equals.
        counts: How often each occurs.
        vocabulary: V.

    Raises:
        DataError: A gram without its first token is not there.
    """
    order = sorted(range(len(grams)), key=lambda g: (-counts[g], len(grams[g]), grams[g][::-1]))
    node: dict[tuple[int, ...], int] = {(v,): v for v in range(vocabulary)}
    keys: list[int] = []
    for g in order:
        first, *rest = grams[g]
        if tuple(rest) not in node:
            raise DataError(
                f"the gram {grams[g]} without {rest}",
                expected="with every gram the one without its first token, at least as frequent",
                where="make_grams",
                write="count_grams(store, folder, most=...)",
            )
        keys.append(node[tuple(rest)] * vocabulary + first)
        node[tuple(grams[g])] = vocabulary + len(keys) - 1
    ordered = np.array([counts[g] for g in order], np.int64)
    return index_grams(np.array(keys, np.int64), ordered, vocabulary, max(map(len, grams)))


def open_grams(folder: str | Path) -> Grams:
    """Return the grams in a folder; opened once per process and version of the files.

    Raises:
        DataError: No grams there, or of another version.
    """
    index = Path(folder).expanduser() / "grams.json"
    if not index.is_file():
        raise DataError(
            f"no grams: '{folder}'",
            expected="a folder that count_grams wrote",
            where=str(index.absolute()),
            write=f"count_grams(store, {str(folder)!r}, most=100_000)",
        )
    return _open(str(index.parent), index.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _open(folder: str, _changed: int) -> Grams:
    index = json.loads(Path(folder, "grams.json").read_text("utf-8"))
    if index["version"] != _VERSION:
        raise DataError(
            f"grams of version {index['version']}",
            expected=f"version {_VERSION}",
            where=folder,
            write="count_grams(...) again",
        )
    keys, counts, slots = (
        np.load(Path(folder, f"{name}.npy"), mmap_mode="r").view(np.ndarray)
        for name in ("keys", "counts", "slots")
    )
    sizes = int(index["vocabulary"]), int(index["longest"])
    return Grams(keys, counts, slots, *sizes, index["made"])


def index_grams(keys_G: Ints, counts_G: Ints, vocabulary: int, longest: int) -> Grams:
    """Return a set with its hash table: each gram in the first free slot from its home on.

    Args:
        keys_G: In the order of their numbers.
        counts_G: Likewise.
        vocabulary: V.
        longest: K.
    """
    size = 1 << max(3, (2 * len(keys_G)).bit_length())
    slots = np.full(size, -1, np.int32)
    waiting, place = np.arange(len(keys_G)), _home(keys_G, size)
    while waiting.size:
        free = slots[place] < 0
        slots[place[free][::-1]] = waiting[free][::-1]  # of several, the most frequent stays
        lost = slots[place] != waiting
        waiting, place = waiting[lost], (place[lost] + 1) & (size - 1)
    return Grams(np.append(keys_G, -1), np.asarray(counts_G), slots, vocabulary, longest)


def mix(key_N: Ints) -> NDArray[np.uint64]:
    """Return a hash of each key; its high bits are the best."""
    return (key_N.view(np.uint64) ^ (key_N.view(np.uint64) >> np.uint64(32))) * _GOLDEN


def _home(key_N: Ints, size: int) -> Ints:
    """Return the slot of each key in a table of `size`, a power of two."""
    return (mix(key_N) >> np.uint64(65 - size.bit_length())).view(np.int64)
