"""Papers as named combinations: what stands before Learn, what it minimises, what a mean runs over.

    method = METHODS["dapo"]()
    Phase(steps, Rollouts(...), (*method.do("policy", AdamW(lr=1e-6)), Copy("policy", "actor")))

Every number is a dial: `grpo(kl=Linear(0.04, 0.0))`. A method that compares with a reference adds
the Score of a model named `ref`; one that samples needs Rollouts to give `old`, `reward`, `group`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from thalweg.core.moves import Learn, Score
from thalweg.core.protocols import Dial, Move, Objective
from thalweg.core.weigh import PerRow, RowMean, TokenMean, Weigh
from thalweg.objectives.auxiliary import Entropy, Sum
from thalweg.objectives.credit import Advantages, Filter, KlPenalty, Rates
from thalweg.objectives.divergence import KlToReference
from thalweg.objectives.forward import Logprobs
from thalweg.objectives.likelihood import Likelihood
from thalweg.objectives.policy import Policy
from thalweg.objectives.preference import (
    Asymmetric,
    Forget,
    Hinge,
    Logistic,
    Preference,
    Squared,
)
from thalweg.objectives.surrogates import Cispo, Clip, Nft, Reinforce, Soft
from thalweg.optim import OptimizerSpec

__all__ = [
    "METHODS",
    "Method",
    "cispo",
    "dapo",
    "dco",
    "dpo",
    "dr_grpo",
    "grpo",
    "gspo",
    "ipo",
    "nft",
    "npo",
    "ppo_clip",
    "redi",
    "reinforce_plus_plus",
    "rloo",
    "sapo",
    "simpo",
    "slic",
]


@dataclass(frozen=True)
class Method:
    """A paper's combination."""

    before: tuple[Move, ...]
    """Moves between the source and Learn."""
    objective: Objective
    weigh: Weigh = TokenMean()

    def at(self, temperature: Dial) -> "Method":
        """Return the method for answers that were drawn at a temperature.

        All that is compared with the sampler's log-probs has its logits divided by it: the policy's
        ratio, the KL with its reference, the entropy. Losses of pairs compare with no sampler and
        stay.
        """
        if isinstance(temperature, int | float) and temperature == 1.0:
            return self
        before = tuple(
            replace(move, fn=Logprobs(temperature=temperature)) if move == _REF else move
            for move in self.before
        )
        return replace(self, before=before, objective=_at(self.objective, temperature))

    def do(
        self,
        model: str,
        optimizer: OptimizerSpec,
        *,
        passes: int = 1,
        minibatch: Dial = None,
        micro: Dial = None,
    ) -> tuple[Move, ...]:
        """Return the moves of a step: those before, and Learn.

        Args:
            model: Name of the model that learns.
            optimizer: Its optimizer.
            passes: As of Learn.
            minibatch: As of Learn.
            micro: As of Learn.
        """
        learn = Learn(
            model,
            self.objective,
            optimizer,
            passes=passes,
            minibatch=minibatch,
            micro=micro,
            weigh=self.weigh,
        )
        return (*self.before, learn)


def _at(objective: Objective, temperature: Dial) -> Objective:
    if isinstance(objective, Sum):
        parts = {name: _at(part, temperature) for name, part in objective.parts.items()}
        return replace(objective, parts=parts)
    if isinstance(objective, Policy | KlToReference | Entropy):
        return replace(objective, temperature=temperature)
    return objective


_REF = Score("ref", "ref")
_PAIR_REF = tuple(Score("ref", f"ref_{c}", fn=Logprobs(c)) for c in ("chosen", "rejected"))


def _with_kl(policy: Policy, kl: Dial, entropy: Dial) -> tuple[tuple[Move, ...], Objective]:
    """Return the moves and the loss of a policy with a k3 to a reference and an entropy bonus."""
    parts: dict[str, Objective] = {"policy": policy}
    weights: dict[str, Dial] = {}
    for name, part, weight in (("kl", KlToReference(), kl), ("entropy", Entropy(), entropy)):
        if weight != 0.0:
            parts[name], weights[name] = part, weight
    before: tuple[Move, ...] = (_REF,) if "kl" in parts else ()
    return before, Sum(parts, weights) if weights else policy


def grpo(kl: Dial = 0.04, entropy: Dial = 0.0, low: Dial = 0.2, high: Dial = 0.2) -> Method:
    """Group mean and deviation, clip, mean over each answer, k3 to a reference.

    Args:
        kl: Weight of the KL.
        entropy: Weight of the entropy bonus, a mean over each answer.
        low: How far a ratio may fall.
        high: How far it may rise.

    Source: arXiv:2402.03300.
    """
    before, objective = _with_kl(Policy(Clip(low, high)), kl, entropy)
    return Method((*before, Advantages()), objective, RowMean())


def dr_grpo(length: int, low: Dial = 0.2, high: Dial = 0.2) -> Method:
    """Group mean without a deviation, and a constant instead of lengths.

    Args:
        length: Most targets that an answer may have.
        low: How far a ratio may fall.
        high: How far it may rise.

    Source: arXiv:2503.20783.
    """
    return Method((Advantages(scale="none"),), Policy(Clip(low, high)), PerRow(length))


def dapo(low: Dial = 0.2, high: Dial = 0.28) -> Method:
    """Clip-higher, mean over all tokens, no group of equal rewards, no KL.

    Args:
        low: How far a ratio may fall.
        high: How far it may rise.

    Source: arXiv:2503.14476.
    """
    return Method((Advantages(), Filter()), Policy(Clip(low, high)), TokenMean())


def rloo(kl: Dial = 0.0) -> Method:
    """Leave-one-out baseline, REINFORCE on whole answers, KL in the reward; on-policy.

    Args:
        kl: Weight of the KL in the reward.

    Source: arXiv:2402.14740.
    """
    penalty: tuple[Move, ...] = (_REF, KlPenalty(kl)) if kl != 0.0 else ()
    advantages = Advantages(baseline="leave_one_out", scale="none")
    return Method((*penalty, advantages), Policy(Reinforce()), PerRow())


def reinforce_plus_plus(kl: Dial = 0.0, low: Dial = 0.2, high: Dial = 0.2) -> Method:
    """Rewards whitened over the batch, clip, mean over all tokens.

    Args:
        kl: Weight of the KL in the reward.
        low: How far a ratio may fall.
        high: How far it may rise.

    Source: arXiv:2501.03262, with the KL summed over an answer instead of from each token on.
    """
    penalty: tuple[Move, ...] = (_REF, KlPenalty(kl)) if kl != 0.0 else ()
    advantages = Advantages(baseline="batch", scale="batch")
    return Method((*penalty, advantages), Policy(Clip(low, high)), TokenMean())


def gspo(low: Dial = 3e-4, high: Dial = 4e-4) -> Method:
    """The ratio of a whole answer, clipped; mean over answers.

    Args:
        low: How far a ratio may fall.
        high: How far it may rise.

    Source: arXiv:2507.18071.
    """
    return Method((Advantages(),), Policy(Clip(low, high), level="sequence"), RowMean())


def cispo(cap: Dial = 5.0) -> Method:
    """Bounded weights without dead tokens; mean over all tokens.

    Args:
        cap: Largest ratio.

    Source: arXiv:2506.13585.
    """
    return Method((Advantages(),), Policy(Cispo(cap)), TokenMean())


def sapo(tau: Dial = 1.0, tau_negative: Dial = 1.05) -> Method:
    """A soft gate instead of the clip; mean over each answer.

    Args:
        tau: Steepness where the advantage is positive.
        tau_negative: Steepness elsewhere.

    Source: arXiv:2511.20347.
    """
    return Method((Advantages(),), Policy(Soft(tau, tau_negative)), RowMean())


def nft(negative: Dial = 1.0) -> Method:
    """Supervised learning on right and wrong answers; sums over tokens by a constant.

    Args:
        negative: Weight of wrong answers; 0 is fine-tuning on right ones.

    Source: arXiv:2505.18116; the constant is the released code's 1,000 a row.
    """
    moves = (Advantages(scale="none"), Rates(), Filter())
    return Method(moves, Policy(Nft(negative=negative)), PerRow(1000.0))


def ppo_clip(dual: Dial = 3.0) -> Method:
    """The clipped surrogate with the dual bound; its advantages are Gae's or Advantages'.

    Args:
        dual: Largest ratio that counts where the advantage is negative.

    Source: arXiv:1707.06347, arXiv:1912.09729.
    """
    return Method((), Policy(Clip(dual=dual)), TokenMean())


def dpo(beta: Dial = 0.1) -> Method:
    """The logistic link on log-probs against a reference.

    Args:
        beta: Scale of a score.

    Source: arXiv:2305.18290.
    """
    return Method(_PAIR_REF, Preference(Logistic(beta)))


def ipo(beta: Dial = 0.1) -> Method:
    """The squared link on means over tokens against a reference.

    Args:
        beta: The aimed margin is 1 / (2 beta).

    Source: arXiv:2310.12036, averaged over tokens as its authors advise.
    """
    return Method(_PAIR_REF, Preference(Squared(beta), normalise="mean"))


def slic(beta: Dial = 0.1) -> Method:
    """The hinge link on log-probs against a reference.

    Args:
        beta: Scale of a score.

    Source: arXiv:2305.10425, as in arXiv:2309.06657.
    """
    return Method(_PAIR_REF, Preference(Hinge(beta)))


def simpo(beta: Dial = 2.0, margin: Dial = 1.0) -> Method:
    """The logistic link with a margin on means over tokens; no reference.

    Args:
        beta: Scale of a score.
        margin: What a pair is to reach beyond 0.

    Source: arXiv:2405.14734.
    """
    return Method((), Preference(Logistic(beta, margin), normalise="mean", reference=False))


def redi(alpha: Dial = 0.8) -> Method:
    """Likelihood of right answers less alpha times that of wrong ones, means over tokens.

    Args:
        alpha: Weight of wrong answers.

    Source: arXiv:2505.24850, eq. (5).
    """
    return Method((), Preference(Asymmetric(alpha), normalise="mean", reference=False))


def npo(beta: Dial = 0.1) -> Method:
    """Unlearn answers against a reference; sums over tokens, mean over rows.

    Args:
        beta: Small is gradient ascent.

    Source: arXiv:2404.05868.
    """
    return Method((_REF,), Forget(beta), PerRow())


def dco(coverage: Dial = 16.0) -> Method:
    """The chance that one of N samples is the answer; mean over each answer.

    Args:
        coverage: N.

    Source: arXiv:2502.07154.
    """
    return Method((), Likelihood(coverage), RowMean())


METHODS: Mapping[str, Callable[..., Method]] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "dapo": dapo,
    "rloo": rloo,
    "reinforce_plus_plus": reinforce_plus_plus,
    "gspo": gspo,
    "cispo": cispo,
    "sapo": sapo,
    "nft": nft,
    "ppo_clip": ppo_clip,
    "dpo": dpo,
    "ipo": ipo,
    "slic": slic,
    "simpo": simpo,
    "redi": redi,
    "npo": npo,
    "dco": dco,
}
"""By name, for recipes."""
