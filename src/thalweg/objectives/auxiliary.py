"""Sums of objectives with scheduled weights, the entropy bonus, and the value of a critic.

A paper's loss is a Sum of parts. Each part has its own weight column, made with its own mean by
`Learn(weigh=Each({...}))`, and its own coefficient, which is a dial: pretraining into fine-tuning
into RL is a matter of schedules. Parts ask the model once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.protocols import Dial, Loss, Objective
from thalweg.errors import RecipeError, did_you_mean
from thalweg.objectives.forward import documents_of, mean_of, once, score

__all__ = ["Entropy", "Sum", "ValueLoss", "Values"]

# R rows, T positions of a row (T - 1 targets).


@dataclass(frozen=True)
class Sum:
    """The sum over parts of coefficient times loss.

    Reports the first part's metrics under plain names, those of others under `NAME/`.

    Example:
        >>> from thalweg.objectives import Entropy, Policy
        >>> Sum({"policy": Policy(), "entropy": Entropy()}, {"entropy": 1e-3}).needs
        ('tokens', 'weight', 'old', 'advantage')
    """

    parts: Mapping[str, Objective]
    weights: Mapping[str, Dial] = field(default_factory=dict)
    """Coefficients; 1 where a part has none."""

    def __post_init__(self) -> None:
        """Refuse a coefficient of a part that is not there.

        Raises:
            RecipeError: No parts, or a name that is not of a part.
        """
        unknown = [name for name in self.weights if name not in self.parts]
        if unknown or not self.parts:
            raise RecipeError(
                f"weights of {list(self.weights)} for parts {list(self.parts)}",
                expected="one part or more, and weights of parts",
                where="Sum.weights",
                write=did_you_mean(unknown[0], self.parts) if unknown else "parts={...}",
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns that any part reads."""
        return tuple(dict.fromkeys(c for part in self.parts.values() for c in part.needs))

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of these rows.

        Args:
            model: A language model.
            batch: What the parts need.
        """
        shared = once(model)
        found = {name: part(shared, batch) for name, part in self.parts.items()}
        value = torch.stack([self.weights.get(n, 1.0) * x.value for n, x in found.items()]).sum()
        sums: dict[str, torch.Tensor] = {}
        rows: dict[str, torch.Tensor] = {}
        for number, (name, loss) in enumerate(found.items()):
            prefix = f"{name}/" if number else ""
            sums |= {prefix + key: metric for key, metric in loss.sums.items()}
            rows |= {prefix + key: metric for key, metric in loss.rows.items()}
        return Loss(value, sums, rows)


@dataclass(frozen=True)
class Entropy:
    """Minus the entropy of every counted place, to be kept high: - sum of weight * H.

    H is that of the whole softmax at the temperature. Reports `entropy`, nats a target.
    """

    temperature: Dial = 1.0
    weight: str = "weight"
    """The weight column."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("tokens", self.weight)

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of these rows.

        Args:
            model: A language model that gives entropies.
            batch: `tokens` [R, T] and weight [R, T-1].
        """
        weight = batch[self.weight]
        entropy = score(model, batch, temperature=self.temperature, entropy=True).entropy
        assert entropy is not None  # asked for
        return Loss(-(weight * entropy).sum(), mean_of("entropy", entropy, weight))


@dataclass(frozen=True)
class Values:
    """For Score: the value of each target's state [R, T-1], the first logit of a critic.

    A critic is any language model, such as a copy of the policy; one logit of it is trained.
    """

    needs: ClassVar[tuple[str, ...]] = ("tokens",)

    def __call__(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the values, float32."""
        logits: torch.Tensor = model(batch["tokens"][:, :-1], documents_of(batch))
        return logits[..., 0].to(torch.promote_types(logits.dtype, torch.float32))


@dataclass(frozen=True)
class ValueLoss:
    """Half the squared error of a critic, with its change bounded.

    max((v - y)^2, (clip(v, v_old - c, v_old + c) - y)^2) / 2.

    Source: arXiv:2005.12729, sec. 3 (what implementations of PPO do).
    """

    clip: Dial = 0.2
    """c; None for none."""
    weight: str = "weight"
    """The weight column."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("tokens", self.weight, "target_value", "value")

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of these rows.

        Args:
            model: The critic.
            batch: `tokens` [R, T]; weight, `target_value` and `value` [R, T-1].
        """
        weight, target, old = batch[self.weight], batch["target_value"], batch["value"]
        value = Values()(model, batch)
        error = (value - target) ** 2
        if self.clip is not None:
            near = old + (value - old).clamp(-self.clip, self.clip)
            error = torch.maximum(error, (near - target) ** 2)
        return Loss(0.5 * (weight * error).sum(), mean_of("value_error", error, weight))
