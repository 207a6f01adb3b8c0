"""Verdicts on paper: the record is plain JSON, and the docs' table is in step with it."""

import importlib.util
import json
import math
from pathlib import Path

import pytest

from thalweg.atlas import Entry, Outcome, entries, record, text_table
from thalweg.atlas.table import markdown_table, read_record
from thalweg.core.claim import Results, Size, Verdict

DOCS = Path(__file__).parents[2] / "docs"
ENTRY = Entry("toy", Path("toy.py"), "arXiv:1", "x is below y", "0123")
OUTCOME = Outcome(
    ENTRY,
    Size("small"),
    3,
    Verdict("reproduced", "x minus y, nats", -0.1, -0.2, math.nan),
    61.04,
    Results({}),
)


def drawer():
    spec = importlib.util.spec_from_file_location("draw_atlas", DOCS / "draw_atlas.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_in_step_with_the_record_and_the_entries():
    made = drawer()
    assert made.PAGE.read_text() == made.page(), "run: python docs/draw_atlas.py"


def test_the_record_speaks_of_entries_that_are_there():
    kept = read_record(DOCS / "atlas.json")
    assert kept.keys() <= entries().keys()
    for name, row in kept.items():
        assert row["paper"] == entries()[name].paper
        assert row["size"] == "small"


def test_a_record_adds_and_replaces(tmp_path):
    file = tmp_path / "record.json"
    record(file, [OUTCOME])
    record(file, [OUTCOME._replace(entry=ENTRY._replace(name="other")), OUTCOME._replace(seeds=4)])
    kept = read_record(file)
    assert list(kept) == ["other", "toy"]
    assert kept["toy"]["seeds"] == 4
    assert kept["toy"]["high"] is None
    json.loads(file.read_text(), parse_constant=pytest.fail)


def test_the_docs_say_what_was_not_run_and_what_has_changed(tmp_path):
    file = tmp_path / "record.json"
    record(file, [OUTCOME])
    row = markdown_table({"toy": ENTRY}, read_record(file)).splitlines()[-1]
    assert "[toy](https://arxiv.org/abs/1)" in row
    assert "**reproduced** |" in row
    assert "small, 3, 61" in row
    changed = markdown_table({"toy": ENTRY._replace(code="4567")}, read_record(file))
    assert "code changed since" in changed
    assert "not run" in markdown_table({"toy": ENTRY}, {})


def test_the_table_for_people_has_a_line_an_entry_and_its_parts():
    text = text_table([OUTCOME])
    assert text.splitlines()[1].split()[:3] == ["toy", "arXiv:1", "reproduced"]
    assert "toy: x is below y" in text
    assert "evidence" not in text
    tiny = text_table([OUTCOME._replace(size=Size("tiny"))])
    assert "tiny shows that an entry runs" in tiny
