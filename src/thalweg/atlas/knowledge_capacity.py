"""Bits a parameter: what a model knows grows with exposures; junk costs it, a tag repairs it."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from thalweg.atlas.kit import nano
from thalweg.atlas.runs import history
from thalweg.atlas.verdict import at_least, every, higher
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.moves import Learn
from thalweg.core.protocols import Source
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.time import share
from thalweg.data import Biographies, Mixture
from thalweg.monitors import Knowledge
from thalweg.objectives import NextToken
from thalweg.optim import AdamW
from thalweg.schedules import Constant, Warmup

__all__ = ["claim"]

USEFUL = Biographies(64, name_tokens=4, name="useful")
"""48 bits a person; everything known is .11 bits a parameter of a decoder of 29,000."""
JUNK = Biographies(100_000, name_tokens=4, key=1, name="junk")
"""Nobody comes twice."""
ROWS = 8
"""Useful ones of a batch; with junk seven times as many come with them."""
EXPOSURES = (25, 50, 100)


def recipe(useful: Biographies, junk: bool, length: int, marks: int) -> Recipe:
    """Return a run in which the useful are seen equally often, with junk beside them or without.

    Args:
        useful: Tagged or not.
        junk: Whether 7 of 8 rows are junk.
        length: Steps.
        marks: How often what is known is measured.
    """
    alone: Source = useful
    source = Mixture({"useful": useful, "junk": JUNK}, {"useful": 1, "junk": 7}) if junk else alone
    learn = Learn("policy", NextToken(), AdamW(lr=Warmup(Constant(3e-3), over=share(0.0625))))
    meter = Knowledge(useful, rows=useful.people, every=length // marks)
    vocabulary = replace(useful, tagged=True).vocabulary
    model = nano(vocabulary, width=32, layers=2, length=useful.row_tokens)
    phase = Phase(length, source, (learn,), rows=ROWS * (8 if junk else 1), monitors=(meter,))
    return Recipe({"policy": model}, (phase,))


def arms(size: Size) -> dict[str, Arm]:
    """Return the useful alone, with junk, and with junk and a tag of their own."""
    people, marks = size.pick(tiny=8, small=USEFUL.people), EXPOSURES[-1] // EXPOSURES[0]
    length = size.pick(tiny=marks, small=EXPOSURES[-1] * people // ROWS)
    useful = replace(USEFUL, people=people)

    def known(junk: bool, tagged: bool) -> Arm:
        def arm(seed: int) -> dict[str, float]:
            one = recipe(replace(useful, tagged=tagged), junk, length, marks)
            rows = history(replace(one, seed=seed))
            found = [row["knowledge/ratio"] for row in rows if "knowledge/ratio" in row]
            return {
                f"bits after {times}": found[times * marks // EXPOSURES[-1] - 1]
                for times in EXPOSURES
            } | {"most": rows[-1]["knowledge/most"]}

        return arm

    return {"alone": known(False, False), "junk": known(True, False), "tag": known(True, True)}


def judge(results: Results) -> Verdict:
    """More exposures, more bits; junk takes some; the tag gives back."""

    def bits(arm: str, times: int = EXPOSURES[-1]) -> NDArray[np.float64]:
        return results.of(arm, f"bits after {times}")

    few, some, many = EXPOSURES
    return every(
        at_least(bits("tag") - 1.3 * bits("junk"), 0.0,
                 "bits a parameter with junk and tag minus 1.3 times those with junk"),
        higher(bits("alone"), bits("junk"), "bits a parameter alone minus with junk"),
        higher(bits("alone", many), bits("alone", some), "100 exposures minus 50, bits"),
        higher(bits("alone", some), bits("alone", few), "50 exposures minus 25, bits"),
    )  # fmt: skip


claim = Claim(
    paper="arXiv:2404.05405",
    statement="Bits a parameter grow from 25 to 50 to 100 exposures; with seven junk rows beside "
    "each useful one they are fewer at equal exposures, and a tag before the useful rows brings "
    "at least 1.3 times as many back",
    arms=arms,
    judge=judge,
    seeds=3,
    deviations="Compact biographies of 17 tokens and a decoder of 29,000 parameters instead of "
    "English ones and 1 million to 0.5 billion; 25 to 100 exposures of 64 people, not 1,000; "
    "junk beside the useful rows of a step instead of more steps. The plateau of 2 bits a "
    "parameter needs a model some hundred times larger and is not looked for.",
    note="Alone the 64 people are known to 96 % after 100 exposures (.115 of .119 bits). With junk "
    "800 updates leave nearly nothing, .0004, and the tag .0016: four times as much of next to "
    "nothing, so what a tag repairs is not settled by a run this short.",
)
