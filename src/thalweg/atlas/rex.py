"""REX: a decay that stays above the straight line and falls late serves small budgets best."""

from collections.abc import Mapping

import numpy as np

from thalweg.atlas.race import race, rates
from thalweg.atlas.verdict import at_most, every, lower
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.protocols import Schedule
from thalweg.core.time import Span, share
from thalweg.schedules import Constant, Cosine, Exponential, Linear, OneCycle, Rex, Staircase
from thalweg.schedules.clock import Value

__all__ = ["claim"]

BUDGETS = (40, 200, 1000)
"""Updates: 4 %, 20 % and all of a full run (the paper has 1, 5, 10, 25, 50 and 100 %)."""
GRID: Mapping[str, tuple[float, ...]] = {
    "adam": (3e-3, 1e-2, 3e-2, 1e-1),
    "sgd": (0.1, 0.3, 1.0, 3.0),
}
"""Peaks that every schedule may choose from, by optimizer."""
THIRDS: tuple[Span, ...] = (share(0.3), share(0.6), share(0.9))


def profile(peak: float) -> dict[str, Schedule[Value]]:
    """Return the schedules of the paper at one peak."""
    return {
        "rex": Rex(peak),
        "linear": Linear(peak, 0.0),
        "cosine": Cosine(peak),
        "steps": Staircase((peak, 0.1 * peak, 1e-2 * peak, 1e-3 * peak), at=THIRDS),
        "exponential": Exponential(peak, 0.01 * peak),
        "one-cycle": OneCycle(peak, start=0.1 * peak, end=0.001 * peak),
        "constant": Constant(peak),
    }


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm an optimizer: the loss of every schedule at its best peak, a budget."""
    budgets = size.pick(tiny=(3, 5, 7), small=BUDGETS)

    def best(optimizer: str, seed: int) -> dict[str, float]:
        found: dict[str, float] = {}
        for place, steps in enumerate(budgets):
            made = [profile(peak) for peak in GRID[optimizer]]
            flat = [one for schedules in made for one in schedules.values()]
            run = race(rates(flat, steps), seed, optimizer="sgd" if optimizer == "sgd" else "adam")
            losses = run.final.reshape(len(made), -1).min(axis=0)
            found |= {f"{name}@{place}": float(x) for name, x in zip(made[0], losses, strict=True)}
        return found

    return {"adam": lambda seed: best("adam", seed), "sgd": lambda seed: best("sgd", seed)}


def judge(results: Results) -> Verdict:
    """REX against linear at both small budgets; against the best of the others at the full one."""
    parts = []
    for arm in results.arms:
        for place in (0, 1):
            a, b = (results.of(arm, f"{name}@{place}") for name in ("rex", "linear"))
            what = f"{arm}, {BUDGETS[place]} updates: REX minus linear, nats per token"
            parts.append(lower(a, b, what))
        others = [results.of(arm, f"{name}@2") for name in profile(1.0) if name != "rex"]
        gap = results.of(arm, "rex@2") - np.min(others, axis=0)
        parts.append(at_most(gap, 0.01, f"{arm}, full: REX minus best other, nats per token"))
    return every(*parts)


claim = Claim(
    paper="arXiv:2107.04197",
    statement="At small budgets REX ends no higher than linear; at the full one within 0.01 nats "
    "of the best schedule",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="A trigram network on synthetic text instead of ResNets, VAEs and BERT; budgets of "
    "4, 20 and 100 %; every schedule at the best of four peaks, chosen on the same held-out text.",
    note="Peaks are a factor of 3 apart, and REX, whose mean rate is higher, may fall between two.",
)
