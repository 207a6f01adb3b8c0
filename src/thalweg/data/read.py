"""Documents out of files, one at a time: text, JSON lines, parquet, Arrow.

Nothing is repaired. A byte that is not UTF-8, a line that is not JSON, a record without the asked
field: each stops with the file and the byte or line.
"""

import codecs
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import BinaryIO, NamedTuple, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from thalweg.core.text import encodes
from thalweg.data.files import (
    Segment,
    Sources,
    compression_of,
    find_each,
    open_bytes,
    plan_parts,
    skip,
    whole_table,
)
from thalweg.errors import DataError, did_you_mean

__all__ = ["CUT", "Document", "Record", "documents", "locate", "records", "text_of"]

CUT = re.compile(r"(?<=\S\n)(?=\S)")
"""Behind a line end that has no other white space on either side: runs of white space are words to
most tokenizers, and read otherwise when they are cut, or when a text ends with them."""

_BLOCK = 1 << 20
_NEAR = 1 << 16
_LONGEST = 1 << 21  # characters that are kept to find a better place for a cut
_MARK = b"\xef\xbb\xbf"  # a byte order mark, which some editors put before UTF-8


class Document(NamedTuple):
    """A text and where it came from."""

    text: str
    where: str


class Record(NamedTuple):
    """What a segment holds: the values of the asked fields, or a piece of text."""

    place: int
    """Line or row, counted from the start of the segment; turned into words by `locate`."""
    values: tuple[object, ...]
    opens: bool
    """False: the text goes on from the record before."""


class _Asked(NamedTuple):
    field: str
    option: str


def documents(sources: Sources, field: str = "text") -> Iterator[Document]:
    """Yield every document of the sources, in order, holding about 1 MiB at a time.

    Args:
        sources: Files, folders, patterns, saved data sets or `hf:` names.
        field: Where a record has its text. Plain texts do not care.

    Raises:
        DataError: No source, or something in it that is not text.
    """
    pieces: list[str] = []
    where = ""
    for segment in (segment for part in plan_parts(find_each(sources)) for segment in part):
        for record in records(segment, (field,)):
            if record.opens and pieces:
                yield Document("".join(pieces), where)
                pieces = []
            if record.opens:
                where = locate(segment, record.place)
            pieces.append(text_of(record, segment, field))
    if pieces:
        yield Document("".join(pieces), where)


def records(
    segment: Segment, fields: Sequence[str], options: Sequence[str] = ()
) -> Iterator[Record]:
    """Yield the records of a segment; of plain text, pieces of about 1 MiB cut at `CUT`.

    Args:
        segment: See `thalweg.data.files.plan_parts`.
        fields: Names of the values wanted. Plain text has one value and no name.
        options: What each field is called where it is asked for, for what an error says to write;
            `field` if not given.

    Raises:
        DataError: A record without one of the fields, or bytes that cannot be read.
    """
    if segment.kind == "text":
        return _text(segment)
    if segment.kind == "jsonl":
        return _json_lines(segment, _asked(fields, options))
    return _tables(segment, _asked(fields, options))


def text_of(record: Record, segment: Segment, field: str, value: int = 0) -> str:
    """Return a value of a record that must be text.

    Raises:
        DataError: It is something else, or holds half a surrogate pair (no UTF-8 exists for it).
    """
    text = record.values[value]
    if isinstance(text, str):
        if text.isascii() or encodes(text):
            return text
        given = f"field '{field}' holds half of a surrogate pair, which is no character"
    else:
        given = f"field '{field}' is {type(text).__name__}, not text: {str(text)[:60]}"
    raise DataError(
        given,
        expected="text",
        where=locate(segment, record.place),
        write="a field that holds text, or leave the record out",
    )


def locate(segment: Segment, place: int) -> str:
    """Return where a record stands: file and line, or file and row."""
    if segment.kind == "text":
        return str(segment.path)
    unit, first = ("line", 1) if segment.kind == "jsonl" else ("row", 0)
    return f"{segment.path}, {unit} {_before(segment) + place + first}"


@lru_cache(maxsize=64)
def _before(segment: Segment) -> int:
    """Return how many lines or rows of the file come before a segment."""
    if segment.kind == "jsonl" and segment.start:
        with segment.path.open("rb") as stream:
            return stream.read(segment.start).count(b"\n")
    if segment.kind == "parquet":
        about = pq.ParquetFile(segment.path).metadata
        return sum(about.row_group(group).num_rows for group in range(segment.start))
    return 0


def _asked(fields: Sequence[str], options: Sequence[str]) -> list[_Asked]:
    named = options or ("field",) * len(fields)
    return [_Asked(*pair) for pair in zip(fields, named, strict=True)]


def _text(segment: Segment) -> Iterator[Record]:
    number, rest = 0, ""
    for offset, block in _blocks(segment):
        try:
            rest += block.decode("utf-8")
        except UnicodeDecodeError as error:
            _undecodable(segment, error, offset)
        places = [found.start() for found in CUT.finditer(rest, max(0, len(rest) - _NEAR))]
        if not places and len(rest) <= _LONGEST:
            continue
        stop = places[-1] if places else len(rest)
        yield Record(number, (rest[:stop],), segment.opens and number == 0)
        number, rest = number + 1, rest[stop:]
    if rest:
        yield Record(number, (rest,), segment.opens and number == 0)


def _json_lines(segment: Segment, asked: Sequence[_Asked]) -> Iterator[Record]:
    number = 0
    for offset, block in _blocks(segment):
        at = offset
        for line in block.split(b"\n")[: None if not block.endswith(b"\n") else -1]:
            if line.strip():
                value = _parsed(line, segment, number, at)
                yield Record(number, _picked(value, asked, segment, number), opens=True)
            number += 1
            at += len(line) + 1


def _parsed(line: bytes, segment: Segment, number: int, offset: int) -> object:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        _undecodable(segment, error, offset)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"a line that is not JSON: {error}: {line[:60].decode(errors='replace')}",
            expected='one JSON object a line, such as {"text": "..."}',
            where=locate(segment, number),
            write="the line as JSON; a file of plain text must not be named .jsonl",
        ) from error


def _picked(
    value: object, asked: Sequence[_Asked], segment: Segment, number: int
) -> tuple[object, ...]:
    if not isinstance(value, Mapping):
        raise DataError(
            f"a line that holds {type(value).__name__}",
            expected='one JSON object a line, such as {"text": "..."}',
            where=locate(segment, number),
            write='{"text": "..."}',
        )
    for field, option in asked:
        if field not in value:
            _lacking(field, option, [str(key) for key in value], locate(segment, number))
    return tuple(value[field] for field, _ in asked)


def _tables(segment: Segment, asked: Sequence[_Asked]) -> Iterator[Record]:
    number = 0
    with whole_table(segment.path):
        for batch in _batches(segment, asked):
            columns = (_values(batch, field, segment, number) for field, _ in asked)
            for values in zip(*columns, strict=True):
                yield Record(number, values, opens=True)
                number += 1


def _values(batch: pa.RecordBatch, field: str, segment: Segment, first: int) -> list[object]:
    column = batch.column(field)
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        for row, one in enumerate(column):
            _check_decodes(one, field, locate(segment, first + row))
        raise


def _check_decodes(one: pa.Scalar, field: str, where: str) -> None:
    try:
        one.as_py()
    except UnicodeDecodeError as error:
        raise DataError(
            f"field '{field}' is not UTF-8: {error}",
            expected="text in UTF-8",
            where=where,
            write="the table written again from text that was decoded, or without this row",
        ) from error


def _batches(segment: Segment, asked: Sequence[_Asked]) -> Iterator[pa.RecordBatch]:
    if segment.kind == "parquet":
        file = pq.ParquetFile(segment.path)
        _check_columns(file.schema_arrow.names, asked, segment)
        groups = list(range(segment.start, segment.stop or file.metadata.num_row_groups))
        yield from file.iter_batches(1024, row_groups=groups, columns=[field for field, _ in asked])
        return
    with pa.memory_map(str(segment.path)) as source:
        reader = pa.ipc.open_stream(source)
        _check_columns(reader.schema.names, asked, segment)
        yield from reader


def _check_columns(known: Sequence[str], asked: Sequence[_Asked], segment: Segment) -> None:
    for field, option in asked:
        if field not in known:
            _lacking(field, option, known, str(segment.path))
        if known.count(field) > 1:
            raise DataError(
                f"{known.count(field)} columns of the name '{field}'",
                expected="one column of each name",
                where=str(segment.path),
                write="the table with another name for the column that is not meant",
            )


def _lacking(field: str, option: str, known: Sequence[str], where: str) -> NoReturn:
    raise DataError(
        f"a record without the field '{field}'; it has: {', '.join(sorted(known)) or 'nothing'}",
        expected=f"a field '{field}' in every record",
        where=where,
        write=f"--{option} NAME (in Python {option}='NAME'): {did_you_mean(field, known)}"
        if known
        else "a record with text",
    )


def _undecodable(segment: Segment, error: UnicodeDecodeError, offset: int) -> NoReturn:
    place = offset + error.start
    wide = offset == 0 and error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    code = "utf-16" if wide else "latin1"
    raise DataError(
        f"a file that is not UTF-8: byte 0x{error.object[error.start]:02x} at byte {place}",
        expected="text in UTF-8",
        where=f"{segment.path}, byte {place}",
        write=f"leave the file out, or convert it: iconv -f {code} -t utf-8",
    ) from error


def _blocks(segment: Segment) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) of about 1 MiB, each up to the end of a line."""
    try:
        with open_bytes(segment.path) as stream:
            yield from _cut(stream, segment)
    except (EOFError, zlib.error, OSError) as error:
        if not compression_of(segment.path):
            raise
        raise DataError(
            f"a compressed file that is damaged: {error}",
            expected=f"a whole {segment.path.suffix} file",
            where=str(segment.path),
            write="copy or compress the file again",
        ) from error


def _cut(stream: BinaryIO, segment: Segment) -> Iterator[tuple[int, bytes]]:
    offset = segment.start
    skip(stream, offset)
    while segment.stop is None or offset < segment.stop:
        left = -1 if segment.stop is None else segment.stop - offset
        block = stream.read(_BLOCK if left < 0 else min(_BLOCK, left))
        block += stream.readline(-1 if left < 0 else left - len(block))
        if not block:
            return
        mark = len(_MARK) if offset == 0 and block.startswith(_MARK) else 0
        yield offset + mark, block[mark:]
        offset += len(block)
