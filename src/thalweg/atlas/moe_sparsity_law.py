"""Sparsity law: at equal work a token, more experts lower the loss, the more so the more tokens."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.atlas.kit import lm, nano
from thalweg.atlas.verdict import at_most, every, lower
from thalweg.core.claim import Arm, Claim, Metrics, Results, Size, Verdict
from thalweg.core.moves import Learn
from thalweg.core.recipe import Recipe
from thalweg.core.rng import rng
from thalweg.core.time import share
from thalweg.laws import Sparsity, fit_sparsity
from thalweg.models import Moe
from thalweg.objectives import Balanced, LaggedLoad, NextToken
from thalweg.optim import AdamW
from thalweg.schedules import Wsd

__all__ = ["claim"]

EXPERTS = (1, 4, 16)
NAMES = ("few", "many")
SPARSITIES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95)
FAR = 0.98
"""Sparsity that the law is asked about and was not fitted at, as in the paper."""


class Points(NamedTuple):
    """Where a law is asked."""

    parameters: NDArray[np.float64]
    tokens: NDArray[np.float64]
    sparsity: NDArray[np.float64]


def trained(experts: int, steps: int) -> Recipe:
    """Return the recipe of a model that asks one of its experts."""
    model = replace(nano(), moe=Moe(experts=experts, top=1, normalised=False))
    optimizer = AdamW(lr=Wsd(1e-2, warmup=share(0.1), decay=share(0.3)))
    made = lm(optimizer, steps, model=model)
    learn = Learn("policy", Balanced(NextToken(), balance=0.01), optimizer, clip=1.0)
    return replace(made, phases=(replace(made.phases[0], do=(LaggedLoad(), learn)),))


def recovered(seed: int) -> Metrics:
    """Fit 60 noisy points of the published law; return errors where it was fitted, and beyond."""
    draw, law = rng(seed, "sparsity law"), Sparsity()

    def points(count: int) -> Points:
        sizes, tokens = (10 ** draw.uniform(low, high, count) for low, high in ((8, 10), (9.5, 11)))
        return Points(sizes, tokens, draw.choice(SPARSITIES, count))

    seen, fresh = points(60), points(60)
    noisy = law.loss(*seen) * (1 + 0.005 * draw.standard_normal(60))
    fitted = fit_sparsity(*seen, noisy)
    far = Points(fresh.parameters, fresh.tokens, np.full(60, FAR))
    return {
        name: float(np.sqrt(np.mean((fitted.loss(*at) - law.loss(*at)) ** 2)))
        for name, at in (("near", fresh), ("far", far))
    }


def arms(size: Size) -> dict[str, Arm]:
    """Return the fit, and models of 1, 4 and 16 experts with few tokens and with many."""
    budgets = size.pick(tiny=(4, 6), small=(200, 800))
    found: dict[str, Arm] = {"fit": recovered}
    for name, steps in zip(NAMES, budgets, strict=True):
        for experts in EXPERTS:
            found[f"{experts} experts, {name}"] = trained(experts, steps)
    return found


def judge(results: Results) -> Verdict:
    """The fit within 0.02 nats; 16 experts against 1; the gain with many tokens against few."""
    loss = {arm: results.of(arm, "heldout/loss") for arm in results.arms if arm != "fit"}
    gain = {name: loss[f"1 experts, {name}"] - loss[f"16 experts, {name}"] for name in NAMES}
    return every(
        at_most(results.of("fit", "near"), 0.02, "error of the fitted law in its range, nats"),
        lower(
            loss["16 experts, many"],
            loss["1 experts, many"],
            "held-out loss, 16 experts minus 1 at equal work, nats per token",
        ),
        lower(gain["few"], gain["many"], "gain of 16 experts, few tokens minus many, nats"),
    )


claim = Claim(
    paper="arXiv:2501.12370",
    statement="The law is recovered from 60 runs with 0.5 % noise to 0.02 nats; at equal work a "
    "token 16 experts end below 1, and gain less where tokens are few",
    arms=arms,
    judge=judge,
    seeds=3,
    deviations="One width (32) and one layer on trigram text instead of 12 sizes up to 18.8B; "
    "205,000 and 819,000 tokens; one expert a token, as wide as the dense layer. Direction only: "
    "ten constants cannot be fitted to six such models, so the fit is tried on points of the law.",
    note="`far` in the stored numbers is the error at sparsity 0.98, beyond the fit; the paper's "
    "own extrapolation there explains 68 % of the variance. It is not judged.",
)
