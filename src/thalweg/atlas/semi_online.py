"""Semi-online: an actor that is up to ten steps behind serves as well as one that never is."""

from thalweg.atlas.bandit import Bandit, Pulls, adam, online
from thalweg.atlas.verdict import every, higher, within
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.moves import NEVER, Learn, Score
from thalweg.core.weigh import RowMean
from thalweg.objectives import Advantages, KlToReference, Policy, Reinforce, Sum
from thalweg.objectives.papers import dpo
from thalweg.rollouts import Pair

__all__ = ["claim"]

EVERY = (1, 10, 100, NEVER)
"""Steps between copies of the policy to the actor."""
METHODS = {
    "dpo": (Pair(), *dpo(beta=0.1).do("policy", adam())),
    "grpo": (
        Score("ref", "ref"),
        Advantages(),
        Learn(
            "policy",
            Sum({"policy": Policy(Reinforce()), "kl": KlToReference()}, {"kl": 1e-3}),
            adam(),
            weigh=RowMean(),
        ),
    ),
}
"""As the paper has them: DPO on a right and a wrong answer; GRPO without a ratio."""
ROWS = 64


def arms(size: Size) -> dict[str, Arm]:
    """Return both methods at every distance; offline, each prompt's answers are written once."""
    steps = size.pick(tiny=4, small=300)
    bandit = Bandit()
    group = 8
    once = bandit.prompts * group // ROWS
    return {
        f"{name}@{s}": online(
            Pulls(bandit, group, repeat=once if s == NEVER else None),
            moves,
            steps,
            rows=ROWS,
            every=s,
        )
        for name, moves in METHODS.items()
        for s in EVERY
    }


def judge(results: Results) -> Verdict:
    """Ten steps against one; one and ten against never."""
    parts = []
    for name in METHODS:
        passed = {s: results.of(f"{name}@{s}", "pass@1") for s in EVERY}
        gap = passed[10] - passed[1]
        parts.append(within(gap, -0.02, 0.02, f"{name}, every 10 minus 1, pass@1"))
        for s in (1, 10):
            what = f"{name}, every {s} minus never, pass@1"
            parts.append(higher(passed[s], passed[NEVER], what, by=0.05))
    return every(*parts)


claim = Claim(
    paper="arXiv:2506.21495",
    statement="DPO and GRPO end within 0.02 of online when the actor is 10 steps behind, and 0.05 "
    "or more above offline",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="A bandit with a linear softmax policy instead of Llama-3.1-8B; 300 steps; only "
    "verifiable rewards.",
    note="GRPO has no ratio here, as in the paper; the arm that copies every 100 steps is "
    "reported, not judged.",
)
