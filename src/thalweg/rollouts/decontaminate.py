"""Whether new problems are those of a benchmark in other words: the nearest are found, one asks.

For each new problem the nearest benchmark problems are looked up (cosine of tf-idf over words),
and a language model is asked of each pair, in both orders, whether they are the same; one yes is
enough. The look-up goes from the new problem to the benchmark, not the other way: what counts is
whether this row may be trained on.

Source: arXiv:2410.01560, section 2.2, whose look-up is by sentence embeddings, five neighbours.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from thalweg.errors import DialError
from thalweg.rollouts.authors import Asker

__all__ = ["SAME", "nearest", "same_problems"]

SAME = """Problem 1:
{one}

Problem 2:
{other}

Are these two the same problem, apart from names and the order of words? If the numbers or what is
asked differ, they are not. Think briefly, then end with one word: Yes or No."""
"""Asked of each pair, in both orders."""

_PLACE = re.compile(r"\{(one|other)\}")
_WORD = re.compile(r"\w+")
_CHUNK = 1024


def same_problems(
    asker: Asker, texts: Sequence[str], benchmarks: Sequence[str], count: int = 5, ask: str = SAME
) -> list[bool]:
    """Return for each text whether the author calls it the same as one of the benchmark's.

    Args:
        asker: Of the author who compares.
        texts: New problems.
        benchmarks: Problems that must not be trained on.
        count: How many of them each text is compared with.
        ask: Prompt with {one} and {other}.
    """
    pairs = [
        (place, one, other)
        for place, near in enumerate(nearest(texts, benchmarks, count))
        for one, other in ((texts[place], benchmarks[n]) for n in near)
    ]
    prompts = [
        _filled(ask, first, second)
        for _, one, other in pairs
        for first, second in ((one, other), (other, one))
    ]
    found = [False] * len(texts)
    for number, [said] in enumerate(asker(prompts)):
        found[pairs[number // 2][0]] |= _says_yes(said.text)
    return found


def nearest(texts: Sequence[str], others: Sequence[str], count: int) -> list[list[int]]:
    """Return the places of the others nearest to each text, nearest first.

    A text without a word in common with any has none.

    Args:
        texts: n of them.
        others: Compared with each.
        count: Most places of a text.

    Example:
        >>> nearest(["red fish"], ["blue bird", "a red fish", "one fish"], 2)
        [[1, 2]]
    """
    if count < 1:
        raise DialError(f"count={count}", expected="1 or more", where="nearest", write="count=5")
    if not texts or not others:
        return [[] for _ in texts]
    columns: dict[str, int] = {}
    known = _counts(others, columns)
    asked = _counts(texts, columns)
    known.resize(known.shape[0], len(columns))
    rarity = np.log((1 + len(others)) / (1 + known.getnnz(axis=0))) + 1
    known, asked = (_unit(one.multiply(rarity).tocsr()) for one in (known, asked))
    found: list[list[int]] = []
    for start in range(0, len(texts), _CHUNK):
        alike = (asked[start : start + _CHUNK] @ known.T).toarray()
        order = np.argsort(-alike, axis=1, kind="stable")[:, :count]
        found += [
            [place for place in row.tolist() if line[place] > 0]
            for row, line in zip(order, alike, strict=True)
        ]
    return found


def _counts(texts: Sequence[str], columns: dict[str, int]) -> sparse.csr_matrix:
    """Return [texts, words]; words not seen before get a column."""
    rows, places, values = [], [], []
    for row, text in enumerate(texts):
        for word, times in Counter(_WORD.findall(text.lower())).items():
            rows.append(row)
            places.append(columns.setdefault(word, len(columns)))
            values.append(float(times))
    return sparse.csr_matrix((values, (rows, places)), shape=(len(texts), len(columns)))


def _unit(rows: sparse.csr_matrix) -> sparse.csr_matrix:
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    return sparse.diags(1.0 / np.maximum(length, 1e-12)) @ rows


def _filled(ask: str, one: str, other: str) -> str:
    """Return the prompt with both texts in it, at once: LaTeX has braces of its own."""
    return _PLACE.sub(lambda found: one if found[1] == "one" else other, ask)


def _says_yes(text: str) -> bool:
    words = [word for word in re.findall(r"[a-z]+", text.lower()) if word in ("yes", "no")]
    return bool(words) and words[-1] == "yes"
