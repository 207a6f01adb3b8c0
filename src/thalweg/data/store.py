"""A token store: one long stream of ids on disk, where its documents begin, and a small index.

    tokens.bin             uint16, or uint32 when the vocabulary needs it; memory-mapped
    documents.bin          int64 [documents + 1]: start of each document, then the end of the stream
    learned.bin            uint8 [tokens], only in stores of answers: 1 where a target counts
    store.json             counts, dtype, end-of-text, fingerprints
    tokenizer.json, tokenizer_config.json

Every document is preceded by the end-of-text: that id opens the document and is, for a model, the
target that ends the document before it.

Two foreign layouts are read in place: a flat `.npy` of ids, and Megatron's `.bin` with its `.idx`.
Their fingerprint covers the size and 4,096-byte samples, not every byte: they can be terabytes.
"""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from thalweg.data.tokenizer import Tokenizer, load_tokenizer
from thalweg.errors import DataError, did_you_mean

__all__ = ["STORE_VERSION", "Store", "open_store"]

STORE_VERSION = 1
"""Version of the layout above."""

_MEGATRON_MAGIC = b"MMIDIDX\x00\x00"
_MEGATRON_TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}


@dataclass(frozen=True, eq=False)
class Store:
    """An opened store. Nothing is read until rows are asked for."""

    path: Path
    """Its folder, or the file of a foreign layout."""
    tokens: np.ndarray
    """Ids [n], memory-mapped."""
    documents: np.ndarray
    """int64 [documents + 1]: starts, then n; memory-mapped."""
    learned: np.ndarray | None
    """uint8 [n], memory-mapped: 1 where an id is to be learned; None: everywhere."""
    end_id: int
    """The end-of-text; fills the rest of a short row."""
    vocabulary: int
    """Number of ids of the tokenizer; 0 when the layout does not say."""
    fingerprint: str
    """32 hex digits over the content."""
    text_bytes: int = 0
    """Bytes of UTF-8 text behind the tokens; 0 when the layout does not say."""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer kept beside the tokens.

        Raises:
            DataError: The layout keeps none.
        """
        if not (self.path / "tokenizer.json").is_file():
            raise DataError(
                "a store without a tokenizer",
                expected="tokenizer.json beside the tokens",
                where=str(self.path),
                write="a store made by build(...), or load_tokenizer(...) of your own",
            )
        return load_tokenizer(self.path)

    def read(self, start: np.ndarray, length: int) -> np.ndarray:
        """Return int64 [n, length]: the ids from each start on; past the end, the end-of-text."""
        where = np.asarray(start, np.int64)[:, None] + np.arange(length)
        out: np.ndarray = self.tokens[np.minimum(where, len(self.tokens) - 1)].astype(np.int64)
        if len(where) and int(where[:, -1].max()) >= len(self.tokens):
            out[where >= len(self.tokens)] = self.end_id
        return out

    def ordinals(self, start: np.ndarray, length: int) -> np.ndarray:
        """Return int32 [n, length]: 0 in a row's first document, 1 in its second, ...

        What lies past the end of the stream counts as one more document.
        """
        starts = np.asarray(start, np.int64)
        first = np.searchsorted(self.documents, starts, side="right")
        last = np.searchsorted(self.documents, starts + length, side="left")
        counts = last - first  # documents that begin in a row
        row = np.repeat(np.arange(len(starts)), counts)
        number = np.arange(len(row)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        marks = np.zeros((len(starts), length), np.int32)
        marks[row, self.documents[number] - starts[row]] = 1
        return np.cumsum(marks, axis=1, dtype=np.int32)


def open_store(path: str | Path) -> Store:
    """Return the store at a path; opened once per process and version of the file.

    Args:
        path: A folder made by `build`, a flat `.npy`, or Megatron's `.bin` or `.idx`.

    Raises:
        DataError: Nothing there, an unknown layout, or a damaged store.
    """
    place = os.fspath(path)
    try:
        changed = os.stat(os.path.join(place, "store.json")).st_mtime_ns
    except OSError:  # not a folder of ours: a file, or nothing
        place = os.path.expanduser(place)
        index = Path(place, "store.json") if os.path.isdir(place) else Path(place)
        if not index.exists():
            raise _missing(Path(place)) from None
        changed = index.stat().st_mtime_ns
    return _open(place, changed)


@lru_cache(maxsize=256)
def _open(path: str, _changed: int) -> Store:
    place = Path(path)
    if place.is_dir():
        return _open_own(place)
    if place.suffix == ".npy":
        return _open_npy(place)
    if place.suffix in (".bin", ".idx"):
        return _open_megatron(place)
    raise DataError(
        f"a store of an unknown kind: '{place.name}'",
        expected="a folder made by build, a .npy of ids, or Megatron's .bin and .idx",
        where=path,
        write=f"build({path!r}) to make a store from text",
    )


def _missing(place: Path) -> DataError:
    beside = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
    text = place.is_dir()
    return DataError(
        f"a folder without store.json: {place.name}" if text else f"no store: '{place}'",
        expected="a token store",
        where=str(place.absolute()),
        write=f"build('{place}') to make one" if text else did_you_mean(place.name, beside),
    )


def _open_own(folder: Path) -> Store:
    try:
        index = json.loads((folder / "store.json").read_text("utf-8"))
    except ValueError as error:
        raise DataError(
            f"a store.json that is not JSON: {error}",
            expected="the index that build(...) writes",
            where=str(folder / "store.json"),
            write="build(...) again from the text: this store is damaged",
        ) from error
    if index.get("version") != STORE_VERSION:
        raise DataError(
            f"a store of version {index.get('version')}",
            expected=f"version {STORE_VERSION}",
            where=str(folder),
            write="build(...) again from the text",
        )
    count = int(index["tokens"])
    flags = folder / "learned.bin"
    return Store(
        path=folder,
        tokens=_mapped(folder / "tokens.bin", np.dtype(index["dtype"]), count),
        documents=_mapped(folder / "documents.bin", np.dtype("<i8"), int(index["documents"]) + 1),
        learned=_mapped(flags, np.dtype("u1"), count) if index["learned"] else None,
        end_id=int(index["end_id"]),
        vocabulary=int(index["vocabulary"]),
        fingerprint=str(index["fingerprint"]),
        text_bytes=int(index["text_bytes"]),
    )


def _mapped(file: Path, dtype: np.dtype[np.generic], count: int, offset: int = 0) -> np.ndarray:
    size = file.stat().st_size if file.is_file() else -1
    if size < offset + count * dtype.itemsize or (offset == 0 and size != count * dtype.itemsize):
        raise DataError(
            f"{file.name} has {size} bytes" if size >= 0 else f"no {file.name}",
            expected=f"{offset + count * dtype.itemsize} bytes ({count} of {dtype})",
            where=str(file),
            write="build(...) again from the text: this store is damaged",
        )
    if count == 0:
        return np.zeros(0, dtype)
    mapped = np.memmap(file, dtype, mode="r", offset=offset, shape=(count,))
    return mapped.view(np.ndarray)  # a memmap takes three times as long to index


def _open_npy(file: Path) -> Store:
    try:
        tokens = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise DataError(
            f"a .npy that numpy does not read: {error}",
            expected="a file written by numpy.save",
            where=str(file),
            write="numpy.save(path, numpy.fromfile(path, 'uint16')) if it holds bare ids",
        ) from error
    if tokens.ndim != 1 or tokens.dtype.kind not in "ui" or len(tokens) == 0:
        raise DataError(
            f"an array of {tokens.dtype} and shape {tokens.shape}",
            expected="token ids: one dimension, integers, at least one",
            where=str(file),
            write="numpy.save(path, ids.astype('uint16').reshape(-1))",
        )
    whole = np.array([0, len(tokens)], np.int64)
    return Store(file, tokens, whole, None, 0, 0, _sampled(file))


def _open_megatron(file: Path) -> Store:
    head, body = file.with_suffix(".idx"), file.with_suffix(".bin")
    for part in (head, body):
        if not part.is_file():
            raise _missing(part)
    with head.open("rb") as stream:
        start = stream.read(34)
    if len(start) < 34 or start[:9] != _MEGATRON_MAGIC or start[17] not in _MEGATRON_TYPES:
        raise DataError(
            "an .idx that does not begin as Megatron's does, or holds no integers",
            expected=f"{_MEGATRON_MAGIC!r}, version 1, an integer type",
            where=str(head),
            write="the .idx that belongs to this .bin",
        )
    sequences, documents = struct.unpack("<QQ", start[18:])
    sizes = _mapped(head, np.dtype("<i4"), sequences, 34)
    pointers = _mapped(head, np.dtype("<i8"), sequences, 34 + 4 * sequences)
    bounds = _mapped(head, np.dtype("<i8"), documents, 34 + 12 * sequences)
    dtype = np.dtype(_MEGATRON_TYPES[start[17]])
    ends = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    if not np.array_equal(pointers, ends[:-1] * dtype.itemsize):
        raise DataError(
            "sequences that do not lie one behind the other",
            expected="a .bin in the order of its .idx",
            where=str(head),
            write="merge the parts again with Megatron's merge tool",
        )
    tokens = _mapped(body, dtype, int(ends[-1]))
    return Store(body, tokens, ends[bounds], None, 0, 0, _sampled(head) + _sampled(body)[:8])


def _sampled(file: Path) -> str:
    size = file.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with file.open("rb") as stream:
        for place in np.linspace(0, max(size - 4096, 0), 256, dtype=np.int64).tolist():
            stream.seek(place)
            digest.update(stream.read(4096))
    return digest.hexdigest()
