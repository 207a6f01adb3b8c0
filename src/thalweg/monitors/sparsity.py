"""How many activations of the feed-forward layers are exactly zero.

Behind a squared ReLU a unit that is at zero takes no part in the product with `down`, so this is
the share of that matmul which a machine for small devices can leave out. SwiGLU has hardly any.

Source: arXiv:2503.12167, sec. 3.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.moves import logprobs
from thalweg.core.protocols import Context, Dial, Source
from thalweg.core.time import Span, share
from thalweg.data.rows import check_rows, first_batches
from thalweg.errors import RecipeError

__all__ = ["Sparsity", "zeros"]

# R rows, T positions, I inner width of a layer, L layers.

_NAMES = ("down", "down_proj")
"""Last names of the matrices behind the activation: ours, and those of transformers."""


@dataclass(frozen=True)
class Sparsity:
    """Share of activations that are exactly zero, on held-out text.

    Reports `sparsity`, of all layers together, and `sparsity/LAYER`, from 0; before the first step
    `sparsity/before`. Only positions whose target counts are looked at.

    Raises:
        RecipeError: The model has no layer whose inner activations could be seen.
    """

    source: Source
    """Text; give it `shuffle=False`, so that it is always the same."""
    every: Dial | Span = share(0.1)
    """Distance between measurements."""
    rows: int = 32
    """Rows that are read."""
    model: str = "policy"
    micro: int | None = None
    """Tokens of a forward pass on one rank; None for 32 rows."""

    def __post_init__(self) -> None:
        """Refuse no rows.

        Raises:
            DialError: Below 1.
        """
        check_rows(self.rows, "monitors.sparsity")

    @property
    def name(self) -> str:
        """Return `sparsity`, its place in paths."""
        return "sparsity"

    def before(self, ctx: Context) -> Mapping[str, float]:
        """Return the share at the start of the phase."""
        return {"sparsity/before": self(ctx)["sparsity"]}

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return the shares now."""
        learner = ctx.models[self.model]
        zero_L, all_L = torch.stack([
            learner.score(zeros, part, micro=self.micro).double().sum(0)
            for part in first_batches(self.source, self.rows, ctx)
        ]).sum(0)  # fmt: skip
        shares = {f"sparsity/{i}": float(zero_L[i] / all_L[i]) for i in range(len(zero_L))}
        return {"sparsity": float(zero_L.sum() / all_L.sum()), **shares}


def zeros(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return of each row and layer how many activations are zero, and how many there are.

    Args:
        model: A language model whose feed-forward layers end in a matrix named `down`.
        batch: Has `tokens` and `weight`.

    Returns:
        float64 [R, 2, L].

    Raises:
        RecipeError: There is no such matrix.
    """
    counts_RT = batch["weight"] > 0
    seen: list[torch.Tensor] = []

    def count(layer: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        zero_RT = (given[0] == 0).sum(-1) * counts_RT
        units_R = counts_RT.sum(1) * given[0].shape[-1]
        seen.append(torch.stack([zero_RT.sum(1), units_R], 1).double())

    with _watching(model, count):
        logprobs(model, batch)
    return torch.stack(seen, -1)


@contextmanager
def _watching(
    model: nn.Module, see: Callable[[nn.Module, tuple[torch.Tensor, ...]], None]
) -> Iterator[None]:
    """Call `see` with what each matrix behind an activation is given."""
    layers = [part for name, part in model.named_modules() if name.rpartition(".")[2] in _NAMES]
    if not layers:
        raise RecipeError(
            f"a {type(model).__name__} without feed-forward layers that end in 'down'",
            expected="a dense decoder: experts are computed in one piece",
            where="Sparsity.model",
            write="a Transformer without moe, or no Sparsity",
        )
    hooks = [layer.register_forward_pre_hook(see) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
