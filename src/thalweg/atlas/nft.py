"""NFT: supervised learning on right and wrong answers does what policy gradients do."""

import torch

from thalweg.atlas.bandit import Bandit, Pulls, Softmax, adam, online
from thalweg.atlas.verdict import at_most, every, higher, within
from thalweg.core.batch import Batch
from thalweg.core.claim import Arm, Claim, Metrics, Results, Size, Verdict
from thalweg.core.protocols import Context
from thalweg.core.rng import rng
from thalweg.core.time import Time
from thalweg.objectives import Advantages, Clip, Nft, Policy, Rates
from thalweg.objectives.papers import dapo, dr_grpo, nft

__all__ = ["claim"]

METHODS = {
    "rft": nft(negative=0.0),
    "nft": nft(),
    "dr-grpo": dr_grpo(length=1),
    "dapo": dapo(),
}


def identities(seed: int) -> Metrics:
    """Return how far NFT's gradient is from Dr.GRPO's and GRPO's, on-policy, in float64."""
    bandit = Bandit()
    module = Softmax(bandit).build(seed).double()
    draw = rng(seed, "identity")
    prompts_R = torch.arange(bandit.prompts).repeat_interleave(8)
    drawn_R1 = torch.from_numpy(draw.integers(bandit.answers, size=(len(prompts_R), 1)))
    reward_R = torch.from_numpy(draw.integers(2, size=len(prompts_R)).astype(float))
    old = module.logprobs(prompts_R).detach().gather(2, drawn_R1[..., None]).squeeze(2)
    batch = Batch(
        {
            "tokens": torch.cat([prompts_R[:, None], drawn_R1], 1),
            "weight": torch.ones(len(prompts_R), 1, dtype=torch.float64),
            "old": old,
            "reward": reward_R,
            "group": prompts_R,
        }
    )
    ctx = Context(Time(0))
    rated = Rates(margin=1e-6)(batch, ctx)

    def gradient(rule: Clip | Nft, advantages: Advantages) -> torch.Tensor:
        mixed = (rated["rate"] > 0.01) & (rated["rate"] < 0.99)
        made = advantages(rated.take(mixed.nonzero()[:, 0]), ctx)
        module.zero_grad()
        Policy(rule)(module, made).value.backward()  # type: ignore[no-untyped-call]  # untyped
        assert module.w_TDV.grad is not None
        return module.w_TDV.grad.clone()

    gaps = {}
    for name, omega, credit in (
        ("dr_grpo", Nft("miss"), Advantages(scale="none")),
        ("grpo", Nft("odds"), Advantages(population=True, eps=0.0)),
    ):
        theirs, ours = gradient(Clip(), credit), gradient(omega, Advantages(scale="none"))
        gaps[name] = float((ours - theirs).norm() / theirs.norm())
    return gaps


def arms(size: Size) -> dict[str, Arm]:
    """Return the identities, and four methods on the same number of answers."""
    steps = size.pick(tiny=3, small=60)
    bandit = Bandit()
    model = Softmax(bandit, skill=0.5)
    return {
        "identities": identities,
        **{
            name: online(
                Pulls(bandit),
                method.do("policy", adam(0.01), minibatch=16),
                steps,
                model=model,
                rows=128,
            )
            for name, method in METHODS.items()
        },
    }


def judge(results: Results) -> Verdict:
    """Both identities; NFT against right answers alone, and against DAPO."""
    passed = {name: results.of(name, "pass@1") for name in METHODS}
    gap = passed["nft"] - passed["dapo"]
    return every(
        at_most(results.of("identities", "dr_grpo"), 1e-9, "gradient against Dr.GRPO's, relative"),
        at_most(results.of("identities", "grpo"), 1e-9, "gradient against GRPO's, relative"),
        higher(passed["nft"], passed["rft"], "NFT minus right answers alone, pass@1", by=0.03),
        within(gap, -0.02, 0.02, "NFT minus DAPO, pass@1"),
    )


claim = Claim(
    paper="arXiv:2505.18116",
    statement="On-policy NFT has the gradient of Dr.GRPO or GRPO by its weights; off-policy it "
    "ends 0.03 above learning from right answers alone and within 0.02 of DAPO",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="A bandit with a linear softmax policy instead of Qwen2.5-7B; eight updates a "
    "batch, 60 batches of 128 answers.",
    note="The identities hold with the deviation of the population (n, not n - 1). They are "
    "algebra: the first two parts test our code; the last two compare runs.",
)
