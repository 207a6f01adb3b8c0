"""Likelihood of tokens: the objective of pretraining and of supervised fine-tuning."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.protocols import Loss
from thalweg.objectives.forward import as_scored, documents_of, per_row

__all__ = ["NextToken"]


@dataclass(frozen=True)
class NextToken:
    """Negative log-likelihood of the next token: - sum of weight * log p(target | before).

    With `weigh=TokenMean()` the value is nats per target token. Reports `loss` of each source.
    """

    needs: ClassVar[tuple[str, ...]] = ("tokens", "weight")

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of these rows.

        Args:
            model: Called as ``model(tokens, document, targets_RT=..., weight_RT=...)``.
            batch: `tokens` [R, T], `weight` [R, T-1], perhaps `document` [R, T].
        """
        tokens, weight = batch["tokens"], batch["weight"]
        scored = as_scored(
            model(tokens[:, :-1], documents_of(batch), targets_RT=tokens[:, 1:], weight_RT=weight)
        )
        nats = -scored.logprobs
        value = (weight * nats).sum() if scored.loss is None else scored.loss
        return Loss(value, {}, per_row(nats, weight))
