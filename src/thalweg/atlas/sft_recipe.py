"""Fine-tuning: large batches at low rates, no warmup, one phase, early losers stopped."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from thalweg.atlas.instructions import EXAMPLES, WIDTH, Instructions
from thalweg.atlas.kit import Markov, lm
from thalweg.atlas.runs import final, history
from thalweg.atlas.verdict import at_least, at_most, every, lower
from thalweg.controllers import Early, early_dynamics, early_scores
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.moves import Learn
from thalweg.core.protocols import Dial, Source
from thalweg.core.recipe import Phase
from thalweg.core.time import share
from thalweg.monitors import HeldOut
from thalweg.objectives import NextToken
from thalweg.optim import AdamW
from thalweg.schedules import Constant, Warmup, Wsd

__all__ = ["claim"]

BATCHES = (16, 64, 256)
RATES = (1e-3, 3e-3, 1e-2)
EPOCHS = 2


def tuned(
    size: Size, seed: int, rows: int, rate: Dial, parts: Sequence[tuple[int, ...]] = ()
) -> list[dict[str, Any]]:
    """Return the history of a base that is tuned: on all tasks, or on parts one after the other."""
    base = size.pick(tiny=2, small=100)
    count = size.pick(tiny=256, small=EXAMPLES * EPOCHS) // rows
    start = lm(AdamW(lr=Wsd(1e-2, decay=share(0.2))), base, rows=8)
    stages = parts or (Instructions().tasks,)
    held: dict[str, Source] = {
        "tasks": Instructions(split="held out"),
        "base": Markov(length=2 * WIDTH).held_out,
    }
    phases = [replace(start.phases[0], name="base", monitors=())]
    for k, tasks in enumerate(stages):
        source = Instructions(tasks)
        learn = Learn("policy", NextToken(), AdamW(lr=rate))
        steps = max(count // len(stages), 1)
        monitors = (HeldOut(held, every=share(1.0), most=256),) if k == len(stages) - 1 else ()
        phases.append(Phase(steps, source, (learn,), rows=rows, monitors=monitors, name=f"sft{k}"))
    return history(replace(start, phases=tuple(phases), seed=seed))


def quality(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the loss on new inputs plus that on the text of the base: the lower the better."""
    found = final(rows)
    return found["heldout/loss/tasks"] + found["heldout/loss/base"]


def beginning(rows: Sequence[Mapping[str, Any]]) -> Early:
    """Return gradient norm and loss over the first tenth of the examples."""
    tune = [row for row in rows if row["phase"] != "base"]
    before = rows[len(rows) - len(tune) - 1]["tokens"]
    budget = before + 0.1 * (rows[-1]["tokens"] - before)
    return early_dynamics(tune, max(budget, tune[0]["tokens"]))


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm: the grid, then warmup and phases at its best point."""
    batches, peaks = size.pick(tiny=((16, 64), RATES[1:2]), small=(BATCHES, RATES))

    def runs(seed: int) -> dict[str, float]:
        grid = [(rows, rate) for rows in batches for rate in peaks]
        made = [tuned(size, seed, rows, rate) for rows, rate in grid]
        ends = np.array([quality(rows) for rows in made])
        scores = np.array(early_scores([beginning(rows) for rows in made]))
        best = grid[int(ends.argmin())]
        rise = Warmup(Constant(best[1]), over=share(0.05))
        phased = tuned(size, seed, *best, parts=((0, 1), (2, 3), (4,)))
        inside = [_rank(scores[part], ends[part]) for part in _batches(grid)]
        found = {f"{rows} x {rate:g}": float(x) for (rows, rate), x in zip(grid, ends, strict=True)}
        return {
            **found,
            "best": float(ends.min()),
            "place": float((ends < ends[len(ends) - len(peaks)]).sum() + 1),
            "spearman": _rank(scores, ends),
            "spearman within a batch": float(np.mean(inside)),
            "warmup": quality(tuned(size, seed, best[0], rise)),
            "phased": quality(phased),
        }

    return {"runs": runs}


def _rank(scores: np.ndarray, ends: np.ndarray) -> float:
    """Return the rank correlation; 0 of what is all the same."""
    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(ends) == 0:
        return 0.0
    return float(spearmanr(scores, ends).statistic)


def _batches(grid: Sequence[tuple[int, float]]) -> list[list[int]]:
    """Return the places of the runs of every batch size."""
    sizes = sorted({rows for rows, _ in grid})
    return [[k for k, (rows, _) in enumerate(grid) if rows == size] for size in sizes]


def judge(results: Results) -> Verdict:
    """The place of the largest batch at the lowest rate, the predictor, warmup, phases."""
    of = {k: results.of("runs", k) for k in ("best", "place", "spearman", "warmup", "phased")}
    return every(
        at_most(of["place"], 3.0, "place of the largest batch at the lowest rate among 9 runs"),
        at_least(of["spearman"], 0.5, "rank correlation of early score and final loss"),
        at_most(np.abs(of["warmup"] - of["best"]), 0.02, "change by 5 % warmup, nats"),
        lower(of["best"], of["phased"], "all tasks at once minus in phases, nats", by=-0.02),
    )


claim = Claim(
    paper="arXiv:2412.13337",
    statement="In fine-tuning the largest batch at the lowest rate is among the best third; a low "
    "gradient norm and a high loss at the beginning predict the better end; a warmup changes "
    "nothing; all data at once are no worse than phases",
    arms=arms,
    judge=judge,
    seeds=3,
    deviations="A decoder of one layer, tuned for 2 epochs on 2,048 instructions that move four "
    "symbols, instead of models of 3B to 7B; quality is the loss on new inputs plus that on the "
    "text of the base; no task is held out.",
    note="The score within one batch size is kept beside it: the gradient norm falls with the "
    "batch by averaging alone.",
)
