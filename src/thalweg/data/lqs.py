"""Learnability-quality scores (LQS): what a document does for a target when it is learned.

A small model is trained by plain SGD, theta_{t+1} = theta_t - rate * grad L_t(theta_t). Backwards
over that run goes the co-state, the slope of sum_{s >= t} J(theta_s), J the loss on a target set:

    lambda_T = grad J(theta_T)
    lambda_t = lambda_{t+1} + grad J(theta_t) - rate * H_t lambda_{t+1}

Every few steps each proxy document n adds, with g its gradient at theta_t,

    rate * |lambda_{t+1}| * (|g| / |g at the visit before|) * cos(g, lambda_{t+1})

to its score. The visit before is later in training, since the sweep goes backwards: a gradient
that shrinks while training goes on was learnable, one along lambda serves the target. On the first
visit the divisor is 1, as in the authors' code, which makes that term of another scale. A regressor
learns the scores, z-scored and clipped at 3, and scores the corpus.

Memory: the weights of every `every`-th step and of one stretch between two of them; the rest is
computed again. Nothing grows with the corpus. The sweep leaves its state after each visit.

Source: arXiv:2506.21545 (DELT) and its code; the co-state is that of arXiv:2410.07064 (PDS).
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from thalweg.errors import Diverged

__all__ = ["Moment", "Parameters", "RowLoss", "learnability", "row_loss", "standardised", "sweep"]

MOST = 100.0
"""How often the sum of the target's gradients a co-state may be; no more than once if steps of SGD
bring neighbours no further apart. At rates where they do, both grow without bound."""

# N proxy documents, R rows of a batch, T positions.

Parameters: TypeAlias = Mapping[str, torch.Tensor]
RowLoss: TypeAlias = Callable[[Parameters, torch.Tensor], torch.Tensor]
"""Weights, one row -> its loss, a scalar; torch.func must be able to differentiate it twice."""


class Moment(NamedTuple):
    """A step of the proxy run, on the way back."""

    step: int
    theta: Parameters
    """Weights before the step."""
    costate: Parameters
    """lambda of the step after: the slope along which the step's data were worth learning."""


def row_loss(model: nn.Module) -> RowLoss:
    """Return the mean next-token loss of a row of ids [T + 1] as a function of the weights.

    Args:
        model: A language model that gives logits; a negative id is no target.
    """

    def loss(theta: Parameters, ids_T: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            logits = functional_call(model, dict(theta), (ids_T[None, :-1].clamp_min(0),))[0]
        return functional.cross_entropy(logits, ids_T[1:], ignore_index=-1)

    return loss


def sweep(
    loss: RowLoss,
    theta: Parameters,
    batches: Sequence[torch.Tensor],
    target: torch.Tensor,
    *,
    rate: float = 0.008,
    every: int = 10,
    costate: Parameters | None = None,
) -> Iterator[Moment]:
    """Train by SGD, then yield every step with its co-state, from the last step to the first.

    Args:
        loss: Of one row.
        theta: Weights before the first step.
        batches: The rows of each step, [R, T + 1]; a step descends their mean loss.
        target: Rows of the target set.
        rate: Of SGD.
        every: Steps between weights that are kept.
        costate: Of the end, if that is not the end of the run but a step of an earlier sweep.

    Raises:
        Diverged: A co-state of more than MOST times the target's gradients together: it says what
            SGD does to an unstable direction, not what the target wants.
    """
    mean = _mean(loss)
    descend = grad(mean)
    starts: list[Parameters] = []
    now: Parameters = {name: value.detach() for name, value in theta.items()}
    for step, rows in enumerate(batches):
        if step % every == 0:
            starts.append(now)
        now = _plus(now, -rate, descend(now, rows))
    costate = grad(mean)(now, target) if costate is None else costate
    bound = _norm(costate)
    for number in reversed(range(len(starts))):
        stretch, first = [starts.pop()], number * every
        for rows in batches[first : first + every][:-1]:
            stretch.append(_plus(stretch[-1], -rate, descend(stretch[-1], rows)))
        for step in reversed(range(first, first + len(stretch))):
            yield Moment(step, stretch[-1], costate)
            wanted = grad(mean)(stretch[-1], target)
            costate = _back(mean, stretch.pop(), batches[step], wanted, rate, costate)
            bound += _norm(wanted)
            _check_size(_norm(costate), bound, step, rate)


def learnability(
    loss: RowLoss,
    theta: Parameters,
    proxy: torch.Tensor,
    batches: Sequence[torch.Tensor],
    target: torch.Tensor,
    *,
    rate: float = 0.008,
    every: int = 10,
    micro: int = 16,
    keep: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Return the learnability-quality score of each proxy document, float64 [N].

    Args:
        loss: Of one row.
        theta: Weights before the first step.
        proxy: Rows to score, int64 [N, T + 1].
        batches: The rows of each step of the proxy run.
        target: Rows of the target set.
        rate: Of SGD; the authors' value.
        every: Steps between visits; the authors' value.
        micro: Rows whose gradients are held at a time.
        keep: File of the state; if it is there, the sweep goes on from it.
        progress: Told (visits done, visits in all) after each visit.

    Raises:
        Diverged: The rate is too high for a co-state that means something.
    """
    total, before_N = np.zeros(len(proxy)), np.ones(len(proxy))
    last, costate, visits = len(batches), None, -(-len(batches) // every)
    if keep is not None and keep.exists():
        last, total, before_N, costate = _load(keep, theta)
    moments = sweep(loss, theta, batches[:last], target, rate=rate, every=every, costate=costate)
    for moment in moments:
        if moment.step % every:
            continue
        if keep is not None:
            _save(keep, moment, total, before_N)
        norm_N, along_N = _gradients(loss, moment, proxy, micro)
        size = _norm(moment.costate)
        cosine_N = np.clip(along_N / np.maximum(norm_N * size, 1e-30), -1.0, 1.0)
        total += rate * size * norm_N / np.maximum(before_N, 1e-30) * cosine_N
        before_N = norm_N
        progress(visits - moment.step // every, visits)
    return total


def standardised(score_N: np.ndarray, most: float = 3.0) -> np.ndarray:
    """Return z-scores, clipped.

    Example:
        >>> standardised(np.array([1.0, 2.0, 3.0])).round(3).tolist()
        [-1.225, 0.0, 1.225]
    """
    spread = score_N.std()
    clipped_N: np.ndarray = np.clip(
        (score_N - score_N.mean()) / (spread if spread > 0 else 1.0), -most, most
    )
    return clipped_N


def _mean(loss: RowLoss) -> Callable[[Parameters, torch.Tensor], torch.Tensor]:
    return lambda theta, rows: vmap(loss, (None, 0))(theta, rows).mean()


def _plus(theta: Parameters, factor: float, other: Parameters) -> Parameters:
    return {name: value + factor * other[name] for name, value in theta.items()}


def _dot(one: Parameters, other: Parameters) -> torch.Tensor:
    return torch.stack([(value * other[name]).sum() for name, value in one.items()]).sum()


def _norm(one: Parameters) -> float:
    return float(_dot(one, one).sqrt())


def _back(
    mean: Callable[[Parameters, torch.Tensor], torch.Tensor],
    theta: Parameters,
    rows: torch.Tensor,
    wanted: Parameters,
    rate: float,
    costate: Parameters,
) -> Parameters:
    """Return lambda_t from lambda_{t+1} and grad J(theta_t), which is `wanted`.

    The Hessian is never formed; its product with lambda is the gradient of an inner product.
    """

    def along(at: Parameters) -> torch.Tensor:
        return _dot(grad(mean)(at, rows), costate)

    return _plus(_plus(costate, 1.0, wanted), -rate, grad(along)(theta))


def _check_size(now: float, bound: float, step: int, rate: float) -> None:
    """Refuse a co-state that is not finite or out of all proportion."""
    if not now <= MOST * bound:  # also of NaN
        raise Diverged(
            f"a co-state of {now:.3g} at step {step}",
            expected=f"about {bound:.3g}, the target's gradients from there on together",
            where=f"the proxy run of LQS: SGD is not stable at rate {rate:g}",
            write=f"rate={rate / 3:.2g}",
        )


def _gradients(
    loss: RowLoss, moment: Moment, proxy: torch.Tensor, micro: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return |g| and <g, lambda> of every row at a moment, float64 [N] each."""
    each = vmap(grad(loss), (None, 0))
    norms, products = [], []
    for rows in torch.split(proxy, micro):
        found = each(moment.theta, rows)
        flat = [(g.flatten(1), moment.costate[name].flatten()) for name, g in found.items()]
        norms.append(torch.stack([g.square().sum(1) for g, _ in flat]).double().sum(0).sqrt())
        products.append(torch.stack([g @ one for g, one in flat]).double().sum(0))
    return torch.cat(norms).cpu().numpy(), torch.cat(products).cpu().numpy()


def _save(keep: Path, moment: Moment, total: np.ndarray, before_N: np.ndarray) -> None:
    """Write what a sweep needs to visit this moment: everything before it is in the sums."""
    flat = torch.cat([value.flatten().double() for value in moment.costate.values()])
    temporary = keep.with_suffix(".tmp")
    with open(temporary, "wb") as stream:
        np.savez(
            stream, last=moment.step + 1, total=total, before=before_N, costate=flat.cpu().numpy()
        )
    os.replace(temporary, keep)


def _load(
    keep: Path, theta: Parameters
) -> tuple[int, np.ndarray, np.ndarray, dict[str, torch.Tensor]]:
    with np.load(keep, allow_pickle=False) as held:
        found: dict[str, Any] = dict(held)
    flat = torch.from_numpy(found["costate"])
    parts = torch.split(flat, [value.numel() for value in theta.values()])
    costate = {
        name: part.view_as(value).to(value)
        for part, (name, value) in zip(parts, theta.items(), strict=True)
    }
    return int(found["last"]), found["total"], found["before"], costate
