"""Reading runs, reports, comparisons, the progress line, and sinks to other tools. No torch."""

from thalweg.report.compare import (
    Comparison,
    Difference,
    Group,
    Summary,
    compare,
    summarise,
    text_table,
)
from thalweg.report.difference import recipe_difference
from thalweg.report.family import Member, family
from thalweg.report.html import write_report
from thalweg.report.progress import Progress, progress_line
from thalweg.report.read import read_run
from thalweg.report.run import (
    Event,
    History,
    Parent,
    Plan,
    PlannedSource,
    Points,
    Run,
    Sample,
    Tried,
)
from thalweg.report.sinks import Sink, TensorBoard, WandB

__all__ = [
    "Comparison",
    "Difference",
    "Event",
    "Group",
    "History",
    "Member",
    "Parent",
    "Plan",
    "PlannedSource",
    "Points",
    "Progress",
    "Run",
    "Sample",
    "Sink",
    "Summary",
    "TensorBoard",
    "Tried",
    "WandB",
    "compare",
    "family",
    "progress_line",
    "read_run",
    "recipe_difference",
    "summarise",
    "text_table",
    "write_report",
]
