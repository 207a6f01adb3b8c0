import pytest
import torch
from torch.nn import functional

from thalweg.models.pointwise import rms_norm, rotate, swiglu


def _draw(*shape: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_()


def _angles(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    angle = torch.rand(shape, dtype=torch.float64)
    return angle.cos(), angle.sin()


def test_a_norm_gives_unit_mean_square_times_the_gain() -> None:
    x = torch.tensor([[[3.0, 4.0]]])
    expected = torch.tensor([3.0, 8.0]) / 12.5**0.5
    assert torch.allclose(rms_norm(x, torch.tensor([1.0, 2.0]), 0.0)[0, 0], expected)


def test_a_norm_agrees_with_torch_and_so_does_its_gradient() -> None:
    x, gain = _draw(2, 3, 4, 8), _draw(8)
    ours = rms_norm(x, gain, 1e-5)
    assert torch.allclose(ours, functional.rms_norm(x, (8,), gain, 1e-5))
    assert torch.autograd.gradcheck(lambda x, gain: rms_norm(x, gain, 1e-5), (x, gain))


def test_a_quarter_turn_swaps_the_halves() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    turned = rotate(x, torch.zeros(1, 1, 2), torch.ones(1, 1, 2))
    assert turned.flatten().tolist() == [-3.0, -4.0, 1.0, 2.0]


@pytest.mark.parametrize("shape", [(3, 1, 4), (2, 3, 1, 4)])
def test_the_gradients_of_a_rotation_are_right(shape: tuple[int, ...]) -> None:
    cos, sin = _angles(*shape)
    x = _draw(2, 3, 2, 8)
    assert rotate(x, cos, sin).shape == (2, 2, 3, 8)
    assert rotate(x, cos, sin).is_contiguous()
    assert torch.autograd.gradcheck(lambda x: rotate(x, cos, sin), (x,))


def test_a_gate_is_silu_of_one_half_times_the_other() -> None:
    x = _draw(2, 3, 8)
    gate, up = x.chunk(2, -1)
    assert torch.allclose(swiglu(x), functional.silu(gate) * up)
    assert torch.autograd.gradcheck(swiglu, (x,))
    assert torch.autograd.gradgradcheck(swiglu, (x,))


def test_a_gate_saturates_without_overflow() -> None:
    x = torch.tensor([[-200.0, 200.0, 1.0, 1.0]], requires_grad=True)
    out = swiglu(x)
    out.sum().backward()
    assert out.tolist() == [[0.0, 200.0]]
    assert torch.isfinite(x.grad).all()
