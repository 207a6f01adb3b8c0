"""Groups of answers become pairs of a better and a worse one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, Dial
from thalweg.errors import DialError

__all__ = ["Pair", "Rule"]

Rule: TypeAlias = Literal["first", "best_worst", "margin"]


@dataclass(frozen=True)
class Pair:
    """Make at most one pair of each group: one row with a chosen and a rejected answer.

    - `first`: the first answer with the highest reward of the group, and the first with the
      lowest (answers are exchangeable, so the first is a random one). arXiv:2506.21495, for
      rewards that can be verified: right against wrong.
    - `best_worst`: as `first`; among rejected answers of one reward the longest, against
      answers that grow to please the judge.
    - `margin`: every better-worse couple of the group is a candidate; the one with the widest gap
      in reward is taken, with the smallest difference in length among equals.

    A group gives no pair if its rewards differ by `least` or less. Rows of weight 0 are left out.
    A batch without a pair becomes one pair of weight 0, so that the step still has a loss, 0; it
    is counted as `pairs` = 0. Reports `pairs`, the share of groups that gave one, and
    `pair_length_gap`, the mean of chosen minus rejected length: watch it.
    """

    rule: Rule = "first"
    least: Dial = 0.0
    """Rewards must differ by more than this."""
    balance: bool = False
    """Whether as many pairs are kept whose chosen answer is the shorter as ones whose is the
    longer: surplus pairs are left out, those with the largest difference in length first."""

    needs: ClassVar[tuple[str, ...]] = ("tokens", "weight", "reward", "group", "id", "source")
    makes: ClassVar[tuple[str, ...]] = (
        "chosen",
        "rejected",
        "chosen_weight",
        "rejected_weight",
    )

    @property
    def name(self) -> str:
        """Return `pair.RULE`."""
        return f"pair.{self.rule}"

    def __post_init__(self) -> None:
        """Refuse an unknown rule.

        Raises:
            DialError: It is none of the three.
        """
        if self.rule not in ("first", "best_worst", "margin"):
            raise DialError(
                f"rule='{self.rule}'",
                expected="first, best_worst or margin",
                where="Pair",
                write="Pair(rule='first')",
            )

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return one row a pair; `weight` [R] is what a pair counts."""
        answers = _answers(batch)
        groups = [*answers.values()]
        found = [pair for group in groups if (pair := self._pick(group)) is not None]
        kept = _balanced(found) if self.balance else found
        gaps = [better.length - worse.length for better, worse in kept]
        share = len(found) / max(len(groups), 1)
        ctx.log({"pairs": float(len(kept)), "paired_groups": share})
        if kept:
            ctx.log({"pair_length_gap": sum(gaps) / len(gaps)})
            return _columns(batch, kept, 1.0)
        ctx.note("empty", "no group gave a pair: the loss of this step is 0")
        nothing = _Answer(0, 0.0, 0)
        return _columns(batch, [(nothing, nothing)], 0.0)

    def _pick(self, group: Sequence["_Answer"]) -> "tuple[_Answer, _Answer] | None":
        high, low = max(a.reward for a in group), min(a.reward for a in group)
        if not high - low > float(self.least):
            return None
        better = [answer for answer in group if answer.reward == high]
        worse = [answer for answer in group if answer.reward == low]
        if self.rule == "margin":
            couples = [(b, w) for b in better for w in worse]
            return min(couples, key=lambda couple: abs(couple[0].length - couple[1].length))
        if self.rule == "best_worst":
            return better[0], max(worse, key=lambda answer: answer.length)
        return better[0], worse[0]


class _Answer(NamedTuple):
    """A row of the batch."""

    row: int
    reward: float
    length: int


def _answers(batch: Batch) -> dict[int, list[_Answer]]:
    """Return the rows that count and that somebody drew, by group."""
    lengths = (batch["weight"] > 0).sum(1).tolist()
    rows = zip(batch["group"].tolist(), batch["reward"].tolist(), lengths, strict=True)
    found: dict[int, list[_Answer]] = {}
    for row, (group, reward, length) in enumerate(rows):
        if length and group >= 0:
            found.setdefault(group, []).append(_Answer(row, reward, length))
    return found


def _balanced(pairs: Sequence[tuple[_Answer, _Answer]]) -> list[tuple[_Answer, _Answer]]:
    """Return as many pairs with a longer as with a shorter chosen answer, in their order."""
    sides: dict[bool, list[Any]] = {True: [], False: []}
    for pair in pairs:
        gap = pair[0].length - pair[1].length
        if gap:
            sides[gap > 0].append((abs(gap), pair))
    few = min(len(side) for side in sides.values())
    surplus = [sorted(side, key=lambda one: one[0])[few:] for side in sides.values()]
    dropped = [pair for side in surplus for _, pair in side]
    return [pair for pair in pairs if pair not in dropped]


def _columns(batch: Batch, pairs: Sequence[tuple[_Answer, _Answer]], weight: float) -> Batch:
    better = batch.take([chosen.row for chosen, _ in pairs])
    worse = batch.take([rejected.row for _, rejected in pairs])
    return Batch(
        {
            "chosen": better["tokens"],
            "rejected": worse["tokens"],
            "chosen_weight": better["weight"] * weight,
            "rejected_weight": worse["weight"] * weight,
            "weight": torch.full((len(pairs),), weight),
            **{name: better[name] for name in ("group", "id", "source")},
        }
    )
