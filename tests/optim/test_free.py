"""Optimizers without a rate, and NAdamW, against slow transcriptions of their papers."""

import numpy as np
import pytest
import torch
from torch import nn

from reference import optimizers as slow
from thalweg.core.freeze import at
from thalweg.core.time import Time
from thalweg.errors import DialError, RecipeError
from thalweg.optim import (
    SGD,
    AdamW,
    DoG,
    Groups,
    Mechanic,
    Muon,
    NAdamW,
    Prodigy,
    Projected,
    ScheduleFree,
    Widening,
    build,
    rates,
)
from thalweg.schedules import Linear

STEPS = 60
CURVES = np.geomspace(0.1, 10.0, 10)


def gradient(w: np.ndarray, t: int) -> np.ndarray:
    """Of a badly scaled quadratic, with noise that is a function of the step."""
    return CURVES * (w - 1.0) + 0.1 * np.random.default_rng(t).normal(size=10)


def start() -> np.ndarray:
    return np.random.default_rng(99).normal(size=10)


class Two(nn.Module):
    """Ten weights in two matrices."""

    def __init__(self) -> None:
        super().__init__()
        w = torch.from_numpy(start())
        self.a, self.b = nn.Parameter(w[:4].view(2, 2)), nn.Parameter(w[4:].view(2, 3))

    def vector(self) -> np.ndarray:
        return np.concatenate([p.detach().numpy().ravel() for p in (self.a, self.b)])


def steps_of(spec, change=lambda spec, t: spec) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return weights and averages after every step."""
    model, out = Two(), []
    optimizers = build(change(spec, 0), list(model.named_parameters()))
    for t in range(STEPS):
        g = torch.from_numpy(gradient(model.vector(), t))
        model.a.grad, model.b.grad = g[:4].view(2, 2), g[4:].view(2, 3)
        optimizers.set(change(spec, t))
        optimizers.step()
        found = {p: x for p, x in optimizers.averages()}
        mean = [found.get(p, p).detach().numpy().ravel() for p in (model.a, model.b)]
        out.append((model.vector(), np.concatenate(mean)))
    return out


def test_nadamw_is_the_paper():
    expected = slow.nadamw(start(), gradient, STEPS, lr=0.05, b1=0.9, b2=0.99, eps=1e-4, decay=0.1)
    found = steps_of(NAdamW(lr=0.05, betas=(0.9, 0.99), eps=1e-4, weight_decay=0.1))
    assert [w for w, _ in found] == pytest.approx(np.array(expected), rel=1e-6)


def test_nadamw_is_calibrated():
    spec = NAdamW()
    assert (spec.lr, spec.weight_decay) == pytest.approx((0.0017486, 0.08122), rel=1e-4)
    assert spec.betas == pytest.approx((0.93266, 0.995516), rel=1e-5)


@pytest.mark.parametrize("power", [0.0, 1.5])
def test_schedule_free_adamw_is_the_paper_warm_up_and_all(power):
    lr = [0.05 * min(1.0, (t + 1) / 10) for t in range(STEPS)]
    expected = slow.schedule_free_adamw(
        start(), gradient, STEPS, lr=lr, beta=0.9, b2=0.99, eps=1e-8, decay=0.1, power=power
    )
    spec = lambda _, t: ScheduleFree(  # noqa: E731
        AdamW(lr=lr[t], betas=(0.9, 0.99), weight_decay=0.1), power=power
    )
    found = steps_of(None, spec)
    assert np.array(found) == pytest.approx(np.array(expected), rel=1e-9)


def test_schedule_free_sgd_is_the_paper():
    expected = slow.schedule_free_sgd(start(), gradient, STEPS, lr=0.1, beta=0.9, decay=0.01)
    found = steps_of(ScheduleFree(SGD(lr=0.1, momentum=0.9, weight_decay=0.01)))
    assert np.array(found) == pytest.approx(np.array(expected), rel=1e-9)


@pytest.mark.parametrize("options", [{}, {"corrected": True, "safe": True}])
def test_prodigy_is_the_paper(options):
    expected = slow.prodigy(
        start(), gradient, STEPS, b1=0.9, b2=0.999, eps=1e-8, decay=0.01, d0=1e-2, **options
    )
    ours = {"bias_correction": True, "safeguard_warmup": True} if options else {}
    found = steps_of(Prodigy(weight_decay=0.01, d0=1e-2, **ours))
    assert [w for w, _ in found] == pytest.approx(np.array(expected), rel=1e-8)
    assert np.abs(expected[-1] - start()).max() > 0.3


def test_prodigy_stands_still_while_its_factor_is_0():
    model = Two()
    optimizers = build(Prodigy(lr=0.0), list(model.named_parameters()))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizers.step()
    assert model.vector() == pytest.approx(start(), abs=0)


@pytest.mark.parametrize("layerwise", [False, True])
def test_dog_is_the_paper(layerwise):
    parts = [slice(0, 4), slice(4, 10)] if layerwise else [slice(0, 10)]
    expected = slow.dog(
        start(), gradient, STEPS, first=1e-2, eps=1e-8, decay=0.01, gamma=8.0, parts=parts
    )
    found = steps_of(DoG(weight_decay=0.01, first=1e-2, layerwise=layerwise))
    assert np.array(found) == pytest.approx(np.array(expected), rel=1e-8)


def test_mechanic_is_the_paper():
    numbers = {"decay": 0.01, "first": 1e-6, "betas": (0.9, 0.99, 0.999), "eps": 1e-8}
    expected = slow.mechanic_sgd(start(), gradient, STEPS, lr=1.0, **numbers)
    found = steps_of(Mechanic(SGD(lr=1.0), **numbers))
    assert [w for w, _ in found] == pytest.approx(np.array(expected), rel=1e-8)
    assert np.abs(expected[-1] - start()).max() > 0.1


def test_mechanic_finds_the_scale_of_any_inner_rate():
    ends = [steps_of(Mechanic(SGD(lr=lr)))[-1][0] for lr in (0.1, 10.0)]
    loss = [float(np.sum(CURVES * (w - 1.0) ** 2)) for w in ends]
    assert max(loss) < 0.5 * float(np.sum(CURVES * (start() - 1.0) ** 2))


def test_packages_of_the_authors_agree_where_installed():
    schedulefree = pytest.importorskip("schedulefree")
    prodigyopt = pytest.importorskip("prodigyopt")
    pairs = [
        (ScheduleFree(AdamW(lr=0.05, betas=(0.9, 0.99), weight_decay=0.1)),
         lambda p: schedulefree.AdamWScheduleFree(
             p, lr=0.05, betas=(0.9, 0.99), weight_decay=0.1)),
        (Prodigy(), prodigyopt.Prodigy),
    ]  # fmt: skip
    for spec, theirs in pairs:
        model = Two()
        other = theirs(model.parameters())
        getattr(other, "train", lambda: None)()
        for t in range(20):
            g = torch.from_numpy(gradient(model.vector(), t))
            model.a.grad, model.b.grad = g[:4].view(2, 2), g[4:].view(2, 3)
            other.step()
        assert model.vector() == pytest.approx(steps_of(spec)[19][0], rel=1e-6)


# --- specs


def test_a_wrapper_has_the_rates_of_what_it_wraps():
    spec = Groups({"a": ScheduleFree(AdamW(lr=1.0)), "*": Mechanic(Muon(2.0, adam=AdamW(lr=3.0)))})
    assert rates(spec) == {
        "groups.a.inner.lr": 1.0,
        "groups.*.inner.lr": 2.0,
        "groups.*.inner.adam.lr": 3.0,
    }
    assert rates(Prodigy()) == {"lr": 1.0}


@pytest.mark.parametrize(
    "inner",
    [
        Prodigy(),
        DoG(),
        ScheduleFree(AdamW(lr=1.0)),
        Projected(AdamW(lr=1.0)),
        Groups({"*": DoG()}),
        0.1,
    ],
)
@pytest.mark.parametrize("wrapper", [Mechanic, Projected])
def test_what_remembers_weights_cannot_be_wrapped(wrapper, inner):
    with pytest.raises(RecipeError, match="nobody else may move"):
        wrapper(inner)


@pytest.mark.parametrize(
    "inner",
    [
        AdamW(lr=1.0, betas=(0.0, 0.9)),
        AdamW(lr=1.0, betas=(Linear(0.9, 0.8), 0.9)),
        SGD(lr=1.0),
        SGD(lr=1.0, momentum=0.9, nesterov=True),
        Muon(1.0, adam=AdamW(lr=1.0)),
    ],
)
def test_schedule_free_wants_a_mixing_number_that_stays(inner):
    with pytest.raises(RecipeError, match=r"ScheduleFree\.inner"):
        ScheduleFree(inner)


def test_schedule_free_refuses_another_mixing_number_in_the_middle():
    optimizers = build(ScheduleFree(AdamW(lr=1.0)), list(Two().named_parameters()))
    optimizers.set(ScheduleFree(AdamW(lr=2.0)))
    with pytest.raises(RecipeError, match="structure"):
        optimizers.set(ScheduleFree(AdamW(lr=1.0, betas=(0.8, 0.95))))


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Prodigy(d0=0.0),
        lambda: Prodigy(d_coef=-1.0),
        lambda: Prodigy(betas=(1.0, 0.9)),
        lambda: DoG(first=0.0),
        lambda: DoG(average=-1.0),
        lambda: NAdamW(eps=0.0),
        lambda: Mechanic(SGD(lr=1.0), betas=(1.0,)),
        lambda: ScheduleFree(AdamW(lr=1.0), power=-1.0),
    ],
)
def test_bad_numbers_are_refused(bad):
    with pytest.raises(DialError):
        bad()


@pytest.mark.parametrize("spec", [Prodigy(), DoG()])
def test_one_estimated_rate_and_rates_by_width_do_not_go_together(spec):
    model = Two()
    widening = dict.fromkeys(("a", "b"), Widening(4.0, hidden=True))
    with pytest.raises(RecipeError, match="4 times as wide"):
        build(spec, list(model.named_parameters()), widening)


# --- width


def numbers_by_name(spec, times: float) -> dict[str, dict]:
    model = nn.Module()
    model.hidden = nn.Parameter(torch.ones(2, 2))
    model.embedding = nn.Parameter(torch.ones(2, 2))
    widening = {"hidden": Widening(times, hidden=True), "embedding": Widening(times)}
    optimizers = build(spec, list(model.named_parameters()), widening)
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: group
        for one in optimizers.torch_optimizers
        for group in one.param_groups
        for p in group["params"]
    }


@pytest.mark.parametrize("kind", [AdamW, NAdamW, lambda **n: ScheduleFree(AdamW(**n))])
def test_adam_slows_hidden_matrices_by_the_width_and_keeps_rate_times_decay(kind):
    found = numbers_by_name(kind(lr=0.4, weight_decay=0.5, eps=1e-8), 4.0)
    hidden, embedding = found["hidden"], found["embedding"]
    assert (hidden["lr"], hidden["weight_decay"]) == (0.1, 2.0)
    assert (embedding["lr"], embedding["weight_decay"]) == (0.4, 0.5)
    assert hidden["eps"] == embedding["eps"] == 0.25e-8


def test_gradient_descent_hastens_all_but_hidden_matrices():
    found = numbers_by_name(SGD(lr=0.4, weight_decay=0.5), 4.0)
    assert (found["hidden"]["lr"], found["hidden"]["weight_decay"]) == (0.4, 0.5)
    assert (found["embedding"]["lr"], found["embedding"]["weight_decay"]) == (1.6, 0.125)


@pytest.mark.parametrize(("scale", "lr"), [("original", 0.4), ("match_rms_adamw", 0.2)])
def test_muon_is_the_same_at_every_width_but_for_what_its_scale_adds(scale, lr):
    spec = Muon(0.4, weight_decay=0.1, scale=scale, adam=AdamW(lr=0.8))
    found = numbers_by_name(spec, 4.0)
    assert found["hidden"]["lr"] == lr
    assert found["hidden"]["lr"] * found["hidden"]["weight_decay"] == pytest.approx(0.04)
    assert found["embedding"]["lr"] == 0.8


def test_a_muon_that_moves_together_has_one_rate():
    spec = Muon(Linear(0.4, 0.0), adam=AdamW(lr=0.5), together=True)
    assert rates(at(spec, Time(50, 100))) == {"lr": 0.2}
    found = numbers_by_name(at(spec, Time(50, 100)), 1.0)
    assert (found["hidden"]["lr"], found["embedding"]["lr"]) == (0.2, 0.1)
    with pytest.raises(DialError, match="lr = Linear"):
        numbers_by_name(spec, 1.0)


def test_the_factor_of_a_muon_that_moves_together_may_be_set_in_the_middle():
    model = nn.Module()
    model.hidden, model.embedding = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    optimizers = build(Muon(0.4, adam=AdamW(lr=0.5), together=True), list(model.named_parameters()))
    optimizers.set(Muon(0.2, adam=AdamW(lr=0.25), together=True))
    matrices, rest = optimizers.torch_optimizers
    assert (matrices.param_groups[0]["lr"], rest.param_groups[0]["lr"]) == (0.2, 0.05)
