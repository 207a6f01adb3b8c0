"""Many small language models trained side by side, each with a learning rate of its own.

A schedule is judged at its best rate, so comparing schedules means dozens of runs. They all are
the same model on the same batches: their weights are stacked, a matrix product is one batched
product, and thirty runs cost what one run of a decoder costs. The model is the trigram network of
Bengio et al. (2003): p(c | a, b) = softmax(W2 tanh(W1 [E[a]; E[b]] + b1) + b2), on `kit.Markov`.

A race can go on from the end of another (`start`), with a text for each run: continual learning.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional

from thalweg.atlas.kit import Markov
from thalweg.core.protocols import Context, Schedule, Source
from thalweg.core.rng import key_seed, rng
from thalweg.core.time import Time
from thalweg.schedules.clock import Value

__all__ = ["Race", "Runs", "held_out", "race", "rates"]

# K runs, T steps, M measurements, N tokens of a batch, V vocabulary, E embedding, H hidden.

Floats = NDArray[np.float64]

EMBED, HIDDEN = 16, 64
BETAS, EPS = (0.9, 0.95), 1e-8
"""Of Adam; as in arXiv:2005.14165."""
HELD_OUT_ROWS = 128


class Runs(NamedTuple):
    """Runs between two updates: what a race ends with, and another can start from."""

    weights: tuple[torch.Tensor, ...]
    """E, W1, b1, W2, b2, each [K, ...]."""
    first: tuple[torch.Tensor, ...]
    """First moments, or momentum."""
    second: tuple[torch.Tensor, ...]
    """Second moments; zeros under SGD."""
    updates: int
    """Made so far."""

    def pick(self, runs: Sequence[int]) -> "Runs":
        """Return these runs, in this order; one that is named twice is forked."""
        at = list(runs)
        parts = ([part[at].clone() for part in group] for group in self[:3])
        weights, first, second = parts
        ready = tuple(w.requires_grad_() for w in (one.detach() for one in weights))
        return Runs(ready, tuple(first), tuple(second), self.updates)


class Race(NamedTuple):
    """What came of every run; a run that diverged has infinite losses from there on."""

    steps: NDArray[np.int64]
    """[M] number of updates before each measurement."""
    heldout: Floats
    """[K, M] loss on held-out text, nats per token."""
    loss: Floats
    """[K, T] loss on the batch of every update, before it."""
    norm: Floats
    """[K, T] norm of every gradient: l1 for Adam, l2 for SGD, as `schedules.refine` wants it."""
    end: Runs
    """The runs as they are after the last update."""

    @property
    def final(self) -> Floats:
        """[K] last held-out loss."""
        return self.heldout[:, -1]


def rates(schedules: Sequence[Schedule[Value]], steps: int) -> Floats:
    """Return [K, T] the rate of every update of every schedule.

    Example:
        >>> from thalweg.schedules import Linear
        >>> rates([Linear(1.0, 0.0)], 4).tolist()
        [[1.0, 0.75, 0.5, 0.25]]
    """
    at = np.arange(steps)
    time = Time(at, steps, run_step=at)
    return np.stack(
        [np.broadcast_to(np.asarray(one(time), np.float64), steps) for one in schedules]
    )


def race(
    rates_KT: ArrayLike,
    seed: int,
    *,
    optimizer: Literal["adam", "sgd"] = "adam",
    momentum: float = 0.9,
    rows: int = 4,
    measure: Sequence[int] = (),
    text: Source | Sequence[Source] = Markov(),
    on: Markov = Markov(),
    start: Runs | None = None,
) -> Race:
    """Train one run for every row of rates.

    Args:
        rates_KT: Rate of every update of every run.
        seed: Of first weights and batches; the same for all runs.
        optimizer: Adam without weight decay, or SGD with momentum.
        momentum: Of SGD.
        rows: Rows of a batch, 64 targets each.
        measure: Numbers of updates after which to measure; the end is always measured.
        text: What they learn: one text, or one for each run.
        on: The language whose held-out text measures.
        start: Where the runs begin; fresh weights if not given. It is left as it is.
    """
    table_KT = torch.tensor(np.asarray(rates_KT), dtype=torch.float32)
    runs, steps = table_KT.shape
    fresh = start.pick(range(runs)) if start is not None else _fresh(runs, on.vocabulary, seed)
    weights, first, second, before = fresh
    texts = text if isinstance(text, Sequence) else [text] * runs
    reader = _Reader(texts, rows, seed, before)
    at = sorted({*measure, steps})
    loss_TK, norm_TK, heldout = [], [], []
    for step in range(steps):
        if step in at:
            heldout.append(_held_out(weights, on))
        losses_K = _losses(weights, reader.next())
        gradients = torch.autograd.grad(losses_K.sum(), weights)
        loss_TK.append(losses_K.detach())
        norm_TK.append(_norms(gradients, 1 if optimizer == "adam" else 2))
        with torch.no_grad():
            for w, g, m, v in zip(weights, gradients, first, second, strict=True):
                rate = table_KT[:, step].view(-1, *[1] * (w.dim() - 1))
                if optimizer == "sgd":
                    w.sub_(rate * m.mul_(momentum).add_(g))
                else:
                    w.sub_(rate * _adam(g, m, v, before + step + 1))
    heldout.append(_held_out(weights, on))
    end = Runs(weights, first, second, before + steps)
    return Race(np.array(at), _known(heldout), _known(loss_TK), _known(norm_TK), end)


def held_out(runs: Runs, text: Markov) -> Floats:
    """Return [K] the loss of every run on the held-out text of a language, nats per token."""
    return _known([_held_out(runs.weights, text)])[:, 0]


class _Reader:
    """The batches of all runs; a text that several runs read is drawn once."""

    def __init__(self, texts: Sequence[Source], rows: int, seed: int, before: int) -> None:
        self.texts, self.rows, self.step = texts, rows, before
        self.seed = seed if before == 0 else key_seed(seed, "race", before)  # not the same rows
        self.found = {id(text): text for text in texts}
        self.states = {key: text.start(self._ctx()) for key, text in self.found.items()}

    def next(self) -> torch.Tensor:
        """Return tokens [R, T], or [K, R, T] if not all runs read the same."""
        batches = {}
        for key, text in self.found.items():
            batches[key], self.states[key] = text.next(self.states[key], self._ctx())
        self.step += 1
        tokens = [batches[id(text)]["tokens"] for text in self.texts]
        return tokens[0] if len(batches) == 1 else torch.stack(tokens)

    def _ctx(self) -> Context:
        return Context(Time(self.step), self.seed, rows=self.rows)


def _adam(g: torch.Tensor, m: torch.Tensor, v: torch.Tensor, count: int) -> torch.Tensor:
    m.lerp_(g, 1 - BETAS[0])
    v.lerp_(g * g, 1 - BETAS[1])
    root = (v / (1 - BETAS[1] ** count)).sqrt_().add_(EPS)
    return m / (1 - BETAS[0] ** count) / root


def _fresh(runs: int, vocabulary: int, seed: int) -> Runs:
    """Return the runs before the first update: the same weights for all."""
    draw = rng(seed, "race", "weights")
    sizes = ((vocabulary, EMBED), (2 * EMBED, HIDDEN), (1, HIDDEN), (HIDDEN, vocabulary))
    scales = (1.0, (2 * EMBED) ** -0.5, 0.0, 0.1 * HIDDEN**-0.5, 0.0)
    made = []
    for size, scale in zip((*sizes, (1, vocabulary)), scales, strict=True):
        one = torch.from_numpy(scale * draw.standard_normal(size)).float()
        made.append(one.expand(runs, *size).clone().requires_grad_())
    first, second = (tuple(torch.zeros_like(w) for w in made) for _ in range(2))
    return Runs(tuple(made), first, second, 0)


def _losses(weights: Sequence[torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """Return [K] the mean loss of every run on its batch, [R, T] or [K, R, T], nats per token."""
    embed, inner, bias, outer, shift = weights
    a, b, c = (tokens[..., i : tokens.shape[-1] - 2 + i].flatten(-2) for i in range(3))
    if tokens.dim() == 2:
        pair_KNE = torch.cat([embed[:, a], embed[:, b]], dim=2)
        c = c.repeat(len(embed))
    else:
        base_K1 = torch.arange(len(embed))[:, None] * embed.shape[1]
        flat = embed.flatten(0, 1)
        pair = [functional.embedding(base_K1 + one, flat) for one in (a, b)]
        pair_KNE = torch.cat(pair, dim=2)
    hidden_KNH = torch.tanh(torch.baddbmm(bias, pair_KNE, inner))
    logits_KNV = torch.baddbmm(shift, hidden_KNH, outer)
    each = functional.cross_entropy(logits_KNV.flatten(0, 1), c.flatten(), reduction="none")
    return each.view(len(embed), -1).mean(1)


def _held_out(weights: Sequence[torch.Tensor], text: Markov) -> torch.Tensor:
    batch = text.held_out.next({"row": 0}, Context(Time(), rows=HELD_OUT_ROWS))[0]
    with torch.no_grad():
        each = [[w[k : k + 1] for w in weights] for k in range(len(weights[0]))]
        return torch.cat([_losses(one, batch["tokens"]) for one in each])


def _norms(gradients: Sequence[torch.Tensor], order: int) -> torch.Tensor:
    sums = [g.flatten(1).abs().pow(order).sum(1) for g in gradients]
    return torch.stack(sums).sum(0).pow(1 / order)


def _known(values: Sequence[torch.Tensor]) -> Floats:
    """Return [K, ...] float64; infinite where a run has diverged."""
    table = torch.stack(list(values), dim=1).double().numpy()
    return np.where(np.isfinite(table), table, np.inf)
