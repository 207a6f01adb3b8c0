"""Text with a question and an answer: instructions that move symbols, and solved sums."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, State
from thalweg.core.rng import rng

__all__ = ["EXAMPLES", "WIDTH", "Instructions", "Sums"]

EXAMPLES = 2048
"""Of the list that is trained on."""
SYMBOLS = 16
"""In inputs and answers; marks of tasks lie at the end of the vocabulary."""
WIDTH = 4
"""Symbols of an instruction's input and of its answer."""
TURN = tuple((np.arange(WIDTH) + move) % WIDTH for move in range(3))
ORDERS = (*TURN, TURN[0][::-1], TURN[1][::-1])
"""The five tasks: the input turned by 0, 1, 2, reversed, turned and reversed."""
SUM_LENGTH = 16
END = 256
"""Ends every text of sums, which are bytes; of the byte tokenizer."""


@dataclass(frozen=True)
class Instructions:
    """A mark for the task, four symbols, the four in the task's order; only those count.

    A list of examples, gone through in order again and again; held out is another list.
    """

    tasks: tuple[int, ...] = tuple(range(len(ORDERS)))
    """Which tasks; examples of the list take turns."""
    split: str = "train"
    name: str = "tasks"

    makes: ClassVar[tuple[str, ...]] = ("tokens", "weight", "source", "id")
    row_tokens: ClassVar[int] = 2 * WIDTH
    vocabulary: ClassVar[int] = 64

    @property
    def names(self) -> tuple[str, ...]:
        """One name, its own."""
        return (self.name,)

    def start(self, ctx: Context) -> State:
        """Return the state before the first example: its number."""
        return {"row": 0}

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return the next examples."""
        ids = (int(state["row"]) + np.arange(ctx.rows)) % EXAMPLES
        task = np.array(self.tasks)[ids % len(self.tasks)]
        inputs = rng(0, "instructions", self.split).integers(SYMBOLS, size=(EXAMPLES, WIDTH))[ids]
        answers = np.take_along_axis(inputs, np.array(ORDERS)[task], axis=1)
        rows = np.concatenate([59 + task[:, None], inputs, answers], axis=1)
        weight = torch.ones(ctx.rows, 2 * WIDTH)
        weight[:, :WIDTH] = 0.0
        columns = {"tokens": torch.from_numpy(rows), "weight": weight}
        columns |= {"source": torch.zeros(ctx.rows, dtype=torch.int64), "id": torch.from_numpy(ids)}
        return Batch(columns), {"row": int(state["row"]) + ctx.rows}


@dataclass(frozen=True)
class Sums:
    """Text of solved problems: `9+4=9+4+0=13#13` or `9+4=13`, some with the end of another."""

    long: float
    """Share with their steps."""
    wrong: float
    """Share with the answer of another problem."""
    name: str = "sums"

    makes: ClassVar[tuple[str, ...]] = ("tokens", "weight", "source", "id")
    names: ClassVar[tuple[str, ...]] = ("sums",)
    row_tokens: ClassVar[int] = SUM_LENGTH
    vocabulary: ClassVar[int] = 257

    def start(self, ctx: Context) -> State:
        """Return the state before the first row: its number."""
        return {"row": 0}

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return the next rows; every token of a problem counts, the padding does not."""
        first, draw = int(state["row"]), ctx.rng("sums", int(state["row"]))
        tokens = torch.full((ctx.rows, SUM_LENGTH + 1), END)
        weight = torch.zeros(ctx.rows, SUM_LENGTH)
        for row in range(ctx.rows):
            a, b, other = (int(n) for n in draw.integers((10, 10, 19)))
            steps, wrong = draw.random(2) < (self.long, self.wrong)
            text = f"{a}+{b}=" + f"{a}+{b}+0={a + b}#" * int(steps) + str(other if wrong else a + b)
            tokens[row, 1 : 1 + len(text)] = torch.tensor(list(text.encode()))
            weight[row, : 1 + len(text)] = 1.0
        ids = torch.arange(first, first + ctx.rows)
        batch = Batch({"tokens": tokens, "weight": weight, "source": 0 * ids, "id": ids})
        return batch, {"row": first + ctx.rows}
