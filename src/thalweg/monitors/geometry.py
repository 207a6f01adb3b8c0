"""The shape of the loss around the weights: Hessian products, its largest eigenvalue, its trace.

The Hessian is never built: a product with a vector is the gradient of (gradient . vector), two
backward passes. Vectors are flat, over all parameters in their order. Everything is computed in the
weights' own type, float32: in bfloat16 a second difference is noise.

Near a minimum gradient descent with rate lr is stable only while lr times the largest eigenvalue is
at most 2 (2 (1 + momentum) with momentum); training tends to climb to that edge and stay there
(arXiv:2103.00065). SGD with batches of 1 wants more: lr times the trace at most 2, where all losses
are 0. With labels that are noisy, as text is, both are readings and not laws.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from thalweg.core.batch import Batch
from thalweg.core.moves import logprobs
from thalweg.core.protocols import Context, Dial, Source
from thalweg.core.rng import rng
from thalweg.core.time import Span, share
from thalweg.data.rows import check_rows, first_rows
from thalweg.errors import RecipeError

__all__ = [
    "Eigenpair",
    "Product",
    "Sharpness",
    "Trace",
    "hessian_product",
    "largest_eigenvalue",
    "signs",
    "token_loss",
    "trace",
]

# P all parameters, N probes.

Product: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""v [P] -> H v [P]."""


class Eigenpair(NamedTuple):
    """An eigenvalue with its direction, as far as the iteration came."""

    value: float
    vector: torch.Tensor
    """[P], length 1."""
    iterations: int
    """Products spent."""


class Trace(NamedTuple):
    """An estimate over probes."""

    mean: float
    error: float
    """Standard error of the mean; NaN with one probe."""


def hessian_product(loss: torch.Tensor, parameters: Sequence[torch.Tensor]) -> Product:
    """Return v -> H v, H the Hessian of a loss at the parameters it was computed from.

    The graph of the gradient is kept for as long as the product is; each call walks it once. Every
    function on the way must have a true second derivative: the log-probs of our decoders have one,
    their weighted loss (`Scored.loss`) has none.

    Args:
        loss: A scalar with its graph.
        parameters: What H is over; one that the loss does not depend on has rows of 0.

    Source: Pearlmutter, Fast exact multiplication by the Hessian, 1994.

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> hessian_product(w[0] ** 2 + 3 * w[0] * w[1], [w])(torch.tensor([1.0, 0.0]))
        tensor([2., 3.])
    """
    gradients = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    gradient_P = torch.cat([g.flatten() for g in gradients])

    def product(vector_P: torch.Tensor) -> torch.Tensor:
        if not gradient_P.requires_grad:  # a loss that is linear in the parameters
            return torch.zeros_like(vector_P)
        parts = torch.autograd.grad(
            gradient_P, parameters, vector_P, retain_graph=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in parts]).detach()

    return product


def signs(
    parameters: Sequence[torch.Tensor], count: int, draw: np.random.Generator
) -> torch.Tensor:
    """Return [N, P] random signs, in the type and place of the parameters.

    Args:
        parameters: What the vectors go over.
        count: N.
        draw: Where the signs come from.
    """
    size = sum(p.numel() for p in parameters)
    drawn = 2 * draw.integers(2, size=(count, size), dtype=np.int8) - 1
    return torch.from_numpy(drawn).to(parameters[0])


def largest_eigenvalue(
    product: Product, start_P: torch.Tensor, *, iterations: int = 100, tolerance: float = 1e-4
) -> Eigenpair:
    """Return the largest eigenvalue of a symmetric matrix, by power iteration.

    v <- H v / |H v|, value v . H v. The iteration finds the eigenvalue of largest size; if that is
    negative, it is run again on H minus it, whose largest is the one that was asked for.

    Args:
        product: v -> H v.
        start_P: A vector that is not orthogonal to the direction: random signs.
        iterations: Most products of each of the two runs.
        tolerance: Relative change of the value at which it ends.

    Example:
        >>> h = torch.diag(torch.tensor([-4.0, 1.0, 3.0]))
        >>> round(largest_eigenvalue(lambda v: h @ v, torch.ones(3)).value, 2)
        3.0
    """
    found = _power(product, start_P, iterations, tolerance)
    if found.value >= 0:
        return found
    low = found.value
    again = _power(lambda v: product(v) - low * v, start_P, iterations, tolerance)
    return Eigenpair(again.value + low, again.vector, found.iterations + again.iterations)


def trace(product: Product, probes_NP: torch.Tensor) -> Trace:
    """Return the trace of a matrix as the mean of z . H z over random signs z (Hutchinson).

    Off-diagonal elements are its noise: a diagonal matrix needs one probe.

    Args:
        product: v -> H v.
        probes_NP: From `signs`.

    Example:
        >>> trace(lambda v: 2.0 * v, torch.ones(1, 5)).mean
        10.0
    """
    values = [float(torch.dot(z, product(z)).double()) for z in probes_NP]
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Trace(float(np.mean(values)), error)


def token_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the mean loss of a language model on a batch, nats per token, twice differentiable."""
    weight = batch["weight"]
    return -(logprobs(model, batch) * weight).sum() / weight.sum()


@dataclass(frozen=True)
class Sharpness:
    """Largest eigenvalue of the Hessian, `sharpness`, and with probes its trace, `hessian_trace`.

    On the same rows every time, in evaluation mode and float32, for the weights that train. Each
    product costs about 1.5 training steps on those rows, with their whole graph in memory; so few
    rows, and few measurements. Under full sharding no rank has the weights: refused.
    """

    source: Source
    """What to measure on."""
    every: Dial | Span = share(0.2)
    """Distance between measurements."""
    rows: int = 4
    """First rows of the source."""
    model: str = "policy"
    fn: Callable[[nn.Module, Batch], torch.Tensor] = token_loss
    """Model and rows -> a scalar loss."""
    iterations: int = 20
    """Most products of the power iteration."""
    probes: int = 0
    """Probes of the trace; 0: no trace."""

    def __post_init__(self) -> None:
        """Refuse no rows.

        Raises:
            DialError: Below 1.
        """
        check_rows(self.rows, "monitors.sharpness")

    @property
    def name(self) -> str:
        """Return `sharpness`, its place in paths."""
        return "sharpness"

    def before(self, ctx: Context) -> Mapping[str, float]:
        """Refuse sharded weights before the first step; measure nothing.

        Raises:
            RecipeError: The model is sharded over several processes.
        """
        world = ctx.models[self.model].world
        if world.sharded:
            raise RecipeError(
                f"'{self.model}', sharded over {world.size} processes",
                expected="whole weights on every process",
                where="monitors.sharpness",
                write='Compute(shard="replicate"), or no Sharpness',
            )
        return {}

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return the readings now."""
        learner = ctx.models[self.model]
        batch = first_rows(self.source, self.rows, ctx)
        training = learner.module.training
        learner.module.eval()
        try:
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # fused kernels: one derivative
                return self._read(learner.module, batch.loaded(learner.world.device))
        finally:
            learner.module.train(training)

    def _read(self, module: nn.Module, batch: Batch) -> dict[str, float]:
        parameters = [p for p in module.parameters() if p.requires_grad]
        product = hessian_product(self.fn(module, batch), parameters)
        vectors_NP = signs(parameters, 1 + self.probes, rng(0, "sharpness"))
        top = largest_eigenvalue(product, vectors_NP[0], iterations=self.iterations, tolerance=1e-3)
        found = {"sharpness": top.value}
        if self.probes:
            found["hessian_trace"] = trace(product, vectors_NP[1:]).mean
        return found


def _power(product: Product, start_P: torch.Tensor, iterations: int, tolerance: float) -> Eigenpair:
    vector_P = start_P / start_P.norm()
    value, spent = 0.0, 0
    while spent < iterations:
        moved_P = product(vector_P)
        spent += 1
        before, value = value, float(torch.dot(vector_P, moved_P))
        length = float(moved_P.norm())
        if length == 0.0:
            break
        vector_P = moved_P / length
        if spent > 1 and abs(value - before) <= tolerance * abs(value):
            break
    return Eigenpair(value, vector_P, spent)
