"""Going on in a new domain: several passes over a clean subset, with the old kinds of text kept."""

import numpy as np

from thalweg.atlas.excerpt import Excerpt
from thalweg.atlas.kit import Markov
from thalweg.atlas.race import held_out, race, rates
from thalweg.atlas.verdict import every, higher, lower
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.protocols import Source
from thalweg.data import Mixture
from thalweg.laws.forgetting import gap
from thalweg.schedules import Constant

__all__ = ["claim"]

RATE, ROWS = 3e-3, 4
"""Constant, so that no change of the rate looks like a gap."""
OLD, DOMAIN = Markov(), Markov(key=1)
CLEAN, REPLAY = 0.2, 0.3
"""Share of the domain's windows without noise, which is the size of a subset too; of old rows."""


def texts(windows: int) -> dict[str, Source]:
    """Return what each arm reads, at equal tokens: one pass over `windows`, or five over a fifth.

    The clean windows stand first; a noisy one has half of its tokens replaced.
    """
    part = round(CLEAN * windows)
    clean = Excerpt(DOMAIN, part, name="domain")
    kept = Mixture({"domain": clean, "old": OLD}, {"domain": 1 - REPLAY, "old": REPLAY})
    return {
        "full": Excerpt(DOMAIN, windows, noisy=1 - CLEAN, name="domain"),
        "subset": Excerpt(DOMAIN, part, noisy=1 - CLEAN, name="domain"),
        "clean": clean,
        "clean, replay": kept,
    }


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm: all ways to go on, side by side from one model of the old text."""
    first, length = size.pick(tiny=(6, 10), small=(1000, 600))
    read = texts(length * ROWS)
    dense = [*range(1, min(length, 40)), *range(40, length, 20)]

    def ways(seed: int) -> dict[str, float]:
        start = race(rates([Constant(RATE)], first), seed, rows=ROWS, text=OLD).end
        before = float(held_out(start, OLD)[0])
        runs = race(rates([Constant(RATE)] * len(read), length), seed, rows=ROWS, measure=dense,
                    text=[*read.values()], on=OLD, start=start.pick([0] * len(read)))  # fmt: skip
        learned = held_out(runs.end, DOMAIN)
        found = {"before": before}
        for name, new, losses in zip(read, learned, runs.heldout, strict=True):
            one = gap(runs.steps, losses, before)
            found |= {f"{name}: domain": float(new), f"{name}: old": one.after,
                      f"{name}: depth": one.depth}  # fmt: skip
        return found

    return {"ways": ways}


def judge(results: Results) -> Verdict:
    """Passes cost nothing, quality gains, replay costs little and keeps the old; a lesser gap."""

    def of(name: str, part: str) -> np.ndarray:
        return results.of("ways", f"{name}: {part}")

    kept = "clean, replay"
    return every(
        lower(of("subset", "domain"), of("full", "domain"),
              "domain: 5 passes over a fifth minus 1 over all, nats per token", by=-0.02),
        lower(of("clean", "domain"), of("subset", "domain"),
              "domain: cleanest fifth minus random fifth, nats per token"),
        lower(of(kept, "domain"), of("full", "domain"),
              "domain: all three strategies minus 1 pass over all, nats per token"),
        higher(of("full", "old") - before(results), 2 * (of(kept, "old") - before(results)),
               "old: forgotten by 1 pass over all, minus twice that of all three, nats"),
        lower(of(kept, "depth"), of("clean", "depth"), "depth of the gap, replay minus none, nats"),
    )  # fmt: skip


def before(results: Results) -> np.ndarray:
    """Return the loss on old text before the domain came."""
    return results.of("ways", "before")


claim = Claim(
    paper="arXiv:2406.14833",
    statement="At equal tokens 5 passes over a fifth are as good as one over all (.02 nats), the "
    "cleanest fifth is better, and with 30 % of old text it still beats one pass over all while "
    "less than half as much is forgotten",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="A trigram network on synthetic languages, at a constant rate, instead of 3B and 8B "
    "models on medical text; quality is known, a fifth of the text is free of noise, not read off "
    "the perplexity of another model; the old text replaces the base model's own mixture.",
)
