"""Rows that begin alike, packed: nothing but the work is less."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import RecipeError
from thalweg.models import Latent, Transformer
from thalweg.models.attention import attention
from thalweg.models.shared import Shared

GROUPS, ROWS, PROMPT, LENGTH = 3, 4, 7, 20
KINDS = {
    "plain": {},
    "grouped queries": {"kv_heads": 2, "qk_norm": True, "attention_bias": True},
    "latent": {"latent": Latent(rank=12, nope=8, rope=4, value=10)},
}


def answers(seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    prompts = torch.randint(31, (GROUPS, 1, PROMPT), generator=draw).expand(-1, ROWS, -1)
    rest = torch.randint(31, (GROUPS, ROWS, LENGTH - PROMPT), generator=draw)
    return torch.cat([prompts, rest], 2).flatten(0, 1)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 6), st.integers(1, 4))
def test_spreading_undoes_packing(groups, rows, prefix, rest):
    first = torch.arange(groups * prefix).view(groups, 1, prefix).expand(-1, rows, -1)
    values = torch.cat([first, -torch.ones(groups, rows, rest, dtype=torch.int64)], 2)
    shared = Shared(rows, prefix)
    packed = shared.packed(values.flatten(0, 1))
    assert packed.shape == (groups, prefix + rows * rest)
    assert shared.longest(packed.shape[1]) == prefix + rest
    assert torch.equal(shared.spread(packed), values.flatten(0, 1))
    own = torch.arange(prefix + rest).expand(groups * rows, -1)
    assert torch.equal(shared.packed(own)[0], shared.places(prefix + rest, torch.device("cpu")))


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_groups_have_the_scores_and_gradients_of_their_rows(kind, entropy):
    spec = Transformer(
        vocabulary=31, width=32, layers=2, heads=4, positions=LENGTH, initial_std=0.3, **KINDS[kind]
    )
    model, shared, tokens = spec.build(0).double(), Shared(ROWS, PROMPT - 1), answers()
    given, targets = tokens[:, :-1], tokens[:, 1:]
    weight = torch.randn(targets.shape, generator=torch.Generator().manual_seed(1)).double()

    def seen(packed: bool) -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        if packed:
            asked = shared.packed(given), shared, shared.packed(targets)
        else:
            asked = given, None, targets
        scored = model(*asked[:2], targets_RT=asked[2], entropy=entropy)
        values = scored.logprobs + (scored.entropy if entropy else 0.0)
        values = shared.spread(values) if packed else values
        (values * weight).sum().backward()
        return values.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])

    for once, every in zip(seen(packed=True), seen(packed=False), strict=True):
        assert (once - every).abs().max() < 1e-12 * every.abs().max()


def test_a_packed_row_may_be_longer_than_the_positions_but_no_answer():
    spec = Transformer(vocabulary=31, width=32, layers=1, heads=4, positions=LENGTH)
    shared, tokens = Shared(ROWS, PROMPT - 1), answers()
    assert shared.packed(tokens).shape[1] > LENGTH
    spec.build(0)(shared.packed(tokens), shared)
    longer = torch.cat([tokens, tokens[:, -1:]], 1)
    with pytest.raises(RecipeError, match="rows of 21 tokens"):
        spec.build(0)(shared.packed(longer), shared)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("queries", "length"), [(1, 9), (150, 300), (40, 1200), (300, 2100)])
def test_fewer_queries_are_the_last_ones(dtype, queries, length):
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, length, 8, generator=draw).to(dtype) for _ in range(3))
    kv = k[:, :2], v[:, :2]  # query heads share keys in pairs
    few, all_of_them = attention(q[:, :, -queries:], *kv), attention(q, *kv)
    error = (few - all_of_them[:, :, -queries:]).abs().max()
    assert error < (1e-5 if dtype == torch.float32 else 0.03)


def test_fewer_queries_have_the_same_gradients_in_two_bytes():
    draw = torch.Generator().manual_seed(0)
    wide = [torch.randn(2, 4, 300, 8, generator=draw).requires_grad_() for _ in range(3)]
    short = [x.detach().bfloat16().requires_grad_() for x in wide]
    weight = torch.randn(2, 4, 150, 8, generator=draw)

    def slopes(q, k, v):
        seen = attention(q[:, :, -150:], k, v).float()
        return torch.autograd.grad((seen * weight).sum(), (q, k, v))

    for a, b in zip(slopes(*wide), slopes(*short), strict=True):
        assert (a - b.float()).norm() < 0.01 * a.norm()
