"""Hold a model's hidden states, on general text, near where its first version had them (GeRe).

    source  Mixture of the new text and, say, a tenth of general text that is replayed
    do      WeightOf("general_weight", values=(1,)), Score("ref", "ref_hidden", fn=Hidden()),
            Margins(), Learn("policy", ThresholdMargin(NextToken()), ...)

For each feature, low and high are mean -+ std of the first model's states on the general text. A
feature that was h0 there and is h now counts

    relu(h - low) where h0 <= low,  relu(high - h) where h0 >= high,  and between the two
    relu(h - high) + relu(low - h)

so it may move within its third for free. The authors' low and high are those of their whole set of
texts, computed once; here they are those of the general rows of the batch, so that nothing has to
be prepared or kept. They divide by the number of features that have left, over a micro-batch, which
depends on how rows are split; here each place is divided by its own number, and places are averaged
by their weight, so the loss is a sum over rows.

Source: arXiv:2508.04676 and its code (GeRe, threshold-based margin loss).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, cast

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, Dial, Loss, Objective
from thalweg.errors import RecipeError
from thalweg.objectives.forward import Asking, mean_of

__all__ = ["Hidden", "Margins", "ThresholdMargin", "Thresholds", "departures", "thresholds"]

# R rows, T targets of a row, D width.


class Thresholds(NamedTuple):
    """Where the middle third of each feature begins and ends, [D] each."""

    low: torch.Tensor
    high: torch.Tensor


def thresholds(hidden_RTD: torch.Tensor, weight_RT: torch.Tensor) -> Thresholds:
    """Return mean - std and mean + std of each feature over all places that count.

    Args:
        hidden_RTD: The first model's last hidden states.
        weight_RT: Places with a weight of 0 are left out.

    Example:
        >>> found = thresholds(torch.tensor([[[0.0], [2.0]]]), torch.ones(1, 2))
        >>> found.low.item(), found.high.item()
        (0.0, 2.0)
    """
    counted_ND = hidden_RTD[weight_RT > 0]
    if not len(counted_ND):
        return Thresholds(*2 * [hidden_RTD.new_zeros(hidden_RTD.shape[-1])])
    mean_D, std_D = counted_ND.mean(0), counted_ND.std(0, correction=0)
    return Thresholds(mean_D - std_D, mean_D + std_D)


def departures(
    hidden_RTD: torch.Tensor,
    first_RTD: torch.Tensor,
    low: torch.Tensor,
    high: torch.Tensor,
) -> torch.Tensor:
    """Return how far each feature has left the third where the first model had it, [R, T, D].

    Args:
        hidden_RTD: Hidden states now.
        first_RTD: Those of the first model on the same rows.
        low: Below it is the low third; [D], or of each row [R, 1, D].
        high: Above it is the high third.

    Example:
        >>> now, first = torch.tensor([[[1.5, -2.0]]]), torch.tensor([[[0.0, -3.0]]])
        >>> departures(now, first, torch.tensor(-1.0), torch.tensor(1.0)).tolist()
        [[[0.5, 0.0]]]
    """
    above, below = (hidden_RTD - high).relu(), (low - hidden_RTD).relu()
    stay_high = torch.where(first_RTD >= high, (high - hidden_RTD).relu(), above + below)
    return torch.where(first_RTD <= low, (hidden_RTD - low).relu(), stay_high)


@dataclass(frozen=True)
class Hidden:
    """For Score: the last hidden states of general rows [R, T-1, D]; zeros in other rows.

    Example:
        >>> from thalweg.core.moves import Score
        >>> Score("ref", "ref_hidden", fn=Hidden()).needs
        ('tokens', 'general_weight')
    """

    weight: str = "general_weight"
    """The weight column; rows without any weight are not computed."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("tokens", self.weight)

    def __call__(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the states."""
        chosen_N = (batch[self.weight] > 0).any(1).nonzero()[:, 0]
        if not len(chosen_N):  # every rank must call the model alike
            chosen_N = chosen_N.new_zeros(1)
        found_NTD = _states(model, batch, chosen_N)
        empty_RTD = found_NTD.new_zeros(batch.rows, *found_NTD.shape[1:])
        return empty_RTD.index_copy(0, chosen_N, found_NTD)


@dataclass(frozen=True)
class Margins:
    """Add `ref_margins` [R, 2, D]: low and high of each feature over the batch's general rows."""

    weight: str = "general_weight"
    """The weight column."""

    name: ClassVar[str] = "margins"
    makes: ClassVar[tuple[str, ...]] = ("ref_margins",)

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        return ("ref_hidden", self.weight)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the column; all of its rows are the same."""
        found_2D = torch.stack(thresholds(batch["ref_hidden"], batch[self.weight]))
        return batch.plus({"ref_margins": found_2D.expand(batch.rows, -1, -1)})


@dataclass(frozen=True)
class ThresholdMargin:
    """An objective, and on general text a price on hidden states that have left their third.

    inner + scale * sum of weight * mean of the departures of a place. Exactly 0 beside the inner
    loss, and without gradient, where nothing has left. Reports `margin`, that mean.

    Example:
        >>> from thalweg.objectives import NextToken
        >>> ThresholdMargin(NextToken()).needs
        ('tokens', 'weight', 'general_weight', 'ref_hidden', 'ref_margins')
    """

    inner: Objective
    """What is learned; it reads `tokens`."""
    scale: Dial = 100.0
    """What a departure of 1 costs; of the authors' code."""
    over: Literal["left", "all"] = "left"
    """A place's mean runs over features that have left, so it does not fade, or over all."""
    weight: str = "general_weight"
    """The weight column of general rows."""

    def __post_init__(self) -> None:
        """Refuse an objective without tokens, whose model has no states to hold.

        Raises:
            RecipeError: The inner objective does not read tokens.
        """
        if "tokens" not in self.inner.needs:
            raise RecipeError(
                f"an objective that reads {', '.join(self.inner.needs)}",
                expected="one that reads 'tokens'",
                where="ThresholdMargin.inner",
                write="ThresholdMargin(NextToken())",
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        ours = (self.weight, "ref_hidden", "ref_margins")
        return tuple(dict.fromkeys((*self.inner.needs, *ours)))

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of these rows.

        Args:
            model: A language model that shows its hidden states.
            batch: What the inner objective needs; general weight [R, T-1], `ref_hidden`
                [R, T-1, D] and `ref_margins` [R, 2, D].
        """
        asked = Asking(model, "hidden")
        inner = self.inner(cast(nn.Module, asked), batch)  # called as a module is, nothing else
        hidden = asked.first.hidden if asked.first is not None else None
        if hidden is None:  # the inner objective has asked for logits
            hidden = _states(model, batch, torch.arange(batch.rows))
        wide = torch.promote_types(hidden.dtype, torch.float32)
        low, high = batch["ref_margins"][:, :1], batch["ref_margins"][:, 1:]
        term_RTD = departures(hidden.to(wide), batch["ref_hidden"], low, high)
        left_RT = (term_RTD > 0).sum(-1).clamp_min(1)
        each_RT = term_RTD.sum(-1) / (left_RT if self.over == "left" else term_RTD.shape[-1])
        weight = batch[self.weight]
        value = inner.value + self.scale * (weight * each_RT).sum()
        return Loss(value, {**inner.sums, **mean_of("margin", each_RT, weight)}, inner.rows)


def _states(model: nn.Module, batch: Batch, rows_N: torch.Tensor) -> torch.Tensor:
    document = batch["document"][rows_N, :-1] if "document" in batch else None
    found: torch.Tensor = model(batch["tokens"][rows_N, :-1], document, hidden=True)
    return found.to(torch.promote_types(found.dtype, torch.float32))
