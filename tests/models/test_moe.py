from dataclasses import replace

import numpy as np
import pytest
import torch

from thalweg.errors import RecipeError
from thalweg.models import Moe, Transformer, parameters
from thalweg.models.grouped import grouped_matmul
from thalweg.models.moe import Mixture
from thalweg.rollouts.engine import generate
from thalweg.rollouts.sampling import Sampling

SPEC = Transformer(
    vocabulary=32, width=16, layers=2, heads=2, positions=16, initial_std=0.3,
    moe=Moe(experts=4, top=2, hidden=8),
)  # fmt: skip
TOKENS = torch.randint(32, (2, 9), generator=torch.Generator().manual_seed(0))


def mixture(moe: Moe, seed: int = 0) -> Mixture:
    made = Mixture(moe, 6, 8)
    draw = torch.Generator().manual_seed(seed)
    shapes = {name: tensor.shape for name, tensor in made.state_dict().items()}
    drawn = {name: torch.randn(shape, generator=draw).double() for name, shape in shapes.items()}
    made.load_state_dict(drawn, assign=True)
    return made


def slowly(made: Mixture, x_ND: np.ndarray) -> np.ndarray:
    """Transcription: token by token, expert by expert."""
    moe, state = made.moe, {name: t.numpy() for name, t in made.state_dict().items()}
    out = np.zeros_like(x_ND)
    for n, x in enumerate(x_ND):
        logits = state["router"] @ x
        shares = np.exp(logits - logits.max())
        score = shares / shares.sum() if moe.score == "softmax" else 1 / (1 + np.exp(-logits))
        bias = state["bias"] if moe.bias else 0.0
        chosen = np.argsort(-(score + bias))[: moe.top]
        total = score[chosen].sum() if moe.normalised else 1.0
        for e in chosen:
            gate, up = np.split(state["gate_up"][e] @ x, 2)
            out[n] += score[e] / total * (state["down"][e] @ (gate / (1 + np.exp(-gate)) * up))
        if moe.shared:
            gate, up = np.split(state["shared_gate_up.weight"] @ x, 2)
            out[n] += state["shared_down.weight"] @ (gate / (1 + np.exp(-gate)) * up)
    return out


@pytest.mark.parametrize(
    "moe",
    [
        Moe(experts=4, top=2, hidden=5),
        Moe(experts=4, top=1, normalised=False),
        Moe(experts=3, top=3, shared=4),
        Moe(experts=5, top=2, score="sigmoid", bias=True),
        Moe(experts=5, top=2, score="sigmoid", normalised=False),
    ],
    ids=str,
)
def test_a_mixture_says_what_the_paper_says_token_by_token(moe):
    made = mixture(moe)
    x_RTD = torch.randn(2, 7, 6, dtype=torch.float64)
    with torch.no_grad():
        found, routing = made(x_RTD)
    expected = slowly(made, x_RTD.flatten(0, 1).numpy())
    assert np.abs(found.flatten(0, 1).numpy() - expected).max() < 1e-10
    assert torch.allclose(routing.probs.sum(-1), torch.ones(2, 7, dtype=torch.float64))
    assert routing.chosen.shape == routing.weight.shape == (2, 7, moe.top)


def test_the_gradient_of_a_mixture_is_that_of_its_formula():
    made = mixture(Moe(experts=4, top=2, shared=4))
    names = list(made.state_dict())
    x_RTD = torch.randn(1, 5, 6, dtype=torch.float64, requires_grad=True)

    def said(x, *weights):
        out, routing = torch.func.functional_call(made, dict(zip(names, weights, strict=True)), x)
        return out, routing.probs, routing.log_total

    weights = [tensor.detach().requires_grad_() for tensor in made.state_dict().values()]
    assert torch.autograd.gradcheck(said, (x_RTD, *weights))


def test_a_group_without_rows_has_no_gradient():
    weight = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    ends = torch.tensor([2, 2, 5], dtype=torch.int32)
    y = grouped_matmul(x, weight, ends)
    assert torch.allclose(y, torch.cat([x[:2] @ weight[0].t(), x[2:] @ weight[2].t()]))
    y.square().sum().backward()
    assert not weight.grad[1].any()
    assert torch.autograd.gradcheck(lambda a, b: grouped_matmul(a, b, ends), (x, weight))


def test_a_full_expert_turns_late_tokens_of_the_row_away_in_training_only():
    made = mixture(Moe(experts=2, top=1, capacity=1.0))
    x_RTD = torch.randn(1, 1, 6, dtype=torch.float64).expand(1, 4, 6)
    out, routing = made(x_RTD)
    assert routing.weight.flatten().tolist() == [1.0] * 4
    assert out[0, 1].abs().max() > 0
    assert not out[0, 2:].any()
    assert made.eval()(x_RTD)[0][0, 3].abs().max() > 0


def test_capacity_counts_rows_apart_so_a_split_changes_nothing():
    model = replace(SPEC, moe=replace(SPEC.moe, capacity=0.5)).build(0)
    whole = model(TOKENS)
    assert torch.allclose(whole, torch.cat([model(TOKENS[:1]), model(TOKENS[1:])]), atol=1e-6)
    assert not torch.allclose(whole, model.eval()(TOKENS), atol=1e-3)


def test_routing_is_returned_and_never_kept():
    model = SPEC.build(0)
    alone = model(TOKENS, routing=True)
    scored = model(TOKENS, targets_RT=TOKENS, routing=True)
    assert len(alone) == len(scored.routing) == 2
    assert torch.equal(alone[1].chosen, scored.routing[1].chosen)
    assert model(TOKENS, targets_RT=TOKENS).routing == ()
    assert not any(torch.is_tensor(value) for part in model.modules() for value in vars(part))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when it compiles
def test_a_compiled_mixture_is_the_same():
    model = SPEC.build(0)
    called = torch.compile(model, dynamic=False, backend="aot_eager")
    weight = torch.ones(2, 9)
    grads = []
    for call in (model, called):
        model.zero_grad()
        scored = call(TOKENS, targets_RT=TOKENS, weight_RT=weight, routing=True)
        (scored.loss + scored.routing[0].probs.square().sum()).backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-4, rtol=1e-4) for a, b in zip(*grads, strict=True))


def test_a_dense_model_has_no_routing_to_tell():
    with pytest.raises(RecipeError, match="without experts"):
        replace(SPEC, moe=None).build(0)(TOKENS, routing=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"experts": 4, "top": 5}, "no more chosen experts than there are"),
        ({"experts": 0, "top": 1}, "experts: a whole number"),
        ({"experts": 4, "top": 2, "hidden": 0.5}, "hidden: a whole number"),
        ({"experts": 4, "top": 2, "score": "relu"}, "'softmax' or 'sigmoid'"),
        ({"experts": 4, "top": 2, "capacity": 0.0}, "above 0"),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(RecipeError, match=said):
        Moe(**options)


def test_parameters_and_costs_count_what_a_token_meets():
    moe = replace(SPEC, moe=Moe(experts=8, top=2, hidden=8, shared=4))
    counts = parameters(moe)
    model = moe.build(0)
    assert counts.total == sum(p.numel() for p in model.parameters())
    assert counts.total - counts.active == 2 * 6 * 3 * 8 * 16  # layers, idle experts, 3 matrices
    dense = replace(moe, moe=None, hidden=2 * 8 + 4)
    router = 6.0 * 2 * 8 * 16
    assert model.flops(16) == dense.build(0).flops(16) + router
    assert parameters(dense).active == parameters(dense).total


@pytest.mark.parametrize("moe", [SPEC.moe, Moe(experts=4, top=1, score="sigmoid", bias=True)])
def test_a_mixture_writes_with_a_cache_what_it_writes_without(moe):
    model = replace(SPEC, moe=moe).build(0)
    if moe.bias:
        model.blocks[0].mixture.bias += torch.tensor([0.3, -0.3, 0.2, 0.0])
    [[answer]] = generate(model, [[1, 2, 3]], Sampling(new_tokens=8, temperature=0.7), seed=1)
    row = torch.tensor([[1, 2, 3, *answer.tokens]])
    scored = model(row[:, :-1], targets_RT=row[:, 1:], temperature=0.7)
    told = torch.tensor(answer.logprobs)
    assert torch.allclose(scored.logprobs[0, 2:], told, atol=1e-4)
