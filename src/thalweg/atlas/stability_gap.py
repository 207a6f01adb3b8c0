"""The stability gap: even with replay a model first forgets, and then regains, what it knew."""

import numpy as np

from thalweg.atlas.kit import Markov
from thalweg.atlas.race import held_out, race, rates
from thalweg.atlas.verdict import at_least, at_most, every, higher
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.protocols import Source
from thalweg.data import Mixture
from thalweg.laws.forgetting import gap, windowed_forgetting
from thalweg.schedules import Constant

__all__ = ["claim"]

RATE = 3e-3
OLD = Markov()
NEW = {"tenth": Markov(shift=0.1), "half": Markov(shift=0.5), "all": Markov(key=1)}
"""By the share of contexts that go on differently; the last is another language."""
REPLAY = (0.0, 0.25, 0.5)
"""Shares of old rows in every batch."""
EARLY = 0.05
"""Share of the steps within which the worst must come."""
DEPTH = 0.05
"""Nats per token that the worst must lie above the end, half of the rows being old."""


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm: every new language with every share of replay, and the old one alone."""
    first, length = size.pick(tiny=(6, 6), small=(1000, 500))
    texts: dict[str, Source] = {"control": OLD}
    for name, new in NEW.items():
        for old in REPLAY:
            mixed = Mixture({"new": new, "old": OLD}, {"new": 1 - old, "old": old})
            texts[f"{name}, replay {old}"] = mixed if old else new
    dense = [*range(1, min(length, 60)), *range(60, length, 20)]

    def curves(seed: int) -> dict[str, float]:
        start = race(rates([Constant(RATE)], first), seed, text=OLD).end
        before = float(held_out(start, OLD)[0])
        table = rates([Constant(RATE)] * len(texts), length)
        runs = race(table, seed, text=[*texts.values()], on=OLD, measure=dense,
                    start=start.pick([0] * len(texts)))  # fmt: skip
        found = {"before": before}
        for name, losses in zip(texts, runs.heldout, strict=True):
            one = gap(runs.steps, losses, before)
            fall = windowed_forgetting([-before, *-losses[: len(dense)]], 10)
            found |= {f"{name}: depth": one.depth, f"{name}: hidden": one.hidden,
                      f"{name}: worst at": one.worst_step / length,
                      f"{name}: forgotten": one.forgotten, f"{name}: wf10": fall}  # fmt: skip
        return found

    return {"curves": curves}


def judge(results: Results) -> Verdict:
    """Half replay: a worst above the end, early, above the control's, deeper the less is shared."""

    def of(name: str, part: str) -> np.ndarray:
        return results.of("curves", f"{name}: {part}")

    depth = {name: of(f"{name}, replay 0.5", "depth") for name in NEW}
    hidden = of("all, replay 0.5", "hidden")
    return every(
        at_least(hidden, DEPTH, "another language, half replay: worst minus end, nats per token"),
        at_most(of("all, replay 0.5", "worst at"), EARLY, "where the worst is, share of the steps"),
        higher(hidden, of("control", "hidden"), "worst minus end, above that of no new text, nats"),
        higher(depth["all"], depth["half"], "depth, another language minus half shared, nats"),
        higher(depth["half"], depth["tenth"], "depth, half shared minus nine tenths, nats"),
    )


claim = Claim(
    paper="arXiv:2205.13452",
    statement="With half of the rows replayed the loss on old text rises within the first 5 % of "
    "the steps to at least .05 nats above where it ends, and the more the less the texts share",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="A trigram network with Adam at a constant rate, moments kept, and synthetic "
    "languages, instead of ResNets on image classes; losses in nats instead of accuracies.",
    note="The loss on old text rises over a fifth of the steps and stays: forgetting, without the "
    "quick fall and recovery. Decoders that start with fresh moments, as the paper's networks do, "
    "are not tested here. The arm also has replay of 0 and 25 %.",
)
