import pytest
import torch

from thalweg.models import Transformer
from thalweg.models.entropy import linear_entropy


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 5, generator=draw, dtype=torch.float64).requires_grad_()
    head = torch.randn(11, 5, generator=draw, dtype=torch.float64).requires_grad_()
    return hidden, head, torch.randint(11, (7,), generator=draw)


@pytest.mark.parametrize("chunk", [1, 3, 7, None])
def test_logprobs_and_entropies_equal_those_of_the_logits(chunk: int | None) -> None:
    hidden, head, targets = inputs()
    shares = (hidden @ head.t()).log_softmax(-1)
    found = linear_entropy(hidden, head, targets, chunk=chunk)
    assert torch.allclose(found.logprobs_N, shares[torch.arange(7), targets])
    assert torch.allclose(found.entropy_N, -(shares.exp() * shares).sum(-1))


@pytest.mark.parametrize("chunk", [2, 7])
def test_both_gradients_are_right(chunk: int) -> None:
    hidden, head, targets = inputs()

    def both(hidden: torch.Tensor, head: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return linear_entropy(hidden, head, targets, chunk=chunk)

    assert torch.autograd.gradcheck(both, (hidden, head))


def test_each_gradient_alone_is_right() -> None:
    hidden, head, targets = inputs()
    for which in (0, 1):

        def one(h: torch.Tensor, w: torch.Tensor, which: int = which) -> torch.Tensor:
            return linear_entropy(h, w, targets, chunk=3)[which]

        assert torch.autograd.gradcheck(one, (hidden, head))


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, head, targets = inputs()
    found = linear_entropy(hidden, head.detach(), targets)
    (slope,) = torch.autograd.grad(found.entropy_N.sum(), hidden)
    assert slope.any()


@pytest.mark.parametrize("with_head", [False, True])
def test_the_compiler_is_told_the_right_shapes(with_head: bool) -> None:
    hidden, head, targets = (x.detach() for x in inputs())
    checks = ("test_schema", "test_faketensor")
    score, gradients = (
        torch.ops.thalweg.linear_entropy,
        torch.ops.thalweg.linear_entropy_gradients,
    )
    torch.library.opcheck(score.default, (hidden, head, targets, 3, False), test_utils=checks)
    given = (
        hidden,
        head,
        targets,
        torch.ones(7).double(),
        torch.ones(7).double(),
        3,
        with_head,
        False,
    )
    torch.library.opcheck(gradients.default, given, test_utils=checks)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_a_decoder_gives_both_at_a_temperature(temperature: float) -> None:
    model = Transformer(vocabulary=32, width=16, layers=1, heads=2, positions=8).build(0)
    tokens = torch.randint(32, (2, 9), generator=torch.Generator().manual_seed(0))
    rows, targets = tokens[:, :-1], tokens[:, 1:]
    shares = (model(rows) / temperature).log_softmax(-1)
    found = model(rows, targets_RT=targets, temperature=temperature, entropy=True)
    alone = model(rows, targets_RT=targets, temperature=temperature)
    expected = shares.gather(-1, targets[..., None])[..., 0]
    assert torch.allclose(found.logprobs, expected, atol=1e-5)
    assert torch.allclose(alone.logprobs, expected, atol=1e-5)
    assert torch.allclose(found.entropy, -(shares.exp() * shares).sum(-1), atol=1e-5)
    assert alone.entropy is None


def test_tokens_of_which_nothing_is_asked_are_left_out_of_the_backward_pass() -> None:
    hidden, head, targets = inputs()
    hidden.data[2] = torch.inf  # would spoil every gradient that looked at it
    first, second = torch.zeros(2, 7, dtype=torch.float64)
    first[[0, 6]], second[[3, 6]] = (
        torch.tensor([0.5, -1.0]).double(),
        torch.tensor([1.0, 2.0]).double(),
    )
    some = [0, 3, 6]
    both = linear_entropy(hidden, head, targets, chunk=2)
    asked = (first * both.logprobs_N)[some].sum() + (second * both.entropy_N)[some].sum()
    found = torch.autograd.grad(asked, (hidden, head))
    shares = (hidden[some] @ head.t()).log_softmax(-1)
    plain = first[some] @ shares.gather(1, targets[some, None])[:, 0]
    plain = plain - (second[some, None] * shares.exp() * shares).sum()
    expected = torch.autograd.grad(plain, (hidden, head))
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() < 1e-12
