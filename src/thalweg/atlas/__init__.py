"""The atlas: one small file a paper, with a claim that can fail.

listing    the entries, found by listing this folder; what stands in their claims
harness    runs arms over paired seeds, keeps what is finished, asks the judge
runs       a recipe trained in memory, for arms that are functions
verdict    judges: pure functions from paired numbers to a verdict
table      verdicts as text, JSON and Markdown
kit        toy text, models and problems that more than one entry needs

Every other file is an entry: it sets `claim = Claim(...)`. Nothing is registered.
"""

from thalweg.atlas.harness import Outcome, measure, reproduce
from thalweg.atlas.listing import Entry, entries, find_entry, open_claim
from thalweg.atlas.runs import final, history
from thalweg.atlas.table import markdown_table, record, text_list, text_table
from thalweg.atlas.verdict import at_least, at_most, every, fact, higher, lower, within

__all__ = [
    "Entry",
    "Outcome",
    "at_least",
    "at_most",
    "entries",
    "every",
    "fact",
    "final",
    "find_entry",
    "higher",
    "history",
    "lower",
    "markdown_table",
    "measure",
    "open_claim",
    "record",
    "reproduce",
    "text_list",
    "text_table",
    "within",
]
