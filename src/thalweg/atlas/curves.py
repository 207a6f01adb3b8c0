"""Loss curves for entries about laws: the package holds no data, so they train their own.

Six runs of one model at one peak that differ in nothing but their schedules. Three are to fit on
(constant, cosine, two steps), three to predict (warmup-hold-decay, linear, a cosine twice as long).
"""

from collections.abc import Mapping

import numpy as np

from thalweg.atlas.race import race
from thalweg.core.claim import Size
from thalweg.laws import Curve, Origin, cosine, warmup_hold_decay

__all__ = ["FIT", "HELD_OUT", "PEAK", "law_curves", "law_rates"]

FIT = ("constant", "cosine", "two-step")
HELD_OUT = ("wsd", "linear", "long cosine")
PEAK = 1e-2
"""Of Adam; in the middle of the grid of the entry `rex`."""


def law_rates(steps: int) -> Mapping[str, np.ndarray]:
    """Return the rates of every schedule; all warm up over 5 % of `steps`.

    Args:
        steps: Updates of all but the long cosine, which has twice as many.
    """
    warmup = steps // 20
    hold = warmup_hold_decay(steps, peak=PEAK, warmup=warmup)
    fall = np.where(np.arange(steps) < steps // 2, 1.0, 0.3)
    return {
        "constant": hold,
        "cosine": cosine(steps, peak=PEAK, warmup=warmup),
        "two-step": hold * fall,
        "wsd": warmup_hold_decay(steps, peak=PEAK, warmup=warmup, decay=steps // 5),
        "linear": warmup_hold_decay(steps, peak=PEAK, warmup=warmup, decay=steps - warmup),
        "long cosine": cosine(2 * steps, peak=PEAK, warmup=warmup),
    }


def law_curves(size: Size, seed: int) -> dict[str, Curve]:
    """Train every schedule and return its curve of held-out loss, from twice the warmup on.

    Args:
        size: 60 updates, or 2,000.
        seed: Of weights and batches, the same for all six.
    """
    steps = size.pick(tiny=60, small=2000)
    named = law_rates(steps)
    longest = max(rates.size for rates in named.values())
    table = np.stack([np.pad(rates, (0, longest - rates.size)) for rates in named.values()])
    every = steps // size.pick(tiny=15, small=100)
    found = race(table, seed, measure=range(steps // 10, longest, every))
    curves = {}
    for (name, rates), loss in zip(named.items(), found.heldout, strict=True):
        own = found.steps <= rates.size
        curves[name] = Curve(
            name=name,
            steps=found.steps[own] - 1,
            loss=loss[own],
            lr=rates,
            origin=Origin(optimizer="Adam", dataset="markov"),
        )
    return curves
