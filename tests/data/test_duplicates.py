import random

import numpy as np
import pytest

from thalweg.data.duplicates import contaminated, near_duplicates, word_ngrams
from thalweg.errors import RecipeError

DRAW = random.Random(0)
WORDS = [f"word{i}" for i in range(500)]


def prose(count: int = 120) -> list[str]:
    return [DRAW.choice(WORDS) for _ in range(count)]


def jaccard(one: str, other: str, size: int = 5) -> float:
    """Return the overlap of two texts' shingles, exactly."""
    first, second = ({tuple(gram) for gram in word_ngrams(text, size)} for text in (one, other))
    return len(first & second) / len(first | second)


def test_near_duplicates_are_those_that_overlap_and_the_first_stays():
    pytest.importorskip("datasketch")
    texts, wanted = [], []
    for _ in range(12):
        words = prose()
        near, far = list(words), list(words)
        near[60] = "changed"
        for place in range(0, 120, 4):
            far[place] = "changed"
        group = [" ".join(words), " ".join(near).upper() + "!", " ".join(far)]
        assert jaccard(group[0], group[1]) > 0.9
        assert jaccard(group[0], group[2]) < 0.1
        texts += group
        wanted += [0.0, 1.0, 0.0]
    assert near_duplicates(texts, threshold=0.8).tolist() == wanted
    assert near_duplicates(["a b", "c", "a B", ""], threshold=0.8).tolist() == [0, 0, 1, 0]


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("thalweg.data.duplicates.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"thalweg\[dedup\]"):
        near_duplicates([])


def test_one_common_run_of_thirteen_words_is_contamination():
    question = prose(30)
    held = [*prose(20), *question[4:17], *prose(20)]
    almost = [*prose(20), *question[4:16], *prose(20)]
    texts = [" ".join(held).title(), " ".join(almost), " ".join(prose())]
    found = contaminated(texts, [" ".join(question)])
    assert found.tolist() == [1.0, 0.0, 0.0]
    assert found.dtype == np.float32


def test_a_short_question_is_found_as_a_whole():
    assert contaminated(["so: What is 2 + 2?"], ["what is 2 2", ""]).tolist() == [1.0]
    assert contaminated(["what is 2", ""], ["what is 2 2"]).tolist() == [0.0, 0.0]
