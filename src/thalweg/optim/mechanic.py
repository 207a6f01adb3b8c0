"""Mechanic: learns the scale of another optimizer's updates. A wrapper.

The inner optimizer steps as it would; what it has added up to, D, is then scaled by S and put back
on the first weights: w = w_0 + S D. S is the sum of one-dimensional online learners that differ in
how fast they forget. No kept library has it for torch (mechanic-pytorch is of 2023).
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import nn

from thalweg.core.protocols import Dial
from thalweg.optim.groups import Groups, refuse_inner
from thalweg.optim.values import Group, Leaf, Place, check, frozen, join, misfit, whole

__all__ = ["Mechanic"]


@dataclass(frozen=True)
class Mechanic:
    """An optimizer whose rate is scaled by what it has earned. The inner lr is a shape: 1 at best.

    With g the gradient, u the inner update, w the weights before it, S the sum of s:
    h = <g + decay S |g| / |w| w, D>; D = D + u; for each beta:
    m = max(beta m, |h|); v = beta^2 v + h^2; r = max(0, beta r - s h);
    s = (m first / n + r) / (sqrt(v) + eps); then w = w_0 + S D.

    Give the inner optimizer a schedule that peaks at 1 (warm-up and decay still help).

    Source: arXiv:2306.00144, algorithm 1; defaults: the authors' code. Deviation from that code:
    |w| and w in h are those before the inner step, as in the paper.
    """

    alone: ClassVar[bool] = True  # one scale for all its parameters
    inner: Leaf | Groups
    """AdamW, NAdamW, SGD, Muon, or Groups of them."""
    _: KW_ONLY
    decay: Dial = 0.01
    """A pull of the scale towards 0, which steadies it."""
    first: float = 1e-8
    """First scale: far too small."""
    betas: tuple[float, ...] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
    """How much each learner keeps a step."""
    eps: float = 1e-8
    """Added to denominators."""

    def __post_init__(self) -> None:
        """Refuse an inner optimizer with a scale of its own, and numbers out of range."""
        refuse_inner(self, self.inner)
        check(self, "decay", self.decay)
        check(self, "first", self.first, above=0.0)
        check(self, "eps", self.eps, above=0.0)
        if not isinstance(self.betas, tuple) or not self.betas:
            given = f"betas = {self.betas!r}"
            raise misfit(given, "a tuple of numbers", "betas=(0.9, 0.99, 0.999)", "Mechanic.betas")
        for number, beta in enumerate(self.betas):
            check(self, f"betas.{number}", beta, below=1.0)

    @property
    def rates(self) -> Mapping[str, Dial]:
        """None of its own."""
        return {}

    def fixed(self) -> tuple[object, ...]:
        """Return what the scale was begun with."""
        return (self.first, tuple(self.betas), self.eps)

    def numbers(self, place: Place) -> Group:
        """Return this step's numbers."""
        decay = frozen(self.decay, join(place.path, "decay"))
        return {"decay": decay, "first": self.first, "betas": self.betas, "eps": self.eps}

    def algorithm(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Return the torch optimizer that follows the inner ones."""
        return _Mechanic(groups)


class _Mechanic(torch.optim.Optimizer):
    def __init__(self, groups: list[Group]) -> None:
        super().__init__(groups, {})
        for p in self._parameters():
            self.state[p] = {"start": p.detach().clone(), "sum": torch.zeros_like(p)}
        first, main = self._parameters()[0], self.param_groups[0]
        zeros = torch.zeros(len(main["betas"]), dtype=torch.float64, device=first.device)
        self._shared = self.state[first]  # what all parameters share stands with the first
        for name in ("scale", "square", "reward"):
            self._shared[name] = zeros.clone()
        self._shared["largest"] = zeros + 1e-6  # the authors' code
        self._then: list[tuple[nn.Parameter, torch.Tensor]] = []
        self._earned = torch.zeros(())

    @torch.no_grad()
    def before(self) -> None:
        """Keep the weights, and measure what the sum of updates has earned."""
        self._then = [(p, p.detach().clone()) for p in self._parameters()]
        main, scale = self.param_groups[0], self._shared["scale"].sum()
        live = [(w, p.grad, self.state[p]["sum"]) for p, w in self._then if p.grad is not None]
        size = torch.stack([_dot(w, w) for w, _, _ in live]).sum().sqrt()
        steep = torch.stack([_dot(g, g) for _, g, _ in live]).sum().sqrt()
        pull = main["decay"] * scale * steep / (size + main["eps"])
        along = torch.stack([_dot(g, total) for _, g, total in live]).sum()
        out = torch.stack([_dot(w, total) for w, _, total in live]).sum()
        self._earned = along + pull * out

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # torch's overloads
        scale = self._tune().sum()
        for p, then in self._then:
            state = self.state[p]
            state["sum"] += p - then
            p.copy_(state["start"] + state["sum"] * scale)
        self._then = []

    def _tune(self) -> torch.Tensor:
        """Return the scales after this step's earnings."""
        main, state, h = self.param_groups[0], self._shared, self._earned
        betas = torch.tensor(main["betas"], dtype=torch.float64, device=h.device)
        state["largest"].copy_(torch.maximum(betas * state["largest"], h.abs()))
        state["square"].mul_(betas**2).add_(h**2)
        state["reward"].mul_(betas).sub_(state["scale"] * h).clamp_(min=0)
        wealth = state["largest"] * main["first"] / len(betas) + state["reward"]
        scale: torch.Tensor = state["scale"].copy_(wealth / (state["square"].sqrt() + main["eps"]))
        return scale

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"]]


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the inner product, float64, of tensors that may be sharded."""
    return whole((a * b).sum()).double()
