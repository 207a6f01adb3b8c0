"""Whether the sampler and the trainer agree on what the sampler wrote."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.moves import logprobs
from thalweg.core.protocols import Context, Dial

__all__ = ["Mismatch"]


@dataclass(frozen=True)
class Mismatch:
    """Report how far a model's log-probs of the answers are from those stored by their writer.

    With d = model - stored over the tokens of weight > 0: `engine_kl` = mean(exp(d) - 1 - d),
    an estimate of KL(writer || model), and `engine_max` = max |d|. Placed before Learn with the
    actor it measures the two engines alone: 0 but for rounding (float32 below 1e-8, bfloat16
    below 1e-3). With the policy it also holds how stale the rows are. Costs a forward pass.
    """

    model: str = "actor"
    every: Dial = 10
    """Steps between measurements."""
    micro: Dial = None
    """Tokens of a forward pass on one rank; None for all."""

    fn: Callable[[nn.Module, Batch], torch.Tensor] = logprobs
    """Log-probs of the targets [R, T-1]; with a temperature if the sampler has one."""

    needs: ClassVar[tuple[str, ...]] = ("tokens", "weight", "old")
    makes: ClassVar[tuple[str, ...]] = ()

    @property
    def name(self) -> str:
        """Return `mismatch.MODEL`."""
        return f"mismatch.{self.model}"

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch unchanged."""
        if int(ctx.time.step) % max(int(self.every), 1):
            return batch
        counts = batch["weight"] > 0
        if "group" in batch:  # nobody drew a demonstration: what it stored is no log-prob
            counts &= (batch["group"] >= 0)[:, None]
        now = ctx.models[self.model].score(self.fn, batch, micro=self.micro)
        gap = (now - batch["old"])[counts].double()
        if len(gap):
            kl = float((gap.exp() - 1 - gap).mean())
            ctx.log({"engine_kl": kl, "engine_max": float(gap.abs().max())})
        return batch
