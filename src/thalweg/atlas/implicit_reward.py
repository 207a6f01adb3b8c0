"""Implicit reward: before preference learning, fine-tune at a smaller rate than is best for SFT."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from thalweg.atlas.bandit import (
    Bandit,
    Exact,
    Policy,
    Softmax,
    Table,
    adam,
    answers,
    read_logprobs,
)
from thalweg.atlas.kit import bottom
from thalweg.atlas.runs import history
from thalweg.atlas.verdict import every, higher, lower
from thalweg.core.claim import Arm, Claim, Metrics, Results, Size, Verdict
from thalweg.core.moves import AT_END, Copy, Learn
from thalweg.core.protocols import Context, Dial
from thalweg.core.recipe import CopyOf, Phase, Recipe
from thalweg.core.rng import rng
from thalweg.core.time import Span, share
from thalweg.objectives import Likelihood
from thalweg.objectives.papers import dpo
from thalweg.schedules import Linear

__all__ = ["claim"]

WORLD = Bandit(prompts=400)
TRAIN, TEST = range(300), tuple(range(300, 400))
RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Of SFT; preference learning has one rate for all."""
TEACHER = Softmax(WORLD, skill=1.5, key=1)
DRAWS = 4
"""Demonstrations of a prompt; as many more answers are judged for pairs."""


@dataclass(frozen=True)
class Fit:
    """`fit`: cross-entropy with the teacher on prompts that are not trained on, nats."""

    teacher: Policy
    every: Dial | Span = share(1.0)

    @torch.no_grad()
    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return the number."""
        log_QTV = read_logprobs(ctx.models["policy"].module, TEST)
        p_QTV = read_logprobs(self.teacher, TEST).exp()
        return {"fit": float(-(p_QTV * log_QTV).sum(2).mean())}


def data(teacher: Policy, seed: int) -> tuple[Table, Table]:
    """Return the teacher's demonstrations, and pairs of its answers that an oracle has judged."""
    draw = rng(seed, "demonstrations")
    prompts_R = np.repeat(np.asarray(TRAIN), DRAWS)
    shown, judged = (answers(teacher, prompts_R.tolist(), draw)[:, 0] for _ in range(2))
    hit_PK = WORLD.is_right[prompts_R, 0, judged].reshape(-1, DRAWS)
    both = np.flatnonzero(hit_PK.any(1) & ~hit_PK.all(1))
    rows = np.stack([prompts_R, judged], 1)
    better, worse = (
        torch.from_numpy(rows[both * DRAWS + first_P[both]])
        for first_P in (hit_PK.argmax(1), (~hit_PK).argmax(1))
    )
    ones = torch.ones(len(both), 1)
    pairs = {"chosen": better, "rejected": worse, "chosen_weight": ones, "rejected_weight": ones}
    demonstrations = {
        "tokens": torch.from_numpy(np.stack([prompts_R, shown], 1)),
        "weight": torch.ones(len(shown), 1),
    }
    return Table(demonstrations), Table({**pairs, "weight": ones[:, 0]})


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm: for each rate of SFT, how it fits, and pass@1 before and after DPO."""
    steps = size.pick(tiny=3, small=150)

    def swept(seed: int) -> Metrics:
        teacher = TEACHER.build(seed)
        shown, pairs = data(teacher, seed)
        watch = (Exact(WORLD, among=TEST, every=share(1.0)), Fit(teacher))
        found: dict[str, float] = {}
        for place, rate in enumerate(RATES):
            sft = Learn("policy", Likelihood(), adam(Linear(rate, 0.0)))
            do = (sft, Copy("policy", "ref", every=AT_END))
            after = dpo(beta=0.1).do("policy", adam(Linear(0.03, 0.0)))
            stages = (
                Phase(steps, shown, do, rows=64, monitors=watch, name="sft"),
                Phase(steps, pairs, after, rows=32, monitors=watch, name="dpo"),
            )
            start = Softmax(WORLD, skill=0.0)
            recipe = Recipe({"policy": start, "ref": CopyOf("policy")}, stages, seed=seed)
            rows = history(recipe)
            ends = [row for row in rows if row["step"] in (steps, 2 * steps)]
            found[f"fit/{place}"] = ends[0]["fit"]
            found[f"sft/{place}"] = ends[0]["pass@1"]
            found[f"dpo/{place}"] = ends[1]["pass@1"]
        fits = [found[f"fit/{place}"] for place in range(len(RATES))]
        passed = [found[f"dpo/{place}"] for place in range(len(RATES))]
        best = int(np.argmin(fits))
        return found | {
            "log rate, fit": float(np.log(bottom(RATES, fits))),
            "log rate, dpo": float(np.log(bottom(RATES, [-x for x in passed]))),
            "smaller": max(passed[: max(best, 1)]),
            "same": passed[best],
        }

    return {"sweep": swept}


def judge(results: Results) -> Verdict:
    """The best rate of SFT for what comes after against that for SFT itself."""
    after, own, smaller, same = (
        results.of("sweep", name) for name in ("log rate, dpo", "log rate, fit", "smaller", "same")
    )
    return every(
        lower(after, own, "best SFT rate for pass@1 after DPO over that for SFT's own loss, log"),
        higher(smaller, same, "best smaller rate minus SFT's best, pass@1 after DPO"),
    )


claim = Claim(
    paper="arXiv:2507.00018",
    statement="The rate of SFT that is best after DPO is below the one that is best for SFT's own "
    "held-out loss",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="A bandit with a linear softmax policy instead of chat models; all rates with "
    "as many steps; pairs are a noisy teacher's answers judged by an oracle; DPO at one rate.",
    note="At equal steps a smaller rate is also a shorter run; the paper's effect may need equal "
    "fits. Its f-divergences are in the library (`Rehearsal`) and not tested here.",
)
