"""DCO: if N answers will be sampled, train the chance that one of N hits."""

from dataclasses import replace

import numpy as np
import torch

from thalweg.atlas.bandit import Bandit, Exact, Softmax, Table, adam
from thalweg.atlas.runs import history
from thalweg.atlas.verdict import every, higher, lower
from thalweg.core.claim import Arm, Claim, Metrics, Results, Size, Verdict
from thalweg.core.moves import Learn
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.rng import rng
from thalweg.core.time import share
from thalweg.core.weigh import RowMean
from thalweg.objectives import Likelihood

__all__ = ["claim"]

COVERAGES = (1, 16, 64)
"""N of the loss, and k of pass@k."""
WORLD = Bandit(prompts=2000, answers=64, right=1, width=32)
"""The first half of the prompts is for training."""
NOISE = 0.3
"""Share of training labels that are drawn at random."""


def labels(seed: int) -> Table:
    """Return one label to each training prompt."""
    draw = rng(seed, "labels")
    count = WORLD.prompts // 2
    right_R = WORLD.is_right[:count, 0].argmax(1)
    noisy = draw.random(count) < NOISE
    label_R = np.where(noisy, draw.integers(WORLD.answers, size=count), right_R)
    tokens = torch.from_numpy(np.stack([np.arange(count), label_R], 1))
    return Table({"tokens": tokens, "weight": torch.ones(count, 1)}, whole=True)


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm a coverage: pass@k on prompts that were not trained on, early and late."""
    steps = size.pick(tiny=20, small=600)
    held_out = tuple(range(WORLD.prompts // 2, WORLD.prompts))

    def trained(coverage: int, seed: int) -> Metrics:
        learn = Learn("policy", Likelihood(float(coverage)), adam(0.05), weigh=RowMean())
        watch = Exact(WORLD, COVERAGES, held_out, every=share(0.1))
        phase = Phase(steps, labels(seed), (learn,), rows=1000, monitors=(watch,))
        model = Softmax(WORLD, skill=0.0, noise=0.1)
        rows = history(replace(Recipe({"policy": model}, (phase,)), seed=seed))
        measured = [row for row in rows if "pass@1" in row]
        found = {f"pass@{k}": measured[-1][f"pass@{k}"] for k in COVERAGES}
        return found | {f"early pass@{k}": measured[0][f"pass@{k}"] for k in COVERAGES}

    return {
        f"N={n}": lambda seed, n=n: trained(n, seed)  # type: ignore[misc]
        for n in COVERAGES
    }


def judge(results: Results) -> Verdict:
    """The diagonal of N trained by N sampled, and the fall of cross-entropy at 64 samples."""
    plain, many = "N=1", "N=64"
    return every(
        higher(
            results.of(many, "pass@64"),
            results.of(plain, "pass@64"),
            "N=64 minus N=1, pass@64",
            by=0.02,
        ),
        higher(
            results.of("N=16", "pass@16"),
            results.of(plain, "pass@16"),
            "N=16 minus N=1, pass@16",
            by=0.02,
        ),
        higher(results.of(plain, "pass@1"), results.of(many, "pass@1"), "N=1 minus N=64, pass@1"),
        lower(
            results.of(plain, "pass@64"),
            results.of(plain, "early pass@64"),
            "cross-entropy, late minus early, pass@64",
        ),
    )


claim = Claim(
    paper="arXiv:2502.07154",
    statement="Training the chance that one of N hits wins at N samples by 0.02 and loses at one; "
    "cross-entropy loses pass@64 as it goes on",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="Classification into 64 by a linear softmax, 30 % of labels at random, full "
    "batches, instead of fine-tuning on MATH; early is a tenth of 600 steps.",
    note="Rates are the same for every N; the gradient of a large N is smaller where the model is "
    "sure, which Adam makes up for in part.",
)
