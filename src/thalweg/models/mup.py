"""muP: a parametrisation under which the best rates of a narrow model serve a wide one.

With m = width / base width, against the standard parametrisation at the base, where the two agree:

    hidden matrices   drawn with deviation / sqrt(m); the optimizer scales their rate (Widening)
    embedding, head   drawn as at the base; logits are multiplied by 1 / m, so a tied head fits
    attention         softmax(q k sqrt(d_base) / d) instead of q k / sqrt(d), d the width of a head
    norms, biases     as they are

This is table 8 of the paper, whose head has a multiplier instead of a smaller rate. Width means
everything inside a block: heads (more of them, or wider), the feed-forward layer and the rank of
latent attention must grow with it.
Depth does not transfer by this. What each optimizer does with a `Widening` stands in
`thalweg.optim.plain`.

Source: arXiv:2203.03466, table 8.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from thalweg.errors import RecipeError
from thalweg.optim import Widening

__all__ = ["Mup", "activations"]

_HIDDEN = (
    "qkv.weight", "expand.weight", "out.weight", "gate_up.weight", ".up.weight", "down.weight",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Mup:
    """The width at which rates were found; with it a `Transformer` is parametrised by muP.

    Example:
        >>> Mup(base_width=128).times(512)
        4.0
    """

    base_width: int
    """Width of the model whose rates are used."""
    base_head_width: int | None = None
    """Width of its heads; None: the same, a wider model has more of them."""

    def __post_init__(self) -> None:
        """Refuse what is no width.

        Raises:
            RecipeError: Below 1.
        """
        for value in (self.base_width, self.base_head_width or 1):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise RecipeError(
                    f"{self!r}",
                    expected="widths: whole numbers, 1 or more",
                    where="Transformer.mup",
                    write="Mup(base_width=128)",
                )

    def times(self, width: int) -> float:
        """Return m."""
        return width / self.base_width

    def deviation(self, name: str, deviation: float, width: int) -> float:
        """Return the deviation that a parameter is drawn with, from the standard one."""
        return deviation / math.sqrt(self.times(width)) if name.endswith(_HIDDEN) else deviation

    def query_scale(self, head_width: int) -> float:
        """Return what queries are multiplied by, before attention divides by sqrt(head_width)."""
        return math.sqrt((self.base_head_width or head_width) / head_width)

    def widening(self, names: Iterable[str], width: int) -> dict[str, Widening]:
        """Return how each parameter grows."""
        times = self.times(width)
        return {name: Widening(times, name.endswith(_HIDDEN)) for name in names}


@torch.no_grad()
def activations(module: nn.Module, tokens_RT: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what every linear layer, norm and the model itself put out: a coordinate check.

    Compare the mean size of entries, or of their change over the first steps, between widths: under
    muP it is flat, under the standard parametrisation it grows.

    Args:
        module: A `Decoder`.
        tokens_RT: int64 [R, T], the same for all widths.

    Returns:
        Outputs by the name of the part; logits under "logits".
    """
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        part.register_forward_hook(_keeper(name, seen))
        for name, part in module.named_modules()
        if name and not list(part.children()) and list(part.parameters(recurse=False))
    ]
    try:
        seen["logits"] = module(tokens_RT).float()
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _keeper(name: str, seen: dict[str, torch.Tensor]) -> Callable[..., None]:
    def keep(part: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        seen[name] = out.float()

    return keep
