"""The annealing law: two sums over the learning rate predict the whole curve of any schedule."""

import numpy as np

from thalweg.atlas.curves import FIT, HELD_OUT, law_curves
from thalweg.atlas.verdict import at_least, at_most, every, lower
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.laws import AnnealingLaw, errors_of, fit

__all__ = ["claim"]


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm: train six schedules, fit on three, predict the others."""

    def predict(seed: int) -> dict[str, float]:
        curves = law_curves(size, seed)
        law = AnnealingLaw(decay=size.pick(tiny=0.98, small=None))
        fitted = fit(law, [curves[name] for name in FIT])
        unseen = [curves[name] for name in HELD_OUT]
        errors = errors_of(fitted, unseen)
        nearest = curves["cosine"].loss[-1]  # the schedule a person would compare them with
        return {
            "r2": errors.r2,
            "mae": errors.mae,
            "worst": errors.worst,
            "final": errors.final,
            "final by nearest": float(np.mean([abs(one.loss[-1] - nearest) for one in unseen])),
            **{f"fitted {name}": value for name, value in fitted.values.items()},
        }

    return {"law": predict}


def judge(results: Results) -> Verdict:
    """R2, mean error, and final error against the final loss of the nearest schedule."""
    final, naive = (results.of("law", name) for name in ("final", "final by nearest"))
    return every(
        at_most(results.of("law", "mae"), 0.01, "mean error on unseen schedules, nats"),
        at_least(results.of("law", "r2"), 0.99, "R2 on unseen schedules"),
        lower(final, 0.5 * naive, "final error minus half that of the cosine's final loss, nats"),
    )


claim = Claim(
    paper="arXiv:2408.11029",
    statement="L0 + A S1^-alpha - C S2, fitted on a constant, a cosine and a two-step run, "
    "predicts other schedules within 0.01 nats",
    arms=arms,
    judge=judge,
    seeds=3,
    deviations="A trigram network, 2,000 updates instead of 20,000 and more; lambda is fitted (the "
    "paper's .999 belongs to its length); the rates of the warmup count as they were.",
    note="The law on published curves of 25M to 400M models: docs/laws.md and benchmarks/laws.py.",
)
