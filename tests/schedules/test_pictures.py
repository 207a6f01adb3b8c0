"""The pictures of docs/schedules.md: up to date, small, and one for every schedule."""

import re
import runpy
from pathlib import Path

import pytest

from schedule_examples import EXAMPLES, MADE

DOCS = Path(__file__).parents[2] / "docs"
drawn = runpy.run_path(str(DOCS / "draw_schedules.py"))
PICTURES: dict[str, str] = drawn["pictures"]()
NAMES = [*(type(example.schedule).__name__ for example in EXAMPLES), *MADE]


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_a_committed_picture_is_what_the_code_draws(name: str) -> None:
    committed = (drawn["FOLDER"] / name).read_text()
    assert committed == PICTURES[name], "run: python docs/draw_schedules.py"


def test_no_picture_is_left_over() -> None:
    assert {path.name for path in drawn["FOLDER"].iterdir()} == set(PICTURES)


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_a_picture_is_small(name: str) -> None:
    assert len(PICTURES[name].encode()) < 10_000


@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_a_section_with_picture_and_code_for_every_schedule(name: str) -> None:
    page = (DOCS / "schedules.md").read_text()
    section = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert f"](img/schedules/{name.lower()}.svg)" in section[1]
    assert f"{name}(" in section[1]
    assert "**When.**" in section[1]
