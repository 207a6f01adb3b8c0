import math
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from thalweg.errors import RecipeError
from thalweg.models.crossentropy import linear_cross_entropy
from thalweg.models.entropy import linear_entropy


def _inputs(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 5, generator=draw).to(dtype).requires_grad_()
    head = torch.randn(11, 5, generator=draw).to(dtype).requires_grad_()
    targets = torch.randint(11, (7,), generator=draw)
    weight = torch.rand(7, generator=draw).to(dtype)
    return hidden, head, targets, weight


def test_two_equal_logits_cost_log_two() -> None:
    scored = linear_cross_entropy(
        torch.ones(1, 3), torch.zeros(2, 3), torch.tensor([1]), torch.tensor([2.0])
    )
    assert scored.loss is not None
    assert float(scored.logprobs[0]) == pytest.approx(-math.log(2))
    assert float(scored.loss) == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("chunk", [1, 3, 7, None])
def test_logprobs_equal_log_softmax(chunk: int | None) -> None:
    hidden, head, targets, weight = _inputs()
    expected = functional.log_softmax(hidden @ head.t(), -1)[torch.arange(7), targets]
    for given in (None, weight):
        scored = linear_cross_entropy(hidden, head, targets, given, chunk=chunk)
        assert (scored.logprobs - expected).abs().max() < 1e-6


@pytest.mark.parametrize("chunk", [2, 7])
def test_the_gradients_of_the_loss_are_right(chunk: int) -> None:
    hidden, head, targets, weight = _inputs(torch.float64)

    def loss(hidden: torch.Tensor, head: torch.Tensor) -> torch.Tensor | None:
        return linear_cross_entropy(hidden, head, targets, weight, chunk=chunk).loss

    assert torch.autograd.gradcheck(loss, (hidden, head))


@pytest.mark.parametrize("chunk", [2, 7])
def test_the_gradients_of_the_logprobs_are_right(chunk: int) -> None:
    hidden, head, targets, _ = _inputs(torch.float64)

    def logprobs(hidden: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
        return linear_cross_entropy(hidden, head, targets, chunk=chunk).logprobs

    assert torch.autograd.gradcheck(logprobs, (hidden, head))


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, head, targets, weight = _inputs()
    expected = torch.autograd.grad(linear_cross_entropy(hidden, head, targets, weight).loss, hidden)
    frozen = linear_cross_entropy(hidden, head.detach(), targets, weight)
    assert torch.equal(torch.autograd.grad(frozen.loss, hidden)[0], expected[0])


def test_logprobs_beside_a_loss_are_constants() -> None:
    hidden, head, targets, weight = _inputs()
    scored = linear_cross_entropy(hidden, head, targets, weight)
    assert not scored.logprobs.requires_grad
    with torch.no_grad():
        assert linear_cross_entropy(hidden, head, targets, weight).loss is not None


def test_zero_weight_gives_zero_gradient() -> None:
    hidden, head, targets, weight = _inputs()
    weight[2] = 0.0
    to_hidden = torch.autograd.grad(
        linear_cross_entropy(hidden, head, targets, weight).loss, hidden
    )
    assert torch.equal(to_hidden[0][2], torch.zeros(5))


@pytest.mark.parametrize("with_head", [False, True])
def test_the_compiler_is_told_the_right_shapes(with_head: bool) -> None:
    hidden, head, targets, weight = (x.detach() for x in _inputs())
    checks = ("test_schema", "test_faketensor")
    score, gradients = torch.ops.thalweg.linear_score, torch.ops.thalweg.linear_gradients
    torch.library.opcheck(score.default, (hidden, head, targets, 3, False), test_utils=checks)
    given = (hidden, head, targets, weight, 3, with_head, True, False)
    torch.library.opcheck(gradients.default, given, test_utils=checks)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when it compiles
def test_what_is_done_with_logits_is_the_same_when_compiled():
    draw = torch.Generator().manual_seed(0)
    hidden, head, a, b = (torch.randn(*n, generator=draw) for n in ((7, 5), (11, 5), (7,), (7,)))
    targets = torch.randint(11, (7,), generator=draw)
    ops, given = torch.ops.thalweg, (hidden, head, targets)
    for op, more in (
        (ops.linear_score, (3,)),
        (ops.linear_gradients, (a, 3, True, True)),
        (ops.linear_entropy, (3,)),
        (ops.linear_entropy_gradients, (a, torch.zeros(7), 3, True)),
        (ops.linear_entropy_gradients, (a, b, 3, True)),
    ):
        alike = zip(op(*given, *more, False), op(*given, *more, True), strict=True)
        assert all(torch.allclose(plain, fast, atol=1e-5) for plain, fast in alike)


def test_under_autocast_matmuls_are_short_and_the_softmax_is_not() -> None:
    hidden, head, targets, weight = _inputs()
    exact = linear_cross_entropy(hidden, head, targets, weight)
    with torch.autocast("cpu", torch.bfloat16):
        short = linear_cross_entropy(hidden, head, targets, weight)
    assert short.logprobs.dtype == torch.float32
    difference = (short.logprobs - exact.logprobs).abs().max()
    assert 0 < difference < 0.05
    assert torch.autograd.grad(short.loss, head)[0].dtype == torch.float32


def test_a_second_derivative_of_the_weighted_loss_is_refused_not_wrong():
    hidden = torch.randn(3, 4, requires_grad=True)
    loss = linear_cross_entropy(hidden, torch.randn(5, 4), torch.arange(3), torch.ones(3)).loss
    with pytest.raises(RecipeError, match="second derivative"):
        torch.autograd.grad(loss, hidden, create_graph=True)


def test_tokens_without_weight_are_left_out_of_the_backward_pass() -> None:
    hidden, head, targets, _ = _inputs(torch.float64)
    hidden.data[2] = torch.inf  # would spoil every gradient that looked at it
    weight = torch.tensor([0.5, 0.0, 0.0, -1.0, 0.0, 0.0, 2.0], dtype=torch.float64)
    some = weight != 0
    logprobs = linear_cross_entropy(hidden, head, targets, chunk=2).logprobs
    found = torch.autograd.grad((weight * logprobs)[some].sum(), (hidden, head))
    shares = (hidden[some] @ head.t()).log_softmax(-1).gather(1, targets[some, None])[:, 0]
    expected = torch.autograd.grad((weight[some] * shares).sum(), (hidden, head))
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() < 1e-12


def test_the_second_derivative_by_a_weight_that_is_zero_is_right() -> None:
    hidden, head, targets, _ = _inputs(torch.float64)
    along = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)).double()

    def logprobs(hidden: torch.Tensor) -> torch.Tensor:
        return linear_cross_entropy(hidden, head.detach(), targets, chunk=2).logprobs

    def plain(hidden: torch.Tensor) -> torch.Tensor:
        return (hidden @ head.detach().t()).log_softmax(-1).gather(1, targets[:, None])[:, 0]

    # torch differentiates the backward pass by weights that are all 0
    found, expected = (
        torch.autograd.functional.jvp(f, hidden, along)[1] for f in (logprobs, plain)
    )
    assert (found - expected).abs().max() < 1e-12


@pytest.mark.parametrize("chunk", [2, 64])
def test_under_autocast_too(chunk: int) -> None:
    hidden, head, targets, _ = _inputs()
    weight = torch.tensor([0.5, 0.0, 0.0, -1.0, 0.0, 0.0, 2.0])

    def slopes(call: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad((weight * call()).sum(), (hidden, head))

    with torch.autocast("cpu", torch.bfloat16):
        both = (
            slopes(lambda: linear_cross_entropy(hidden, head, targets, chunk=chunk).logprobs),
            slopes(lambda: linear_entropy(hidden, head, targets, chunk=chunk).logprobs_N),
        )
    whole = slopes(lambda: (hidden @ head.t()).log_softmax(-1).gather(1, targets[:, None])[:, 0])
    for found in both:
        for ours, exact in zip(found, whole, strict=True):
            assert ours.dtype == torch.float32
            assert (ours - exact).abs().max() < 0.03 * exact.abs().max()
