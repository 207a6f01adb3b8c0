"""Written answers as plain data, and as the columns of a batch."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch

from thalweg.core.batch import Batch, Column

__all__ = ["Written", "columns", "written"]

Written: TypeAlias = dict[str, Any]
"""One answer: token ids of the whole row, where the answer begins, its log-probs, and the facts.
Plain data, so that a replay window is part of the source's state."""


def written(
    prompt: Sequence[int],
    tokens: Sequence[int],
    logprobs: Sequence[float],
    facts: Mapping[str, Any],
) -> Written:
    """Return one answer.

    Args:
        prompt: Token ids that the row starts with.
        tokens: Of the answer, with the one that ended it.
        logprobs: Of each of them under whoever wrote it.
        facts: reward, group, id, version, finished, guided, counts.
    """
    return {"tokens": [*prompt, *tokens], "start": len(prompt), "old": [*logprobs], **facts}


def columns(rows: Sequence[Written], *, multiple: int, padding: int, most: int) -> Batch:
    """Return the batch of these answers.

    Args:
        rows: At least one.
        multiple: The number of targets of a row is rounded up to a multiple of this.
        padding: Token id behind the end of a row.
        most: Targets that no row is padded beyond.
    """
    longest = max(len(row["tokens"]) for row in rows)
    targets = max(longest - 1, min(-(-(longest - 1) // multiple) * multiple, most))
    tokens = torch.full((len(rows), targets + 1), padding, dtype=torch.int64)
    weight = torch.zeros(len(rows), targets)
    old = torch.zeros(len(rows), targets)
    for place, row in enumerate(rows):
        answer = slice(row["start"] - 1, len(row["tokens"]) - 1)
        tokens[place, : len(row["tokens"])] = torch.tensor(row["tokens"])
        weight[place, answer] = float(row["counts"])
        old[place, answer] = torch.tensor(row["old"])
    found: dict[str, Column] = {
        "tokens": tokens,
        "weight": weight,
        "old": old,
        "reward": torch.tensor([row["reward"] for row in rows], dtype=torch.float32),
        "source": torch.zeros(len(rows), dtype=torch.int64),
    }
    for name in ("group", "id", "version"):
        found[name] = torch.tensor([row[name] for row in rows], dtype=torch.int64)
    for name in ("finished", "guided"):
        found[name] = torch.tensor([row[name] for row in rows], dtype=torch.bool)
    return Batch(found)
