"""Cycles: rates that go up more than once, or up and down once.

`WsdS` jumps back to its peak after every decay, `Rewarm` climbs back with every new stage of data,
`Cyclic` swings between two values for good, `OneCycle` swings once. The warmup convention is that
of the families: the factor is (s + 1) / w at step s of w.
"""

from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np

from thalweg.core.protocols import Schedule
from thalweg.core.time import Span, Time
from thalweg.errors import DialError
from thalweg.schedules.clock import (
    WHOLE,
    Piece,
    Value,
    by_pieces,
    check_number,
    check_shape,
    check_span,
    check_spans,
    lengths,
    like,
    number_at,
    refuse_too_long,
    rise,
    since,
)
from thalweg.schedules.decays import Inverse
from thalweg.schedules.shapes import Cosine, Linear

__all__ = ["Cyclic", "OneCycle", "Rewarm", "WsdS"]

_NOTHING = Span(0, "steps")


@dataclass(frozen=True)
class WsdS(Schedule[Value]):
    """Decay before each target, then go on from the decayed weights at the full rate (WSD-S).

    Cycle i reaches from target i-1 to target i. In its last `decay`: peak shape(own clock);
    before that: peak, in the first cycle after a warmup. Between cycles the rate jumps back to the
    peak at once. After the last target it stays where the last decay ended. No decay is thrown
    away, so every target costs only the steps up to the next one.

    `legs` gives the same run as phases, so that each piece can have its own data.

    Source: arXiv:2410.05192.

    Example:
        >>> from thalweg.core.time import steps
        >>> s = WsdS(1.0, targets=(steps(100), steps(300)))
        >>> [round(s(Time(step)), 3) for step in (89, 95, 100, 280, 290, 300)]
        [1.0, 0.182, 1.0, 1.0, 0.182, 0.1]
    """

    peak: float
    """The rate of the stable pieces."""
    targets: tuple[Span, ...]
    """Moments at which a decay ends, from the start of the phase, in order."""
    decay: Span = Span(0.1, "share")
    """Length of each decay; a share is one of its own cycle, 10 % in the paper."""
    warmup: Span = _NOTHING
    """Length of the rise at the start of the first cycle; 0 steps: none."""
    shape: Schedule[Piece] = Inverse(1.0, 0.1)  # frozen
    """From 1 to the last rate as a share of the peak; the paper's curve and floor."""

    def __post_init__(self) -> None:
        """Refuse a peak that is no rate, no targets, and a shape that does not start at 1.

        Raises:
            DialError: They do not fit.
        """
        check_number(self, "peak", self.peak, low=0.0)
        check_span(self, "decay", self.decay, empty=False)
        check_span(self, "warmup", self.warmup)
        check_shape(self, "shape", self.shape)
        check_spans(self, "targets", self.targets, empty=False, least=1)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`.

        Raises:
            DialError: Targets out of order or behind the end of the phase, a cycle too short for
                its decay, or a decay of no steps.
        """
        warm = self.warmup.of(time)
        moments, parts = [], []
        for start, begin, end in self.cycles(time):
            first = warm if start == 0 else 0
            parts += [partial(self._stable, first), partial(self._decay, begin, end - begin)]
            moments += [begin, end]
        return by_pieces(time, moments[:-1], parts)  # type: ignore[return-value]  # numbers

    def cycles(self, time: Time) -> list[tuple[int, int, int]]:
        """Return (first step, first step of the decay, target) of every cycle on this clock.

        Raises:
            DialError: As a call.
        """
        ends = [span.of(time) for span in self.targets]
        starts = [0, *ends[:-1]]
        found = []
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            fall = self.decay.of(since(time, start).within(max(end - start, 0)))
            warm = self.warmup.of(time) if number == 0 else 0
            if fall == 0 or warm + fall > end - start:
                raise DialError(
                    f"a cycle from step {start} to {end} with {warm} steps of warmup and {fall} of "
                    "decay",
                    expected="targets in order, and cycles that hold a decay of at least one step",
                    where=f"WsdS.targets.{number}",
                    write="targets=(steps(1000), steps(2000), steps(4000))",
                )
            found.append((start, end - fall, end))
        refuse_too_long(self, "the last target", ends[-1], time)
        return found

    def _stable(self, warm: int, time: Time) -> Value:
        return like(time, np.asarray(self.peak * rise(time, warm)))

    def _decay(self, start: int, length: int, time: Time) -> Value:
        scale = number_at(self.shape, since(time, start).within(length), "WsdS.shape")
        return like(time, np.asarray(self.peak * scale))


@dataclass(frozen=True)
class Rewarm(Schedule[Value]):
    """Rewarm and redecay: climb and decay anew in every stage of continual pretraining.

    In a stage of n steps with a warmup of w, at its step s < w: low + (peak - low) (s + 1) / w,
    low being `start` in the first stage and `floor` in later ones. Then
    floor + (peak - floor) shape over the other n - w steps. After the last stage: floor.

    Source: arXiv:2308.04014 (rewarming); arXiv:2403.08763 (with redecay and replay).

    Example:
        >>> from thalweg.core.time import steps
        >>> s = Rewarm(1.0, 0.1, stages=(steps(100), steps(100)), warmup=steps(9))
        >>> [round(s(Time(step)), 2) for step in (8, 99, 100, 108, 199)]
        [1.0, 0.1, 0.2, 1.0, 0.1]
    """

    peak: float
    """The rate after each warmup; at least `floor`. The papers take that of pretraining."""
    floor: float
    """The rate at the end of each stage; the papers take a tenth of the peak."""
    stages: tuple[Span, ...] = (WHOLE,)
    """Length of every stage, one after the other."""
    warmup: Span = Span(0.01, "share")
    """Length of the rise in each stage; a share is one of its own stage, 1 % in the papers."""
    start: float = 0.0
    """What the first stage rises from; give it `floor` if the run goes on from decayed weights."""
    shape: Schedule[Piece] = Cosine(1.0)  # frozen
    """From 1 to 0 on the clock of the decay."""

    def __post_init__(self) -> None:
        """Refuse rates in the wrong order, no stages, and a shape that does not start at 1.

        Raises:
            DialError: They do not fit.
        """
        check_number(self, "peak", self.peak, low=0.0)
        check_number(self, "floor", self.floor, low=0.0, high=float(self.peak))
        check_number(self, "start", self.start, low=0.0, high=float(self.peak))
        check_span(self, "warmup", self.warmup)
        check_shape(self, "shape", self.shape)
        check_spans(self, "stages", self.stages, empty=False, least=1)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`.

        Raises:
            DialError: The stages are longer than the phase, or a warmup longer than its stage.
        """
        found = lengths(self, "stages", self.stages, time)
        ends = list(accumulate(found))
        parts = [
            partial(self._stage, number, end - length, length)
            for number, (end, length) in enumerate(zip(ends, found, strict=True))
        ]
        rest = partial(like, values=np.asarray(self.floor, np.float64))
        return by_pieces(time, ends, [*parts, rest])  # type: ignore[return-value]  # numbers

    def _stage(self, number: int, start: int, length: int, time: Time) -> Value:
        clock = since(time, start).within(length)
        warm = self.warmup.of(clock)
        refuse_too_long(self, "warmup", warm, clock)
        low = self.start if number == 0 else self.floor
        return by_pieces(  # type: ignore[return-value]  # both parts are numbers
            clock,
            [warm],
            [
                lambda early: low + (self.peak - low) * rise(early, warm),
                lambda late: self.floor + (self.peak - self.floor) * self._scale(late, warm),
            ],
        )

    def _scale(self, clock: Time, warm: int) -> Value:
        return number_at(self.shape, since(clock, warm), "Rewarm.shape")


@dataclass(frozen=True)
class Cyclic(Schedule[Value]):
    """Swing between two values in straight lines, without an end (cyclical learning rates).

    low + (high - low) f max(0, 1 - |s / h - 2 c + 1|), with c = floor(1 + s / (2 h)), h the
    length of half a swing, and f = fade^(c - 1) gamma^s. fade 1/2 is the paper's "triangular2",
    gamma < 1 its "exp_range".

    Source: arXiv:1506.01186.

    Example:
        >>> from thalweg.core.time import steps
        >>> s = Cyclic(0.1, 1.0, half=steps(10))
        >>> [round(s(Time(step)), 2) for step in (0, 5, 10, 15, 20)]
        [0.1, 0.55, 1.0, 0.55, 0.1]
    """

    low: float
    """Value at step 0 and between swings."""
    high: float
    """Value at the top of the first swing; below `low` swings down."""
    half: Span
    """Length from low to high, at least one step."""
    fade: float = 1.0
    """Factor on the height of each next swing, above 0 and at most 1."""
    gamma: float = 1.0
    """Factor on the height at each next step, above 0 and at most 1."""

    def __post_init__(self) -> None:
        """Refuse what is not a finite number, and swings that grow."""
        check_number(self, "low", self.low)
        check_number(self, "high", self.high)
        check_span(self, "half", self.half, empty=False)
        check_number(self, "fade", self.fade, above=0.0, high=1.0)
        check_number(self, "gamma", self.gamma, above=0.0, high=1.0)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`.

        Raises:
            DialError: Half a swing rounds to no step on this clock.
        """
        half = self.half.of(time)
        check_number(self, "half", half, low=1)
        s = np.maximum(np.asarray(time.step, np.float64), 0.0)
        cycle = np.floor(1.0 + s / (2.0 * half))
        height = np.maximum(0.0, 1.0 - np.abs(s / half - 2.0 * cycle + 1.0))
        faded = np.power(np.full_like(s, self.fade), cycle - 1.0)
        faded = faded * np.power(np.full_like(s, self.gamma), s)
        return like(time, self.low + (self.high - self.low) * faded * height)


@dataclass(frozen=True)
class OneCycle(Schedule[Value]):
    """Rise to a high value, fall back, and end far below where it began (1cycle).

    Over `rise`: start + (peak - start) (1 - shape). Then down, over all that is left but `tail`:
    start + (peak - start) shape. Over `tail`: end + (start - end) shape. Without a tail it falls
    from the peak straight to `end`, as most libraries do. Also for momentum, with a low `peak`.

    Source: arXiv:1708.07120.

    Example:
        >>> s = OneCycle(1.0, start=0.1, end=0.001)
        >>> [round(s(Time(step, steps=100)), 3) for step in (0, 45, 90, 95, 100)]
        [0.1, 1.0, 0.1, 0.051, 0.001]
    """

    peak: float
    """Value after the rise."""
    start: float
    """Value at step 0, and at the start of the tail."""
    end: float
    """Value from the end of the phase on."""
    rise: Span = Span(0.45, "share")
    """Length of the way up."""
    tail: Span = Span(0.1, "share")
    """Length of the last piece, from `start` to `end`; 0 steps: none."""
    shape: Schedule[Piece] = Linear(1.0, 0.0)  # frozen
    """From 1 to 0, used for every piece; straight in the paper, a cosine in most libraries."""

    def __post_init__(self) -> None:
        """Refuse what is not a finite number, and a shape that is not from 1 to 0.

        Raises:
            DialError: They do not fit.
        """
        check_number(self, "peak", self.peak)
        check_number(self, "start", self.start)
        check_number(self, "end", self.end)
        check_span(self, "rise", self.rise)
        check_span(self, "tail", self.tail)
        check_shape(self, "shape", self.shape, end=0.0)

    def __call__(self, time: Time) -> Value:
        """Return the value at `time`.

        Raises:
            DialError: Rise and tail do not fit into the phase, or it has no end.
        """
        up, tail = lengths(self, "rise and tail", (self.rise, self.tail), time)
        last = time.horizon - tail
        low = self.start if tail else self.end
        move = partial(self._move, start=0, length=up, here=self.peak, there=self.start)
        fall = partial(self._move, start=up, length=last - up, here=low, there=self.peak)
        out = partial(self._move, start=last, length=tail, here=self.end, there=self.start)
        return by_pieces(time, [up, last], [move, fall, out])  # type: ignore[return-value]

    def _move(self, time: Time, start: int, length: int, here: float, there: float) -> Value:
        """Return the way from `there` to `here`; at once if it has no length."""
        if length == 0:
            return like(time, np.asarray(here, np.float64))
        scale = number_at(self.shape, since(time, start).within(length), "OneCycle.shape")
        return here + (there - here) * scale
