"""GRPO's variants: what a mean over answers, a higher clip and a filter of groups change."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from thalweg.atlas.bandit import (
    Bandit,
    Exact,
    Pulls,
    Softmax,
    adam,
    online,
    policy_of,
    read_logprobs,
)
from thalweg.atlas.verdict import at_least, at_most, every, higher
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.protocols import Context, Dial
from thalweg.core.recipe import Recipe
from thalweg.core.time import Span, share
from thalweg.objectives import Filter
from thalweg.objectives.papers import Method, dapo, dr_grpo, grpo

__all__ = ["claim"]

TALKER = Bandit(length=16, stops=True)
"""Only the first token decides, and answers say more before they stop."""


@dataclass(frozen=True)
class WrongLength:
    """Mean length of wrong answers, tokens, from the policy's probabilities."""

    bandit: Bandit
    every: Dial | Span = field(default_factory=lambda: share(0.1))

    @torch.no_grad()
    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return the number."""
        policy = policy_of(ctx.models["policy"].module)
        p_QV = read_logprobs(policy, range(self.bandit.prompts))[:, 0].exp()
        wrong_QV = p_QV * ~torch.from_numpy(self.bandit.is_right[:, 0])
        on_V = 1.0 - torch.softmax(policy.u_VV.cpu(), 1)[:, -1]
        length_V = 1.0 + torch.stack([on_V**k for k in range(self.bandit.length - 1)]).sum(0)
        return {"wrong_length": float((wrong_QV * length_V).sum() / wrong_QV.sum())}


def arms(size: Size) -> dict[str, Arm]:
    """Return GRPO and DAPO, what differs between them alone, no learning, and two that talk."""
    steps = size.pick(tiny=4, small=150)

    def run(method: Method, bandit: Bandit = Bandit(), lr: float = 0.03) -> Recipe:
        return online(Pulls(bandit), method.do("policy", adam(lr), minibatch=16), steps)

    def talk(method: Method) -> Recipe:
        made = online(Pulls(TALKER), method.do("policy", adam()), steps, model=Softmax(TALKER))
        watched = (Exact(TALKER), WrongLength(TALKER))
        return replace(made, phases=(replace(made.phases[0], monitors=watched),))

    whole = dapo()
    unfiltered = tuple(move for move in whole.before if not isinstance(move, Filter))
    return {
        "grpo": run(grpo(kl=0.0)),
        "dapo": run(whole),
        "unfiltered": run(replace(whole, before=unfiltered)),
        "clip-higher": run(grpo(kl=0.0, high=0.28)),
        "still": run(grpo(kl=0.0), lr=0.0),
        "talk-grpo": talk(grpo(kl=0.0)),
        "talk-dr-grpo": talk(dr_grpo(length=TALKER.length)),
    }


def judge(results: Results) -> Verdict:
    """Length of wrong answers, entropy under clip-higher, rows saved by the filter, mismatch."""
    long, short = (results.of(f"talk-{name}", "wrong_length") for name in ("grpo", "dr-grpo"))
    wide, narrow = (results.of(name, "entropy") for name in ("clip-higher", "grpo"))
    some, every_row = (results.of(name, "tokens/pulls") for name in ("dapo", "unfiltered"))
    passed = {name: results.of(name, "pass@1") for name in ("dapo", "unfiltered")}
    mismatch = results.of("still", "mismatch_kl")
    return every(
        higher(long, short, "wrong answers, GRPO minus Dr.GRPO, tokens"),
        higher(wide, narrow, "clip-higher minus clip, entropy, nats"),
        at_least(1 - some / every_row, 0.2, "rows that the filter saves, share"),
        higher(passed["dapo"], passed["unfiltered"], "filter minus none, pass@1", by=-0.01),
        at_most(abs(mismatch), 1e-6, "sampler against trainer at rate 0, nats"),
    )


claim = Claim(
    paper="arXiv:2402.03300",
    statement="GRPO's wrong answers grow longer than Dr.GRPO's, a higher clip keeps entropy, a "
    "filter of groups saves a fifth of the rows at equal pass@1, and sampler and trainer agree",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="A bandit with a linear softmax policy instead of a language model; four updates a "
    "batch, so that ratios move; lengths on a policy that decides when to stop.",
    note="From arXiv:2503.20783 (lengths) and arXiv:2503.14476 (clip, filter). Nothing is "
    "claimed of which variant wins. A filtered batch has fewer minibatches, so fewer updates. "
    "That sampler and trainer agree holds by construction: a bandit has one way to compute both.",
)
