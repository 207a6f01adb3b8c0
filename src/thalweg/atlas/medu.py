"""Utilities from ratings of a few documents do what utilities from pilot runs do."""

import tempfile
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from thalweg.atlas.corpora import CORPORA, ROWS, TARGETS, corpora, mixed_losses, pilot_utility
from thalweg.atlas.kit import Markov
from thalweg.atlas.verdict import at_least, at_most, every, lower
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.rng import rng
from thalweg.data.medu import medu
from thalweg.data.weights import unimax, utilimax

__all__ = ["claim"]

EPOCHS, PILOT = 4.0, 0.1
EXAMPLES, RATED = 64, 32
"""Development examples of each target; documents of each corpus that are rated."""
LEVELS = ("Useless", "Poor", "Okay", "Good", "Great")
DESCRIBE, RATE = "describe\n{examples}", "rate\n{description}\nthe text:\n{document}"


def written(text: Markov, windows: list[int]) -> list[str]:
    """Return windows of a text as words."""
    rows = text.windows(np.array(windows))
    return [" ".join(f"w{token}" for token in row) for row in rows.tolist()]


def rater(prompt: str) -> str:
    """Answer as a language model would: describe by the examples, rate by pairs of words in common.

    Five levels, evenly from what the examples' words in a random order have in common with them to
    what an example has with the others.
    """
    what, _, rest = prompt.partition("\n")
    if what == "describe":
        return rest
    wanted, _, document = rest.partition("\nthe text:\n")
    seen, least, most = yardstick(wanted)
    place = (_known(document.split(), seen, 1) - least) / (most - least)
    return LEVELS[int(np.clip(round(4 * place), 0, 4))]


@lru_cache(maxsize=8)
def yardstick(wanted: str) -> tuple[Counter[tuple[str, str]], float, float]:
    """Return the pairs of examples, in how many each is; and the shares of the two ends."""
    examples = [line.split() for line in wanted.splitlines() if line]
    seen = Counter(pair for line in examples for pair in set(_pairs(line)))
    draw = rng(0, "medu", "mixed")
    mixed = [draw.permutation(line).tolist() for line in examples]
    least = float(np.mean([_known(line, seen, 1) for line in mixed]))
    return seen, least, float(np.mean([_known(line, seen, 2) for line in examples]))


def _pairs(line: list[str]) -> list[tuple[str, str]]:
    return list(pairwise(line))


def _known(line: list[str], seen: Counter[tuple[str, str]], times: int) -> float:
    return float(np.mean([seen[pair] >= times for pair in _pairs(line)]))


def rated(examples: int, documents: int) -> dict[str, dict[str, float]]:
    """Return the utility of each corpus for each target, by `medu`."""
    tasks = {
        name: written(text, list(range(12_000, 12_000 + examples)))
        for name, text in TARGETS.items()
    }
    sample = {
        name: written(text, np.linspace(0, windows - 1, documents).astype(int).tolist())
        for name, (text, windows) in CORPORA.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        found = medu(rater, tasks, sample, Path(folder) / "answers.jsonl", describe=DESCRIBE,
                     rate=RATE, say=lambda line: None)  # fmt: skip
    return found.utility


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm: mixtures from sizes alone, with ratings, and with pilot runs."""
    updates, examples, documents = size.pick(tiny=(8, 4, 2), small=(1000, EXAMPLES, RATED))

    def mixtures(seed: int) -> dict[str, float]:
        sources = corpora(updates / 1000)
        sizes = {name: float(one.count) for name, one in sources.items()}
        budget = float(updates * ROWS)
        by_rating = rated(examples, documents)
        by_pilot = pilot_utility(sources, max(2, round(PILOT * updates)), seed)
        weights = {
            "unimax": unimax(sizes, budget, EPOCHS),
            "rated": utilimax(by_rating, sizes, budget, EPOCHS),
            "pilots": utilimax(by_pilot, sizes, budget, EPOCHS),
        }
        flat = [[table[s][t] for s in sizes for t in TARGETS] for table in (by_rating, by_pilot)]
        agree = float(spearmanr(*flat).statistic)
        losses = mixed_losses(sources, weights, updates, seed)
        return {**losses, "agreement": agree if np.isfinite(agree) else 0.0}

    return {"mixtures": mixtures}


def judge(results: Results) -> Verdict:
    """Ratings agree with pilots, are as good in a mixture, and better than nothing."""
    rated_, pilots, none = (results.of("mixtures", n) for n in ("rated", "pilots", "unimax"))
    return every(
        at_least(results.of("mixtures", "agreement"), 0.7,
                 "rank correlation of rated utilities with those of pilot runs"),
        at_most(rated_ - pilots, 0.02, "loss with ratings minus with pilots, nats per token"),
        lower(rated_, none, "loss with ratings minus UniMax, nats per token"),
    )  # fmt: skip


claim = Claim(
    paper="arXiv:2501.11747",
    statement="Utilities from 32 rated documents a source rank sources as pilot runs do (.7), give "
    "UtiliMax a mixture as good (.02 nats) and one better than UniMax",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="The rater counts pairs of words in common with the examples instead of reading "
    "them as a language model of 70B does, so what is tested is what becomes of ratings, not a "
    "model's judgement; six synthetic corpora, three target languages, a trigram network.",
    note="The rank correlation has no spread: corpora and ratings are the same in every seed, and "
    "pilots rank sources alike in all five. Its interval is that of one draw of corpora.",
)
