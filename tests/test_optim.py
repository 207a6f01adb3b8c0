"""Optimizer specs: steps by hand, numbers written at once, structure kept, torch's state round."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from thalweg.core.freeze import at
from thalweg.core.time import Time
from thalweg.core.tree import flatten
from thalweg.errors import DialError, RecipeError
from thalweg.optim import SGD, AdamW, Groups, Muon, build, rates
from thalweg.schedules import Linear


class Tiny(nn.Module):
    """Names like a language model's: embedding, a block, a norm, a head, and stacked experts."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.embedding = nn.Embedding(5, 4)
        self.blocks = nn.ModuleList([nn.Linear(4, 6), nn.Linear(6, 4)])
        self.norm = nn.LayerNorm(4)
        self.experts = nn.Parameter(torch.zeros(2, 4, 4))
        self.head = nn.Linear(4, 5, bias=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw))


def named(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(model.named_parameters())


def fill(model: nn.Module, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=draw)


def groups_of(optimizers, model: nn.Module) -> dict[str, tuple[str, dict]]:
    """Return torch optimizer and group of every parameter by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (type(one).__name__, group)
        for one in optimizers.torch_optimizers
        for group in one.param_groups
        for parameter in group["params"]
    }


def adamw_by_hand(w, grads, lr, b1, b2, eps, decay):
    m = v = np.zeros_like(w)
    for t, g in enumerate(grads, 1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        w = w * (1 - lr * decay)
        w = w - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return w


def test_adamw_is_the_paper_and_spares_vectors_from_decay() -> None:
    model = Tiny().double()
    before = {name: p.detach().numpy().copy() for name, p in named(model)}
    spec = AdamW(lr=0.01, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.5)
    optimizers = build(spec, named(model))
    seen: dict[str, list] = {name: [] for name in before}
    for seed in range(3):
        optimizers.zero()
        draw = torch.Generator().manual_seed(seed)
        for name, p in named(model):
            p.grad = torch.randn(p.shape, generator=draw, dtype=torch.float64)
            seen[name].append(p.grad.numpy().copy())
        optimizers.step()
    for name, p in named(model):
        decay = 0.5 if p.ndim >= 2 else 0.0
        expected = adamw_by_hand(before[name], seen[name], 0.01, 0.8, 0.9, 1e-3, decay)
        assert p.detach().numpy() == pytest.approx(expected, rel=1e-12), name


def test_sgd_by_hand() -> None:
    w = nn.Parameter(torch.tensor([[1.0]]))
    optimizers = build(SGD(lr=0.5, momentum=0.5, weight_decay=1.0), [("w", w)])
    for _ in range(2):
        w.grad = torch.ones(1, 1)
        optimizers.step()
    # g = 1 + 1, b = 2, w = 0; then g = 1 + 0, b = 2, w = -1
    assert w.item() == -1.0


def test_a_momentum_that_starts_at_nothing_may_look_ahead() -> None:
    w = nn.Parameter(torch.tensor([1.0]))
    spec = SGD(lr=0.5, momentum=0.0, nesterov=True)
    optimizers = build(spec, [("w", w)])
    w.grad = torch.ones(1)
    optimizers.step()
    optimizers.set(replace(spec, momentum=0.5))
    optimizers.step()
    # first w = 0.5; then b = 1 and w -= 0.5 (1 + 0.5 b)
    assert w.item() == -0.25


def test_the_rate_is_an_argument_of_the_step() -> None:
    w = nn.Parameter(torch.tensor([0.0]))
    optimizers = build(SGD(lr=1.0), [("w", w)])
    for lr in (0.5, 0.25, 0.0):
        optimizers.set(SGD(lr=lr))
        w.grad = torch.ones(1)
        optimizers.step()
    assert w.item() == -0.75


def test_set_writes_every_number() -> None:
    model = Tiny()
    optimizers = build(AdamW(lr=1.0), named(model))
    optimizers.set(AdamW(lr=0.5, betas=(0.1, 0.2), eps=0.3, weight_decay=0.4))
    for name, (_, group) in groups_of(optimizers, model).items():
        assert (group["lr"], group["betas"], group["eps"]) == (0.5, (0.1, 0.2), 0.3)
        matrix = dict(named(model))[name].ndim >= 2
        assert group["weight_decay"] == (0.4 if matrix else 0.0)


def test_muon_gets_the_hidden_matrices_and_adam_the_rest() -> None:
    model = Tiny()
    spec = Muon(lr=0.02, weight_decay=0.1, adam=AdamW(lr=3e-4, weight_decay=0.2))
    found = groups_of(build(spec, named(model)), model)
    assert {n for n, (kind, _) in found.items() if kind == "Muon"} == {
        "blocks.0.weight",
        "blocks.1.weight",
    }
    assert found["blocks.0.weight"][1]["lr"] == 0.02
    assert found["blocks.0.weight"][1]["weight_decay"] == 0.1
    for name in ("embedding.weight", "head.weight", "experts"):
        assert found[name][1]["lr"] == 3e-4
        assert found[name][1]["weight_decay"] == 0.2
    for name in ("blocks.0.bias", "norm.weight", "norm.bias"):
        assert found[name][1]["weight_decay"] == 0.0


@pytest.mark.parametrize(
    "name",
    [
        *("model.embed_tokens.weight", "lm_head.weight", "transformer.wte.weight", "head.weight"),
        *("blocks.0.mixture.router", "model.layers.3.mlp.gate.weight"),  # ours; OLMoE, Qwen3-MoE
        *("model.layers.0.block_sparse_moe.gate.weight", "layers.0.mlp.shared_expert_gate.weight"),
    ],
)
def test_muon_knows_the_usual_names_of_embeddings_heads_and_routers(name: str) -> None:
    both = [(name, nn.Parameter(torch.zeros(3, 2))), ("up.weight", nn.Parameter(torch.zeros(2, 2)))]
    optimizers = build(Muon(lr=0.02, adam=AdamW(lr=3e-4)), both)
    sizes = {
        type(one).__name__: sum(len(group["params"]) for group in one.param_groups)
        for one in optimizers.torch_optimizers
    }
    assert sizes == {"Muon": 1, "AdamW": 1}


def test_muon_takes_gates_that_are_not_routers() -> None:
    muon = Muon(lr=0.02, adam=AdamW(lr=3e-4))
    for name in ("model.layers.0.mlp.gate_proj.weight", "blocks.0.gate_up.weight"):
        assert muon.takes(name, torch.zeros(2, 2))


def test_a_muon_step_has_about_unit_singular_values() -> None:
    w = nn.Parameter(torch.zeros(8, 8))
    optimizers = build(Muon(lr=1.0, adam=AdamW(lr=1.0)), [("w", w)])
    w.grad = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    optimizers.step()
    singular = torch.linalg.svdvals(w.detach().float())
    assert singular.max() < 1.3  # Newton-Schulz aims at 0.7 to 1.2, and the smallest lag behind
    assert singular.median() > 0.6


def test_muon_without_a_hidden_matrix_is_refused() -> None:
    with pytest.raises(RecipeError, match="a matrix whose name"):
        build(Muon(lr=0.02, adam=AdamW(lr=1.0)), [("head.weight", nn.Parameter(torch.zeros(2, 2)))])


def test_the_first_pattern_wins() -> None:
    model = Tiny()
    spec = Groups(
        {"*.bias": SGD(lr=1.0), "blocks.*": AdamW(lr=2.0), "*": AdamW(lr=3.0, weight_decay=0.0)}
    )
    optimizers = build(spec, named(model))
    found = {name: group["lr"] for name, (_, group) in groups_of(optimizers, model).items()}
    assert found["blocks.0.bias"] == found["norm.bias"] == 1.0
    assert found["blocks.0.weight"] == 2.0
    assert found["head.weight"] == found["norm.weight"] == 3.0
    assert len(optimizers.torch_optimizers) == 2


def test_groups_and_muon_nest() -> None:
    model = Tiny()
    inner = Muon(lr=0.02, adam=AdamW(lr=3e-4))
    spec = Groups({"head.*": SGD(lr=1.0), "*": Groups({"*": inner})})
    assert rates(spec) == {
        "groups.head.*.lr": 1.0,
        "groups.*.groups.*.lr": 0.02,
        "groups.*.groups.*.adam.lr": 3e-4,
    }
    found = groups_of(build(spec, named(model)), model)
    assert (found["head.weight"][0], found["blocks.1.weight"][0]) == ("SGD", "Muon")


def test_rates_stand_at_their_paths_in_the_tree() -> None:
    spec = Groups({"a.*": Muon(lr=0.02, adam=AdamW(lr=3e-4)), "*": SGD(lr=1.0)})
    places = flatten(spec)
    assert {path: places[path] for path in rates(spec)} == rates(spec)


def test_a_parameter_without_a_pattern_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"'experts'(.|\n)*last pattern"):
        build(Groups({"blocks.*": SGD(lr=1.0)}), named(Tiny()))


@pytest.mark.parametrize("rules", [("bloks.*", "*"), ("*", "blocks.*")])
def test_a_pattern_without_a_parameter_is_refused(rules) -> None:
    with pytest.raises(RecipeError, match="gets no parameter"):
        build(Groups({rule: SGD(lr=1.0) for rule in rules}), named(Tiny()))


def test_no_groups_and_no_specs_are_refused() -> None:
    for groups in ({}, {"*": 0.1}):
        with pytest.raises(RecipeError, match="at least one pattern"):
            Groups(groups)


def test_frozen_parameters_are_left_out_and_a_frozen_model_is_refused() -> None:
    model = Tiny()
    model.embedding.weight.requires_grad_(False)
    assert "embedding.weight" not in groups_of(build(SGD(lr=1.0), named(model)), model)
    model.requires_grad_(False)
    with pytest.raises(RecipeError, match="none of which trains"):
        build(SGD(lr=1.0), named(model))


@pytest.mark.parametrize(
    "other",
    [
        SGD(lr=1.0),
        Muon(lr=1.0, adam=AdamW(lr=1.0)),
        Groups({"*": AdamW(lr=1.0)}),
    ],
)
def test_set_refuses_another_structure(other) -> None:
    optimizers = build(AdamW(lr=1.0), named(Tiny()))
    with pytest.raises(RecipeError, match="structure"):
        optimizers.set(other)


def test_set_refuses_other_patterns_and_another_nesterov() -> None:
    optimizers = build(Groups({"*": SGD(lr=1.0)}), named(Tiny()))
    for other in (Groups({"**": SGD(lr=1.0)}), Groups({"*": SGD(lr=1.0, nesterov=True)})):
        with pytest.raises(RecipeError, match="structure"):
            optimizers.set(other)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e-3, "1e-3", None, True])
@pytest.mark.parametrize("kind", [AdamW, SGD, lambda lr: Muon(lr, adam=AdamW(lr=1.0))])
def test_a_bad_rate_is_refused(kind, bad) -> None:
    with pytest.raises(DialError, match="lr ="):
        kind(bad)


@pytest.mark.parametrize(
    "numbers",
    [
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, float("nan"))},
        {"eps": 0.0},
        {"weight_decay": -0.1},
    ],
)
def test_other_bad_numbers_are_refused(numbers) -> None:
    with pytest.raises(DialError):
        AdamW(lr=1.0, **numbers)


def test_betas_come_in_pairs() -> None:
    with pytest.raises(RecipeError, match="two numbers"):
        AdamW(lr=1.0, betas=(0.9,))


def test_a_schedule_must_be_frozen_before_torch_sees_it() -> None:
    spec = AdamW(lr=Linear(1.0, 0.0), betas=(Linear(0.8, 0.9), 0.95))
    with pytest.raises(DialError, match="at\\(spec, time\\)"):
        build(spec, named(Tiny()))
    live = at(spec, Time(step=50, steps=100))
    model = Tiny()
    optimizers = build(live, named(model))
    assert groups_of(optimizers, model)["head.weight"][1]["lr"] == 0.5
    assert rates(live) == {"lr": 0.5}
    with pytest.raises(DialError, match="lr = Linear"):
        rates(spec)


def test_a_schedule_that_goes_out_of_range_is_refused_when_it_is_frozen() -> None:
    with pytest.raises(DialError, match="lr = -"):
        at(AdamW(lr=Linear(1.0, -1.0)), Time(step=80, steps=100))


def test_adamw_is_fused_on_this_device() -> None:
    (one,) = build(AdamW(lr=1.0), named(Tiny())).torch_optimizers
    assert all(group["fused"] for group in one.param_groups)


def test_zero_drops_gradients() -> None:
    model = Tiny()
    fill(model, 0)
    build(Muon(lr=1.0, adam=AdamW(lr=1.0)), named(model)).zero()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    "spec",
    [
        AdamW(lr=0.01),
        SGD(lr=0.01, momentum=0.9, nesterov=True),
        Muon(lr=0.02, adam=AdamW(lr=0.01)),
        Groups({"blocks.*": Muon(lr=0.02, adam=AdamW(lr=0.01)), "*": SGD(lr=0.1, momentum=0.5)}),
    ],
    ids=lambda spec: type(spec).__name__,
)
def test_the_state_goes_round_through_distributed_checkpoint(spec) -> None:
    model, copy = Tiny(), Tiny()
    optimizers, second = build(spec, named(model)), build(spec, named(copy))
    for seed in range(3):
        fill(model, seed)
        optimizers.step()
    copy.load_state_dict(model.state_dict())
    pairs = zip(optimizers.torch_optimizers, second.torch_optimizers, strict=True)
    for one, other in pairs:
        state = deepcopy(get_optimizer_state_dict(model, one))  # it shares the moments' memory
        set_optimizer_state_dict(copy, other, state)
    for seed in range(3, 6):
        for module, owner in ((model, optimizers), (copy, second)):
            fill(module, seed)
            owner.set(spec)
            owner.step()
    for (name, a), (_, b) in zip(named(model), named(copy), strict=True):
        assert torch.equal(a, b), name
