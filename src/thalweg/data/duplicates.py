"""Near duplicates, and text that a benchmark holds: each a score of 1 in a column of its own.

Near duplicates are found by MinHash over word n-grams with the `datasketch` library (the extra
`dedup`): of documents whose shingles overlap by more than a threshold (Jaccard), the first stays.
A document is contaminated when it shares one n-gram of words with a benchmark: 13 words, as in
arXiv:2005.14165. Leave both out with `Between("duplicate", high=0)`.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec

import numpy as np

from thalweg.errors import RecipeError

__all__ = ["contaminated", "near_duplicates", "word_ngrams"]

_WORD = re.compile(r"\w+")


def near_duplicates(
    texts: Iterable[str],
    *,
    threshold: float = 0.8,
    ngram: int = 5,
    permutations: int = 128,
) -> np.ndarray:
    """Return 1 for each text that is nearly one of those before it, else 0; float32 [n].

    Holds one signature for each text that stays (8 bytes * permutations), not the texts.

    Args:
        texts: Read once.
        threshold: Share of common n-grams from which two texts are the same; an estimate decides.
        ngram: Words of a shingle; a shorter text is one shingle.
        permutations: Hashes of a signature; the error of the estimate is about 1 / sqrt of them.

    Raises:
        RecipeError: `datasketch` is not installed.
    """
    if find_spec("datasketch") is None:
        raise RecipeError(
            "near duplicates without the library that finds them",
            expected="datasketch",
            where="near_duplicates",
            write="pip install 'thalweg[dedup]'",
        )
    from datasketch import MinHash, MinHashLSH

    index, found = MinHashLSH(threshold=threshold, num_perm=permutations), []
    kept: dict[str, MinHash] = {}
    for number, text in enumerate(texts):
        shingles = [_joined(gram) for gram in word_ngrams(text, ngram)]
        signature = MinHash(num_perm=permutations, seed=1)
        signature.update_batch(shingles or [b""])
        near = [kept[key] for key in index.query(signature)]
        double = any(signature.jaccard(other) >= threshold for other in near)
        found.append(float(double))
        if not double:
            kept[str(number)] = signature
            index.insert(str(number), signature)
    return np.array(found, np.float32)


def contaminated(texts: Iterable[str], benchmarks: Iterable[str], *, ngram: int = 13) -> np.ndarray:
    """Return 1 for each text that shares an n-gram of words with a benchmark, else 0.

    Words are compared in lower case, without punctuation. A benchmark text shorter than an n-gram
    counts as a whole: it is found where its words stand in a row.

    Args:
        texts: Read once.
        benchmarks: Questions, answers, documents; their n-grams are held, 8 bytes each.
        ngram: Words in a row.

    Returns:
        float32 [n].

    Example:
        >>> texts = ["He said: what is 2 plus 2?", "other text"]
        >>> contaminated(texts, ["What is 2 plus 2"]).tolist()
        [1.0, 0.0]
    """
    known: dict[int, set[int]] = {}
    for text in benchmarks:
        size = min(ngram, len(_WORD.findall(text)))
        if size:
            known.setdefault(size, set()).update(_hash(gram) for gram in word_ngrams(text, size))
    return np.array([float(_shares(text, known)) for text in texts], np.float32)


def word_ngrams(text: str, size: int) -> Iterator[Sequence[str]]:
    """Yield every run of `size` words, in lower case; the whole text if it is shorter.

    Example:
        >>> [" ".join(gram) for gram in word_ngrams("One, two THREE", 2)]
        ['one two', 'two three']
    """
    words = _WORD.findall(text.lower())
    for start in range(max(1, len(words) - size + 1) if words else 0):
        yield words[start : start + size]


def _shares(text: str, known: dict[int, set[int]]) -> bool:
    return any(
        _hash(gram) in hashes
        for size, hashes in known.items()
        for gram in word_ngrams(text, size)
        if len(gram) == size
    )


def _joined(gram: Sequence[str]) -> bytes:
    return " ".join(gram).encode()


def _hash(gram: Sequence[str]) -> int:
    return int.from_bytes(hashlib.blake2b(_joined(gram), digest_size=8).digest(), "little")
