import pytest

from thalweg.data.ledger import Ledger, key_of
from thalweg.errors import DataError


def test_entries_of_a_key_stay_in_order(tmp_path):
    ledger = Ledger(tmp_path / "deep" / "l.jsonl")
    for number in range(3):
        ledger.add("a", {"n": number})
    ledger.add("b", {"n": 9})
    again = Ledger(ledger.path)
    assert [entry["n"] for entry in again.known("a")] == [0, 1, 2]
    assert len(again) == 4
    assert again.known("c") == []


def test_the_last_line_of_a_killed_writer_is_cut_off(tmp_path):
    ledger = Ledger(tmp_path / "l.jsonl")
    for number in range(3):
        ledger.add("a", {"n": number})
    text = ledger.path.read_text()
    ledger.path.write_text(text[:-5])
    again = Ledger(ledger.path)
    assert len(again) == 2
    again.add("a", {"n": 2})
    assert ledger.path.read_text() == text


def test_a_damaged_line_is_named(tmp_path):
    file = tmp_path / "l.jsonl"
    file.write_text('{"key": "a", "entry": {}}\n{"prompt": "a"}\n')
    with pytest.raises(DataError, match="line 2"):
        Ledger(file)


def test_a_key_depends_on_where_its_parts_end():
    assert key_of("a", "b") == key_of("a", "b") != key_of("ab")
