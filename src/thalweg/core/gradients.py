"""What a step can say about its gradient beyond the norm, when `Learn(watch=...)` asks for it.

`grad_l1` is the sum of absolute values. `grad_dot` is the inner product with the direction of the
step before, the hypergradient of the learning rate, reported with the cosine, `grad_cos`. Nothing
is remembered for it: AdamW and SGD with momentum keep in their moments what they did last, so it
survives checkpoints, trials and shards as the moments do. Gradients are taken before clipping.
Groups with rates of their own are weighed alike: u is the direction before any rate.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from thalweg.errors import RecipeError

__all__ = ["WATCHED", "watched"]

WATCHED = ("grad_l1", "grad_dot")
"""What may be asked for."""


def watched(
    names: Sequence[str],
    optimizers: Sequence[torch.optim.Optimizer],
    whole: Callable[[torch.Tensor], torch.Tensor],
) -> dict[str, float]:
    """Return what is asked for, each with a count of 1, so that reports are means over steps.

    With g the gradient and u the direction of the last step (a step moves weights by -lr u):
    grad_dot = <g, u>; grad_cos = <g, u> / (|g| |u|), 0 where there was no step yet.

    Args:
        names: Of `WATCHED`.
        optimizers: Their parameters have gradients; they have not stepped.
        whole: Sums a tensor over shards.

    Raises:
        RecipeError: An optimizer that does not keep its last direction.
    """
    out: dict[str, float] = {}
    if "grad_l1" in names:
        sizes = [grad.abs().sum() for one in optimizers for grad in _gradients(one)]
        out["grad_l1"] = float(whole(torch.stack(sizes).sum()))
    if "grad_dot" in names:
        pairs = [pair for one in optimizers for pair in _pairs(one)]
        rows = [torch.stack([(g * u).sum(), (g * g).sum(), (u * u).sum()]) for g, u in pairs]
        dot, g2, u2 = whole(torch.stack(rows).sum(0)).tolist() if rows else (0.0, 0.0, 0.0)
        out["grad_dot"] = dot
        out["grad_cos"] = dot / (g2 * u2) ** 0.5 if g2 * u2 > 0 else 0.0
    return {**out, **{f"{name}/count": 1.0 for name in out}}


def _gradients(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    for group in optimizer.param_groups:
        yield from (p.grad for p in group["params"] if p.grad is not None)


def _pairs(optimizer: torch.optim.Optimizer) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the gradient of each parameter that has moved, and the direction it moved along."""
    for group in optimizer.param_groups:
        _refuse(optimizer, group)
        for p in group["params"]:
            if p.grad is not None and optimizer.state.get(p):
                yield p.grad, _direction(optimizer.state[p], p.grad, group)


def _direction(
    state: Mapping[str, torch.Tensor], grad: torch.Tensor, group: Mapping[str, Any]
) -> torch.Tensor:
    """Return u of the last step: the momentum of SGD, or AdamW's m / (sqrt(v) + eps), corrected."""
    if "exp_avg" not in state:
        return state["momentum_buffer"]
    beta1, beta2 = group["betas"]
    steps = state["step"].to(grad.device).clamp(min=1)  # 0 where a rollback reset it
    moment: torch.Tensor = state["exp_avg"] / (1 - beta1**steps)
    spread: torch.Tensor = (state["exp_avg_sq"] / (1 - beta2**steps)).sqrt() + group["eps"]
    return moment / spread


def _refuse(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> None:
    adam = type(optimizer) is torch.optim.AdamW
    if adam or (type(optimizer) is torch.optim.SGD and group["momentum"]):
        return
    raise RecipeError(
        f"watch=('grad_dot',) with {type(optimizer).__name__}",
        expected="an optimizer whose moments hold its last direction",
        where="Learn.watch",
        write="AdamW(lr=...), or SGD(lr=..., momentum=0.9)",
    )
