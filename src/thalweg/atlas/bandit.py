"""A bandit that looks like a language model: what policy gradients do, in seconds.

A row is a prompt and an answer of one token or a few. The policy is a linear softmax: prompts are
feature vectors, so what is learned on one moves the others. It speaks the protocol of a language
model, so sources, moves and objectives are those that large models are trained with, and its
probabilities are known exactly.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.moves import Copy
from thalweg.core.protocols import Context, Dial, ModelSpec, Move, Scored, State
from thalweg.core.recipe import CopyOf, Phase, Recipe
from thalweg.core.rng import rng
from thalweg.core.time import Span, share
from thalweg.optim import AdamW

__all__ = [
    "Bandit",
    "Exact",
    "Policy",
    "Pulls",
    "Softmax",
    "Table",
    "adam",
    "answers",
    "online",
    "policy_of",
    "read_logprobs",
]

# R rows, T answer tokens, Q prompts, V answers a token can be, D features.


@dataclass(frozen=True)
class Bandit:
    """Prompts, and which answers to them are right."""

    prompts: int = 64
    answers: int = 24
    """Values of a token of an answer."""
    right: int = 3
    """How many of them are right, at each place of an answer."""
    width: int = 16
    """Features of a prompt."""
    length: int = 1
    """Tokens of an answer; it is right if all of them are."""
    stops: bool = False
    """Whether only the first token decides, and the last value then ends the answer; what is said
    in between depends on the first token alone. `length` is the most there can be."""
    key: int = 0
    """Which bandit."""

    @property
    def features(self) -> NDArray[np.float32]:
        """Features of prompts [Q, D], of length 1."""
        return _world(self)[0]

    @property
    def teacher(self) -> NDArray[np.float32]:
        """Weights [T, D, V] whose highest logits are the right answers."""
        return _world(self)[1]

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """Which tokens are right [Q, T, V]."""
        return _world(self)[2]


@lru_cache(maxsize=16)
def _world(
    bandit: Bandit,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    draw = rng(bandit.key, "bandit")
    x_QD = draw.standard_normal((bandit.prompts, bandit.width)).astype(np.float32)
    x_QD /= np.linalg.norm(x_QD, axis=1, keepdims=True)
    shape = (1 if bandit.stops else bandit.length, bandit.width, bandit.answers)
    teacher_TDV = draw.standard_normal(shape).astype(np.float32)
    logits_QTV = np.einsum("qd,tdv->qtv", x_QD, teacher_TDV)
    least_QT1 = np.sort(logits_QTV, axis=2)[:, :, -bandit.right, None]
    right_QTV = logits_QTV >= least_QT1
    if bandit.stops:
        anything = np.ones((bandit.prompts, bandit.length - 1, bandit.answers), dtype=bool)
        right_QTV = np.concatenate([right_QTV, anything], axis=1)
    return x_QD, teacher_TDV, right_QTV


@dataclass(frozen=True)
class Softmax:
    """A policy that starts with some of the teacher's skill, and noise drawn by the run's seed."""

    bandit: Bandit
    skill: float = 1.0
    """What the teacher's weights are multiplied by at the start."""
    noise: float = 1.0
    """Deviation of the rest of the weights at the start."""
    key: int = 0
    """Which noise, beside the run's seed."""
    positions: ClassVar[int] = 0

    @property
    def vocabulary(self) -> int:
        """Token ids: of prompts and of answers."""
        return max(self.bandit.prompts, self.bandit.answers)

    def build(self, seed: int) -> "Policy":
        """Return the policy."""
        teacher_TDV = self.bandit.teacher
        noise_TDV = rng(seed, "softmax", self.key).standard_normal(teacher_TDV.shape)
        start_TDV = self.skill * teacher_TDV + self.noise * noise_TDV
        longest = self.bandit.length if self.bandit.stops else None
        return Policy(self.bandit.features, start_TDV.astype(np.float32), longest)


class Policy(nn.Module):
    """log pi(v | prompt, place) = log softmax(features . W[place]).

    With `longest`, places after the first have log softmax(U[first token]) instead, and start with
    a chance of 0.2 that the answer ends.

    Args:
        x_QD: Features of prompts.
        w_TDV: Weights at the start.
        longest: Most tokens of an answer that may stop; None: all answers are as long as W.
    """

    x_QD: torch.Tensor

    def __init__(
        self, x_QD: NDArray[np.float32], w_TDV: NDArray[np.float32], longest: int | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("x_QD", torch.from_numpy(x_QD.copy()))
        self.w_TDV = nn.Parameter(torch.from_numpy(w_TDV.copy()))
        self.longest = longest
        if longest is not None:
            values = w_TDV.shape[2]
            u_VV = torch.zeros(values, values)
            u_VV[:, -1] = math.log(0.25 * (values - 1))
            self.u_VV = nn.Parameter(u_VV)

    def forward(
        self,
        tokens: torch.Tensor,
        document: torch.Tensor | None = None,
        *,
        targets_RT: torch.Tensor,
        weight_RT: torch.Tensor | None = None,
        temperature: float = 1.0,
        entropy: bool = False,
    ) -> Scored:
        """Return the log-probs of answers to the prompts in the first column."""
        all_RTV = self.logprobs(tokens[:, 0], temperature, first_R=targets_RT[:, 0])
        found_RT = all_RTV.gather(2, targets_RT[..., None]).squeeze(2)
        spread_RT = -(all_RTV.exp() * all_RTV).sum(2) if entropy else None
        loss = None if weight_RT is None else -(weight_RT * found_RT).sum()
        return Scored(loss, found_RT, spread_RT)

    def logprobs(
        self,
        prompts_R: torch.Tensor,
        temperature: float = 1.0,
        *,
        first_R: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the log-probs of every token [R, T, V]; of the first alone if it must be known."""
        logits_RTV = torch.einsum("rd,tdv->rtv", self.x_QD[prompts_R], self.w_TDV)
        if self.longest is not None and first_R is not None:
            after_RTV = self.u_VV[first_R][:, None].expand(-1, self.longest - 1, -1)
            logits_RTV = torch.cat([logits_RTV, after_RTV], 1)
        return torch.log_softmax(logits_RTV / temperature, dim=2)


@dataclass(frozen=True)
class Pulls:
    """Answers that the actor draws, and whether they are right: `Rollouts` of a bandit."""

    bandit: Bandit
    group: int = 8
    """Answers to a prompt."""
    among: Sequence[int] | None = None
    """Numbers of the prompts that are asked; None: all."""
    repeat: int | None = None
    """Batches after which prompts and draws come again: with an actor that stays what it is,
    answers written once; None: never."""
    temperature: Dial = 1.0
    flipped: float = 0.0
    """Share of rewards that are the other way round."""
    makes: ClassVar[tuple[str, ...]] = (
        "tokens", "weight", "old", "reward", "group", "id", "source", "token_right",
    )  # fmt: skip
    names: ClassVar[tuple[str, ...]] = ("pulls",)

    def start(self, ctx: Context) -> State:
        """Return the state before the first batch: its number."""
        return {"batch": 0}

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return the next answers."""
        number = int(state["batch"])
        turn = number if self.repeat is None else number % self.repeat
        asked = list(range(self.bandit.prompts) if self.among is None else self.among)
        count = ctx.rows // self.group
        order = ctx.rng("prompts", turn * count // len(asked)).permutation(len(asked))
        place = (turn * count + np.arange(count)) % len(asked)
        prompts_R = np.repeat(np.asarray(asked)[order[place]], self.group)
        draw_RT1 = ctx.rng("pulls", turn).random((len(prompts_R), self.bandit.length, 1))
        asked_R = torch.from_numpy(prompts_R)

        log_RTV = self._logprobs(asked_R, None, ctx)
        drawn_RT = _drawn(log_RTV, draw_RT1)
        weight_RT = torch.ones(len(prompts_R), self.bandit.length)
        if self.bandit.stops:
            log_RTV = self._logprobs(asked_R, drawn_RT[:, 0], ctx)
            drawn_RT = _drawn(log_RTV, draw_RT1)
            ended_RT = (drawn_RT[:, 1:] == self.bandit.answers - 1).cumsum(1)
            weight_RT[:, 2:] = (ended_RT[:, :-1] == 0).float()
        right_RT = self.bandit.is_right[
            prompts_R[:, None], np.arange(self.bandit.length), drawn_RT.numpy()
        ]
        reward_R = right_RT.all(1) ^ (ctx.rng("flip", turn).random(len(right_RT)) < self.flipped)
        group_R = torch.arange(count).repeat_interleave(self.group)
        columns = {
            "tokens": torch.cat([asked_R[:, None], drawn_RT], 1),
            "weight": weight_RT,
            "old": log_RTV.gather(2, drawn_RT[..., None]).squeeze(2),
            "reward": torch.from_numpy(reward_R.astype(np.float32)),
            "group": group_R,
            "id": number * ctx.rows + torch.arange(len(prompts_R)),
            "source": torch.zeros(len(prompts_R), dtype=torch.int64),
            "token_right": torch.from_numpy(right_RT.astype(np.float32)),
        }
        return Batch(columns), {"batch": number + 1}

    def _logprobs(
        self, prompts_R: torch.Tensor, first_R: torch.Tensor | None, ctx: Context
    ) -> torch.Tensor:
        def fn(module: nn.Module, batch: Batch) -> torch.Tensor:
            first_R = batch["first"] if "first" in batch else None
            return policy_of(module).logprobs(batch["tokens"], self.temperature, first_R=first_R)

        given = {"tokens": prompts_R} | ({} if first_R is None else {"first": first_R})
        return ctx.models["actor"].score(fn, Batch(given))


def _drawn(log_RTV: torch.Tensor, draw_RT1: NDArray[np.float64]) -> torch.Tensor:
    """Return a token for each place from a uniform number for each place."""
    edge_RTV = log_RTV.double().exp().cumsum(2).numpy()[..., :-1]
    return torch.from_numpy((edge_RTV < draw_RT1[:, : log_RTV.shape[1]]).sum(2))


def policy_of(module: nn.Module) -> Policy:
    """Return the module as what it is: the models of these recipes are policies."""
    assert isinstance(module, Policy)
    return module


@dataclass(frozen=True)
class Table:
    """Rows that were written once, drawn with repetition by the run's seed; or all, in order."""

    columns: Mapping[str, torch.Tensor]
    """Without `id` and `source`."""
    whole: bool = False
    """Whether every batch is all rows."""
    names: ClassVar[tuple[str, ...]] = ("table",)

    @property
    def makes(self) -> tuple[str, ...]:
        """Columns of every batch."""
        return (*self.columns, "id", "source")

    def start(self, ctx: Context) -> State:
        """Return the state before the first batch: its number."""
        return {"batch": 0}

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return the next rows."""
        number = int(state["batch"])
        total = len(next(iter(self.columns.values())))
        drawn = np.arange(total)
        if not self.whole:
            drawn = ctx.rng("table", number).integers(total, size=ctx.rows)
        chosen = torch.from_numpy(drawn)
        rows = {name: column[chosen] for name, column in self.columns.items()}
        rows |= {"id": chosen, "source": torch.zeros(len(drawn), dtype=torch.int64)}
        return Batch(rows), {"batch": number + 1}


@dataclass(frozen=True)
class Exact:
    """What the policy does on some prompts, from its probabilities: no sampling.

    `pass@k` for each k, `entropy` (nats a token) and `modes` (exp of the entropy among right
    answers to a prompt: how many are in use), for answers of one token; `pass@1` and `entropy` for
    longer ones.
    """

    bandit: Bandit
    ks: tuple[int, ...] = (1,)
    among: Sequence[int] | None = None
    name: str = ""
    """Put before the names of the numbers."""
    every: Dial | Span = field(default_factory=lambda: share(0.05))

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return the numbers."""
        found = self.of(policy_of(ctx.models["policy"].module))
        return {self.name + key: value for key, value in found.items()}

    @torch.no_grad()
    def of(self, policy: Policy) -> dict[str, float]:
        """Return the numbers of a policy."""
        asked = list(range(self.bandit.prompts) if self.among is None else self.among)
        log_QTV = read_logprobs(policy, asked).double()
        p_QTV = log_QTV.exp()
        right_QTV = torch.from_numpy(self.bandit.is_right[asked, : p_QTV.shape[1]])
        hit_Q = (p_QTV * right_QTV).sum(2).prod(1)
        found = {f"pass@{k}": float((1 - (1 - hit_Q) ** k).mean()) for k in self.ks}
        found["entropy"] = float(-(p_QTV * log_QTV).sum(2).mean())
        if self.bandit.length == 1:
            among_QV = p_QTV[:, 0] * right_QTV[:, 0] / hit_Q[:, None].clamp_min(1e-300)
            found["modes"] = float(torch.special.entr(among_QV).sum(1).exp().mean())
        return found


def adam(lr: Dial = 0.03) -> AdamW:
    """Return Adam without weight decay."""
    return AdamW(lr=lr, weight_decay=0.0)


@torch.no_grad()
def read_logprobs(policy: nn.Module, prompts_Q: Sequence[int]) -> torch.Tensor:
    """Return the log-probs [Q, T, V] of every token, on the CPU wherever the policy is."""
    return policy_of(policy).logprobs(torch.tensor(prompts_Q)).cpu()


@torch.no_grad()
def answers(
    policy: Policy, prompts_R: Sequence[int], draw: np.random.Generator
) -> NDArray[np.int64]:
    """Return an answer [R, T] of a policy to each prompt."""
    log_RTV = read_logprobs(policy, prompts_R)
    drawn_RT = _drawn(log_RTV, draw.random((*log_RTV.shape[:2], 1)))
    return np.asarray(drawn_RT.numpy(), dtype=np.int64)


def online(
    source: Pulls,
    moves: Sequence[Move],
    steps: int,
    *,
    model: Softmax | None = None,
    rows: int = 64,
    every: Dial = 1,
    monitors: Sequence[Exact] = (),
) -> Recipe:
    """Return a recipe: the actor pulls, `moves` learn, weights are copied every so many steps."""
    models: dict[str, ModelSpec | CopyOf] = {
        "policy": model if model is not None else Softmax(source.bandit),
        "actor": CopyOf("policy"),
        "ref": CopyOf("policy"),
    }
    watched = tuple(monitors) or (Exact(source.bandit),)
    do = (*moves, Copy("policy", "actor", every=every))
    return Recipe(models, (Phase(steps, source, do, rows=rows, monitors=watched),))
