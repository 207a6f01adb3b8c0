"""Delta learning: a weak model's answer over a weaker one's teaches a student better than both."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from thalweg.atlas.bandit import Bandit, Exact, Policy, Softmax, Table, adam, answers
from thalweg.atlas.runs import history
from thalweg.atlas.verdict import every, higher, lower
from thalweg.core.claim import Arm, Claim, Metrics, Results, Size, Verdict
from thalweg.core.moves import Learn
from thalweg.core.protocols import Move
from thalweg.core.recipe import CopyOf, Phase, Recipe
from thalweg.core.rng import rng
from thalweg.core.time import share
from thalweg.objectives import Asymmetric, Logistic, Preference
from thalweg.objectives.papers import dpo

__all__ = ["claim"]

WORLD = Bandit(prompts=256)
STUDENT = Softmax(WORLD, skill=2.0)
SKILLS = {"chosen": 1.5, "rejected": 1.0}
"""Of the two teachers; both below the student's 2."""
FLAWS = {"shared": 0.9, "own": 0.0}
"""Share of the teachers' errors (variance of their weights' noise) that they have in common."""
DRAWS = 16
"""Answers of each teacher to a prompt."""
SFT: tuple[Move, ...] = (Learn("policy", Preference(Asymmetric(0.0), reference=False), adam(0.01)),)
DPO: tuple[Move, ...] = (
    *dpo().before,
    Learn("policy", Preference(Logistic(5.0), normalise="mean"), adam(0.01)),
)
METHODS: Mapping[str, tuple[Move, ...]] = {"sft": SFT, "dpo": DPO}


def pairs(flaws: float, seed: int) -> Table:
    """Return pairs of the two teachers' answers, where they differ."""
    draw = rng(seed, "teachers")
    shape = WORLD.teacher.shape
    common = np.sqrt(flaws) * draw.standard_normal(shape)
    prompts_R = np.repeat(np.arange(WORLD.prompts), DRAWS)
    rows = {}
    for name, skill in SKILLS.items():
        w_TDV = skill * WORLD.teacher + common + np.sqrt(1 - flaws) * draw.standard_normal(shape)
        teacher = Policy(WORLD.features, w_TDV.astype(np.float32))
        drawn_RT = answers(teacher, prompts_R.tolist(), draw)
        rows[name] = np.concatenate([prompts_R[:, None], drawn_RT], 1)
    differ = (rows["chosen"] != rows["rejected"]).any(1)
    columns = {name: torch.from_numpy(row[differ]) for name, row in rows.items()}
    ones = torch.ones(int(differ.sum()), WORLD.length)
    columns |= {f"{name}_weight": ones for name in SKILLS} | {"weight": ones[:, 0]}
    return Table(columns)


def arms(size: Size) -> dict[str, Arm]:
    """Return both methods on both kinds of teachers: pass@1 at the start, the best, the end."""
    steps = size.pick(tiny=5, small=400)

    def trained(moves: tuple[Move, ...], flaws: float, seed: int) -> Metrics:
        watch = Exact(WORLD, every=share(0.025))
        phase = Phase(steps, pairs(flaws, seed), moves, rows=64, monitors=(watch,))
        recipe = Recipe({"policy": STUDENT, "ref": CopyOf("policy")}, (phase,))
        measured = [row["pass@1"] for row in history(replace(recipe, seed=seed)) if "pass@1" in row]
        start = Exact(WORLD).of(STUDENT.build(seed))["pass@1"]
        return {"start": start, "best": max(start, *measured), "end": measured[-1]}

    return {
        f"{name}, {kind}": lambda seed, m=moves, f=flaws: trained(m, f, seed)  # type: ignore[misc]
        for name, moves in METHODS.items()
        for kind, flaws in FLAWS.items()
    }


def judge(results: Results) -> Verdict:
    """DPO above the start, SFT below it, and DPO above SFT where both stop at their best."""
    dpo_arm, sft_arm = "dpo, shared", "sft, shared"
    return every(
        higher(
            results.of(dpo_arm, "end"),
            results.of(dpo_arm, "start"),
            "DPO on weak pairs minus start, pass@1",
            by=0.02,
        ),
        lower(
            results.of(sft_arm, "end"),
            results.of(sft_arm, "start"),
            "SFT on the better weak answers minus start, pass@1",
        ),
        higher(
            results.of(dpo_arm, "best"),
            results.of(sft_arm, "best"),
            "DPO minus SFT, both stopped at their best, pass@1",
        ),
    )


claim = Claim(
    paper="arXiv:2507.06187",
    statement="DPO on answers of two weaker models that share their flaws lifts a student by 0.02, "
    "SFT on the better of them lowers it, and DPO wins also where both stop early",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="A bandit with linear softmax students and teachers instead of Tulu 3 8B, Qwen 3B "
    "and 1.5B; beta 5 as in the paper, answers of one token; 400 steps.",
    note="The arms with flaws of their own are reported, not judged. The best step is chosen on "
    "what is measured, for both methods alike.",
)
