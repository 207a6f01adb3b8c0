"""Scores of documents: computed once, kept in a folder beside the text, bound to it.

    scores.json      the store's fingerprint, the number of documents, a digest of each column
    NAME.f32         one float32 a document
    NAME.part        a column that is being made: what stands in it is done

A folder of scores belongs to one store. Opened with another, it is refused, since document 17 of
one corpus is not document 17 of the other. `score_documents` reads the store once from front to
back, holds one block of it at a time, and goes on where a killed process stopped.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.checkpoint import write_file
from thalweg.core.moves import logprobs
from thalweg.data.store import Store
from thalweg.errors import DataError, did_you_mean

__all__ = [
    "Group",
    "Measure",
    "Scores",
    "coefficient_of_variation",
    "groups",
    "history_score",
    "lengths",
    "mean_loss",
    "open_scores",
    "pass_rate",
    "perplexity",
    "score_documents",
    "write_scores",
]

Measure: TypeAlias = Callable[[Sequence[np.ndarray]], np.ndarray]
"""The ids of some documents, each int64 [length] -> one number for each."""

_INDEX = "scores.json"


@dataclass(frozen=True)
class Scores(Mapping[str, np.ndarray]):
    """The columns of a folder, by name; float32 [documents], memory-mapped."""

    path: Path
    fingerprint: str
    """Of the store that was scored."""
    documents: int
    digests: Mapping[str, str]
    """Of the content of each column."""

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a column.

        Raises:
            DataError: There is none of this name, or its file is damaged.
        """
        if name not in self.digests:
            raise DataError(
                f"score '{name}'",
                expected="one of: " + (", ".join(self.digests) or "none are there yet"),
                where=str(self.path),
                write=did_you_mean(name, self.digests) if self.digests else "score_documents(...)",
            )
        file = self.path / f"{name}.f32"
        size = file.stat().st_size if file.is_file() else -1
        if size != 4 * self.documents:
            raise DataError(
                f"{file.name} has {size} bytes" if size >= 0 else f"no {file.name}",
                expected=f"{4 * self.documents} bytes, one float32 a document",
                where=str(file),
                write="score the store again: this column is damaged",
            )
        return np.memmap(file, np.dtype("<f4"), mode="r")

    def __contains__(self, name: object) -> bool:
        """Return whether there is such a column, without opening it."""
        return name in self.digests

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.digests)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self.digests)


def open_scores(folder: str | Path, store: Store) -> Scores:
    """Return the scores in a folder, which must be those of this store.

    Raises:
        DataError: No scores there, or those of another corpus.
    """
    place = Path(folder).expanduser()
    if not (place / _INDEX).is_file():
        raise DataError(
            f"no {_INDEX} in '{place}'",
            expected="a folder of scores",
            where=str(place.absolute()),
            write="score_documents(store, folder, 'loss', mean_loss(model)) to make one",
        )
    index = json.loads((place / _INDEX).read_text("utf-8"))
    found = Scores(place, index["fingerprint"], int(index["documents"]), index["columns"])
    count = len(store.documents) - 1
    if found.fingerprint != store.fingerprint or found.documents != count:
        raise DataError(
            f"scores of another corpus: {found.documents} documents, {found.fingerprint}",
            expected=f"scores of this store: {count} documents, {store.fingerprint}",
            where=str(place),
            write=f"score_documents on the store {store.path}, into a new folder",
        )
    return found


def write_scores(
    store: Store, folder: str | Path, columns: Mapping[str, Sequence[float] | np.ndarray]
) -> Scores:
    """Write whole columns into the folder of a store's scores, beside those that are there.

    Args:
        store: What was scored.
        folder: Made if need be.
        columns: One number for each document.

    Raises:
        DataError: A wrong number of scores, or one that is not finite; a folder of another corpus.
    """
    for name, column in columns.items():
        values = np.asarray(column, np.float32)
        _check_column(name, values, len(store.documents) - 1, Path(folder))
        place = _begin(store, folder)
        values.astype("<f4").tofile(place / f"{name}.part")
        _finish(store, place, name)
    return open_scores(folder, store)


def score_documents(
    store: Store,
    folder: str | Path,
    column: str,
    measure: Measure,
    *,
    block: int = 256,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Score every document of a store into a column; go on where an earlier call was killed.

    Args:
        store: The text.
        folder: Of the scores; made if need be.
        column: Name of the column. One that is finished is left as it is.
        measure: What gives a number for each of some documents.
        block: Documents read, measured and written at a time.
        progress: Told (documents done, documents in all) after each block.

    Raises:
        DataError: A number that is not finite, or a folder of another corpus.
    """
    place, count = _begin(store, folder), len(store.documents) - 1
    if column in open_scores(place, store).digests:
        return open_scores(place, store)
    with open(place / f"{column}.part", "ab") as out:
        done = out.tell() // (4 * block) * block  # in whole blocks, so that no number changes
        out.truncate(4 * done)
        for first in range(done, count, block):
            last = min(first + block, count)
            bounds = np.array(store.documents[first : last + 1])
            ids = store.tokens[bounds[0] : bounds[-1]].astype(np.int64)
            texts = np.split(ids, bounds[1:-1] - bounds[0])
            values = np.asarray(measure(texts), np.float32)
            _check_column(column, values, last - first, place, first)
            out.write(values.astype("<f4").tobytes())
            out.flush()
            progress(last, count)
        os.fsync(out.fileno())
    _finish(store, place, column)
    return open_scores(place, store)


def lengths(texts: Sequence[np.ndarray]) -> np.ndarray:
    """Measure the number of ids, the end-of-text that opens a document included."""
    return np.array([len(text) for text in texts], np.float32)


def mean_loss(model: nn.Module, *, length: int = 1024, tokens: int = 16384) -> Measure:
    """Return the measure of a model's mean loss on a document, nats per target.

    A document without a target (its end-of-text alone) has loss 0.

    Args:
        model: Called as every language model here; put it in evaluation mode.
        length: Targets of a document that are looked at, from its beginning.
        tokens: Of one forward pass.
    """
    device = next(model.parameters()).device

    def measure(texts: Sequence[np.ndarray]) -> np.ndarray:
        out = np.zeros(len(texts), np.float32)
        for group in groups(texts, length + 1, tokens):
            batch = Batch({"tokens": torch.from_numpy(np.maximum(group.ids, 0)).to(device)})
            with torch.no_grad():
                found = logprobs(model, batch).double().cpu().numpy()
            inside = group.ids[:, 1:] >= 0
            out[group.which] = -(found * inside).sum(1) / np.maximum(inside.sum(1), 1)
        return out

    return measure


def history_score(history: Sequence[Sequence[float]]) -> np.ndarray:
    """Return how much the success on each problem varied over a run: its standard deviation.

    Those that vary most are worth training on first.

    Args:
        history: For each problem, its share of right answers in each epoch; of any lengths.

    Returns:
        float64 [problems].

    Source: arXiv:2504.20571, section 2 (historical variance score).

    Example:
        >>> history_score([[0.0, 1.0], [0.5, 0.5, 0.5]]).tolist()
        [0.5, 0.0]
    """
    return np.array([float(np.std(rates)) for rates in history])


def perplexity(model: nn.Module, *, length: int = 1024, tokens: int = 16384) -> Measure:
    """Return the measure exp(mean loss); see `mean_loss`."""
    loss = mean_loss(model, length=length, tokens=tokens)
    return lambda texts: np.exp(loss(texts))


class Group(NamedTuple):
    """Texts of about the same length."""

    which: np.ndarray
    """int64 [n]: their places among the texts."""
    ids: np.ndarray
    """int64 [n, T], -1 behind the end of a text; T is 2 or more."""


def groups(texts: Sequence[np.ndarray], length: int, tokens: int) -> Iterator[Group]:
    """Yield texts in groups of like length, each of at most `tokens` ids when filled up.

    Args:
        texts: Ids, int64 [length] each.
        length: Ids of a text that are used, from its beginning.
        tokens: Of a group; a text that is longer stands alone.
    """
    sizes = np.minimum([len(text) for text in texts], length)
    order, first = np.argsort(-sizes, kind="stable"), 0
    while first < len(order):
        wide = max(int(sizes[order[first]]), 2)
        which = order[first : first + max(1, tokens // wide)]
        ids = np.full((len(which), wide), -1, np.int64)
        for row, i in enumerate(which):
            ids[row, : sizes[i]] = texts[i][:length]
        yield Group(which, ids)
        first += len(which)


def pass_rate(score_NM: np.ndarray, prior: float = 0.0) -> np.ndarray:
    """Return the mean score of each problem over its M attempts.

    Args:
        score_NM: [N, M], each 0 to 1; real-valued verifiers are welcome.
        prior: Successes and failures added to each; 0.5 or 1 takes the ties out of few attempts.

    Returns:
        float64 [N].

    Example:
        >>> pass_rate(np.array([[1, 0, 1, 1], [0, 0, 0, 0]])).tolist()
        [0.75, 0.0]
    """
    score_NM = np.asarray(score_NM, np.float64)
    rate_N: np.ndarray = (score_NM.sum(1) + prior) / (score_NM.shape[1] + 2.0 * prior)
    return rate_N


def coefficient_of_variation(score_NM: np.ndarray) -> np.ndarray:
    """Return std / mean of each problem's scores; infinity where the mean is 0.

    For scores of 0 and 1 it is sqrt((1 - p) / p), which says no more than the pass rate p.

    Example:
        >>> coefficient_of_variation(np.array([[1, 0], [1, 1]])).tolist()
        [1.0, 0.0]
    """
    score_NM = np.asarray(score_NM, np.float64)
    mean_N = score_NM.mean(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio_N = score_NM.std(1) / mean_N
    return np.where(mean_N > 0, ratio_N, np.inf)


def _begin(store: Store, folder: str | Path) -> Path:
    """Return the folder, which belongs to this store now if it was new."""
    place = Path(folder).expanduser()
    place.mkdir(parents=True, exist_ok=True)
    if not (place / _INDEX).exists():
        _write_index(place, store, {})
    open_scores(place, store)
    return place


def _finish(store: Store, place: Path, name: str) -> None:
    with open(place / f"{name}.part", "rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
    os.replace(place / f"{name}.part", place / f"{name}.f32")
    digests = dict(open_scores(place, store).digests)
    _write_index(place, store, {**digests, name: digest.hexdigest()})


def _write_index(place: Path, store: Store, digests: Mapping[str, str]) -> None:
    facts = {"fingerprint": store.fingerprint, "documents": len(store.documents) - 1}
    write_file(place / _INDEX, json.dumps({"version": 1, **facts, "columns": dict(digests)}))


def _check_column(name: str, values: np.ndarray, count: int, place: Path, first: int = 0) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if values.shape != (count,):
        given = f"scores of shape {values.shape}"
    elif len(bad):
        given = f"score {values[bad[0]]} of document {first + int(bad[0])}"
    else:
        return
    raise DataError(
        given,
        expected=f"{count} finite numbers, one a document",
        where=f"column '{name}' of {place}",
        write="a score for every document; a large number for 'worst'",
    )
