"""The clock: where a phase is, and lengths that carry their unit. Imports no torch.

A schedule is a pure function of a `Time`. The loop passes one moment (ints); a plan passes a whole
run at once (int arrays in `step`, `tokens` and `run_step`), so schedules are written with numpy.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from thalweg.errors import DialError

__all__ = ["Count", "Span", "Time", "share", "steps", "tokens"]

Count: TypeAlias = "int | np.ndarray"


@dataclass(frozen=True)
class Time:
    """A moment of a phase, or all of its moments at once.

    `steps` and `batch_tokens` are always single numbers. An endless phase has `steps=None`.
    """

    step: Count = 0
    """Optimizer steps done in this phase."""
    steps: int | None = None
    """Length of the phase in steps; None when it has no end."""
    tokens: Count = 0
    """Target tokens consumed in this phase."""
    run_step: Count = 0
    """Steps done in the whole run, all phases."""
    batch_tokens: int = 0
    """Tokens a step is planned to consume; turns `tokens(...)` into steps. 0: unknown."""

    @property
    def horizon(self) -> int:
        """Length of the phase in steps.

        Raises:
            DialError: The phase has no end.
        """
        if self.steps is None:
            raise DialError(
                "a schedule that needs to know the end of the phase, in an endless phase",
                expected="a phase with a length, or a schedule that needs none",
                where="Phase.steps is None",
                write="steps=10000, or lengths in steps(...) or tokens(...)",
            )
        return self.steps

    def since(self, start: int) -> "Time":
        """Return the same moment on a clock that starts `start` steps later."""
        return replace(
            self,
            step=self.step - start,
            steps=None if self.steps is None else self.steps - start,
            tokens=self.tokens - start * self.batch_tokens,
        )

    def within(self, length: int) -> "Time":
        """Return the same moment in a phase that is `length` steps long."""
        return replace(self, steps=length)


@dataclass(frozen=True)
class Span:
    """A length with its unit: write `steps(200)`, `share(0.2)` or `tokens(2e9)`."""

    count: float
    unit: Literal["steps", "share", "tokens"]

    def __post_init__(self) -> None:
        """Refuse lengths that mean nothing.

        Raises:
            DialError: No number, negative, not finite, or a share above 1.
        """
        top = 1.0 if self.unit == "share" else np.inf
        number = isinstance(self.count, int | float | np.integer | np.floating)
        if isinstance(self.count, bool) or not (
            number and 0 <= self.count <= top and np.isfinite(self.count)
        ):
            raise DialError(
                f"{self.unit}({self.count!r})",
                expected="0 <= share <= 1" if self.unit == "share" else f"{self.unit} >= 0, finite",
                where="a length",
                write="share(0.1)" if self.unit == "share" else f"{self.unit}(1000)",
            )

    def of(self, time: Time) -> int:
        """Return the length in whole steps on this clock.

        Raises:
            DialError: A share in an endless phase, or tokens where the batch size is unknown.
        """
        if self.unit == "steps":
            return round(self.count)
        if self.unit == "share":
            return round(self.count * time.horizon)
        if time.batch_tokens <= 0:
            raise DialError(
                f"{self} on a clock that does not know the tokens of a step",
                expected="a source with a known number of tokens a step",
                where="Time.batch_tokens is 0",
                write="steps(...) or share(...)",
            )
        return round(self.count / time.batch_tokens)

    def __str__(self) -> str:
        """Return what the user would write."""
        return f"{self.unit}({self.count:g})"


def steps(count: float) -> Span:
    """Return a length of `count` optimizer steps."""
    return Span(count, "steps")


def share(count: float) -> Span:
    """Return a length that is a share (0 to 1) of the phase."""
    return Span(count, "share")


def tokens(count: float) -> Span:
    """Return a length of `count` target tokens, rounded to whole steps."""
    return Span(count, "tokens")
