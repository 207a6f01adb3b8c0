"""How objectives ask a language model, and how several ask it once.

An objective asks for log-probs of a column of tokens by `score`. Inside a Sum the model is wrapped
in `Once`, which remembers every answer, so that a policy loss, a KL term and an entropy bonus share
one forward pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.protocols import Dial, Scored
from thalweg.errors import RecipeError
from thalweg.models.shared import Shared
from thalweg.objectives.prompts import shared_prompts, side_by_side

__all__ = [
    "Asking",
    "Logprobs",
    "Once",
    "Sequences",
    "as_scored",
    "by_sequence",
    "documents_of",
    "mean_of",
    "once",
    "per_row",
    "score",
    "score_all",
    "sequences",
]

# R rows, T positions of a row (T - 1 targets), S sequences of a row.


def score(
    model: nn.Module,
    batch: Batch,
    column: str = "tokens",
    *,
    temperature: float = 1.0,
    entropy: bool = False,
) -> Scored:
    """Return the log-probs of the targets of a column, and their entropies if asked for.

    Args:
        model: Called as ``model(tokens, document, targets_RT=...)``; `temperature=` and `entropy=`
            are given only where they are not 1 and False.
        batch: Has the column, int64 [R, T]; `document` keeps the parts of `tokens` apart.
        column: `tokens`, or the answers of a pair.
        temperature: Logits are divided by it, above 0; that of the sampler.
        entropy: Whether the model is asked for entropies [R, T-1], nats, too.
    """
    return score_all(model, batch, (column,), temperature=temperature, entropy=entropy)[0]


def score_all(
    model: nn.Module,
    batch: Batch,
    columns: tuple[str, ...],
    *,
    temperature: float = 1.0,
    entropy: bool = False,
) -> list[Scored]:
    """Return what `score` does for several columns of equal width, in one forward pass.

    Groups of answers that stand behind one prompt are packed where the model can read them so.
    """
    if isinstance(model, Once):
        return model.scored(batch, columns, temperature)
    extra = {"temperature": temperature} if temperature != 1.0 else {}
    asked = {**extra, "entropy": True} if entropy else extra
    shared = shared_prompts(model, batch, columns)
    if shared is not None:
        return _of_groups(model, side_by_side(batch, columns), shared, len(columns), asked)
    tokens_NT = torch.cat([batch[name] for name in columns])
    document = documents_of(batch) if columns == ("tokens",) else None
    found = as_scored(model(tokens_NT[:, :-1], document, targets_RT=tokens_NT[:, 1:], **asked))
    logprobs = found.logprobs.chunk(len(columns))
    if found.entropy is None:
        return [Scored(None, part) for part in logprobs]
    entropies = found.entropy.chunk(len(columns))
    return [Scored(None, a, b) for a, b in zip(logprobs, entropies, strict=True)]


def as_scored(found: Any) -> Scored:
    """Return what a model gave when it was asked for log-probs, if that is what it gave.

    Raises:
        RecipeError: It is something else: logits, most likely.
    """
    if hasattr(found, "logprobs"):
        scored: Scored = found
        return scored
    raise RecipeError(
        f"a {type(found).__name__} from a model that was asked for the log-probs of targets",
        expected="Scored(loss, logprobs), from model(tokens, document, targets_RT=..., "
        "weight_RT=...)",
        where="the forward pass of a model of your own",
        write="Scored(None, logits.log_softmax(-1).gather(-1, targets_RT[..., None]).squeeze(-1)), "
        "or the models of this library",
    )


def _of_groups(
    model: nn.Module,
    tokens_NT: torch.Tensor,
    shared: Shared,
    columns: int,
    asked: Mapping[str, float],
) -> list[Scored]:
    """Return what a model says of rows whose prompts it reads once a group."""
    given, targets = shared.packed(tokens_NT[:, :-1]), shared.packed(tokens_NT[:, 1:])
    for ids in (given, targets):
        torch._dynamo.mark_static(ids, 1)  # a compiler that leaves the width open takes minutes
    found: Scored = model(given, shared, targets_RT=targets, **asked)
    logprobs = shared.spread(found.logprobs)
    entropy = None if found.entropy is None else shared.spread(found.entropy)
    return [
        Scored(None, logprobs[i::columns], None if entropy is None else entropy[i::columns])
        for i in range(columns)
    ]


class Once:
    """A model that is asked each question once; what is asked again is remembered.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._known: dict[tuple[str, float], Scored] = {}

    def __call__(self, *given: torch.Tensor | None, **named: object) -> object:
        """Return what the model returns; not remembered."""
        return self._model(*given, **named)

    def scored(self, batch: Batch, columns: tuple[str, ...], temperature: float) -> list[Scored]:
        """Return the scores of columns of this one batch, with entropies."""
        new = tuple(c for c in columns if (c, temperature) not in self._known)
        if new:
            found = score_all(self._model, batch, new, temperature=temperature, entropy=True)
            self._known |= {(c, temperature): one for c, one in zip(new, found, strict=True)}
        return [self._known[c, temperature] for c in columns]


def once(model: nn.Module) -> nn.Module:
    """Return a model that answers each question once: for one batch, then to be dropped."""
    shared = model if isinstance(model, Once) else Once(model)
    return cast(nn.Module, shared)  # called as a module is, and nothing else


class Asking:
    """A model that is asked for more whenever it is asked to score; for one batch.

    Args:
        model: The model.
        more: What else is wanted: `routing`, `hidden`.
    """

    def __init__(self, model: nn.Module, more: str) -> None:
        self._model = model
        self._more = more
        self.first: Scored | None = None
        """What it said when it was asked first."""

    def __call__(self, *given: torch.Tensor | None, **named: object) -> object:
        """Return what the model returns."""
        if named.get("targets_RT") is None:
            return self._model(*given, **named)
        scored: Scored = self._model(*given, **named, **{self._more: True})
        self.first = scored if self.first is None else self.first
        return scored


@dataclass(frozen=True)
class Logprobs:
    """For Score: the log-prob of each target of a column, nats [R, T-1].

    Example:
        >>> from thalweg.core.moves import Score
        >>> Score("ref", "ref_chosen", fn=Logprobs("chosen")).needs
        ('chosen',)
    """

    column: str = "tokens"
    temperature: Dial = 1.0
    """Logits are divided by it: that of the objective which compares with this column."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Return its column."""
        return (self.column,)

    def __call__(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the log-probs."""
        return score(model, batch, self.column, temperature=self.temperature).logprobs


def documents_of(batch: Batch) -> torch.Tensor | None:
    """Return which document each token that has a target belongs to [R, T-1]; None: one a row."""
    return batch["document"][:, :-1] if "document" in batch else None


def by_sequence(values_RT: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return sums over the sequences of each row.

    Args:
        values_RT: Something of each target [R, T-1].
        batch: With a `document` column, rows hold several sequences; without, one.

    Returns:
        [R, S]; S is 1, or the number of targets, with zeros behind the last sequence.
    """
    if "document" not in batch:
        return values_RT.sum(1, keepdim=True)
    return torch.zeros_like(values_RT).scatter_add(1, batch["document"][:, 1:].long(), values_RT)


class Sequences(NamedTuple):
    """What the counted targets of each sequence say together, [R, S] each."""

    total: torch.Tensor
    """Their sum."""
    weight: torch.Tensor
    """Their mean weight."""
    some: torch.Tensor
    """1 where there are any."""


def sequences(values_RT: torch.Tensor, weight_RT: torch.Tensor, batch: Batch) -> Sequences:
    """Return sums of `values` over the targets of each sequence that count, and what it counts."""
    mask = (weight_RT > 0).to(values_RT.dtype)
    masked = torch.where(weight_RT > 0, values_RT, torch.zeros_like(values_RT))
    counts = by_sequence(mask, batch)
    each = by_sequence(weight_RT.to(values_RT.dtype), batch) / counts.clamp_min(1)
    return Sequences(by_sequence(masked, batch), each, (counts > 0).to(values_RT.dtype))


def mean_of(name: str, values: torch.Tensor, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the pair of sums that is reported as the mean of `values` where `weight` counts."""
    counts = (weight > 0).to(values.dtype)
    return {name: (values.detach() * counts).sum(), f"{name}/count": counts.sum()}


def per_row(nats_RT: torch.Tensor, weight_RT: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the pair of per-row values that is reported as the mean loss of each source."""
    counts = (weight_RT > 0).to(nats_RT.dtype)
    return {"loss": (nats_RT.detach() * counts).sum(1), "loss/count": counts.sum(1)}
