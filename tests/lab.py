"""A toy world for tests of the core: a linear model, rows of numbers, and a schedule of rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.protocols import Action, Context, Loss, State

__all__ = ["Linear2", "Lines", "Script", "Squared"]


@dataclass(frozen=True)
class Linear2:
    """y = w x + b, or a small hidden layer."""

    width: int = 3
    hidden: int = 0
    vocabulary: int = 0
    positions: int = 0

    def build(self, seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed % 2**31)
            if not self.hidden:
                return nn.Linear(self.width, 1)
            return nn.Sequential(
                nn.Linear(self.width, self.hidden), nn.Tanh(), nn.Linear(self.hidden, 1)
            )


@dataclass(frozen=True)
class Lines:
    """Noisy values of a fixed line: row i is a function of the seed and i."""

    width: int = 3
    name: str = "lines"
    slope: float = 1.0
    offline: bool = True
    makes: ClassVar[tuple[str, ...]] = ("x", "y", "id", "source")

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def start(self, ctx: Context) -> State:
        return {"row": 0}

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        first = state["row"]
        ids = torch.arange(first, first + ctx.rows)
        draws = [ctx.rng("lines", self.name, int(i)).normal(size=self.width + 1) for i in ids]
        rows = torch.from_numpy(np.stack(draws)).float()
        x = rows[:, : self.width]
        y = self.slope * x.sum(1) + 0.1 * rows[:, -1]
        source = torch.zeros(len(ids), dtype=torch.int64)
        return Batch({"x": x, "y": y, "id": ids, "source": source}), {"row": first + ctx.rows}


@dataclass(frozen=True)
class Squared:
    """Weighted squared error."""

    scale: float = 1.0
    needs: ClassVar[tuple[str, ...]] = ("x", "y", "weight")

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        error = (model(batch["x"]).squeeze(1) - batch["y"]) ** 2
        rows = {"loss": error.detach(), "loss/count": torch.ones_like(error)}
        return Loss(self.scale * (batch["weight"] * error).sum(), {}, rows)


@dataclass(frozen=True)
class Script:
    """A controller that does what is written for each step of the run."""

    lines: tuple[tuple[int, tuple[Action, ...]], ...]

    def start(self, ctx: Context) -> State:
        return {"seen": 0}

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        if ctx.trial:
            return (), {"seen": state["seen"] + len(ctx.trial)}
        done = int(ctx.time.run_step) + 1
        return [a for step, actions in self.lines if step == done for a in actions], state
