"""A token store: one long stream of ids on disk, where its documents begin, and a small index.

    tokens.bin             uint16, or uint32 when the vocabulary needs it; memory-mapped
    documents.bin          int64 [documents + 1]: start of each document, then the end of the stream
    learned.bin            uint8 [tokens], only in stores of answers: 1 where a target counts
    store.json             counts, dtype, end-of-text, fingerprints
    tokenizer.json, tokenizer_config.json

Every document is preceded by the end-of-text: that id opens the document and is, for a model, the
target that ends the document before it.

Foreign layouts are read in place: a flat `.npy` of ids; dolma's, which is one without a header
beside a table of documents (`.csv.gz`); Megatron's `.bin` with its `.idx`; datatrove's `.ds` with
its `.ds.index` and, if there is one, `.ds.loss`. The last three say where documents begin, but not
which id ends a text. Fingerprints of foreign stores cover the size and 4,096-byte samples of every
file, not every byte: they can be terabytes.
"""

import hashlib
import json
import os
import shlex
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from thalweg.data.tokenizer import Tokenizer, load_tokenizer
from thalweg.errors import DataError, did_you_mean

__all__ = ["STORE_VERSION", "Store", "anew", "open_store", "opened"]

STORE_VERSION = 1
"""Version of the layout above."""

WHOLE = 256 << 20
"""Bytes of ids up to which every byte of a store is held against its fingerprint when it is opened;
of larger ones, the sizes of the files."""

_LATEST: dict[str, "Store"] = {}

_COPY = "copy both files again: one is cut off, or they do not belong together"
_WIDTHS = {2: "<u2", 4: "<u4", 8: "<u8"}
"""Bytes of a token -> its type, where the layout does not say it."""
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
        if start.max(initial=0) <= len(self.tokens) - length:  # nearly always
            whole: np.ndarray = _windows(self, length)[start].astype(np.int64)
            return whole
        out = np.full((len(start), length), self.end_id, np.int64)
        for row, first in zip(out, start.tolist(), strict=True):
            ids = self.tokens[first : first + length]
            row[: len(ids)] = ids
        return out

    def ordinals(self, start: np.ndarray, length: int) -> np.ndarray:
        """Return int32 [n, length]: 0 in a row's first document, 1 in its second, ...

        What lies past the end of the stream counts as one more document.
        """
        last = self.documents.searchsorted(start + length)
        counts = last - self.documents.searchsorted(start, side="right")  # begin in each row
        marks = np.zeros((len(start), length), np.int32)
        if not counts.any():
            return marks
        row = np.arange(len(start)).repeat(counts)
        number = np.arange(len(row)) + (last - counts.cumsum()).repeat(counts)
        marks[row, self.documents[number] - start[row]] = 1
        return marks.cumsum(axis=1, dtype=np.int32)


@lru_cache(maxsize=256)
def _windows(store: Store, length: int) -> np.ndarray:
    """Return every run of `length` ids as a row of a view: asked for some rows, it reads those."""
    return np.lib.stride_tricks.sliding_window_view(store.tokens, length)


def open_store(path: str | Path) -> Store:
    """Return the store at a path; opened once per process and version of the file.

    Args:
        path: A folder made by `build`, a flat `.npy`, dolma's `.npy`, Megatron's `.bin` or `.idx`,
            or datatrove's `.ds`.

    Raises:
        DataError: Nothing there, an unknown layout, or a damaged store.
    """
    place = os.fspath(path)
    try:
        changed = os.stat(f"{place}/store.json").st_mtime_ns
    except OSError:  # not a folder of ours: a file, or nothing
        place = os.path.expanduser(place)
        index = Path(place, "store.json") if os.path.isdir(place) else Path(place)
        if not index.exists():
            raise _missing(Path(place)) from None
        changed = index.stat().st_mtime_ns
    store = _LATEST[os.fspath(path)] = _open(place, changed)
    return store


def anew(folder: Path) -> str:
    """Return what to do about a damaged store: what lies under its key, a build takes for whole."""
    place = folder.absolute()
    under_key = place.parent.parent.name == "stores"
    damaged = shlex.quote(str(place.parent if under_key else place))
    return (
        f"rm -r {damaged}, which is damaged; then build(...), or the command with the text, again"
    )


def opened(path: str) -> Store:
    """Return the store that `open_store` gave last; what has changed on disk since is not asked.

    For what happens at every step: a plan, and so every run, opens its stores anew.
    """
    return _LATEST.get(path) or open_store(path)


@lru_cache(maxsize=256)
def _open(path: str, _changed: int) -> Store:
    place = Path(path)
    if place.is_dir():
        return _open_own(place)
    if place.suffix == ".npy":
        return _open_dolma(place) if _table_of(place).is_file() else _open_npy(place)
    if place.suffix == ".ds":
        return _open_datatrove(place)
    if place.suffix in (".bin", ".idx"):
        return _open_megatron(place)
    raise DataError(
        f"a store of an unknown kind: '{place.name}'",
        expected="a folder made by build, a .npy of ids, Megatron's .bin and .idx, or a .ds",
        where=path,
        write=f"build({path!r}) to make a store from text",
    )


def _missing(place: Path) -> DataError:
    beside = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
    near = did_you_mean(place.name, beside)
    again = "the folder put back, or the same text built again: it comes to the same place"
    text = place.is_dir()
    return DataError(
        f"a folder without store.json: {place.name}" if text else f"no store: '{place}'",
        expected="a token store",
        where=str(place.absolute()),
        write=f"build('{place}') to make one"
        if text
        else again + f"; {near}" * near.startswith("did you"),
    )


def _open_own(folder: Path) -> Store:
    try:
        index = json.loads((folder / "store.json").read_text("utf-8"))
    except ValueError as error:
        raise DataError(
            f"a store.json that is not JSON: {error}",
            expected="the index that build(...) writes",
            where=str(folder / "store.json"),
            write=anew(folder),
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
    tokens = _mapped(folder / "tokens.bin", np.dtype(index["dtype"]), count)
    documents = _mapped(folder / "documents.bin", np.dtype("<i8"), int(index["documents"]) + 1)
    learned = _mapped(flags, np.dtype("u1"), count) if index["learned"] else None
    if tokens.nbytes <= WHOLE:
        _check_bytes(folder, index, tokens, learned, documents)
    return Store(
        path=folder,
        tokens=tokens,
        documents=documents,
        learned=learned,
        end_id=int(index["end_id"]),
        vocabulary=int(index["vocabulary"]),
        fingerprint=str(index["fingerprint"]),
        text_bytes=int(index["text_bytes"]),
    )


def _check_bytes(
    folder: Path,
    index: Mapping[str, Any],
    tokens: np.ndarray,
    learned: np.ndarray | None,
    documents: np.ndarray,
) -> None:
    """Refuse files that do not hold what was built; `publish` takes the digest in this order."""
    digest = hashlib.blake2b(str(index["tokenizer"]).encode(), digest_size=16)
    for part in (tokens, *([] if learned is None else [learned]), documents[:-1]):
        digest.update(part.data)
    if digest.hexdigest() != index["fingerprint"]:
        raise DataError(
            f"a store whose bytes have the digest {digest.hexdigest()}",
            expected=f"{index['fingerprint']}, as when it was built",
            where=str(folder),
            write=anew(folder),
        )


def _mapped(
    file: Path,
    dtype: np.dtype[np.generic],
    count: int,
    offset: int = 0,
    write: str = "",
) -> np.ndarray:
    size = file.stat().st_size if file.is_file() else -1
    if size < offset + count * dtype.itemsize or (offset == 0 and size != count * dtype.itemsize):
        raise DataError(
            f"{file.name} has {size} bytes" if size >= 0 else f"no {file.name}",
            expected=f"{offset + count * dtype.itemsize} bytes ({count} of {dtype})",
            where=str(file),
            write=write or anew(file.parent),
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
    sizes = _mapped(head, np.dtype("<i4"), sequences, 34, _COPY)
    pointers = _mapped(head, np.dtype("<i8"), sequences, 34 + 4 * sequences, _COPY)
    bounds = _mapped(head, np.dtype("<i8"), documents, 34 + 12 * sequences, _COPY)
    dtype = np.dtype(_MEGATRON_TYPES[start[17]])
    ends = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    if not np.array_equal(pointers, ends[:-1] * dtype.itemsize):
        raise DataError(
            "sequences that do not lie one behind the other",
            expected="a .bin in the order of its .idx",
            where=str(head),
            write="merge the parts again with Megatron's merge tool",
        )
    tokens = _mapped(body, dtype, int(ends[-1]), write=_COPY)
    return Store(body, tokens, ends[bounds], None, 0, 0, _sampled(head) + _sampled(body)[:8])


def _open_datatrove(file: Path) -> Store:
    index, flags = Path(f"{file}.index"), Path(f"{file}.loss")
    if not index.is_file():
        raise _missing(index)
    ends = _mapped(index, np.dtype("<u8"), index.stat().st_size // 8, write=_COPY).astype(np.int64)
    tokens = _tokens_to(file, index, ends)
    learned = None
    if flags.is_file():
        learned = _mapped(flags, np.dtype("u1"), len(tokens), write=_COPY)
    mark = _sampled(file) + _sampled(index)[:8] + (_sampled(flags)[:8] if flags.is_file() else "")
    return Store(file, tokens, np.concatenate([[0], ends]), learned, 0, 0, mark)


def _table_of(file: Path) -> Path:
    """Return where dolma says which documents a file of tokens holds."""
    return file.with_suffix(".csv.gz")


def _open_dolma(file: Path) -> Store:
    table = _table_of(file)
    try:
        found = csv.read_csv(
            table,
            read_options=csv.ReadOptions(column_names=["start", "end", "id", "src", "loc"]),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                include_columns=["start", "end"],
                column_types={"start": pa.int64(), "end": pa.int64()},
            ),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise _cut_off(table, str(error), "rows of start, end, id, src, loc") from error
    starts, ends = (found[name].to_numpy() for name in ("start", "end"))
    if not np.array_equal(starts, np.concatenate([[0], ends[:-1]])):
        raise _cut_off(table, "documents that do not lie one behind the other", "end = next start")
    tokens = _tokens_to(file, table, ends)
    mark = _sampled(file) + _sampled(table)[:8]
    return Store(file, tokens, np.concatenate([[0], ends]), None, 0, 0, mark)


def _tokens_to(file: Path, index: Path, ends: np.ndarray) -> np.ndarray:
    """Return the tokens of a file without a header; the last end tells how wide they are."""
    if not file.is_file():
        raise _missing(file)
    size, count = file.stat().st_size, int(ends[-1]) if len(ends) else 0
    if count <= 0 or (np.diff(ends, prepend=0) < 0).any():
        given = "no document" if count <= 0 else "documents that end before they begin"
        raise _cut_off(index, given, "ends of documents, in order")
    width = size // count if size % count == 0 else 0
    if width not in _WIDTHS:
        raise _cut_off(file, f"{size} bytes for {count} tokens", "2, 4 or 8 bytes a token")
    return _mapped(file, np.dtype(_WIDTHS[width]), count, write=_COPY)


def _cut_off(file: Path, given: str, expected: str) -> DataError:
    return DataError(f"{file.name}: {given}", expected=expected, where=str(file), write=_COPY)


def _sampled(file: Path) -> str:
    size = file.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with file.open("rb") as stream:
        for place in np.linspace(0, max(size - 4096, 0), 256, dtype=np.int64).tolist():
            stream.seek(place)
            digest.update(stream.read(4096))
    return digest.hexdigest()
