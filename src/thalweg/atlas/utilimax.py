"""Mixtures from sizes, a cap on epochs, and what each source was worth in a pilot run."""

import numpy as np

from thalweg.atlas.corpora import ROWS, corpora, mixed_losses, pilot_utility
from thalweg.atlas.verdict import every, lower
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.data.weights import temperature, unimax, utilimax

__all__ = ["claim"]

EPOCHS = 4.0
REGIMES = {"compute": 1.0, "data": 0.125}
"""Share of the corpora that there is: four times what a run reads, or half of it."""
PILOT = 0.1
"""Length of a pilot run on one source, of the run's own."""


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm: every rule in both regimes."""
    updates = size.pick(tiny=8, small=1000)

    def rules(seed: int) -> dict[str, float]:
        found: dict[str, float] = {}
        for regime, share in REGIMES.items():
            sources = corpora(share * updates / 1000)
            sizes = {name: float(one.count) for name, one in sources.items()}
            budget = float(updates * ROWS)
            utility = pilot_utility(sources, max(2, round(PILOT * updates)), seed)
            weights = {
                "uniform": dict.fromkeys(sizes, 1.0),
                "proportional": temperature(sizes),
                "unimax": unimax(sizes, budget, EPOCHS),
                "utilimax": utilimax(utility, sizes, budget, EPOCHS),
                "utilimax, risk 1": utilimax(utility, sizes, budget, EPOCHS, risk=1.0),
            }
            losses = mixed_losses(sources, weights, updates, seed)
            found |= {f"{regime}: {rule}": loss for rule, loss in losses.items()}
        return found

    return {"rules": rules}


def judge(results: Results) -> Verdict:
    """UniMax is the worst in neither regime; UtiliMax is better still, in both."""
    parts = []
    for regime in REGIMES:
        of = {
            rule: results.of("rules", f"{regime}: {rule}")
            for rule in ("uniform", "proportional", "unimax", "utilimax")
        }
        worst = np.maximum(of["uniform"], of["proportional"])
        parts += [
            lower(of["unimax"], worst,
                  f"{regime} is scarce: UniMax minus the worse of uniform and proportional, nats"),
            lower(of["utilimax"], of["unimax"], f"{regime} is scarce: UtiliMax minus UniMax, nats"),
        ]  # fmt: skip
    return every(*parts)


claim = Claim(
    paper="arXiv:2501.11747",
    statement="Whether compute or data are scarce, UniMax is never the worst of uniform, "
    "proportional and itself, and UtiliMax with utilities of short pilot runs is better than it",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="A trigram network and six synthetic corpora, sizes 100-fold apart, for three "
    "target languages; losses instead of benchmark scores. The constant of the risk is the number "
    "of sources, as in a public implementation: the paper's is not known here.",
    note="Where data are scarce the caps leave little to choose. Even there uniform weights with "
    "no cap have the lowest loss: a trigram network does not mind 67 passes over ten windows. The "
    "arm also has UtiliMax at a risk of 1, which is better than at the default in both.",
)
