"""The policy gradient on a batch: a surrogate, a level of the ratio, a temperature."""

from dataclasses import dataclass

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.protocols import Dial, Loss
from thalweg.objectives.forward import mean_of, score
from thalweg.objectives.surrogates import (
    Bounded,
    Clip,
    Level,
    Surrogate,
    Taken,
    importance_ratio,
    log_ratio,
)

__all__ = ["Policy"]

# R rows, T positions of a row (T - 1 targets).


@dataclass(frozen=True)
class Policy:
    """Minus the surrogate of every target, times its weight.

    Reports the means over counted targets of `entropy` and `mismatch_kl` (exp(d) - 1 - d with
    d = log pi - log pi_old: 0 on-policy if sampler and trainer agree), and the shares `clip`,
    `clip_up` (A > 0, r too large) and `clip_down` (A < 0) of targets that a bounded rule left out.
    """

    surrogate: Surrogate = Clip()
    level: Level = "token"
    """Whether a target's ratio is its own or its sequence's."""
    temperature: Dial = 1.0
    """Logits are divided by it: that of the sampler, whose log-probs are `old`."""
    weight: str = "weight"
    """The weight column."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("tokens", self.weight, "old", "advantage", *self.surrogate.needs)

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of these rows.

        Args:
            model: A language model that gives entropies.
            batch: `tokens` [R, T]; weight, `old` and `advantage` [R, T-1]; what the rule needs.
        """
        weight, old = batch[self.weight], batch["old"]
        scored = score(model, batch, temperature=self.temperature, entropy=True)
        ratio = importance_ratio(scored.logprobs, old, weight, self.level)
        columns = {name: _wide(batch[name]) for name in self.surrogate.needs}
        it = Taken(scored.logprobs, ratio, batch["advantage"], columns)
        gain = torch.where(weight > 0, self.surrogate(it), torch.zeros_like(scored.logprobs))
        sums = self._sums(it, log_ratio(scored.logprobs.detach(), old, weight), weight)
        if scored.entropy is not None:
            sums |= mean_of("entropy", scored.entropy, weight)
        return Loss(-(weight * gain).sum(), sums)

    def _sums(
        self, it: Taken, moved: torch.Tensor, weight: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        sums = mean_of("mismatch_kl", moved.exp() - 1.0 - moved, weight)
        if isinstance(self.surrogate, Bounded):
            out = self.surrogate.clipped(it).expand_as(weight)
            signs = {"clip": out, "clip_up": out & (it.advantage > 0)}
            signs["clip_down"] = out & (it.advantage < 0)
            for name, left_out in signs.items():
                sums |= mean_of(name, left_out.to(weight.dtype), weight)
        return sums


def _wide(column: torch.Tensor) -> torch.Tensor:
    """Return a column of rows [R] as [R, 1]."""
    return column[:, None] if column.dim() == 1 else column
