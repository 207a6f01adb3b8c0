"""T1: many hot samples a prompt, an entropy bonus, and an anchor that follows the policy."""

from thalweg.atlas.bandit import Bandit, Exact, Pulls, Softmax, adam, online
from thalweg.atlas.verdict import every, higher
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.moves import Copy, Learn, Score
from thalweg.core.protocols import Move, Objective
from thalweg.core.recipe import Recipe
from thalweg.objectives import Advantages, Entropy, KlToReference, Logprobs, Policy, Sum

__all__ = ["claim"]

WORLD = Bandit(prompts=256)
HOT = 1.2
"""Temperature of sampling and of the loss."""
KL = 0.1
"""Weight of the KL where there is an anchor."""


def method(anchor: str = "none", entropy: float = 1e-3) -> tuple[Move, ...]:
    """Return the moves: leave-one-out, whitened; an anchor that is frozen, or follows by 1 %."""
    parts: dict[str, Objective] = {
        "policy": Policy(temperature=HOT),
        "entropy": Entropy(temperature=HOT),
    }
    weights = {"entropy": entropy}
    before: tuple[Move, ...] = ()
    if anchor != "none":
        before = (Score("ref", "ref", fn=Logprobs(temperature=HOT)),)
        parts, weights = parts | {"kl": KlToReference(temperature=HOT)}, weights | {"kl": KL}
    after = (Copy("policy", "ref", mix=0.01),) if anchor == "follows" else ()
    learn = Learn("policy", Sum(parts, weights), adam())
    return (*before, Advantages("leave_one_out", "batch"), learn, *after)


def arms(size: Size) -> dict[str, Arm]:
    """Return K of 4, 16 and 64 on 8 prompts a step, K = 4 on 128, and the anchors at K = 16."""
    steps = size.pick(tiny=4, small=150)

    def run(group: int, prompts: int, moves: tuple[Move, ...]) -> Recipe:
        return online(
            Pulls(WORLD, group, temperature=HOT),
            moves,
            steps,
            model=Softmax(WORLD, skill=0.5),
            rows=group * prompts,
            monitors=(Exact(WORLD, (1, 16)),),
        )

    return {
        "K=4": run(4, 8, method()),
        "K=16": run(16, 8, method()),
        "K=64": run(64, 8, method()),
        "K=4 on 128": run(4, 128, method()),
        "no bonus": run(16, 8, method(entropy=0.0)),
        "frozen": run(16, 8, method("frozen")),
        "follows": run(16, 8, method("follows")),
    }


def judge(results: Results) -> Verdict:
    """More samples at equal steps, and at equal samples; the anchor that follows."""
    passed = {name: results.of(name, "pass@1") for name in results.arms}
    return every(
        higher(passed["K=64"], passed["K=4"], "K = 64 minus 4, equal steps, pass@1", by=0.03),
        higher(passed["K=64"], passed["K=4 on 128"], "K = 64 minus 4, equal samples, pass@1"),
        higher(passed["follows"], passed["frozen"], "anchor that follows minus frozen, pass@1"),
    )


claim = Claim(
    paper="arXiv:2501.11651",
    statement="64 samples a prompt end 0.03 above 4 at equal steps and above them at equal samples "
    "too, and an anchor that follows allows more than a frozen one",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="A bandit with a linear softmax policy instead of Qwen2.5-32B; temperature, entropy "
    "weight and rate of the anchor are guesses, the paper's are not known to us; no penalties.",
    note="At equal samples K = 4 sees 128 prompts a step and K = 64 sees 8. The arm without an "
    "entropy bonus is reported, not judged.",
)
