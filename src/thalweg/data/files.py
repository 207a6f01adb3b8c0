"""Which files a source names, and how their content is cut into parts that can be built alone.

A source is a file, a folder (searched deeply, through links too; hidden names and links back to a
folder above them are left out), a glob pattern, a folder
written by `datasets.save_to_disk`, or `hf:owner/name` / `hf:owner/name:split` on the Hugging Face
hub. Files are read in sorted order.

A part is about 16 MiB of input. Its cuts are a function of the content alone, so a build that was
killed finds its finished parts again. A compressed file is one part however long.
"""

import glob
import gzip
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import BinaryIO, Literal, TypeAlias, cast

import pyarrow as pa
import pyarrow.parquet as pq

from thalweg.data.hub import hub_data_files
from thalweg.errors import DataError, did_you_mean

__all__ = [
    "PART_BYTES",
    "TEXT_SUFFIXES",
    "Segment",
    "Sources",
    "compression_of",
    "find_each",
    "find_files",
    "kind_of",
    "open_bytes",
    "plan_parts",
    "skip",
    "tails",
    "whole_table",
]

Sources: TypeAlias = "str | Path | Sequence[str | Path | Sequence[str | Path]]"
"""One source, of a file or several; or several, each a list."""

Kind: TypeAlias = Literal["text", "jsonl", "parquet", "arrow"]

PART_BYTES = 16 << 20
"""Input of one part; changing it changes which finished parts a killed build can use."""

TEXT_SUFFIXES = frozenset(
    ".txt .text .md .markdown .rst .tex .adoc .org .html .htm .xml .py .pyi .c .h .cc .cpp .cxx "
    ".hpp .cu .java .kt .scala .go .rs .js .jsx .ts .tsx .rb .php .pl .lua .r .jl .hs .ml .swift "
    ".sh .sql .toml .yaml .yml .ini .cfg".split()
)
"""What a folder is searched for, beside records. A file named outright may end as it likes."""

_RECORDS: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_STORES = (".npy", ".ds", ".bin", ".idx")
"""Names of what datatrove, dolma, Megatron and numpy write: ids, not text."""
_FEW_TEXTS = 200
_NEAR = 1 << 20


@dataclass(frozen=True)
class Segment:
    """A stretch of one file."""

    path: Path
    kind: Kind
    start: int = 0
    """First byte (of the decompressed content), or first row group of a parquet file."""
    stop: int | None = None
    """Byte or row group behind the last; None: to the end."""
    opens: bool = True
    """Whether a document begins here; False: a long text goes on."""
    held: bool | None = None
    """Whether its documents are held out; None: their hash says."""


def find_files(sources: Sources) -> tuple[Path, ...]:
    """Return the files of all sources, in the order given; inside a source, sorted.

    Raises:
        DataError: A source that does not exist, or holds no file that can be read.
    """
    return tuple(file for files in find_each(sources) for file in files)


def find_each(sources: Sources) -> tuple[tuple[Path, ...], ...]:
    """Return the files of each source, as `find_files`. A list is one source; of lists, several."""
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    flat = all(isinstance(one, str | Path) for one in given)
    groups = [given] if flat else [[g] if isinstance(g, str | Path) else [*g] for g in given]
    if not given or not all(groups):
        raise _nothing(str(sources))
    return tuple(tuple(f for one in group for f in _files_of(str(one))) for group in groups)


def kind_of(path: Path) -> Kind:
    """Return how a file is read, by its name; compression counts for nothing.

    Example:
        >>> kind_of(Path("web.jsonl.zst")), kind_of(Path("notes.md"))
        ('jsonl', 'text')
    """
    plain = path.with_suffix("") if compression_of(path) else path
    return _RECORDS.get(plain.suffix.lower(), "text")


def compression_of(path: Path) -> str:
    """Return `.gz` or `.zst`, whose content is decompressed as it is read; empty for others."""
    return path.suffix if path.suffix in (".gz", ".zst") else ""


def open_bytes(path: Path) -> BinaryIO:
    """Return the content as a stream of bytes, decompressed if the name ends in .gz or .zst."""
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.suffix == ".zst":
        raw = pa.input_stream(str(path), compression="zstd")
        return cast(BinaryIO, io.BufferedReader(raw, 1 << 20))
    return path.open("rb")


@contextmanager
def whole_table(file: Path) -> Iterator[None]:
    """Say of a parquet or Arrow file that pyarrow cannot read which one it is.

    Raises:
        DataError: pyarrow found the content wrong. What the system refuses passes as it is.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{'an Arrow' if kind_of(file) == 'arrow' else 'a parquet'} file that does not read: "
            f"{error}",
            expected="a whole file",
            where=str(file),
            write="copy or write the file again",
        ) from error


def skip(stream: BinaryIO, count: int) -> None:
    """Move `count` bytes on from the start of a stream; also in one that cannot seek."""
    if stream.seekable():
        stream.seek(count)
        return
    while count > 0:
        count -= len(stream.read(min(count, 1 << 20)))


def plan_parts(found: Sequence[Sequence[Path]], held_out: float = 0.0) -> list[tuple[Segment, ...]]:
    """Return the parts of a build, in the order of the stream.

    Args:
        found: The files of each source. Which side a file's documents fall on depends on its own
            source alone, so that a build of several sources divides each as a build of it does.
        held_out: Share of each text whose end is held out (see `tails`), which is marked in
            `held`. Other documents are held out by their hash, and are not marked here.
    """
    parts: list[tuple[Segment, ...]] = []
    gathered: list[Segment] = []
    weight = 0
    for segment, size in (pair for files in found for pair in _planned(files, held_out)):
        gathered.append(segment)
        weight += size
        if weight >= PART_BYTES:
            parts.append(tuple(gathered))
            gathered, weight = [], 0
    return [*parts, tuple(gathered)] if gathered else parts


def tails(files: Sequence[Path]) -> frozenset[Path]:
    """Return which files of one source hold out their end: its plain texts, if below 200."""
    texts = frozenset(file for file in files if kind_of(file) == "text")
    return texts if len(texts) < _FEW_TEXTS else frozenset()


def _files_of(source: str | Path) -> list[Path]:
    text = str(source)
    if text.startswith("hf:"):
        name, _, split = text[3:].partition(":")
        return hub_data_files(name, split or "train")
    path = _linked(Path(source).expanduser())
    if path.is_file():
        if path.suffix in _STORES:
            raise _stored(path)
        return [path]
    if path.is_dir():
        found = _saved_dataset(path) or sorted(_below(path, (path.resolve(),)))
        if not found:
            raise _nothing(text)
        return found
    if any(sign in text for sign in "*?["):
        matched = sorted(map(Path, glob.glob(str(path), recursive=True)))
        matched = [found for found in map(_linked, matched) if found.is_file()]
        if not matched:
            raise _nothing(text)
        return matched
    raise _absent(path)


def _below(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the files with text below a folder; `above` has the real places of it and its own."""
    try:
        inside = list(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"a folder that cannot be read: {error.strerror}",
            expected="folders that can be read, all the way down",
            where=str(folder),
            write=f"chmod -R u+rX {quote(str(folder))}; or the folder moved away",
        ) from error
    for path in (_linked(p) for p in inside if not p.name.startswith((".", "__pycache__"))):
        if not path.is_dir():
            yield from [path] if _has_text(path) else []
        elif (place := path.resolve()) not in above:
            yield from _below(path, (*above, place))


def _linked(path: Path) -> Path:
    """Return the path, unless it is a link that leads nowhere: nobody knows what it should be."""
    if not path.is_symlink() or path.exists():
        return path
    raise DataError(
        "a link that leads nowhere",
        expected=f"a file or folder at {os.readlink(path)}",
        where=str(path),
        write=f"rm {quote(str(path))}, or what it points to put back",
    )


def _has_text(path: Path) -> bool:
    plain = path.with_suffix("") if compression_of(path) else path
    known = plain.suffix.lower() in TEXT_SUFFIXES or plain.suffix.lower() in _RECORDS
    return known and path.is_file()


def _saved_dataset(folder: Path) -> list[Path]:
    """Return the Arrow files of a data set saved with save_to_disk, [] if it is none."""
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        names = _entries(splits, "splits")
        if "train" not in names:
            raise DataError(
                f"a saved data set with the splits {names}",
                expected="a split named train, or the folder of one split",
                where=str(folder),
                write=" or ".join(f"'{folder / name}'" for name in names),
            )
        folder = folder / "train"
    state = folder / "state.json"
    if not state.is_file():
        return []
    files = [folder / name for name in _entries(state, "_data_files", "filename")]
    lacking = [file.name for file in files if not file.is_file()]
    if lacking:
        raise DataError(
            f"a saved data set without {', '.join(lacking[:3])}",
            expected=f"the {len(files)} files that state.json lists",
            where=str(folder),
            write="the folder copied again, or saved again with save_to_disk",
        )
    return files


def _entries(file: Path, key: str, *of_each: str) -> list[str]:
    """Return the names that an index of save_to_disk lists under a key."""
    try:
        listed = json.loads(file.read_text("utf-8"))[key]
        return [str(entry[of_each[0]] if of_each else entry) for entry in listed]
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"a {file.name} that cannot be used: {error!r}",
            expected=f"JSON with {key}, as save_to_disk writes it",
            where=str(file),
            write="the folder copied again, or saved again with save_to_disk",
        ) from error


def _stored(path: Path) -> DataError:
    return DataError(
        f"'{path.name}', which holds token ids",
        expected="text, of which a store is made with a tokenizer of its own",
        where=str(path.absolute()),
        write=f"in Python, where such stores are read in place: Corpus('{path}', length=...)",
    )


def _nothing(source: str) -> DataError:
    return DataError(
        f"an empty corpus: '{source}' names no file that can be read",
        expected=".txt, .md, .py, ..., .jsonl or .ndjson (.gz, .zst), .parquet, a saved data set",
        where=str(Path(source).absolute()) if len(source) < 200 else source[:200],
        write="the path of a file, of a folder with such files, or a pattern like 'corpus/*.jsonl'",
    )


def _absent(path: Path) -> DataError:
    folder = path.absolute().parent
    while not folder.is_dir():
        folder = folder.parent
    beside = [p.name for p in folder.iterdir()]
    return DataError(
        f"no file or folder '{path}'",
        expected="a file, a folder or a pattern",
        where=str(path.absolute()),
        write=f"{did_you_mean(path.name, beside)} (in {folder}); or hf:{path} if it is on the hub",
    )


def _planned(files: Sequence[Path], held_out: float) -> Iterator[tuple[Segment, int]]:
    ending = tails(files)
    for file in files:
        yield from _segments(file, held_out if file in ending else 0.0)


def _segments(file: Path, tail: float) -> Iterator[tuple[Segment, int]]:
    kind = kind_of(file)
    if kind == "parquet":
        yield from _row_groups(file)
    elif kind == "arrow":
        yield Segment(file, kind), PART_BYTES
    elif compression_of(file):
        yield from _compressed(file, kind, tail)
    else:
        size = file.stat().st_size
        if not tail:
            yield from _stretches(file, kind, 0, size, held=None)
            return
        cut = _character_at(file, int(size * (1 - tail)))
        yield from _stretches(file, kind, 0, cut, held=False)
        yield from _stretches(file, kind, cut, size, held=True)


def _compressed(file: Path, kind: Kind, tail: float) -> Iterator[tuple[Segment, int]]:
    if not tail:
        yield Segment(file, kind), PART_BYTES
        return
    with open_bytes(file) as stream:
        size = sum(len(block) for block in iter(lambda: stream.read(1 << 20), b""))
    cut = _character_at(file, int(size * (1 - tail)))
    yield Segment(file, kind, 0, cut, held=False), PART_BYTES
    yield Segment(file, kind, cut, size, held=True), PART_BYTES


def _stretches(
    file: Path, kind: Kind, start: int, stop: int, *, held: bool | None
) -> Iterator[tuple[Segment, int]]:
    opens = True
    with file.open("rb") as stream:
        while start < stop:
            end = min(start + PART_BYTES, stop)
            if end < stop:
                end = min(_line_end(stream, end), stop)
            yield Segment(file, kind, start, end, opens or kind == "jsonl", held), end - start
            start, opens = end, False


def _line_end(stream: BinaryIO, place: int) -> int:
    """Return the next end of a line, if near one without other white space on either side."""
    end = stream.seek(place)
    while end - place < _NEAR and stream.readline():
        end = stream.tell()
        stream.seek(end - 2)
        around = stream.read(3)
        if not around[:1].isspace() and not around[2:].isspace():
            break
        stream.seek(end)
    return end


def _character_at(file: Path, place: int) -> int:
    """Return the first byte at or behind `place` that begins a UTF-8 character."""
    with open_bytes(file) as stream:
        skip(stream, place)
        following = stream.read(4)
    broken = len(following) if len(following) < 4 else 0  # the end of the file; or not UTF-8
    return place + next((i for i, byte in enumerate(following) if byte & 0xC0 != 0x80), broken)


def _row_groups(file: Path) -> Iterator[tuple[Segment, int]]:
    with whole_table(file):
        about = pq.ParquetFile(file).metadata
    for group in range(about.num_row_groups):
        size = about.row_group(group).total_byte_size
        yield Segment(file, "parquet", group, group + 1), size
