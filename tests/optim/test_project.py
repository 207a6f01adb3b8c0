"""Projected: norms stay, the rate that is written is the rate that counts, and who asks for it."""

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.errors import RecipeError
from thalweg.optim import SGD, AdamW, Groups, Muon, Projected, build, unnormalised


class Normalised(nn.Module):
    """Every matrix but the head is followed by a normalisation, as the paper asks."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.inner = nn.ModuleList([nn.Linear(6, 8, bias=False), nn.Linear(8, 8, bias=False)])
            self.head = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.inner:
            x = nn.functional.layer_norm(layer(x), (8,), eps=1e-12).relu()
        return self.head(x)


def data() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(32, 6, generator=draw), torch.randn(32, 1, generator=draw)


def loss_of(model: nn.Module) -> torch.Tensor:
    x, y = data()
    return (model(x) - y).square().mean()


def train(model: nn.Module, spec, steps: int) -> None:
    optimizers = build(spec, list(model.named_parameters()))
    for _ in range(steps):
        optimizers.zero()
        loss_of(model).backward()
        optimizers.step()


def norms(model: nn.Module) -> dict[str, float]:
    return {name: float(p.detach().norm()) for name, p in model.named_parameters()}


INNER = (
    AdamW(lr=0.05, weight_decay=0.1),
    SGD(lr=0.1, momentum=0.9),
    Muon(0.1, adam=AdamW(lr=0.05)),
    Groups({"inner.0.*": SGD(lr=0.1), "*": AdamW(lr=0.05)}),
)


@pytest.mark.parametrize("inner", INNER, ids=lambda spec: type(spec).__name__)
def test_matrices_keep_their_norms_and_the_rest_does_not(inner):
    model = Normalised()
    before = norms(model)
    train(model, Projected(inner), 20)
    after = norms(model)
    for name in ("inner.0.weight", "inner.1.weight"):
        assert after[name] == pytest.approx(before[name], rel=1e-5)
    assert after["head.weight"] != pytest.approx(before["head.weight"], rel=1e-2)


def test_one_projected_step_by_hand():
    w = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizers = build(Projected(SGD(lr=1.0)), [("w", w)])
    w.grad = torch.tensor([[3.0, 0.0]])
    optimizers.step()
    assert w.tolist() == [[0.0, 5.0]]  # (0, 4), back to norm 5


def turns(model: nn.Module, spec, steps: int) -> list[float]:
    """Return the tangent of the angle that a matrix turns in every step."""
    optimizers = build(spec, list(model.named_parameters()))
    found, layer = [], model.inner[1].weight
    for _ in range(steps):
        old = layer.detach().clone().flatten()
        optimizers.zero()
        loss_of(model).backward()
        optimizers.step()
        cosine = nn.functional.cosine_similarity(old, layer.detach().flatten(), dim=0)
        found.append(float(torch.tan(torch.arccos(cosine.double().clamp(max=1.0)))))
    return found


def test_growth_slows_a_normalised_network_and_projection_does_not_let_it():
    noise = Groups({"inner.*": SGD(lr=2.0), "*": SGD(lr=0.05)})
    free, held = Normalised(), Normalised()
    train(free, noise, 60)
    train(held, Projected(noise), 60)
    grown = norms(free)["inner.1.weight"] / norms(held)["inner.1.weight"]
    assert grown > 1.2
    x, _ = data()
    scaled = Normalised()
    scaled.load_state_dict(free.state_dict())
    with torch.no_grad():
        scaled.inner[1].weight /= grown
    assert torch.allclose(scaled(x), free(x), atol=1e-5)  # the same function ...
    (slow,), (fast,) = turns(free, noise, 1), turns(scaled, noise, 1)
    assert fast / slow == pytest.approx(grown**2, rel=0.05)  # ... that turns by 1 / |W|^2


def test_who_is_normalised_can_be_asked():
    model = Normalised()
    named = list(model.named_parameters())
    before = norms(model)
    assert unnormalised(lambda: loss_of(model), named) == ("head.weight",)
    assert norms(model) == before
    plain = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1))
    found = unnormalised(lambda: loss_of(plain), list(plain.named_parameters()))
    assert found == ("0.weight", "2.weight")


def test_a_matrix_of_zeros_and_no_matrix_are_refused():
    zeros = [("w", nn.Parameter(torch.zeros(2, 2)))]
    with pytest.raises(RecipeError, match="zeros"):
        build(Projected(SGD(lr=1.0)), zeros)
    with pytest.raises(RecipeError, match="a matrix whose name"):
        build(Projected(SGD(lr=1.0)), [("head.weight", nn.Parameter(torch.ones(2, 2)))])


def test_the_moments_are_left_as_they_are():
    free, held = Normalised(), Normalised()
    ends = []
    for model, spec in ((free, AdamW(lr=0.05)), (held, Projected(AdamW(lr=0.05)))):
        optimizers = build(spec, list(model.named_parameters()))
        loss_of(model).backward()
        optimizers.step()
        state = optimizers.torch_optimizers[0].state[model.inner[0].weight]
        ends.append(state["exp_avg"].numpy())
    assert np.array_equal(*ends)
