"""Text in, a token store out: streamed, in parallel, restartable, once per machine.

    $THALWEG_HOME/stores/<key>/train, .../held_out     finished stores; the key covers the content
    $THALWEG_HOME/stores/.work/<key>/                  parts of a build that has not finished
    $THALWEG_HOME/stores/.locks/<key>                  held while a process builds this key

The key is a hash of the content of every file, the tokenizer, the fields and the held-out share:
renaming or touching a file changes nothing, changing a byte gives another store. Parts are built
by threads, since reading, hashing and `encode_batch` (all cores, in Rust) run outside Python's
lock. A killed build goes on with its finished parts. Two processes that want one store build it
once: the second waits for the first. A file that changes during its build ends it, since the key
was made of the content before.

Held out is the last share of each plain text of a source that has few; of records, and of many
texts, the documents whose hash falls below the share, so that two equal documents never lie on both
sides. The rule looks at one source at a time: what a build of several holds out of each, a build
of that source alone holds out too.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from thalweg.core.names import home_folder
from thalweg.data.encode import Job, Plain, Render, drafts, encode_part
from thalweg.data.files import (
    Segment,
    Sources,
    compression_of,
    find_each,
    kind_of,
    plan_parts,
    tails,
)
from thalweg.data.publish import publish
from thalweg.data.store import STORE_VERSION, anew
from thalweg.data.tokenizer import LARGEST, Tokenizer, load_tokenizer, train_bpe
from thalweg.errors import DataError, DialError, no_room

__all__ = ["Built", "bpe_size", "build", "build_with", "home_folder"]

_BUILD_VERSION = 2  # part of the key: other cuts, other order, other held-out rule
_BPE_SAMPLE_BYTES = 64 << 20

_Stamp: TypeAlias = tuple[int, int, int] | None
"""Inode, size and time of the last change of a file; None: there is none."""


class Built(NamedTuple):
    """What a build leaves."""

    train: Path
    held_out: Path | None
    tokenizer: Tokenizer


def build(
    sources: Sources,
    *,
    tokenizer: str | Path = "bytes",
    field: str = "text",
    held_out: float = 0.0,
    home: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Built:
    """Return the stores of these texts, made now or found, and their tokenizer.

    Args:
        sources: A file, folder, pattern, saved data set or `hf:owner/name`, or a list of them; a
            list of lists where several sources decide alone what they hold out.
        tokenizer: `bytes`, `bpe:4096`, a folder with `tokenizer.json`, or a hub name.
        field: Where JSON lines and tables have their text.
        held_out: Share kept in a store of its own, 0 <= held_out < 1.
        home: Instead of `$THALWEG_HOME`.
        workers: Parts built at once; default: the cores, at most 4.
        progress: Show a bar on standard error.

    Raises:
        DataError: No text, or text that cannot be read; see `thalweg.data.read`.
        DialError: `held_out` is out of range.

    Example:
        >>> import tempfile; folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("to be or not")
        >>> build(folder, home=folder / "home", progress=False).train.name
        'train'
    """
    return build_with(
        sources,
        render=Plain(field),
        tokenizer=str(tokenizer) if bpe_size(str(tokenizer)) else load_tokenizer(tokenizer),
        held_out=held_out,
        home=home,
        workers=workers,
        progress=progress,
    )


def build_with(
    sources: Sources,
    *,
    render: Render,
    tokenizer: str | Tokenizer,
    held_out: float = 0.0,
    home: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Built:
    """Return the store of these records under any rule of rendering; see `build`.

    Args:
        sources: As in `build`.
        render: How a record becomes pieces. A dataclass whose repr says all that matters.
        tokenizer: A tokenizer, or `bpe:SIZE` to train one.
        held_out: As in `build`.
        home: As in `build`.
        workers: As in `build`.
        progress: As in `build`.

    Raises:
        DataError: As `build`; or a file that changed meanwhile, or a store that is not whole.
    """
    if not 0.0 <= held_out < 1.0:
        raise DialError(
            f"held_out={held_out}",
            expected="a share, 0 <= held_out < 1",
            where="build",
            write="held_out=0.01",
        )
    found = find_each(sources)
    stamps = {file: _stamp(file) for files in found for file in files}
    key = _key(found, render, tokenizer, held_out)
    stores = (home_folder() if home is None else home).absolute() / "stores"
    final = stores / key
    if not final.is_dir():
        with _only_one(stores / ".locks" / key, shown=progress):
            if not final.is_dir():
                work = stores / ".work" / key
                _build(found, stamps, work, final, render, tokenizer, held_out, workers, progress)
    train, held = final / "train", final / "held_out" if held_out else None
    for store in (train, held) if held else (train,):
        _check_whole(store)
    return Built(train, held, load_tokenizer(train))


def _check_whole(store: Path) -> None:
    for name in ("store.json", "tokenizer.json"):
        if not (store / name).is_file():
            raise DataError(
                f"a store without {name}",
                expected="what build(...) left there",
                where=str(store),
                write=anew(store),
            )


def _build(
    found: Sequence[Sequence[Path]],
    stamps: Mapping[Path, _Stamp],
    work: Path,
    final: Path,
    render: Render,
    tokenizer: str | Tokenizer,
    held_out: float,
    workers: int | None,
    progress: bool,
) -> None:
    with _disk_errors(final.parent):
        work.mkdir(parents=True, exist_ok=True)
        with _unchanged(stamps, work):
            parts = plan_parts(found, held_out)
            size = sum(file.stat().st_size for files in found for file in files)
            known = _tokenizer(tokenizer, parts, size, render, held_out, work)
            if isinstance(render, Plain):
                render = replace(render, splits=known.splits)
            job = Job(known, render, held_out, work)
            _encode(parts, job, size, workers, progress)
        publish(job, len(parts), final, wants_held=held_out > 0)
    shutil.rmtree(work)


def _encode(
    parts: Sequence[Sequence[Segment]], job: Job, size: int, workers: int | None, progress: bool
) -> None:
    bar = Progress(
        TextColumn("building tokens"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not progress,
    )
    with bar, ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1)) as pool:
        task = bar.add_task("", total=size)

        def advance(count: int) -> None:
            bar.advance(task, count)

        waiting = [pool.submit(encode_part, i, part, job, advance) for i, part in enumerate(parts)]
        try:
            for one in waiting:
                one.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        bar.update(task, completed=size)


def _tokenizer(
    asked: str | Tokenizer,
    parts: Sequence[Sequence[Segment]],
    size: int,
    render: Render,
    held_out: float,
    work: Path,
) -> Tokenizer:
    if isinstance(asked, Tokenizer):
        return asked
    if (work / "trained").is_file():
        return load_tokenizer(work)
    kept = min(1.0, _BPE_SAMPLE_BYTES / max(size, 1))
    trained = train_bpe(_sample(parts, render, held_out, kept), bpe_size(asked))
    trained.save(work)
    (work / "trained").touch()
    return trained


def _sample(
    parts: Sequence[Sequence[Segment]], render: Render, held_out: float, kept: float
) -> Iterator[str]:
    """Yield the texts of training documents; of a large corpus, about 64 MiB chosen by hash."""
    for part in parts:
        for draft in drafts(part, render, held_out):
            if draft.split == "train":
                yield from (p.text for p in draft.pieces if kept >= 1.0 or _draw(p.text) < kept)


def _draw(text: str) -> float:
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"bpe").digest()
    return int.from_bytes(digest, "big") / 2.0**64


def bpe_size(spec: str) -> int:
    """Return the size in `bpe:4096`, 0 for anything else."""
    head, _, size = spec.partition(":")
    if head != "bpe":
        return 0
    if not (size.isdecimal() and len(size) < 20 and 257 <= int(size) <= LARGEST):
        raise DataError(
            f"tokenizer '{spec}'",
            expected=f"bpe:SIZE, at least 257 (256 bytes and the end-of-text), at most {LARGEST}",
            where="build",
            write="tokenizer='bpe:4096'",
        )
    return int(size)


def _key(
    found: Sequence[Sequence[Path]], render: Render, tokenizer: str | Tokenizer, held_out: float
) -> str:
    ending = [tails(files) if held_out > 0 else frozenset() for files in found]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        files = [
            (kind_of(file), compression_of(file), file in ends, pool.submit(_digest, file))
            for files, ends in zip(found, ending, strict=True)
            for file in files
        ]
    parts = [
        [_BUILD_VERSION, STORE_VERSION, repr(render), held_out],
        tokenizer.fingerprint if isinstance(tokenizer, Tokenizer) else tokenizer,
        [[*rules, content.result()] for *rules, content in files],
    ]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=10).hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _stamp(file: Path) -> _Stamp:
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


@contextmanager
def _unchanged(stamps: Mapping[Path, _Stamp], work: Path) -> Iterator[None]:
    """Throw away what was made of files that are no longer those of the key, and say which."""
    try:
        yield
    finally:
        changed = [str(file) for file, stamp in stamps.items() if _stamp(file) != stamp]
        if changed:
            shutil.rmtree(work)
            raise DataError(
                f"{len(changed)} of {len(stamps)} files changed while a store was made of them",
                expected="files that stay as they are until their store is finished",
                where=", ".join(changed[:5]) + (", ..." if len(changed) > 5 else ""),
                write="the same again, when nothing writes to them: it reads them as they are then",
            )


@contextmanager
def _only_one(lock: Path, *, shown: bool) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if shown:
                Console(stderr=True).print("waiting for another process that builds this store")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not no_room(error):
            raise
        free = shutil.disk_usage(folder).free
        raise DataError(
            f"no space left while a store is built ({free} bytes free)",
            expected="about twice the size of the tokens (2 or 4 bytes each)",
            where=str(folder),
            write="THALWEG_HOME=/larger/disk, or free some space; finished parts are kept",
        ) from error
