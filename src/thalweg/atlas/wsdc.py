"""WSDC: a constant tail after the decay, where good data can come in without a new schedule."""

import numpy as np

from thalweg.atlas.kit import Markov
from thalweg.atlas.race import held_out, race, rates
from thalweg.atlas.verdict import every, lower
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.protocols import Source
from thalweg.core.time import share, steps
from thalweg.data import Mixture
from thalweg.schedules import Cosine, Wsd, Wsdc

__all__ = ["claim"]

WEB, GOOD = Markov(), Markov(shift=0.5)
BASE = Mixture({"web": WEB, "good": GOOD}, {"web": 0.9, "good": 0.1})
PEAKS = (5e-3, 1e-2, 2e-2)
"""Every arm takes the one that is best for the sum of both losses."""
TAIL, DECAY, FLOOR = 0.14, 0.15, 0.1
"""Shares of the run, and of the peak. The paper does not print them; these are our defaults."""
ARMS = ("wsdc", "wsdc, base", "wsd, good", "wsd", "cosine, good", "cosine")
"""Schedule, and what the last 14 % read: `wsdc` is the claim's, on good data."""


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm: three schedules, each with and without good data at its end."""
    length = size.pick(tiny=20, small=1000)
    tail = round(TAIL * length)

    def plans(peak: float) -> np.ndarray:
        fall = steps(round(DECAY * length))
        stable = steps(length - tail - round(DECAY * length))
        ours = Wsdc(peak, FLOOR * peak, stable=stable, decay=fall)
        wsd = Wsd(peak, decay=share(TAIL), shape=Cosine(1.0), floor=FLOOR * peak)
        return rates([ours, ours, wsd, wsd, *[Cosine(peak, FLOOR * peak)] * 2], length)

    def models(seed: int) -> dict[str, float]:
        table = np.concatenate([plans(peak) for peak in PEAKS])
        first = race(table[:, :-tail], seed, text=BASE).end
        last: list[Source] = [GOOD, BASE] * (len(table) // 2)
        end = race(table[:, -tail:], seed, text=last, start=first).end
        web, good = (held_out(end, text).reshape(len(PEAKS), -1) for text in (WEB, GOOD))
        best = (web + good).argmin(axis=0)
        found: dict[str, float] = {}
        for k, name in enumerate(ARMS):
            found[f"{name}: web"], found[f"{name}: good"] = web[best[k], k], good[best[k], k]
            found[f"{name}: peak"] = PEAKS[best[k]]
        return {name: float(value) for name, value in found.items()}

    return {"models": models}


def judge(results: Results) -> Verdict:
    """Against WSD without the switch, and against WSD that has it in its decay."""

    def of(arm: str, text: str) -> np.ndarray:
        return results.of("models", f"{arm}: {text}")

    ours, wsd, switched = (of(arm, "good") for arm in ("wsdc", "wsd", "wsd, good"))
    web = of("wsdc", "web"), of("wsd, good", "web")
    return every(
        lower(ours, wsd, "good text: WSDC minus WSD without the switch, nats"),
        lower(ours, switched, "good text: WSDC minus WSD with it in the decay, nats", by=-0.01),
        lower(*web, "web text: WSDC minus WSD with it in the decay, nats", by=-0.01),
    )


claim = Claim(
    paper="arXiv:2503.12167",
    statement="With good data in its constant tail WSDC ends lower on it than WSD without, and "
    "within 0.01 nats, on both texts, of WSD that reads as much of it in its decay",
    arms=arms,
    judge=judge,
    seeds=4,
    deviations="The paper has one model and no comparison: this one is ours, on a trigram network "
    "with Adam and 1,000 updates; good data is 10 % of the base text and all of the last 14 %.",
    note="Exploratory: lengths and floor are not printed in the paper. A decay learns more of the "
    "good data than a tail at a tenth of the rate, and forgets more of the rest.",
)
