"""Six toy corpora for three target languages, a hundredfold apart in size; shared by entries.

Two corpora are in a target language, three in one of whose contexts a part goes on differently,
one is in none. A corpus has a size, so a mixture repeats it when it asks for more.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from thalweg.atlas.excerpt import Excerpt
from thalweg.atlas.kit import Markov
from thalweg.atlas.race import held_out, race, rates
from thalweg.core.protocols import Source
from thalweg.data import Mixture
from thalweg.data.weights import relative_utility
from thalweg.schedules import Constant

__all__ = ["CORPORA", "ROWS", "TARGETS", "corpora", "losses_of", "mixed_losses", "pilot_utility"]

RATE, ROWS = 3e-3, 4
TARGETS = {"law": Markov(key=0), "code": Markov(key=1), "talk": Markov(key=2)}
CORPORA = {
    "web": (Markov(key=0, shift=0.5), 8000),
    "crawl": (Markov(key=3), 4000),
    "forum": (Markov(key=1, shift=0.5), 2000),
    "notes": (Markov(key=2, shift=0.2), 800),
    "books": (TARGETS["law"], 240),
    "manual": (TARGETS["code"], 80),
}
"""Language and windows of each."""


def corpora(share: float = 1.0) -> dict[str, Excerpt]:
    """Return the corpora, each cut to a share of its windows."""
    return {
        name: Excerpt(text, max(1, round(share * windows)), name=name)
        for name, (text, windows) in CORPORA.items()
    }


def losses_of(texts: Sequence[Source], updates: int, seed: int) -> list[dict[str, float]]:
    """Train one trigram network on each text; return its loss on each target, nats per token."""
    table = rates([Constant(RATE)] * len(texts), updates)
    end = race(table, seed, rows=ROWS, text=texts).end
    found = {name: held_out(end, target) for name, target in TARGETS.items()}
    return [{name: float(losses[k]) for name, losses in found.items()} for k in range(len(texts))]


def pilot_utility(
    sources: Mapping[str, Excerpt], updates: int, seed: int
) -> dict[str, dict[str, float]]:
    """Return the utility of each corpus for each target, from a short run on it alone."""
    losses = losses_of(list(sources.values()), updates, seed)
    return relative_utility(dict(zip(sources, losses, strict=True)))


def mixed_losses(
    sources: Mapping[str, Excerpt],
    weights: Mapping[str, Mapping[str, float]],
    updates: int,
    seed: int,
) -> dict[str, float]:
    """Return the mean loss over the targets after training on each of several mixtures.

    Args:
        sources: The corpora.
        weights: Name of a mixture -> source -> weight.
        updates: Of each run.
        seed: Of first weights and batches.
    """
    texts = [Mixture(dict(sources), dict(part)) for part in weights.values()]
    losses = losses_of(texts, updates, seed)
    return {
        name: float(np.mean([*each.values()])) for name, each in zip(weights, losses, strict=True)
    }
