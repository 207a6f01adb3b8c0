"""Divergences: estimators, whole distributions, distillation."""

from itertools import pairwise

import pytest
import torch

from test_laws import Bigram, answer_rows
from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.moves import Score
from thalweg.core.protocols import Context
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.objectives import (
    Alpha,
    Distill,
    ForwardKl,
    Hellinger,
    JensenShannon,
    ReverseKl,
    TopTokens,
)
from thalweg.objectives.distill import lumped_divergence
from thalweg.objectives.divergence import estimate_kl

ALL = [ForwardKl(), ReverseKl(), JensenShannon(), Alpha(0.3), Hellinger()]
P = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log()
Q = torch.tensor([0.4, 0.1, 0.1, 0.4], dtype=torch.float64).log()


def whole(divergence: object, q: torch.Tensor, p: torch.Tensor, k: int = 4) -> float:
    top = p.topk(k)
    return float(
        lumped_divergence(q[None], top.indices[None], top.values[None], divergence).squeeze()
    )


def test_whole_distributions_give_the_divergences_of_the_textbook():
    def kl(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a.exp() * (a - b)).sum()

    middle = ((P.exp() + Q.exp()) / 2).log()
    assert whole(ForwardKl(), Q, P) == pytest.approx(float(kl(P, Q)))
    assert whole(ReverseKl(), Q, P) == pytest.approx(float(kl(Q, P)))
    assert whole(JensenShannon(), Q, P) == pytest.approx(float(kl(P, middle) + kl(Q, middle)))
    roots = (P.exp().sqrt() - Q.exp().sqrt()) ** 2
    assert whole(Hellinger(), Q, P) == pytest.approx(float(roots.sum()))


def test_alpha_lies_between_the_two():
    assert whole(Alpha(1e-5), Q, P) == pytest.approx(whole(ReverseKl(), Q, P), abs=1e-4)
    assert whole(Alpha(1 - 1e-5), Q, P) == pytest.approx(whole(ForwardKl(), Q, P), abs=1e-4)


@pytest.mark.parametrize("divergence", ALL, ids=lambda one: type(one).__name__)
def test_a_divergence_is_zero_at_home_convex_and_has_its_slope(divergence):
    log_u = torch.linspace(-3, 3, 61, dtype=torch.float64, requires_grad=True)
    value = divergence.value(log_u)
    (by_log,) = torch.autograd.grad(value.sum(), log_u)
    u = log_u.detach().exp()
    slope = divergence.slope(log_u.detach())
    shift = (by_log / u - slope).detach()
    assert shift.std() < 1e-9, "f' up to a constant"
    assert float(value[30].detach()) == pytest.approx(0.0, abs=1e-12)
    assert (value >= -1e-12).all()
    assert (slope.diff() > 0).all()


@pytest.mark.parametrize("divergence", ALL, ids=lambda one: type(one).__name__)
def test_lumping_never_adds(divergence):
    values = [whole(divergence, Q, P, k) for k in (1, 2, 3, 4)]
    assert all(more >= less - 1e-12 for less, more in pairwise(values))


@pytest.mark.parametrize(("estimator", "exact"), [("k1", True), ("k3", True), ("k2", False)])
def test_estimators_of_a_kl(estimator, exact):
    mean = float((Q.exp() * estimate_kl(Q - P, estimator)).sum())
    kl = float((Q.exp() * (Q - P)).sum())
    assert (mean == pytest.approx(kl)) is exact
    assert estimate_kl(torch.tensor(0.0), estimator) == 0.0


def slopes(weighted) -> torch.Tensor:
    """Return the gradient in the logits of the mean over samples of pi of something of log u."""
    logits = Q.clone().requires_grad_()
    log_q = logits.log_softmax(-1)
    mean = (log_q.detach().exp() * weighted(log_q, log_q - P)).sum()
    return torch.autograd.grad(mean, logits)[0]


def test_only_k2_and_a_corrected_k3_have_the_gradient_of_the_kl():
    logits = Q.clone().requires_grad_()
    log_q = logits.log_softmax(-1)
    (true,) = torch.autograd.grad((log_q.exp() * (log_q - P)).sum(), logits)
    assert torch.allclose(slopes(lambda q, u: estimate_kl(u, "k2")), true)
    corrected = slopes(lambda q, u: (q - q.detach()).exp() * estimate_kl(u, "k3"))
    assert torch.allclose(corrected, true)
    assert torch.allclose(slopes(lambda q, u: estimate_kl(u, "k1")), torch.zeros(4).double())
    log_q = logits.log_softmax(-1)
    (forward,) = torch.autograd.grad((P.exp() * (P - log_q)).sum(), logits)
    assert torch.allclose(slopes(lambda q, u: estimate_kl(u, "k3")), forward)


def test_a_student_equal_to_its_teacher_learns_nothing():
    model = Bigram().float()
    teacher = Learner("teacher", Bigram().float(), World())
    batch = answer_rows()
    batch = batch.plus({"weight": batch["weight"].float()})
    for k in (3, 7, 99):
        score = Score("teacher", "teacher_top", fn=TopTokens(k, temperature=2.0))
        assert score.needs == ("tokens",)
        scored = score(batch, Context(Time(0, 1), models={"teacher": teacher}))
        assert scored["teacher_top"].shape == (8, 5, min(k, 7), 2)
        for divergence in ALL:
            loss = Distill(divergence, temperature=2.0)(model, scored)
            (found,) = torch.autograd.grad(loss.value, [model.table])
            assert float(loss.value.detach()) == pytest.approx(0.0, abs=1e-5)
            assert found.abs().max() < 1e-5


def test_a_student_that_all_but_excludes_the_teachers_choice_stays_finite():
    teacher, student = torch.tensor([[0.0, -200.0]]), torch.tensor([[-200.0, 0.0]])
    for divergence in ALL:
        leaf = student.clone().requires_grad_()
        value = lumped_divergence(leaf, torch.tensor([[0, 1]]), teacher, divergence)
        assert torch.isfinite(torch.autograd.grad(value.sum(), leaf)[0]).all()
    assert Batch({"x": teacher}).rows == 1
