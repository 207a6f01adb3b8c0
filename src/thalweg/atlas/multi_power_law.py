"""The multi-power law: every drop of the rate lowers the loss, soon and then ever more slowly."""

from thalweg.atlas.curves import FIT, HELD_OUT, PEAK, law_curves
from thalweg.atlas.race import race
from thalweg.atlas.verdict import at_most, every, lower
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.laws import AnnealingLaw, MultiPowerLaw, errors_of, fit, optimise

__all__ = ["claim"]


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm: fit both laws, predict unseen schedules, train the schedule one designs."""

    def predict(seed: int) -> dict[str, float]:
        curves = law_curves(size, seed)
        known, unseen = ([curves[name] for name in names] for names in (FIT, HELD_OUT))
        rival = AnnealingLaw(decay=size.pick(tiny=0.98, small=None))
        law, other = fit(MultiPowerLaw(), known), fit(rival, known)
        steps = curves["cosine"].lr.size
        design = optimise(law, steps, peak=PEAK, warmup=steps // 20)
        return {
            "mae": errors_of(law, unseen).mae,
            "mae of annealing law": errors_of(other, unseen).mae,
            "cooldown": design.cooldown,
            "power": design.power,
            "expected": design.loss,
            "designed": float(race(design.rates[None], seed).final[0]),
            "cosine": float(curves["cosine"].loss[-1]),
            "wsd": float(curves["wsd"].loss[-1]),
        }

    return {"law": predict}


def judge(results: Results) -> Verdict:
    """Its error, against the annealing law's, and its schedule against cosine."""
    mae, other, designed, cosine = (
        results.of("law", name) for name in ("mae", "mae of annealing law", "designed", "cosine")
    )
    return every(
        lower(designed, cosine, "designed schedule minus cosine, nats"),
        at_most(mae, 0.01, "mean error on unseen schedules, nats"),
        lower(mae, other, "mean error minus the annealing law's, nats"),
    )


claim = Claim(
    paper="arXiv:2503.12811",
    statement="Fitted on three runs, it predicts other schedules within 0.01 nats and better than "
    "the annealing law, and the schedule it designs ends below cosine",
    arms=arms,
    judge=judge,
    seeds=3,
    deviations="A trigram network, 2,000 updates; C, beta and gamma have the prior of this package "
    "instead of the authors' early stopping; the design is the best warmup-hold-decay with a decay "
    "(1 - x)^power, where the authors let every step free.",
)
