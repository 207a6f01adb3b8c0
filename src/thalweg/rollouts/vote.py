"""A group's most frequent answer becomes its label."""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, Dial

__all__ = ["Majority"]


@dataclass(frozen=True)
class Majority:
    """Keep one row of each group, an answer that most of the group gave; the rest weigh 0.

    Answers are equal if their tokens are. No reward is read: this is how a model labels its own
    data. Groups whose largest share is below `least`, and answers that ran out of tokens, weigh 0.
    Rows that nobody drew, demonstrations whose group is below 0, stay as they are. Reports
    `agreement`, the mean largest share, and `voted`, the share of groups that kept a row.

    Source: arXiv:2502.01612, majority voting, with one model's samples in place of several models.
    """

    least: Dial = 0.5
    """Share of the group that must agree."""

    name: ClassVar[str] = "label.majority"
    needs: ClassVar[tuple[str, ...]] = ("tokens", "weight", "group", "finished")
    makes: ClassVar[tuple[str, ...]] = ()

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the weights of the chosen rows."""
        answers = _answers(batch)
        keeps = (batch["group"] < 0).float()
        shares = []
        for rows in answers.values():
            votes = Counter(text for _, text in rows if text)
            common, times = votes.most_common(1)[0] if votes else ((), 0)
            shares.append(times / len(rows))
            if common and shares[-1] >= float(self.least):
                keeps[next(row for row, text in rows if text == common)] = 1.0
        if shares:
            voted = float(keeps[batch["group"] >= 0].sum()) / len(shares)
            ctx.log({"agreement": sum(shares) / len(shares), "voted": voted})
        return batch.plus({"weight": batch["weight"] * keeps[:, None]})


def _answers(batch: Batch) -> dict[int, list[tuple[int, tuple[int, ...]]]]:
    """Return row and answer of every row by group; the empty answer stands for a cut one."""
    found: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
    counts = batch["weight"] > 0
    for row, group in enumerate(batch["group"].tolist()):
        if group < 0:
            continue
        whole = bool(batch["finished"][row])
        text = tuple(batch["tokens"][row, 1:][counts[row]].tolist()) if whole else ()
        found.setdefault(group, []).append((row, text))
    return found
