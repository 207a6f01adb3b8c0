"""Examples of uneven length in rows of even length: no example lost, doubled or cut in two."""

import numpy as np

__all__ = ["pack"]


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
