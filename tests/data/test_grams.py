import importlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_helpers import text_store
from thalweg.data.count_grams import count_grams
from thalweg.data.grams import Grams, make_grams, open_grams
from thalweg.data.store import open_store
from thalweg.errors import DataError, DialError

COUNTING = importlib.import_module("thalweg.data.count_grams")  # the function has its name
TEXTS = ["the cat sat on the mat", "the cat ate the rat", "a rat on a mat", "the the the cat"] * 4


def documents_of(store: str) -> list[list[int]]:
    opened = open_store(store)
    return [opened.tokens[a:b].tolist() for a, b in np.lib.stride_tricks.sliding_window_view(
        opened.documents, 2)]  # fmt: skip


def slowly(texts: list[list[int]], longest: int, least: int) -> Counter[tuple[int, ...]]:
    """Count every gram of every document."""
    found: Counter[tuple[int, ...]] = Counter()
    for text in texts:
        for n in range(2, longest + 1):
            found.update(tuple(text[i : i + n]) for i in range(len(text) - n + 1))
    return Counter({gram: count for gram, count in found.items() if count >= least})


def spelled(grams: Grams) -> list[tuple[int, ...]]:
    tokens, length = grams.spell(np.arange(len(grams)))
    return [tuple(row[:n]) for row, n in zip(tokens.tolist(), length, strict=True)]


def longest_match(text: list[int], grams: set[tuple[int, ...]], longest: int) -> list:
    """For each position the longest gram that ends there."""
    found = []
    for end in range(1, len(text) + 1):
        starts = range(max(0, end - longest), end - 1)
        found.append(
            next((tuple(text[s:end]) for s in starts if tuple(text[s:end]) in grams), None)
        )
    return found


@pytest.mark.parametrize("entries", [50_000, 40, 1])
def test_grams_and_counts_are_those_of_a_plain_count(tmp_path, entries, monkeypatch):
    monkeypatch.setattr(COUNTING, "_BLOCK", 64)
    store = text_store(tmp_path, TEXTS)
    grams = count_grams(store, tmp_path / "g", most=10**6, least=5, entries=entries)
    expected = slowly(documents_of(store), 5, 5)
    assert dict(zip(spelled(grams), grams.counts.tolist(), strict=True)) == dict(expected)


@pytest.mark.parametrize("entries", [50_000, 30])
def test_a_small_set_is_the_beginning_of_a_large_one(tmp_path, entries, monkeypatch):
    monkeypatch.setattr(COUNTING, "_BLOCK", 50)
    store = text_store(tmp_path, TEXTS)
    large = count_grams(store, tmp_path / "large", most=10**6, least=2)
    for most in (1, 7, 50, 111):
        small = count_grams(store, tmp_path / f"{most}", most=most, least=2, entries=entries)
        assert spelled(small) == spelled(large)[:most] == spelled(large.take(most))
        assert small.keys.tolist() == large.take(most).keys.tolist()


def test_grams_are_ranked_over_all_lengths_together(tmp_path):
    grams = count_grams(text_store(tmp_path, ["abcabcabc", "xy"]), tmp_path / "g", most=4, least=2)
    text = [bytes(gram).decode() for gram in spelled(grams)]
    assert sorted(text[:3]) == ["ab", "abc", "bc"]
    assert grams.counts.tolist() == [3, 3, 3, 2]
    assert text[2] == "abc"  # of three equals, the longest is last


def test_a_gram_stays_inside_its_document(tmp_path):
    store = text_store(tmp_path, ["aab", "baa"] * 5)
    grams = count_grams(store, tmp_path / "g", most=100, least=1)
    assert (98, 256) not in spelled(grams)  # the end of a text and the mark that opens the next
    assert (256, 97) in spelled(grams)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(2, 5))
def test_the_longest_match_is_found(tokens, longest):
    texts = [tokens, tokens[::-1]]
    counts = slowly(texts, longest, 2)
    if not counts:
        return
    grams = make_grams([[*gram] for gram in counts], [*counts.values()], vocabulary=4)
    names = spelled(grams)
    for text in texts:
        numbers = grams.match(np.array([text]))[0]
        found = [names[number] if number >= 0 else None for number in numbers]
        assert found == longest_match(text, set(counts), longest)


def test_a_match_looks_back_to_the_start_of_its_document_and_row():
    grams = make_grams([[1, 2], [3, 1], [3, 1, 2]], [3, 2, 2], vocabulary=4)
    rows = np.array([[3, 1, 2, 1, 2], [2, 3, 1, 2, 3]])
    document = np.array([[0, 1, 1, 1, 1], [0, 0, 0, 1, 1]])
    assert grams.match(rows).tolist() == [[-1, 1, 2, -1, 0], [-1, -1, 1, 2, -1]]
    assert grams.match(rows, document).tolist() == [[-1, -1, 0, -1, 0], [-1, -1, 1, -1, -1]]


def test_keys_of_one_home_are_told_apart(monkeypatch):
    monkeypatch.setattr("thalweg.data.grams.mix", lambda key: np.zeros(len(key), np.uint64))
    grams = make_grams([[a, b] for a in range(5) for b in range(5)], [9] * 25, vocabulary=5)
    assert grams.find(grams.keys[:-1]).tolist() == [*range(25)]
    assert grams.find(np.array([25 * 5 + 1])).tolist() == [-1]


def test_grams_come_back_from_their_folder_and_are_counted_once(tmp_path):
    store = text_store(tmp_path, TEXTS)
    first = count_grams(store, tmp_path / "g", most=50)
    written = (tmp_path / "g" / "keys.npy").stat().st_mtime_ns
    again = count_grams(store, tmp_path / "g", most=50)
    assert (tmp_path / "g" / "keys.npy").stat().st_mtime_ns == written
    assert again is open_grams(tmp_path / "g")
    assert again.fingerprint == first.fingerprint
    assert len(count_grams(store, tmp_path / "g", most=20)) == 20  # another question: anew


def test_what_cannot_be_counted_is_refused(tmp_path):
    store = text_store(tmp_path, ["abc"])
    with pytest.raises(DataError, match="occurs 9 times"):
        count_grams(store, tmp_path / "g", most=10, least=9)
    with pytest.raises(DialError, match="longest=1"):
        count_grams(store, tmp_path / "g", most=10, longest=1)
    with pytest.raises(DataError, match="vocabulary of 5"):
        count_grams(store, tmp_path / "g", most=10, vocabulary=5)
    with pytest.raises(DataError, match="no grams"):
        open_grams(tmp_path / "nowhere")
    grams = make_grams([[1, 2]], [3], vocabulary=4)
    with pytest.raises(DataError, match="tokens from 1 to 4"):
        grams.match(np.array([[1, 4]]))
    with pytest.raises(DataError, match="without"):
        make_grams([[1, 2, 3]], [3], vocabulary=4)
