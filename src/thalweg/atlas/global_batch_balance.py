"""Balance experts over the global batch: over micro-batches, the loss keeps them from specialising.

Eight linear maps are learned by eight experts of which a token gets one; a micro-batch holds one
map. The balance loss and its shares are those of `thalweg.objectives`.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from thalweg.atlas.verdict import at_most, every, lower, within
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.protocols import Routing
from thalweg.core.rng import rng
from thalweg.objectives.balance import balance, counts_of
from thalweg.objectives.loads import load_shares

__all__ = ["claim"]

# R micro-batches, T samples of each, E experts, X inputs, Y outputs, H units of an expert.

DOMAINS, EXPERTS, MICRO, UNITS, OUTPUTS = 8, 8, 32, 24, 12
WEIGHT, RATE = 0.1, 3e-3
CUE, CUE_NOISE = 4.0, 0.5


class Expert(NamedTuple):
    """Router and experts, as tensors."""

    router: torch.Tensor
    into: torch.Tensor
    out: torch.Tensor


def samples(maps: torch.Tensor, draw: torch.Generator, each: int) -> tuple[torch.Tensor, ...]:
    """Return inputs [R, T, X] with a noisy cue of the domain, targets [R, T, Y] and domains."""
    x = torch.randn(DOMAINS, each, OUTPUTS, generator=draw)
    domain = torch.arange(DOMAINS)[:, None].expand(-1, each)
    cue = functional.one_hot(domain, DOMAINS).float()
    noisy = CUE * cue + CUE_NOISE * torch.randn(cue.shape, generator=draw)
    return torch.cat([x, noisy], -1), torch.einsum("rti,rij->rtj", x, maps), domain


def forward(model: Expert, x_RTX: torch.Tensor) -> tuple[torch.Tensor, Routing]:
    """Return what the top expert says, times its share, and the routing."""
    logits = x_RTX @ model.router
    probs = logits.softmax(-1)
    index = probs.argmax(-1, keepdim=True)
    weight = probs.gather(-1, index)
    said = torch.einsum("rtx,exh->rteh", x_RTX, model.into).relu()
    chosen = said.gather(2, index[..., None].expand(-1, -1, 1, UNITS))[:, :, 0]
    out = torch.einsum("rth,rthy->rty", chosen, model.out[index[..., 0]])
    return out * weight, Routing(probs, index, weight, logits.logsumexp(-1))


def train(scope: str, steps: int, seed: int) -> dict[str, float]:
    """Return the squared error, the largest load and what experts say of the domain, in nats."""
    draw = torch.Generator().manual_seed(int(rng(seed, "balance").integers(1 << 62)))
    maps = torch.randn(DOMAINS, OUTPUTS, OUTPUTS, generator=draw) / OUTPUTS**0.5
    inputs = OUTPUTS + DOMAINS
    shapes = ((inputs, EXPERTS), (EXPERTS, inputs, UNITS), (EXPERTS, UNITS, OUTPUTS))
    scales = (0.1, inputs**-0.5, UNITS**-0.5)
    model = Expert(
        *(torch.randn(s, generator=draw) * k for s, k in zip(shapes, scales, strict=True))
    )
    optimizer = torch.optim.Adam([part.requires_grad_() for part in model], lr=RATE)
    block = torch.zeros(DOMAINS, dtype=torch.int64) if scope == "global" else torch.arange(DOMAINS)
    weight = 0.0 if scope == "none" else WEIGHT
    for _ in range(steps):
        x, y, _ = samples(maps, draw, MICRO)
        if scope == "shuffled":
            order = torch.randperm(DOMAINS * MICRO, generator=draw)
            x, y = (part.flatten(0, 1)[order].view(part.shape) for part in (x, y))
        out, routing = forward(model, x)
        share = load_shares(counts_of((routing,), torch.ones(x.shape[:2])), block)
        loss = (out - y).square().mean() + weight * balance((routing,), share).mean()
        gradients = torch.autograd.grad(loss, tuple(model))
        for part, gradient in zip(model, gradients, strict=True):
            part.grad = gradient
        optimizer.step()
    with torch.no_grad():
        x, y, domain = samples(maps, draw, 512)
        out, routing = forward(model, x)
    table = np.zeros((DOMAINS, EXPERTS))
    np.add.at(
        table, (domain.flatten().numpy(), routing.chosen.flatten().numpy()), 1.0 / y[..., 0].numel()
    )
    even = table.sum(1, keepdims=True) * table.sum(0)
    nats = np.sum(table * np.log(np.where(table > 0, table / np.maximum(even, 1e-30), 1.0)))
    return {
        "mse": float((out - y).square().mean()),
        "load": float(EXPERTS * table.sum(0).max()),
        "information": float(nats),
    }


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm a scope."""
    steps = size.pick(tiny=20, small=1500)
    return {
        scope: partial(train, scope, steps) for scope in ("micro", "global", "shuffled", "none")
    }


def judge(results: Results) -> Verdict:
    """Hold global against half of micro's error; its load against 1.3; shuffled against global."""
    micro, whole, mixed = (results.of(arm, "mse") for arm in ("micro", "global", "shuffled"))
    return every(
        lower(whole, 0.5 * micro, "squared error: global minus half of micro"),
        at_most(results.of("global", "load"), 1.3, "largest load under global balance, even is 1"),
        within(np.log2(mixed / whole), -1.0, 1.0, "log2 of shuffled over global squared error"),
    )


claim = Claim(
    paper="arXiv:2501.11873",
    statement="Balanced over the global batch, experts specialise and the error is less than half "
    "of that under micro-batch balance, while the load stays even; micro-batches drawn from the "
    "whole batch do as well as the whole",
    arms=arms,
    judge=judge,
    seeds=5,
    deviations="Regression on eight linear maps instead of language models of 3.4B parameters: a "
    "toy text whose tokens alone can balance experts shows no effect. Top-1 of 8 experts of 24 "
    "units, weight 0.1, Adam, 1500 steps.",
    note="The arm `none` has no balance loss: low error, uneven load. How strong and how noisy the "
    "cue of the domain is was left open by the design; a cue of 1 with noise 0.3, our first guess, "
    "is itself wrong for one token in twenty, and its run was inconclusive (2 of 3 parts). 4 and "
    "0.5 were chosen on other seeds by the arms `micro` and `none` alone, whose errors and loads "
    "in a pilot are known; the arm `global` had been seen at other strengths by then. Limits as "
    "written before the first run.",
)
