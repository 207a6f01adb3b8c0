"""A loss curve with the learning rate of every step and where it comes from.

Step numbers count updates from 0; `lr[i]` is the rate of update i, and the loss at step s has
seen the updates 0 to s. That is the convention of arXiv:2408.11029, whose sums run from 0 to s;
a log that counts from 1 differs by one update, which no law here can see.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thalweg.errors import DataError

__all__ = ["Curve", "LawWarning", "Origin"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class LawWarning(UserWarning):
    """A law is used where it may not hold, or a curve was completed by a guess."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a run was made with; a law fitted on it holds for that. None: not known.

    Example:
        >>> Origin(optimizer="AdamW", batch_tokens=102400).optimizer
        'AdamW'
    """

    optimizer: str | None = None
    """Name of the optimizer, as its library writes it."""
    batch_tokens: float | None = None
    """Target tokens per update."""
    parametrisation: str | None = None
    """`standard` or `mup`: what a rate means at another width."""
    parameters: float | None = None
    """Parameters of the model; without the embeddings where that is known."""
    weight_decay: float | None = None
    """Decoupled decay per unit of rate, as AdamW has it."""
    dataset: str | None = None
    """Name of the text; a loss on other text is another loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Measured losses of one run. Checked when made.

    Raises:
        DataError: A loss is not finite, steps are not rising, or rates are missing.

    Example:
        >>> c = Curve(name="a", steps=[0, 2], loss=[3.0, 2.5], lr=[0.1, 0.1, 0.05])
        >>> c.peak, len(c), c.since(1).loss.tolist()
        (0.1, 2, [2.5])
    """

    name: str
    """How errors and tables call it."""
    steps: Any
    """[J] rising step numbers of the measurements."""
    loss: Any
    """[J] nats per token."""
    lr: Any
    """[T] rate of every update, T > steps[-1]."""
    origin: Origin = field(default_factory=Origin)
    """What the run was made with."""
    noise: float | None = None
    """Standard deviation of one measurement in nats, where known."""

    def __post_init__(self) -> None:
        """Convert to arrays and refuse what no law can use."""
        object.__setattr__(self, "steps", self._numbers("steps", self.steps, whole=True))
        object.__setattr__(self, "loss", self._numbers("loss", self.loss))
        object.__setattr__(self, "lr", self._numbers("lr", self.lr))
        self._check_steps()
        self._check_loss()
        self._check_rates()

    def __len__(self) -> int:
        """Return the number of measurements."""
        return int(self.steps.size)

    @cached_property
    def peak(self) -> float:
        """Largest rate."""
        return float(self.lr.max())

    def since(self, step: int) -> "Curve":
        """Drop the measurements before a step; the rates stay."""
        return self._keep(self.steps >= step)

    def begun(self) -> "Curve":
        """Drop the measurements before the first rate above 0: no law knows them."""
        return self.since(int(np.argmax(self.lr > 0)))

    def until(self, step: int) -> "Curve":
        """Drop the measurements at and after a step."""
        return self._keep(self.steps < step)

    def after(self, trunk: "Curve", at: int | None = None) -> "Curve":
        """Put a trunk's measurements and rates before those of this branch.

        Args:
            trunk: The run this one continues; its later steps are dropped.
            at: First update that is the branch's own; its first measurement if left out.
        """
        first = int(self.steps[0]) if at is None else at
        early = trunk.steps < min(first, int(self.steps[0]))
        lr = self.lr.copy()
        lr[: min(first, trunk.lr.size)] = trunk.lr[: min(first, trunk.lr.size)]
        return replace(
            self,
            steps=np.concatenate([trunk.steps[early], self.steps]),
            loss=np.concatenate([trunk.loss[early], self.loss]),
            lr=lr,
        )

    def thinned(self, points: int = 400) -> "Curve":
        """Average neighbouring measurements so that at most `points` stay.

        A bin never reaches over a jump of the rate: a mean over it would leak the later loss
        into the earlier one.
        """
        if len(self) <= points:
            return self
        bins = np.linspace(0, len(self), points + 1).astype(np.int64)[:-1]
        jumps = np.flatnonzero(np.abs(np.diff(self.lr)) > 0.02 * self.peak) + 1
        bins = np.union1d(bins, np.searchsorted(self.steps, jumps))
        bins = bins[bins < len(self)]
        count = np.diff(np.append(bins, len(self)))
        steps = np.add.reduceat(self.steps, bins) // count
        noise = None if self.noise is None else self.noise / math.sqrt(float(np.median(count)))
        return replace(
            self, steps=steps, loss=np.add.reduceat(self.loss, bins) / count, noise=noise
        )

    def _keep(self, mask: NDArray[np.bool_]) -> "Curve":
        if not mask.any():
            raise DataError(
                f"no measurement of {self.name} is left",
                expected="a part of the curve with measurements",
                where=f"{self.name}: steps {self.steps[0]} to {self.steps[-1]}",
                write="a step inside that range",
            )
        return replace(self, steps=self.steps[mask], loss=self.loss[mask])

    def _numbers(self, what: str, values: ArrayLike, *, whole: bool = False) -> Any:
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 1 or array.size == 0:
            raise DataError(
                f"{what} has the shape {array.shape}",
                expected="a list of at least one number",
                where=self.name,
                write="one number a measurement",
            )
        if whole:
            self._refuse(~np.isfinite(array) | (array != np.round(array)), what, array, "whole")
            self._refuse(array < 0, what, array, "0 or more")
            return array.astype(np.int64)
        return array

    def _refuse(self, bad: NDArray[np.bool_], what: str, values: Floats, expected: str) -> None:
        if bad.any():
            at = int(np.argmax(bad))
            raise DataError(
                f"{what} is {values[at]:g} in row {at}",
                expected=f"{expected} numbers in all {values.size} rows",
                where=f"{self.name}, row {at}" + self._step_text(at),
                write="cut the curve before that row, or leave the row out",
            )

    def _step_text(self, at: int) -> str:
        steps = np.asarray(self.steps)
        return f" (step {int(steps[at])})" if at < steps.size and np.isfinite(steps[at]) else ""

    def _check_steps(self) -> None:
        if self.steps.size != self.loss.size:
            raise DataError(
                f"{self.steps.size} steps and {self.loss.size} losses",
                expected="one loss a step",
                where=self.name,
                write="lists of the same length",
            )
        late = np.diff(self.steps) <= 0
        if late.any():
            at = int(np.argmax(late)) + 1
            kind = "repeats" if self.steps[at] == self.steps[at - 1] else "comes after"
            raise DataError(
                f"step {self.steps[at]} {kind} step {self.steps[at - 1]}",
                expected="steps that rise, each once",
                where=f"{self.name}, row {at}",
                write="sort the rows; after a resume keep the later of two rows of one step",
            )

    def _check_loss(self) -> None:
        self._refuse(~np.isfinite(self.loss), "loss", self.loss, "finite")
        self._refuse(self.loss <= 0, "loss", self.loss, "positive")

    def _check_rates(self) -> None:
        last = int(self.steps[-1])
        if self.lr.size <= last:
            raise DataError(
                f"{self.lr.size} learning rates for measurements up to step {last}",
                expected=f"a rate for each of the {last + 1} updates",
                where=self.name,
                write="lr=[...] with one number an update; read() makes it from a logged column",
            )
        self._refuse(~np.isfinite(self.lr) | (self.lr < 0), "lr", self.lr, "finite, >= 0")
        if self.lr.max() <= 0:
            raise DataError(
                "every learning rate is 0",
                expected="a rate above 0 somewhere",
                where=self.name,
                write="the rates the optimizer used",
            )


def total_points(curves: Sequence[Curve]) -> int:
    """Return the number of measurements of all curves."""
    return sum(len(curve) for curve in curves)
