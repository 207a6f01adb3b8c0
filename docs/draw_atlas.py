"""Write the table of atlas.md from atlas.json and the entries' files.

Run it from anywhere: `python docs/draw_atlas.py`. A test says when it must be run again.
"""

from pathlib import Path

from thalweg.atlas import entries, markdown_table
from thalweg.atlas.table import read_record

__all__ = ["PAGE", "RECORD", "page"]

FOLDER = Path(__file__).parent
PAGE, RECORD = FOLDER / "atlas.md", FOLDER / "atlas.json"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"


def page() -> str:
    """Return atlas.md with the table that it should have."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + "\n" + markdown_table(entries(), read_record(RECORD)) + "\n" + END + tail


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
