"""Rewarming: on new data the rate has to rise again; for how long it rises hardly matters."""

import numpy as np

from thalweg.atlas.kit import Markov
from thalweg.atlas.race import held_out, race, rates
from thalweg.atlas.verdict import at_least, every, higher, lower
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.time import share
from thalweg.schedules import Constant, Cosine, Rewarm

__all__ = ["claim"]

PEAK = 1e-2
"""Of pretraining, which ends at a tenth of it."""
OLD, NEW = Markov(), Markov(shift=0.3)
WARMUPS = (0.0, 0.005, 0.01, 0.02, 0.05)
SCALES = (0.5, 1.0, 2.0)
"""Peaks after rewarming, in those of pretraining."""
BUMP = 0.02
"""Nats by which the loss on the old text must rise for a moment when nothing but the rate does."""


def again(scale: float, warmup: float) -> Rewarm:
    """Return the rate of a second stage: up from where pretraining ended, and down again."""
    peak = scale * PEAK
    return Rewarm(peak, 0.1 * peak, warmup=share(warmup), start=0.1 * PEAK)


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm: pretraining, fifteen ways to go on, one that does not rise, the controls."""
    length = size.pick(tiny=12, small=800)
    grid = [(scale, warmup) for scale in SCALES for warmup in WARMUPS]
    names = [f"{scale}x, {warmup:.1%}" for scale, warmup in grid]

    def stages(seed: int) -> dict[str, float]:
        pretrained = race(rates([Cosine(PEAK, 0.1 * PEAK)], length), seed, on=OLD)
        ways = [*(again(*way) for way in grid), Constant(0.1 * PEAK)]
        start = pretrained.end.pick([0] * len(ways))
        new = race(rates(ways, length), seed, text=NEW, on=NEW, start=start)
        old = held_out(new.end, OLD)
        moments = range(0, length, max(length // 40, 1))
        same = race(
            rates([again(1.0, 0.01)], length),
            seed,
            text=OLD,
            on=OLD,
            measure=moments,
            start=pretrained.end,
        ).heldout[0]
        scratch = race(rates([Cosine(PEAK, 0.1 * PEAK)], length), seed, text=NEW, on=NEW).final
        found = {"scratch": float(scratch[0]), "constant": float(new.final[-1])}
        found |= {f"new, {n}": float(x) for n, x in zip(names, new.final, strict=False)}
        found |= {f"old, {n}": float(x) for n, x in zip(names, old, strict=False)}
        return {**found, "bump": float(same.max() - same[0]), "end": float(same[-1] - same[0])}

    return {"stages": stages}


def judge(results: Results) -> Verdict:
    """What the warmup's length, the peak, and rewarming itself are worth."""
    of = {(part, s, w): results.of("stages", f"{part}, {s}x, {w:.1%}")
          for part in ("old", "new") for s in SCALES for w in WARMUPS}  # fmt: skip
    lengths = np.ptp([of["new", 1.0, w] for w in WARMUPS], axis=0)
    peaks = np.ptp([of["new", s, 0.01] for s in SCALES], axis=0)
    rise = np.diff([of["old", s, 0.01] for s in SCALES], axis=0).min(axis=0)
    ours = of["new", 1.0, 0.01]
    return every(
        lower(lengths, peaks, "spread over lengths of warmup minus over peaks, nats"),
        at_least(results.of("stages", "bump"), BUMP, "rise on the same text after rewarming, nats"),
        lower(ours, results.of("stages", "constant"), "rewarmed minus kept low, new text, nats"),
        lower(ours, results.of("stages", "scratch"), "rewarmed minus from scratch, new, nats"),
        higher(rise, np.zeros_like(rise), "old text: least rise by doubling the peak, nats"),
    )


claim = Claim(
    paper="arXiv:2308.04014",
    statement="On new data a rate that rises again ends lower than one kept low and than training "
    "from scratch; the length of the rise matters less than its height, which costs old text; "
    "and the rise alone lifts the loss for a moment",
    arms=arms,
    judge=judge,
    seeds=4,
    deviations="A trigram network with Adam, 800 + 800 updates, 30 % of contexts changed, instead "
    "of Pythia 410M from the Pile to SlimPajama; Adam's moments are kept; one checkpoint to start "
    "from.",
)
