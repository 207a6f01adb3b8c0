"""One number or one answer out of several answers to a prompt."""

from collections import Counter
from collections.abc import Callable, Sequence
from math import comb

from thalweg.errors import RecipeError

__all__ = ["best_of", "majority", "pass_at_k", "votes"]


def pass_at_k(answers: int, right: int, k: int) -> float:
    """Return the chance that k of the answers hold a right one, without bias.

    1 - C(n - c, k) / C(n, k), for n answers of which c are right.

    Args:
        answers: n, at least k; from 2 k on the variance is small.
        right: c, from 0 to n.
        k: At least 1.

    Raises:
        RecipeError: k outside 1 .. n, or c outside 0 .. n.

    Source: arXiv:2107.03374, eq. (1).

    Example:
        >>> pass_at_k(4, 1, 2)
        0.5
    """
    if not (1 <= k <= answers and 0 <= right <= answers):
        raise RecipeError(
            f"pass@{k} of {answers} answers, {right} right",
            expected="1 <= k <= answers, 0 <= right <= answers",
            where="pass_at_k",
            write="more answers a prompt, or a smaller k",
        )
    return 1.0 - comb(answers - right, k) / comb(answers, k)


def majority(answers: Sequence[str | None]) -> str | None:
    """Return the answer given most often, the first of equals; None if none could be read.

    Args:
        answers: As parsed; None for what could not be.

    Example:
        >>> majority(["4", "5", None, "4"])
        '4'
    """
    counted = Counter(answer for answer in answers if answer is not None)
    return counted.most_common(1)[0][0] if counted else None


def votes(
    answers: Sequence[str | None], same: Callable[[str, str], bool | None] | None = None
) -> list[list[int]]:
    """Return the places of equal answers, the most frequent answer first, the first of equals.

    Args:
        answers: As parsed; None for what could not be, which votes for nothing.
        same: Whether two different texts mean the same; None: they do not.

    Example:
        >>> votes(["4", "5", None, "4"])
        [[0, 3], [1]]
    """
    places: dict[str, list[int]] = {}
    for place, answer in enumerate(answers):
        if answer is None:
            continue
        known = answer if answer in places or same is None else None
        alike = known or next((one for one in places if same and same(one, answer)), answer)
        places.setdefault(alike, []).append(place)
    return sorted(places.values(), key=lambda found: -len(found))


def best_of(scores: Sequence[float]) -> int:
    """Return the place of the highest score, the first of equals.

    Example:
        >>> best_of([0.1, 0.9, 0.9])
        1
    """
    return max(range(len(scores)), key=lambda place: scores[place])
