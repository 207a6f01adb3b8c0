"""Curvature against exact Hessians of small nets, and the monitor against the decoder itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.functional import hessian
from torch.func import functional_call

from thalweg.atlas.kit import Markov
from thalweg.core.learner import Learner
from thalweg.core.protocols import Context
from thalweg.core.rng import rng
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.errors import RecipeError
from thalweg.models import Transformer
from thalweg.monitors import Sharpness
from thalweg.monitors.geometry import (
    hessian_product,
    largest_eigenvalue,
    signs,
    token_loss,
    trace,
)


def net() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    x = torch.randn(6, 3, generator=draw, dtype=torch.float64)
    return module, x, torch.randint(2, (6,), generator=draw)


def exact(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The whole Hessian, row by row, by torch."""
    named = dict(module.named_parameters())
    sizes = [p.numel() for p in named.values()]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = flat.split(sizes)
        weights = {n: w.view(p.shape) for (n, p), w in zip(named.items(), parts, strict=True)}
        return nn.functional.cross_entropy(functional_call(module, weights, (x,)), y)

    flat = torch.cat([p.detach().flatten() for p in named.values()])
    return hessian(loss, flat)


def product_of(module: nn.Module, x: torch.Tensor, y: torch.Tensor):
    loss = nn.functional.cross_entropy(module(x), y)
    return hessian_product(loss, list(module.parameters()))


def test_a_product_is_the_hessians():
    module, x, y = net()
    h, product = exact(module, x, y), product_of(module, x, y)
    columns = torch.stack([product(e) for e in torch.eye(len(h), dtype=h.dtype)], 1)
    torch.testing.assert_close(columns, h, rtol=1e-9, atol=1e-12)


def test_the_largest_eigenvalue_is_the_hessians():
    module, x, y = net()
    top = torch.linalg.eigvalsh(exact(module, x, y))[-1]
    start = signs(list(module.parameters()), 1, rng(0, "test"))[0]
    found = largest_eigenvalue(product_of(module, x, y), start, iterations=2000, tolerance=1e-12)
    assert found.value == pytest.approx(float(top), rel=1e-6)
    moved = product_of(module, x, y)(found.vector)
    torch.testing.assert_close(moved, found.value * found.vector, rtol=1e-3, atol=1e-4)


def test_the_largest_is_not_the_largest_in_size():
    h = torch.diag(torch.tensor([-10.0, 2.0, 5.0, 1.0]))
    found = largest_eigenvalue(lambda v: h @ v, torch.ones(4), iterations=500, tolerance=1e-9)
    assert found.value == pytest.approx(5.0, rel=1e-4)
    negative = torch.diag(torch.tensor([-10.0, -2.0]))
    found = largest_eigenvalue(lambda v: negative @ v, torch.ones(2), tolerance=1e-9)
    assert found.value == pytest.approx(-2.0, rel=1e-4)


def test_a_loss_that_is_linear_or_ignores_a_parameter_has_rows_of_zero():
    w, unused = (torch.ones(2, requires_grad=True) for _ in range(2))
    assert hessian_product(3 * w.sum(), [w, unused])(torch.ones(4)).tolist() == [0.0] * 4
    product = hessian_product((w**2).sum(), [w, unused])
    assert product(torch.ones(4)).tolist() == [2.0, 2.0, 0.0, 0.0]
    assert largest_eigenvalue(lambda v: 0 * v, torch.ones(3)).value == 0.0


def test_the_trace_is_the_sum_of_the_diagonal_within_its_error():
    module, x, y = net()
    parameters = list(module.parameters())
    found = trace(product_of(module, x, y), signs(parameters, 400, rng(0, "test")))
    assert abs(found.mean - float(exact(module, x, y).trace())) < 4 * found.error
    one = trace(lambda v: v, torch.ones(1, 3))
    assert one.mean == 3.0
    assert np.isnan(one.error)


def context(dtype: torch.dtype = torch.float64) -> Context:
    spec = Transformer(vocabulary=64, width=16, layers=1, heads=2, positions=16, tied=True)
    return Context(
        Time(3, 10), models={"policy": Learner("policy", spec.build(0).to(dtype), World())}
    )


def test_the_monitor_reads_a_decoder_as_differences_of_its_gradient_do():
    ctx = context()
    source = Markov(length=16).held_out
    module = ctx.models["policy"].module
    batch, _ = source.next({"row": 0}, replace(ctx, rows=4))
    parameters = list(module.parameters())
    z = signs(parameters, 1, rng(0, "test"))[0]
    product = hessian_product(token_loss(module, batch), parameters)(z)
    at = torch.nn.utils.parameters_to_vector(parameters).detach()

    def gradient(flat: torch.Tensor) -> torch.Tensor:
        torch.nn.utils.vector_to_parameters(flat, parameters)
        found = torch.autograd.grad(token_loss(module, batch), parameters)
        return torch.cat([g.flatten() for g in found])

    step = 1e-6
    slow = (gradient(at + step * z) - gradient(at - step * z)) / (2 * step)
    torch.testing.assert_close(product, slow, rtol=1e-4, atol=1e-7)


def test_the_monitor_reports_eigenvalue_and_trace_of_the_rows_it_is_given():
    ctx = context(torch.float32)
    found = Sharpness(Markov(length=16).held_out, rows=4, iterations=200, probes=8)(ctx)
    assert set(found) == {"sharpness", "hessian_trace"}
    assert 0 < found["sharpness"] < 100
    assert set(Sharpness(Markov(length=16).held_out, rows=4)(ctx)) == {"sharpness"}


def test_a_sharded_model_is_refused():
    ctx = context(torch.float32)
    ctx.models["policy"].world = World(rank=0, size=2, shard="full")
    with pytest.raises(RecipeError, match="sharded over 2"):
        Sharpness(Markov(length=16).held_out).before(ctx)
