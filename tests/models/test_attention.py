import pytest
import torch
from torch.nn import functional

from thalweg.models.attention import attention


def _inputs(
    length: int, heads: int = 4, kv_heads: int = 4, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(length)
    shapes = ((2, heads, length, 8), (2, kv_heads, length, 8), (2, kv_heads, length, 8))
    q, k, v = (torch.randn(shape, generator=draw).to(dtype) for shape in shapes)
    return q, k, v


@pytest.mark.parametrize("length", [1, 2, 7, 64, 1030])
def test_it_agrees_with_the_fused_kernel(length: int) -> None:
    q, k, v = _inputs(length)
    fused = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert (attention(q, k, v) - fused).abs().max() < 1e-5


@pytest.mark.parametrize("length", [9, 1030])
def test_query_heads_share_key_heads_in_groups(length: int) -> None:
    q, k, v = _inputs(length, heads=4, kv_heads=2)
    repeated = attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))
    assert (attention(q, k, v) - repeated).abs().max() < 1e-5


@pytest.mark.parametrize("length", [10, 1030])
def test_a_document_attends_to_itself_only(length: int) -> None:
    q, k, v = _inputs(length)
    document = (torch.arange(length) >= 4).int().expand(2, length)
    packed = attention(q, k, v, document)
    parts = [attention(*(x[:, :, cut] for x in (q, k, v))) for cut in (slice(4), slice(4, None))]
    assert (packed - torch.cat(parts, 2)).abs().max() < 1e-5


def test_the_fused_and_the_plain_way_have_the_same_gradients() -> None:
    q, k, v = (x.double().requires_grad_() for x in _inputs(6))
    ours = torch.autograd.grad(attention(q, k, v).square().sum(), (q, k, v))
    fused = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    theirs = torch.autograd.grad(fused.square().sum(), (q, k, v))
    assert all((a - b).abs().max() < 1e-12 for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("compiled", [False, True])
def test_the_blocks_of_two_byte_numbers_have_the_right_gradients(compiled: bool) -> None:
    blocks = torch.compile(attention, backend="aot_eager") if compiled else attention
    length = 300  # three blocks, the last one shorter
    wide = [x.requires_grad_() for x in _inputs(length)]
    short = [x.detach().bfloat16().requires_grad_() for x in wide]
    document = (torch.arange(length) // 140).int().expand(2, length)
    weight = torch.randn(2, 4, length, 8)
    exact = torch.autograd.grad((attention(*wide, document) * weight).sum(), wide)
    found = torch.autograd.grad((blocks(*short, document) * weight).sum(), short)
    for a, b in zip(exact, found, strict=True):
        assert (a - b.float()).norm() < 0.01 * a.norm()


def test_scores_too_large_for_an_exponential_are_no_trouble_when_compiled():
    q, k, v = (x.bfloat16() for x in _inputs(40))
    found = torch.compile(attention, backend="aot_eager")(200 * q, k, v)
    assert (found.float() - attention(200 * q, k, v).float()).abs().max() < 0.02


def test_bfloat16_is_as_close_to_float32_as_its_digits_allow() -> None:
    q, k, v = _inputs(64, dtype=torch.bfloat16)
    exact = attention(q.float(), k.float(), v.float())
    assert (attention(q, k, v).float() - exact).abs().max() < 0.02
