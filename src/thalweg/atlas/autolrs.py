"""AutoLRS: the rate of every stage found by short trials from the same weights."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from thalweg.atlas.kit import lm
from thalweg.atlas.runs import final, history
from thalweg.atlas.verdict import at_least, every, lower
from thalweg.controllers import AutoLrs
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.protocols import Schedule
from thalweg.core.recipe import Recipe
from thalweg.core.time import steps
from thalweg.optim import AdamW
from thalweg.schedules import Constant, Cosine
from thalweg.schedules.clock import Value

__all__ = ["claim"]

LOW, HIGH = 3e-4, 1e-1
"""Where AutoLRS searches."""
RATES = (2e-3, 5e-3, 1.25e-2, 3e-2)
"""What constant and cosine may choose from."""


def made(rate: Schedule[Value], size: Size, seed: int) -> Recipe:
    """Return a run at this rate, measured every 20 steps."""
    length, every = size.pick(tiny=(9, 8), small=(701, 20))
    recipe = lm(AdamW(lr=rate, weight_decay=0.0), length, rows=8, every=steps(every))
    return replace(recipe, seed=seed)


def reached(rows: Sequence[Mapping[str, Any]], target: float) -> int:
    """Return the first measured step with a held-out loss of the target; 0: never."""
    held = "heldout/loss"
    return next((int(r["step"]) for r in rows if held in r and r[held] <= target), 0)


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm: sweeps of the two baselines, and the search with stages that double."""
    stage, probe, tries = size.pick(tiny=(8, 0.5, 2), small=(100, 0.1, 10))
    search = AutoLrs(LOW, HIGH, stage=stage, longest=8 * stage, probe=probe, tries=tries)

    def models(seed: int) -> dict[str, float]:
        ends = {
            name: [final(history(made(kind(rate), size, seed)))["heldout/loss"] for rate in RATES]
            for name, kind in (("constant", Constant), ("cosine", Cosine))
        }
        plain = made(Constant(LOW), size, seed)
        phase = replace(plain.phases[0], controllers=(search,))
        rows = history(replace(plain, phases=(phase,)))
        found = {
            f"{name}@{r:g}": x for name, xs in ends.items() for r, x in zip(RATES, xs, strict=True)
        }
        best = min(ends["cosine"])
        step, length = reached(rows, best), plain.phases[0].steps
        cost = 1 + tries * probe
        # `lm` counts its phase in steps, which the type of a phase cannot say.
        return {
            **found,
            "constant": min(ends["constant"]),
            "cosine": best,
            "autolrs": final(rows)["heldout/loss"],
            "speedup": length / step if step else 0.0,  # type: ignore[operator]
            "speedup with trials": length / step / cost if step else 0.0,  # type: ignore[operator]
        }

    return {"models": models}


def judge(results: Results) -> Verdict:
    """Trials not counted: against the best constant rate, and in steps to the best cosine."""
    ours, constant = (results.of("models", name) for name in ("autolrs", "constant"))
    return every(
        lower(ours, constant, "AutoLRS minus best constant rate, nats per token"),
        at_least(results.of("models", "speedup"), 1.0, "steps of cosine over steps to its loss"),
    )


claim = Claim(
    paper="arXiv:2105.10762",
    statement="Its trials not counted, AutoLRS ends no higher than the best constant rate and "
    "reaches the loss of the best cosine in no more steps",
    arms=arms,
    judge=judge,
    seeds=3,
    deviations="A decoder of one layer on synthetic text, 700 steps in stages of 100, 200 and 400, "
    "AdamW; the paper has stages of 1,000 to 8,000 steps and speedups of 1.2 to 1.5. The trials "
    "see the batches of the stage; baselines are the best of four rates.",
    note="A speedup of 0 says that the loss was never reached; the trials double the steps.",
)
