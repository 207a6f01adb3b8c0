"""How a token is drawn: temperature, what is cut off, when a row ends.

Inverse of the distribution function at one uniform number a row: the token is the first whose
cumulative probability exceeds it. Drawing noise for the whole vocabulary instead (Gumbel,
multinomial) cost 2.6 of 7 to 16 ms a step on the 10M model.

The log-prob that is kept is that of the whole distribution after temperature, in float32. Cutting
the distribution (top-k, top-p, min-p) raises the probability of what is left by the mass that was
cut, which the trainer's log-probs know nothing of; so `Rollouts` refuses it.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from thalweg.core.protocols import Dial
from thalweg.errors import DialError

__all__ = ["Drawn", "Sampling", "draw"]

# R rows, V vocabulary.


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are written.

    Example:
        >>> Sampling(temperature=0.6, top_p=0.95).exact
        False
    """

    new_tokens: Dial = 128
    """Most tokens of an answer, its end included."""
    temperature: Dial = 1.0
    """Logits are divided by it; 0 takes the likeliest token."""
    top_k: Dial = 0
    """Only the k likeliest tokens; 0: all."""
    top_p: Dial = 1.0
    """Only the likeliest tokens that together have this probability, in (0, 1]."""
    min_p: Dial = 0.0
    """Only tokens of at least this share of the likeliest one's probability, in [0, 1)."""
    stop_ids: tuple[int, ...] = ()
    """Token ids that end an answer, besides the tokenizer's end-of-text. They belong to it."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer. Their tokens belong to it; the text that is judged ends before."""

    @property
    def exact(self) -> bool:
        """Whether tokens are drawn from the model's own distribution."""
        return self.temperature == 1 and not self.cut

    @property
    def cut(self) -> bool:
        """Whether unlikely tokens are left out."""
        return bool(self.top_k > 0 or self.top_p < 1 or self.min_p > 0)

    def check(self, where: str) -> None:
        """Refuse numbers out of range; called once the dials are frozen.

        Raises:
            DialError: Says which number, and its range.
        """
        limits = {
            "new_tokens": (self.new_tokens >= 0, "0 or more"),
            "temperature": (0 <= self.temperature < math.inf, "0 or more, finite"),
            "top_k": (self.top_k >= 0, "0 (all) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0, at most 1"),
            "min_p": (0 <= self.min_p < 1, "0 or more, below 1"),
        }
        for name, (right, expected) in limits.items():
            if not right:
                given = f"{name}={getattr(self, name)}"
                raise DialError(given, expected=expected, where=where, write=f"{name}=1")
        if "" in self.stop:
            raise DialError(
                "an empty stop text", expected="text", where=where, write='stop=("\\n",)'
            )


class Drawn(NamedTuple):
    """One token a row."""

    tokens_R: torch.Tensor
    """int64 [R]."""
    logprobs_R: torch.Tensor
    """float32 [R], nats: under the whole distribution, after temperature (at 0: without it)."""


def draw(logits_RV: torch.Tensor, uniform_R: torch.Tensor, how: Sampling = Sampling()) -> Drawn:
    """Return one token a row: the first whose cumulative probability exceeds the row's uniform.

    Args:
        logits_RV: Any float dtype; probabilities are computed in float32.
        uniform_R: Numbers in [0, 1).
        how: Temperature and cuts. The token that crosses `top_p` is kept.

    Example:
        >>> draw(torch.tensor([[0.0, 9.0, 0.0]]), torch.tensor([0.5])).tokens_R.tolist()
        [1]
    """
    scores_RV = logits_RV.float()
    if how.temperature not in (0, 1):
        scores_RV = scores_RV / how.temperature
    if how.temperature == 0:
        chosen_R = scores_RV.argmax(-1)
        return Drawn(chosen_R, scores_RV.log_softmax(-1).gather(1, chosen_R[:, None])[:, 0])
    share_RV = scores_RV.softmax(-1)
    chosen_R = _invert(_cut(share_RV, how) if how.cut else share_RV, uniform_R)
    return Drawn(chosen_R, share_RV.gather(1, chosen_R[:, None])[:, 0].log())


def _cut(share_RV: torch.Tensor, how: Sampling) -> torch.Tensor:
    """Return the probabilities with 0 for what is left out; they are not normalised again."""
    sorted_RV, order_RV = share_RV.sort(stable=True, dim=-1, descending=True)
    keeps_RV = sorted_RV >= how.min_p * sorted_RV[:, :1]
    if how.top_k > 0:
        keeps_RV[:, int(how.top_k) :] = False
    kept_RV = sorted_RV * keeps_RV
    if how.top_p < 1:
        before_RV = (kept_RV.cumsum(-1) - kept_RV) / kept_RV.sum(-1, keepdim=True)
        kept_RV = kept_RV.masked_fill(before_RV >= how.top_p, 0.0)
    return torch.zeros_like(share_RV).scatter(1, order_RV, kept_RV)


def _invert(share_RV: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    """Return the first index whose cumulative share exceeds the uniform; never one of share 0.

    A uniform just below 1 may round to 1, so the number that is sought stays below the whole.
    """
    cumulated_RV = share_RV.cumsum(-1)
    whole_R1 = cumulated_RV[:, -1:]
    below_R1 = torch.nextafter(whole_R1, torch.zeros_like(whole_R1))
    at_R1 = torch.minimum(uniform_R.to(share_RV)[:, None] * whole_R1, below_R1)
    return torch.searchsorted(cumulated_RV, at_R1, right=True)[:, 0]
