"""Whether the sampler and the trainer send a token to the same experts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, Dial, Routing
from thalweg.errors import RecipeError
from thalweg.models.moe import Mixture
from thalweg.models.transformer import Decoder
from thalweg.rollouts.cache import Static

__all__ = ["RouteMismatch"]

# S slots, one an answer; T positions, K experts chosen for a token, L layers.

_Route: TypeAlias = torch.Tensor
"""int64 [..., L, K]: the experts of tokens, sorted within a layer."""


@dataclass(frozen=True)
class RouteMismatch:
    """Report whether experts that the sampler would ask are those that the trainer asks.

    Some answers of the batch are read twice: token by token through the sampler's cache, and whole,
    as the trainer reads them. `route_mismatch` is the share of pairs of token and layer whose set
    of experts differs, over the answers' tokens but the last, which the sampler never reads. 0 is
    what one engine should give: routers compute in float32 in both. Placed before Learn with the
    actor. An answer's neighbours are others than when it was written; nothing else differs.
    """

    model: str = "actor"
    every: Dial = 10
    """Steps between measurements."""
    rows: int = 16
    """Answers that are read again."""

    needs: ClassVar[tuple[str, ...]] = ("tokens", "weight")
    makes: ClassVar[tuple[str, ...]] = ()

    @property
    def name(self) -> str:
        """Return `route_mismatch.MODEL`."""
        return f"route_mismatch.{self.model}"

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch unchanged.

        Raises:
            RecipeError: The model has no experts.
        """
        learner = ctx.models[self.model]
        if not isinstance(learner.module, Decoder) or learner.module.spec.moe is None:
            raise RecipeError(
                f"model '{self.model}', {type(learner.module).__name__} without experts",
                expected="a mixture of experts of ours",
                where="RouteMismatch.model",
                write="Mismatch, which compares log-probs",
            )
        if int(ctx.time.step) % max(int(self.every), 1):
            return batch
        counts = learner.generate(_answers(batch, self.rows), _differing)
        pairs = sum(total for _, total in counts)
        if pairs:
            ctx.log({"route_mismatch": sum(differ for differ, _ in counts) / pairs})
        return batch


class _Answer(NamedTuple):
    """A row of a batch without its padding."""

    ids: list[int]
    prompt: int
    """How many of them are the prompt."""


def _answers(batch: Batch, most: int) -> list[_Answer]:
    """Return the first rows with an answer of two tokens or more, up to their last token."""
    found: list[_Answer] = []
    for ids, counts in zip(batch["tokens"].tolist(), (batch["weight"] > 0).tolist(), strict=True):
        places = [place + 1 for place, counted in enumerate(counts) if counted]
        if len(places) > 1 and len(found) < most:
            found.append(_Answer(ids[: places[-1] + 1], places[0]))
    return found


def _differing(module: nn.Module, rows: Sequence[_Answer]) -> list[tuple[int, int]]:
    """Return for each row how many pairs of token and layer differ, and how many there are."""
    assert isinstance(module, Decoder)
    found = []
    for row, sampled_TLK in zip(rows, _sampled(module, rows), strict=True):
        tokens = torch.tensor([row.ids[:-1]], device=module.embedding.weight.device)
        routing: tuple[Routing, ...] = module(tokens, routing=True)
        trained_TLK = _routes([layer.chosen[0, row.prompt :] for layer in routing])
        differ_TL = (sampled_TLK != trained_TLK).any(-1)
        found.append((int(differ_TL.sum()), differ_TL.numel()))
    return found


def _sampled(decoder: Decoder, rows: Sequence[_Answer]) -> list[_Route]:
    """Return the experts of each row's answer, read a token at a time as the sampler reads it."""
    longest = max(len(row.ids) for row in rows)
    reader = Static(decoder, len(rows), longest, compiled=False)
    reader.admit(range(len(rows)), [row.ids[: row.prompt] for row in rows])
    found: list[list[_Route]] = [[] for _ in rows]
    with _watching(reader.decoder) as seen:
        for step in range(max(len(row.ids) - row.prompt for row in rows) - 1):
            read = [row.prompt + step < len(row.ids) - 1 for row in rows]
            tokens = [
                row.ids[row.prompt + step] if on else -1 for row, on in zip(rows, read, strict=True)
            ]
            seen.clear()
            reader.step(torch.tensor(tokens, device=decoder.embedding.weight.device))
            routes_SLK = _routes([chosen_S1K[:, 0] for chosen_S1K in seen])
            for slot, on in enumerate(read):
                found[slot] += [routes_SLK[slot]] if on else []
    return [torch.stack(one) for one in found]


def _routes(chosen: Sequence[torch.Tensor]) -> _Route:
    """Return the experts of every layer beside each other, sorted."""
    return torch.stack([one.sort(-1).values for one in chosen], -2)


@contextmanager
def _watching(decoder: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Yield the list to which each mixture, when called, adds the experts it chose [R, T, K]."""
    seen: list[torch.Tensor] = []

    def note(module: nn.Module, given: Any, said: tuple[torch.Tensor, Routing]) -> None:
        seen.append(said[1].chosen)

    hooks = [
        part.register_forward_hook(note) for part in decoder.modules() if isinstance(part, Mixture)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
