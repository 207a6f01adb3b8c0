import pytest

from thalweg.data.markers import Markers, marked
from thalweg.errors import DataError, DialError

VALUES = {"domain": "law", "length": "short", "format": None}
FIELDS = ("domain", "length", "format")


def test_all_markers_stand_in_the_answer_and_none_is_written_for_null():
    found = Markers(FIELDS, drop_all=0.0, drop_each=0.0)("p", "a", VALUES, key=0)
    both = "<domain>law</domain> <length>short</length>"
    assert found == (f"{both} p", f"{both} a")
    assert Markers(FIELDS, drop_all=1.0)("p", "a", VALUES, key=0) == ("p", f"{both} a")


def test_the_two_dropouts_have_their_rates_and_the_answer_none():
    markers = Markers(("domain", "length"), drop_all=0.3, drop_each=0.4)
    prompts = [markers("p", "a", VALUES, key=key) for key in range(3000)]
    assert len({found.answer for found in prompts}) == 1
    counts = [found.prompt.count("</") for found in prompts]
    assert counts.count(2) / 3000 == pytest.approx(0.7 * 0.36, abs=0.03)
    assert counts.count(0) / 3000 == pytest.approx(0.3 + 0.7 * 0.16, abs=0.03)


def test_passes_draw_anew_and_can_be_drawn_again():
    records = [{"prompt": f"p{i}", "answer": "a", **VALUES} for i in range(40)]
    rows = list(marked(records, Markers(FIELDS), passes=2))
    assert rows == list(marked(iter(records), Markers(FIELDS), passes=2))
    texts = [row["prompt"].split()[-1] for row in rows]
    assert texts == [f"p{i}" for i in range(40)] * 2
    assert rows[:40] != rows[40:]
    assert rows != list(marked(records, Markers(FIELDS), passes=2, seed=1))


def test_a_record_without_the_field_and_a_rate_above_one_are_refused():
    with pytest.raises(DataError, match="did you mean 'domain'"):
        Markers(("domian",))("p", "a", VALUES, key=0)
    with pytest.raises(DialError, match=r"a dropout of 1\.5"):
        Markers(("domain",), drop_all=1.5)("p", "a", VALUES, key=0)
