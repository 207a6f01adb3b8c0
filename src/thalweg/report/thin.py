"""Make long curves short and noisy ones smooth. Pure numpy."""

from itertools import pairwise

import numpy as np

from thalweg.report.run import Floats, Ints

__all__ = ["smooth", "thin"]


def thin(values: Floats, limit: int) -> Ints:
    """Return the indices of at most `limit` points that keep every interval's extremes.

    The curve is cut into intervals of equal length; of each the smallest and the largest value
    stay, and so do the first and the last point. No spike is lost.

    Args:
        values: The curve [N].
        limit: Points to keep, at least 4.

    Returns:
        Rising indices into `values`; all of them when N <= limit.

    Example:
        >>> curve = np.zeros(1000)
        >>> curve[617] = 9.0
        >>> kept = thin(curve, 20)
        >>> len(kept) <= 20, bool(617 in kept)
        (True, True)
    """
    count = len(values)
    if count <= limit:
        return np.arange(count, dtype=np.int64)
    edges = np.linspace(0, count, (limit - 2) // 2 + 1).astype(np.int64)
    keep = {0, count - 1}
    for low, high in pairwise(edges):
        piece = values[low:high]
        keep |= {int(low + piece.argmin()), int(low + piece.argmax())}
    return np.array(sorted(keep), np.int64)


def smooth(values: Floats, window: int) -> Floats:
    """Return the centred moving mean; near the start the window shrinks, so the fall stays sharp.

    Near the end only its right half shrinks, so the last values stay as quiet as the others.

    Args:
        values: The curve [N], finite.
        window: Full width in points; 1 changes nothing.

    Returns:
        Smoothed curve [N].

    Example:
        >>> smooth(np.array([0.0, 3.0, 6.0, 0.0]), 3).tolist()
        [0.0, 3.0, 3.0, 3.0]
    """
    at = np.arange(len(values))
    back = np.minimum(at, max(window, 1) // 2)
    ahead = np.minimum(back, len(values) - 1 - at)
    total = np.concatenate([[0.0], np.cumsum(values)])
    mean: Floats = (total[at + ahead + 1] - total[at - back]) / (back + ahead + 1)
    return mean
