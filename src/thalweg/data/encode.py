"""One part of a build: records in, token files out.

A record becomes a `Draft`: pieces of text, each to be learned or not, that are encoded one by one
and joined. Long texts are cut before they are encoded, so that all cores have work: at line ends
without other white space beside them, and only if the tokenizer gives the same ids either way there
(`Tokenizer.splits`). So that memory stays bounded, a plain file is also cut about every MiB, at
such a line end if one is near, whatever the tokenizer: one that puts a sign before every text, as
that of Llama 2 does, puts one behind each of these cuts.

A finished part is four or six files and a marker written last. A part without a marker is built
again; a part with one is never touched.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from thalweg.data.files import Segment, open_bytes
from thalweg.data.read import CUT, Record, records, text_of
from thalweg.data.tokenizer import Tokenizer

__all__ = ["SPLITS", "Draft", "Job", "Piece", "Plain", "Render", "Split", "drafts", "encode_part"]

Split: TypeAlias = Literal["train", "held_out"]
SPLITS: tuple[Split, Split] = ("train", "held_out")

_BATCH_BYTES = 1 << 20
_PIECE_CHARACTERS = 1 << 15
_KEY_BYTES = 1 << 16


class Piece(NamedTuple):
    """Text that is encoded on its own."""

    text: str
    learned: bool = True
    ends: bool = False
    """Whether an end-of-text follows, learned as the text is."""


class Draft(NamedTuple):
    """A document, or the next piece of a long one, before it is encoded."""

    pieces: Sequence[Piece]
    opens: bool
    """Whether a document begins here, with an end-of-text before it."""
    split: Split
    text_bytes: int


class Render(Protocol):
    """How a record becomes pieces."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Values wanted of each record."""
        ...

    @property
    def options(self) -> tuple[str, ...]:
        """What the user names each of the fields with."""
        ...

    @property
    def special(self) -> bool:
        """Whether special tokens in the text are meant as such."""
        ...

    @property
    def separated(self) -> bool:
        """Whether an end-of-text, not to be learned where flags are kept, opens each document."""
        ...

    @property
    def weighs(self) -> bool:
        """Whether some ids are not to be learned, so that the store needs `learned.bin`."""
        ...

    def pieces(self, record: Record, segment: Segment) -> tuple[str, Sequence[Piece]]:
        """Return what decides on which side a document falls, and its pieces; [] leaves it out."""
        ...


@dataclass(frozen=True)
class Plain:
    """The whole text is learned."""

    field: str = "text"
    splits: bool = True
    """Whether a long text may be encoded piece by piece."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The field of the text."""
        return (self.field,)

    @property
    def options(self) -> tuple[str, ...]:
        """It is `field` everywhere."""
        return ("field",)

    @property
    def special(self) -> bool:
        """Never: a text cannot end itself."""
        return False

    @property
    def separated(self) -> bool:
        """Always: the end-of-text is the target that ends the document before."""
        return True

    @property
    def weighs(self) -> bool:
        """Never: every id is learned."""
        return False

    def pieces(self, record: Record, segment: Segment) -> tuple[str, Sequence[Piece]]:
        """Return the text, and the text in pieces."""
        text = text_of(record, segment, self.field)
        return text, [Piece(piece) for piece in _cut(text)] if self.splits else [Piece(text)]


@dataclass(frozen=True)
class Job:
    """What all parts of one build share."""

    tokenizer: Tokenizer
    render: Render
    held_out: float
    folder: Path

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The smallest unsigned type that holds every id."""
        return np.dtype("<u2" if self.tokenizer.size <= 1 << 16 else "<u4")

    def file(self, part: int, name: str) -> Path:
        """Return the path of a file of a part."""
        return self.folder / f"{part:06d}.{name}"


def drafts(part: Sequence[Segment], render: Render, held_out: float) -> Iterator[Draft]:
    """Yield the documents of a part; empty ones are left out."""
    for segment in part:
        for record in records(segment, render.fields, render.options):
            key, pieces = render.pieces(record, segment)
            if any(piece.text for piece in pieces):
                split = _split(key, segment, held_out)
                size = sum(len(piece.text.encode()) for piece in pieces)
                yield Draft(pieces, record.opens, split, size)


def encode_part(
    number: int, part: Sequence[Segment], job: Job, advance: Callable[[int], None]
) -> None:
    """Write the token files of a part, then its marker. Does nothing if the marker is there.

    Args:
        number: Which part.
        part: Its segments.
        job: What it shares with the others.
        advance: Called with the bytes of text done.
    """
    marker = job.file(number, "json")
    if marker.is_file():
        return
    with ExitStack() as open_files:
        outs = {split: _Out.begin(job, number, split, open_files) for split in SPLITS}
        for batch in _batches(drafts(part, job.render, job.held_out)):
            texts = [piece.text for draft in batch for piece in draft.pieces]
            ids = iter(job.tokenizer.encode_batch(texts, special=job.render.special))
            for draft in batch:
                outs[draft.split].add(draft, [next(ids) for _ in draft.pieces], job)
            advance(sum(draft.text_bytes for draft in batch))
    counts = {split: out.counts() for split, out in outs.items()}
    fresh = marker.with_suffix(".new")
    fresh.write_text(json.dumps(counts))
    os.replace(fresh, marker)


@dataclass
class _Out:
    """The files of one split of one part, while they are written."""

    tokens: BinaryIO
    documents: BinaryIO
    learned: BinaryIO | None
    dtype: np.dtype[np.generic]
    count: int = 0
    opened: int = 0
    text_bytes: int = 0

    @staticmethod
    def begin(job: Job, number: int, split: Split, files: ExitStack) -> "_Out":
        def new(name: str) -> BinaryIO:
            return files.enter_context(job.file(number, f"{split}.{name}").open("wb"))

        learned = new("learned") if job.render.weighs else None
        return _Out(new("tokens"), new("documents"), learned, job.dtype)

    def add(self, draft: Draft, encoded: Sequence[np.ndarray], job: Job) -> None:
        end = np.array([job.tokenizer.end_id], np.uint32)
        opening = draft.opens and job.render.separated
        runs: list[tuple[np.ndarray, bool]] = [(end, False)] if opening else []
        for piece, ids in zip(draft.pieces, encoded, strict=True):
            runs.append((ids, piece.learned))
            if piece.ends:
                runs.append((end, piece.learned))
        stream = np.concatenate([ids for ids, _ in runs])
        self.tokens.write(stream.astype(self.dtype).data)
        if self.learned is not None:
            flags = [np.full(len(ids), learned, np.uint8) for ids, learned in runs]
            self.learned.write(np.concatenate(flags).data)
        if draft.opens:
            self.documents.write(np.array([self.count], "<i8").data)
            self.opened += 1
        self.count += len(stream)
        self.text_bytes += draft.text_bytes

    def counts(self) -> dict[str, int]:
        return {"tokens": self.count, "documents": self.opened, "text_bytes": self.text_bytes}


def _batches(source: Iterator[Draft]) -> Iterator[list[Draft]]:
    batch: list[Draft] = []
    size = 0
    for draft in source:
        batch.append(draft)
        size += draft.text_bytes
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _cut(text: str) -> Iterator[str]:
    """Yield the text in pieces of about 32,768 characters, cut at `CUT`."""
    start = 0
    while len(text) - start > 2 * _PIECE_CHARACTERS:
        found = CUT.search(text, start + _PIECE_CHARACTERS)
        if found is None:
            break
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def _split(key: str, segment: Segment, held_out: float) -> Split:
    if segment.held is not None:
        return "held_out" if segment.held else "train"
    if held_out <= 0:
        return "train"
    data = _head(segment.path) if segment.kind == "text" else key.encode()
    draw = int.from_bytes(hashlib.blake2b(data, digest_size=8, person=b"held-out").digest())
    return "held_out" if draw < held_out * 2.0**64 else "train"


@lru_cache(maxsize=256)
def _head(path: Path) -> bytes:
    """Return what decides for all pieces of a long text: its first 64 KiB."""
    with open_bytes(path) as stream:
        return stream.read(_KEY_BYTES)
