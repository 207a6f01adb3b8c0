"""NPO: preference with the losing side alone forgets without tearing the rest apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from thalweg.atlas.bandit import Bandit, Softmax, Table, adam, read_logprobs
from thalweg.atlas.runs import history
from thalweg.atlas.verdict import at_least, every, lower
from thalweg.core.claim import Arm, Claim, Metrics, Results, Size, Verdict
from thalweg.core.moves import AT_END, Copy, Learn, Score
from thalweg.core.protocols import Context, Dial, Objective
from thalweg.core.recipe import CopyOf, Phase, Recipe
from thalweg.core.time import Span, share
from thalweg.core.weigh import PerRow
from thalweg.objectives import Forget, Likelihood, Sum

__all__ = ["claim"]

WORLD = Bandit(prompts=1200, answers=16, right=1, width=16)
FORGET, RETAIN = np.arange(200), np.arange(200, 1200)
"""Prompts of the two sets, as many as in the paper's synthetic task."""
LOSSES: Mapping[str, Objective] = {
    "ascent": Sum({"likelihood": Likelihood()}, {"likelihood": -1.0}),
    "npo": Forget(beta=1.0),
}
AT = 3.0
"""Nats of a forgotten answer at which the damage is compared."""


@dataclass(frozen=True)
class Damage:
    """`forgot`: nats that the forget answers have lost; `kl`: KL(ref || policy) on the others."""

    every: Dial | Span = field(default_factory=lambda: share(0.005))

    @torch.no_grad()
    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return the numbers."""
        now, ref = (
            read_logprobs(ctx.models[name].module, range(WORLD.prompts))[:, 0]
            for name in ("policy", "ref")
        )
        label = torch.from_numpy(WORLD.is_right[:, 0].argmax(1))[:, None]
        lost = (ref - now).gather(1, label)[FORGET].mean()
        kl = functional.kl_div(now[RETAIN], ref[RETAIN], reduction="batchmean", log_target=True)
        return {"forgot": float(lost), "kl": float(kl)}


def labels(prompts: np.ndarray) -> Table:
    """Return the right answer to each prompt."""
    right = WORLD.is_right[prompts, 0].argmax(1)
    tokens = torch.from_numpy(np.stack([prompts, right], 1))
    return Table({"tokens": tokens, "weight": torch.ones(len(prompts), 1)}, whole=True)


def arms(size: Size) -> dict[str, Arm]:
    """Return gradient ascent and NPO: the damage at the end, and when as much is forgotten."""
    first, steps = size.pick(tiny=(10, 30), small=(200, 1000))

    def unlearned(objective: Objective, seed: int) -> Metrics:
        fit = Learn("policy", Likelihood(), adam(0.05), weigh=PerRow())
        forget = Learn("policy", objective, adam(0.05), clip=None, weigh=PerRow())
        phases = (
            Phase(
                first,
                labels(np.arange(WORLD.prompts)),
                (fit, Copy("policy", "ref", every=AT_END)),
                rows=WORLD.prompts,
                name="fit",
            ),
            Phase(
                steps,
                labels(FORGET),
                (Score("ref", "ref"), forget),
                rows=len(FORGET),
                monitors=(Damage(),),
                name="unlearn",
            ),
        )
        start = Softmax(WORLD, skill=0.0, noise=0.1)
        rows = history(Recipe({"policy": start, "ref": CopyOf("policy")}, phases, seed=seed))
        path = np.array([(row["forgot"], row["kl"]) for row in rows if "forgot" in row])
        reached = int((path[:, 0] >= AT).argmax())
        before = path[max(reached - 1, 0)] if reached else np.zeros(2)
        part = (AT - before[0]) / max(path[reached, 0] - before[0], 1e-9)
        there = before[1] + np.clip(part, 0, 1) * (path[reached, 1] - before[1])
        return {
            "forgot": path[-1, 0],
            "kl": path[-1, 1],
            "reached": float(path[:, 0].max() >= AT),
            "kl there": float(there),
        }

    return {name: partial(unlearned, loss) for name, loss in LOSSES.items()}


def judge(results: Results) -> Verdict:
    """A fifth of the damage after as many steps; less damage where as much is forgotten."""
    end, there = (
        {name: results.of(name, metric) for name in LOSSES} for metric in ("kl", "kl there")
    )
    reached = results.of("npo", "reached")
    return every(
        lower(end["npo"], end["ascent"] / 5, "NPO minus a fifth of ascent, KL at the end, nats"),
        at_least(reached, 1.0, f"NPO forgets {AT:g} nats, share of seeds"),
        lower(there["npo"], there["ascent"], f"NPO minus ascent, KL at {AT:g} forgotten, nats"),
    )


claim = Claim(
    paper="arXiv:2404.05868",
    statement="After 1,000 steps NPO has done a fifth of the damage of gradient ascent, and less "
    "at equal forgetting",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="The paper's synthetic task (16 features, 200 prompts to forget, 1,000 to keep), "
    "16 answers, Adam, full batches, beta 1 and no retain term; the damage is a KL.",
    note="The two parts are two claims: that NPO is slower, and that it is a better trade.",
)
