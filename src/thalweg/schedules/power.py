"""Power: a rate that follows a power of the tokens seen, in proportion to the batch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from thalweg.core.protocols import Schedule
from thalweg.core.time import Span, Time
from thalweg.errors import DialError
from thalweg.schedules.clock import (
    Piece,
    Value,
    by_pieces,
    check_number,
    check_schedule,
    check_shape,
    check_span,
    lengths,
    like,
    moved,
    number_at,
    rise,
    since,
)
from thalweg.schedules.shapes import Exponential

__all__ = ["Power"]

_NOTHING = Span(0, "steps")


@dataclass(frozen=True)
class Power(Schedule[Value]):
    """Follow min(peak, rows a n^b), n the tokens seen: one setting for any budget and batch.

    Step s of a warmup of w: (s + 1) / w times the value at the end of the warmup. In the last
    `decay` steps of the phase: the value at the start of the decay, times shape. Without a decay
    the phase needs no end. The clock is tokens: it must know how many a step has. a and b belong
    to rates under muP; under another parametrisation fit them anew.

    Source: arXiv:2408.13359. a = 4.6, b = -0.51 and rows counted in sequences as in the open
    implementation of levanter; how far the exponential decay goes is our choice.

    Example:
        >>> s = Power(0.02, rows=1024)
        >>> round(s(Time(step=1, tokens=10**12, batch_tokens=4096)), 5)
        0.00357
    """

    peak: float
    """eta_max, a rate that is never exceeded; 0.02 in the paper's muP units, untested elsewhere."""
    rows: Schedule[Piece] | float
    """Batch in sequences: what the phase has as `rows`, a schedule if that is one. Not tokens."""
    a: float = 4.6
    """Factor, above 0."""
    b: float = -0.51
    """Power of the tokens seen, at most 0."""
    warmup: Span = _NOTHING
    """Length of the rise; 0 steps: none."""
    decay: Span = _NOTHING
    """Length of the decay, which ends with the phase; 0 steps: none."""
    shape: Schedule[Piece] = Exponential(1.0, 0.01)  # frozen
    """From 1 down on its own clock, whose phase is the decay."""
    before: float = 0.0
    """Tokens seen before this phase, such as those of pretraining."""

    def __post_init__(self) -> None:
        """Refuse what is not a rate, a batch, or a power that falls.

        Raises:
            DialError: They are not.
        """
        check_number(self, "peak", self.peak, above=0.0)
        check_number(self, "a", self.a, above=0.0)
        check_number(self, "b", self.b, high=0.0)
        check_number(self, "before", self.before, low=0.0)
        check_schedule(self, "rows", self.rows)
        if not isinstance(self.rows, Schedule):
            check_number(self, "rows", self.rows, above=0.0)
        check_span(self, "warmup", self.warmup)
        check_span(self, "decay", self.decay)
        check_shape(self, "shape", self.shape)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`.

        Raises:
            DialError: The clock counts no tokens, warmup and decay do not fit into the phase, or
                it has no end to decay at.
        """
        if time.batch_tokens <= 0:
            raise DialError(
                "a power of tokens on a clock that does not know the tokens of a step",
                expected="a source with a known number of tokens a step",
                where="Power, Time.batch_tokens is 0",
                write="InverseSqrt(rate, scale=steps(1000)), a power of steps",
            )
        warm, fall = lengths(self, "warmup and decay", (self.warmup, self.decay), time)
        parts: list[Callable[[Time], Piece]] = [partial(self._warm, warm), self._rate]
        if fall == 0:
            return by_pieces(time, [warm], parts)  # type: ignore[return-value]  # numbers
        start = time.horizon - fall
        parts.append(partial(self._decay, start))
        return by_pieces(time, [warm, start], parts)  # type: ignore[return-value]  # numbers

    def _rate(self, time: Time) -> Value:
        seen = self.before + np.maximum(np.asarray(time.tokens, np.float64), 0.0)
        rows = np.asarray(number_at(self.rows, time, "Power.rows"), np.float64)
        with np.errstate(divide="ignore"):  # nothing seen yet: no limit but the peak
            wanted = rows * self.a * np.power(seen, np.full_like(seen, self.b))
        return like(time, np.minimum(wanted, self.peak))

    def _warm(self, length: int, time: Time) -> Value:
        return rise(time, length) * self._rate(moved(time, length))

    def _decay(self, start: int, time: Time) -> Value:
        scale = number_at(self.shape, since(time, start), "Power.shape")
        return self._rate(moved(time, start)) * scale
