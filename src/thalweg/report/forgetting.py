"""What a run gained on new text, what it forgot of the old, and how deep the gap between was.

Read from the columns that the monitor `Stability` writes. The figures have a logarithmic axis of
steps: the gap opens and closes within the first few.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from thalweg.laws.forgetting import Gap, gap
from thalweg.report.draw import Figure
from thalweg.report.numbers import MISSING, number_text
from thalweg.report.run import Json, Run

__all__ = ["Change", "change_of", "gap_figures"]

_TITLES = {"stability/old": "Old text", "stability/new": "New text"}


class Change(NamedTuple):
    """How the losses on old and new held-out text went, nats per token."""

    old: Gap
    new: Gap

    @property
    def gained(self) -> float:
        """How much the loss on new text fell."""
        return -self.new.forgotten

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """Text, before, worst, at step, after, change: as the page prints them."""
        return tuple(
            (
                name,
                number_text(one.before),
                number_text(one.worst),
                f"{one.worst_step:,}" if one.worst_step else MISSING,
                number_text(one.after),
                f"{one.forgotten:+.4f}",
            )
            for name, one in (("old", self.old), ("new", self.new))
        )

    @property
    def words(self) -> str:
        """Gained, forgotten and the gap in a sentence each.

        Example:
            >>> new = gap([1, 2, 9], [4.0, 3.5, 3.0], before=4.0)
            >>> Change(gap([1, 2, 9], [2.5, 3.0, 2.25], before=2.0), new).words
            'Gained 1.000 on new text. Forgot 0.250 of the old. The gap: 1.000 above \
the start at step 2, of which 0.750 had come back by the end.'
        """
        old = self.old
        gained = f"Gained {self.gained:.3f}" if self.gained >= 0 else f"Lost {-self.gained:.3f}"
        lost = f"Forgot {old.forgotten:.3f} of" if old.forgotten >= 0 else (
            f"Improved by {-old.forgotten:.3f} on"
        )  # fmt: skip
        words = f"{gained} on new text. {lost} the old."
        if not old.worst_step:
            return f"{words} No gap: the old text never was above its start."
        where = f"{old.depth:.3f} above the start at step {old.worst_step:,}"
        if old.hidden == 0:
            return f"{words} No gap that closes: the worst is the end, {where}."
        return f"{words} The gap: {where}, of which {old.hidden:.3f} had come back by the end."


def change_of(run: Run) -> Change | None:
    """Return how the losses of a run changed; None if it did not measure them from its start.

    Of several phases that measured, the last one counts.
    """
    starts = run.history.points("stability/old/before").step
    if not len(starts):
        return None
    first = int(starts[-1])
    old, new = (_curve(run, name, first) for name in ("old", "new"))
    return Change(old, new) if old is not None and new is not None else None


def gap_figures(figures: Sequence[Figure]) -> list[Figure]:
    """Return, of the figures of all other columns, those of the gap, with titles and log steps."""
    found = []
    for figure in figures:
        if figure.title not in _TITLES:
            continue
        layout = figure.spec["layout"]
        assert isinstance(layout, dict)
        steps: Json = {"title": {"text": "step"}, "type": "log", "dtick": 1, "hoverformat": ",d"}
        nats: Json = {"title": {"text": "nats per token"}, "type": "linear"}
        spec = figure.spec | {"layout": layout | {"xaxis": steps, "yaxis": nats}}
        found.append(figure._replace(title=_TITLES[figure.title], note="log axis", spec=spec))
    return found


def _curve(run: Run, name: str, first: int) -> Gap | None:
    points = run.history.points(f"stability/{name}")
    start = run.history.points(f"stability/{name}/before").value
    here = points.step >= first
    if not len(start) or not np.any(here):
        return None
    return gap(points.step[here] - first + 1, points.value[here], float(start[-1]))
