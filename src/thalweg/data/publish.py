"""The last step of a build: finished parts are joined, and the store appears under one rename."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from thalweg.data.encode import SPLITS, Job, Split
from thalweg.data.store import STORE_VERSION
from thalweg.errors import DataError

__all__ = ["publish"]

_BLOCK = 8 << 20


def publish(job: Job, parts: int, final: Path, *, wants_held: bool) -> None:
    """Join the parts of a build into `final/train` and `final/held_out`.

    Args:
        job: The build.
        parts: How many parts it has; all must be finished.
        final: The folder to appear; must not exist.
        wants_held: Whether a held-out store was asked for.

    Raises:
        DataError: There is no document at all, or none on one of the two sides.
    """
    counts = [json.loads(job.file(part, "json").read_text()) for part in range(parts)]
    wanted = SPLITS if wants_held else SPLITS[:1]
    for split in wanted:
        if not any(count[split]["tokens"] for count in counts):
            raise _empty(split, counts)
    fresh = job.folder / "finished"
    shutil.rmtree(fresh, ignore_errors=True)
    for split in wanted:
        (fresh / split).mkdir(parents=True)
        _join(job, split, [count[split] for count in counts], fresh / split)
    _sync(fresh)
    os.rename(fresh, final)
    _sync_folder(final.parent)


def _join(job: Job, split: Split, counts: list[Mapping[str, int]], folder: Path) -> None:
    digest = hashlib.blake2b(job.tokenizer.fingerprint.encode(), digest_size=16)
    for name in ("tokens", "learned") if job.render.weighs else ("tokens",):
        with (folder / f"{name}.bin").open("wb") as out:
            for part in range(len(counts)):
                with job.file(part, f"{split}.{name}").open("rb") as stream:
                    while block := stream.read(_BLOCK):
                        digest.update(block)
                        out.write(block)
    total = 0
    with (folder / "documents.bin").open("wb") as out:
        for part, count in enumerate(counts):
            starts = np.fromfile(job.file(part, f"{split}.documents"), "<i8") + total
            digest.update(starts.data)
            out.write(starts.data)
            total += count["tokens"]
        out.write(np.array([total], "<i8").data)
    index = {
        "version": STORE_VERSION,
        "tokens": total,
        "documents": sum(count["documents"] for count in counts),
        "text_bytes": sum(count["text_bytes"] for count in counts),
        "dtype": job.dtype.str,
        "learned": job.render.weighs,
        "end_id": job.tokenizer.end_id,
        "vocabulary": job.tokenizer.size,
        "tokenizer": job.tokenizer.fingerprint,
        "fingerprint": digest.hexdigest(),
    }
    job.tokenizer.save(folder)
    (folder / "store.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


def _empty(split: Split, counts: list[Mapping[str, Mapping[str, int]]]) -> DataError:
    documents = sum(count[side]["documents"] for count in counts for side in SPLITS)
    if documents == 0:
        return DataError(
            "an empty corpus: files, but no text in them",
            expected="at least one document that is not empty",
            where="build",
            write="files with text in them",
        )
    return DataError(
        f"no document for '{split}': all {documents} fell on the other side",
        expected="documents on both sides",
        where="build(held_out=...)",
        write="another held_out share, or more documents",
    )


def _sync(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
