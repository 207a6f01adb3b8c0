"""The cheapest runs that determine a law: a trunk at a constant rate, and a decay that leaves it.

One smooth decay cannot tell progress from annealing. The decay is the plan's own, compressed: laws
carry over to longer runs of the same shape (124M, 15k steps to 50k: .003 to .01 nats) and not from
short decays to cosines (.03 to .05). And it comes late: while the loss still falls fast a decay
costs more than it gives, so one from the first steps misleads. Both stand in docs/log.md.

A branch costs its own steps only. Where the plan holds its rate, the trunk is the plan's own
beginning.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import RecipeError

__all__ = ["Pilot", "decay_share", "propose", "warmup_of"]

Floats = NDArray[np.float64]

SHARE, LEAST_SHARE = 0.3, 0.1
"""Of the planned steps, for the trunk of a short run and of a long one."""
ENOUGH = 1500
"""Steps of a trunk that determine a law, where they are between these shares."""
LEAST = 60
"""Steps of a trunk after the warm-up below which nothing is learned."""
DEAREST = 0.6
"""Most steps of the decay, over those of the trunk."""
USUAL = 0.2
"""Share of the decay where the plan has none."""
KNOTS = 65


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """A short run that a law is fitted on."""

    number: int
    """From 1: the trunk."""
    what: str
    """For people."""
    steps: int
    """Length of the run."""
    at: int = 0
    """Step at which it leaves the trunk; 0: it is the trunk."""
    shape: tuple[float, ...] = ()
    """Of the decay, as shares of the peak at even distances."""

    @property
    def new_steps(self) -> int:
        """Steps that are not the trunk's."""
        return self.steps - self.at


def propose(lr: Floats) -> tuple[Pilot, ...]:
    """Return the pilots for a run: a trunk, and the run's own decay in short.

    Args:
        lr: [T] rate of every update of the planned run.

    Raises:
        RecipeError: The run is too short for pilots to be cheaper.

    Example:
        >>> from thalweg.laws import cosine, warmup_hold_decay
        >>> wsd = warmup_hold_decay(1000, peak=1e-3, warmup=20, decay=200)
        >>> [(p.steps, p.new_steps) for p in propose(wsd)]
        [(300, 300), (375, 75)]
        >>> [(p.steps, p.new_steps) for p in propose(cosine(1000, peak=1e-3, warmup=20))]
        [(300, 300), (200, 180)]
    """
    warmup, share = warmup_of(lr), decay_share(lr)
    trunk = max(round(LEAST_SHARE * lr.size), min(round(SHARE * lr.size), ENOUGH), 2 * warmup)
    if trunk < LEAST + warmup or trunk > 0.5 * lr.size:
        raise RecipeError(
            f"a run of {lr.size} steps, {warmup} of them warm-up",
            expected=f"at least {round((LEAST + warmup) / SHARE)} steps, and a warm-up of a "
            "quarter at most; else the run itself is the cheapest pilot",
            where="thalweg plan --pilot",
            write="thalweg train RECIPE",
        )
    tail = lr[lr.size - round(share * lr.size) :] / lr.max()
    if share < LEAST_SHARE / 2:  # no decay to speak of: the usual one
        share, tail = USUAL, 1 - np.sqrt(np.linspace(0, 1, KNOTS))
    whole = min(trunk / (1 - share) if share < 1 else np.inf, DEAREST * trunk / share)
    fall = max(round(share * whole), 1)
    shape = np.interp(np.linspace(0, tail.size - 1, KNOTS), np.arange(tail.size), tail)
    leave = min(max(round(whole) - fall, warmup, 1), trunk)  # both may be rounded up
    return (
        Pilot(number=1, what="the rate held after the warm-up", steps=trunk),
        Pilot(
            number=2,
            what=f"the plan's decay in {fall} steps",
            steps=leave + fall,
            at=leave,
            shape=tuple(shape.round(6).tolist()),
        ),
    )


def warmup_of(lr: Floats) -> int:
    """Return the steps of the rise: the last of them has the peak, as in `schedules.Wsd`.

    Example:
        >>> warmup_of(np.array([0.5, 1.0, 1.0, 0.2])), warmup_of(np.array([1.0, 0.5]))
        (2, 0)
    """
    first = int(np.argmax(lr >= lr.max() * (1 - 1e-9)))
    return first + 1 if first else 0


def decay_share(lr: Floats) -> float:
    """Return the share of a run after it last stood at its peak; 0 if it ends there.

    Example:
        >>> decay_share(np.array([0.5, 1.0, 1.0, 0.2]))
        0.25
    """
    last = lr.size - 1 - int(np.argmax(lr[::-1] >= lr.max() * (1 - 1e-9)))
    return 1 - (last + 1) / lr.size
