"""Runs made of a stable piece and decays: as one schedule, as phases, or as forks of a trunk.

Three ways to the same targets. As phases (`legs`), each piece can have its own data and every
decay is built upon. As forks (`forks`), the trunk never decays, and each target gets a branch of
its own from the weights before: ``thalweg branch trunk --at STEP --decay STEPS``.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from thalweg.core.protocols import Schedule
from thalweg.core.time import Span, Time
from thalweg.errors import DialError
from thalweg.schedules.algebra import Times
from thalweg.schedules.clock import check_number, check_span
from thalweg.schedules.cycles import WsdS
from thalweg.schedules.families import Warmup, Wsd
from thalweg.schedules.shapes import Constant, Cosine

__all__ = ["Leg", "TrunkFork", "forks", "legs", "stable_then_decay"]


class Leg(NamedTuple):
    """A piece of a run: what a phase of its own would have."""

    name: str
    """``stable1``, ``decay1``, ``stable2`` ..."""
    steps: int
    """Length."""
    rate: Schedule[Any]
    """The learning rate on the clock of the piece."""


class TrunkFork(NamedTuple):
    """A decay that leaves a trunk; the trunk goes on from the weights before it."""

    step: int
    """Step of the trunk at which the decay starts."""
    steps: int
    """Length of the decay."""


def legs(schedule: WsdS, time: Time) -> tuple[Leg, ...]:
    """Return a WSD-S run as phases: stable, decay, stable, decay ...

    Args:
        schedule: The run as one schedule.
        time: The clock of the whole run, for lengths in shares or tokens.

    Raises:
        DialError: The schedule does not fit this clock.

    Example:
        >>> from thalweg.core.time import steps
        >>> run = WsdS(1.0, targets=(steps(100), steps(300)))
        >>> [(leg.name, leg.steps) for leg in legs(run, Time())]
        [('stable1', 90), ('decay1', 10), ('stable2', 180), ('decay2', 20)]
    """
    found = []
    for number, (start, begin, end) in enumerate(schedule.cycles(time), 1):
        peak: Schedule[Any] = Constant(schedule.peak)
        if start == 0 and schedule.warmup.of(time) > 0:
            peak = Warmup(peak, over=Span(schedule.warmup.of(time), "steps"))
        found.append(Leg(f"stable{number}", begin - start, peak))
        found.append(Leg(f"decay{number}", end - begin, Times(schedule.shape, schedule.peak)))
    return tuple(found)


def forks(targets: Sequence[int], *, decay: float = 0.1) -> tuple[TrunkFork, ...]:
    """Return where decays must leave a stable trunk to end at the targets (plain WSD).

    Each decay takes `decay` of its target's length. Its steps are paid on top of the trunk's.

    Args:
        targets: Steps of the run at which a decay shall end, rising.
        decay: Share of each target that is decay, above 0 and at most 1.

    Raises:
        DialError: Targets that do not rise, or a decay that rounds to no step.

    Source: arXiv:2405.18392.

    Example:
        >>> forks((1000, 2000), decay=0.2)
        (TrunkFork(step=800, steps=200), TrunkFork(step=1600, steps=400))
    """
    check_number("forks", "decay", decay, above=0.0, high=1.0)
    lengths = [round(decay * target) for target in targets]
    rising = all(a < b for a, b in pairwise([0, *targets]))
    if not rising or not lengths or min(lengths) < 1:
        raise DialError(
            f"targets {list(targets)} with decays of {lengths} steps",
            expected="rising targets, each with a decay of at least one step",
            where="forks",
            write="forks((1000, 2000, 4000), decay=0.1)",
        )
    pairs = zip(targets, lengths, strict=True)
    return tuple(TrunkFork(target - length, length) for target, length in pairs)


def stable_then_decay(rate: float, *, decay: Span = Span(1 / 11, "share"), end: float = 0.1) -> Wsd:
    """Return a rate that is held, then decays along a cosine; no warmup (mid-training).

    rate; then, over the last `decay`, rate (end + (1 - end) (1 + cos(pi u)) / 2). It continues a
    base model: take the rate that the base ended with, or one from the middle of its run. For
    several decays with different data from one trunk, give the trunk ``decay=steps(0)`` and
    branch.

    Args:
        rate: The rate of the stable stage.
        decay: Length of the decay; the default is the paper's 20B of 220B tokens.
        end: Last rate as a share of `rate`, 0 to 1.

    Raises:
        DialError: A number is out of range.

    Source: arXiv:2506.20512. The share of the last rate is our reading, not printed there.

    Example:
        >>> s = stable_then_decay(2e-5)
        >>> [float(f"{s(Time(step, steps=220)):.3g}") for step in (0, 200, 210, 220)]
        [2e-05, 2e-05, 1.1e-05, 2e-06]
    """
    check_number("stable_then_decay", "rate", rate, above=0.0)
    check_number("stable_then_decay", "end", end, low=0.0, high=1.0)
    check_span("stable_then_decay", "decay", decay)
    return Wsd(rate, decay=decay, shape=Cosine(1.0), floor=rate * end)
