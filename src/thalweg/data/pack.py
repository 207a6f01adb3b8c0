"""Examples of uneven length in rows of even length: no example lost, doubled or cut in two."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Layout", "lay_out", "pack"]


class Layout(NamedTuple):
    """Where each place of each row comes from."""

    place: np.ndarray
    """int64 [n, T]: index into the stream of ids; -1 where the row is not filled."""
    document: np.ndarray
    """int32 [n, T]: 0 in a row's first example, 1 in its second, ...; the rest is one more."""


def pack(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Fill rows with examples in order; a new row begins when the next example does not fit.

    Args:
        lengths: int64 [n], ids of each example, 1 <= length <= capacity.
        capacity: Ids of a row.

    Returns:
        int64 [rows + 1]: row r holds examples bounds[r] .. bounds[r + 1] - 1.

    Example:
        >>> pack(np.array([3, 2, 4, 1]), 5).tolist()
        [0, 2, 4]
    """
    ends = np.cumsum(lengths)
    bounds = [0]
    while bounds[-1] < len(ends):
        used = int(ends[bounds[-1] - 1]) if bounds[-1] else 0
        bounds.append(int(np.searchsorted(ends, used + capacity, side="right")))
    return np.array(bounds, np.int64)


def lay_out(
    rows: Sequence[np.ndarray], starts: np.ndarray, lengths: np.ndarray, width: int
) -> Layout:
    """Return the layout of rows of examples.

    Args:
        rows: For each row, int64 [k]: its examples.
        starts: int64, where each example of the store begins in the stream.
        lengths: int64, ids of each example of the store that are used.
        width: Ids of a row.
    """
    counts = np.array([len(row) for row in rows], np.int64)
    examples = np.concatenate(rows) if len(rows) else np.zeros(0, np.int64)
    sizes = lengths[examples]
    ends = np.cumsum(sizes)
    row = np.repeat(np.arange(len(rows)), counts)
    first = np.cumsum(counts) - counts
    begins = ends - sizes
    id_row, number = np.repeat(row, sizes), np.repeat(np.arange(len(examples)), sizes)
    column = np.arange(len(id_row)) - begins[first[id_row]]
    place = np.full((len(rows), width), -1, np.int64)
    place[id_row, column] = starts[examples][number] + np.arange(len(id_row)) - begins[number]
    document = np.repeat(counts[:, None], width, axis=1).astype(np.int32)
    document[id_row, column] = number - first[id_row]
    return Layout(place, document)
