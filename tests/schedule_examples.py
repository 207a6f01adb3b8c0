"""One example of every public schedule: for the battery, and for the pictures of the docs."""

import math
from dataclasses import dataclass

import thalweg.schedules as room
from thalweg.core.protocols import Schedule
from thalweg.core.time import Time, share, steps, tokens

END = 200
"""Steps of the phase that the examples are made for; each has `BATCH_TOKENS` tokens."""
BATCH_TOKENS = 10


def halves(time: Time) -> float:
    """Return 1 in the first half and 0.5 in the second: a plain function with an `if`."""
    return 1.0 if time.step < END // 2 else 0.5


@dataclass(frozen=True)
class Example:
    """A schedule, and what it promises."""

    schedule: Schedule
    holds: bool = True
    """Its last value holds after the phase."""
    smooth: bool = True
    """It never jumps: each of many steps is small beside its whole range."""


EXAMPLES = [
    Example(room.Constant(0.3)),
    Example(room.Linear(1.0, 0.1)),
    Example(room.Cosine(3e-4, over=share(0.5))),
    Example(room.Polynomial(1.0, 0.2, power=1.7, over=steps(150))),
    Example(room.Exponential(1.0, 1e-3, over=tokens(1500))),
    Example(room.OneMinusSqrt(1.0)),
    Example(room.InverseSqrt(1.0, scale=steps(20)), holds=False),
    Example(room.Staircase((1.0, 0.3, 0.1), at=(share(0.5), steps(150))), smooth=False),
    Example(room.Blend({"web": 0.9, "code": 0.1}, {"web": 0.2, "code": 0.8})),
    Example(room.Rex(1.0)),
    Example(room.Inverse(1.0, 0.1)),
    Example(room.InverseSqrtDecay(1.0, 0.1, alpha=9.0)),
    Example(room.Then(room.Linear(1.0, 0.5), room.Cosine(0.5), after=share(0.3))),
    Example(room.Times(room.Cosine(1.0), room.Linear(1.0, 0.5))),
    Example(room.Least(room.Linear(0.0, 1.0), room.Linear(1.0, 0.0))),
    Example(room.Repeat(room.Cosine(1.0), every=steps(40)), holds=False, smooth=False),
    Example(room.Sampled(room.Rex(1.0), every=steps(20)), smooth=False),
    Example(room.By(halves), smooth=False),
    Example(room.Warmup(room.Cosine(1.0), over=steps(40))),
    Example(room.Wsd(2e-3, warmup=steps(40), decay=share(0.25), floor=1e-4)),
    Example(
        room.WsdS(1e-3, (share(0.25), share(0.5), share(1.0)), share(0.2), warmup=steps(10)),
        smooth=False,
    ),
    Example(room.Wsdc(1e-3, 1e-4, share(0.5), share(0.25), warmup=steps(20))),
    Example(
        room.Infinite(3e-4, 1.65e-4, 3e-5, steps(60), steps(30), warmup=steps(20), at=share(0.85))
    ),
    Example(room.Power(0.4, rows=2, warmup=steps(10), decay=share(0.15))),
    Example(room.Rewarm(3e-4, 3e-5, (share(0.5), share(0.5)), warmup=steps(10))),
    Example(room.Cyclic(0.1, 1.0, half=steps(25), fade=0.5), holds=False),
    Example(room.OneCycle(1.0, 0.1, 0.001)),
    Example(room.Table(tuple(math.sin(0.3 * i) for i in range(11)))),
]

NORMS = tuple(1.0 + 4.0 * math.exp(-i / 8) + i / 150 for i in range(150))
"""Gradient norms as of a run: large at first, then slowly rising."""

MADE = {"stable_then_decay": room.stable_then_decay(2e-5), "refine": room.refine(NORMS)}
"""What the functions of the room return."""
