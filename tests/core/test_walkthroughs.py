"""Four regimes that break most training loops, each as a source and a short list of moves."""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from core_helpers import play, resumed_equals_undisturbed, weights
from lab import Linear2, Lines, Squared
from thalweg.core.batch import Batch
from thalweg.core.moves import AT_END, Copy, Learn, Score
from thalweg.core.protocols import Loss, Set, Trial
from thalweg.core.recipe import CopyOf, Phase, Recipe
from thalweg.core.weigh import AsGiven
from thalweg.data import Mixture
from thalweg.optim import SGD, AdamW
from thalweg.schedules import Linear

# --- A. An online mixture: every k steps the weights follow what a monitor measured.


@dataclass(frozen=True)
class Skills:
    """Loss on fixed rows of each skill."""

    skills: dict[str, Lines]
    every: int = 4
    name: str = "skills"

    def __call__(self, ctx):
        found = {}
        for name, source in self.skills.items():
            batch, _ = source.next({"row": 10**6}, replace(ctx, rows=16))
            scored = ctx.models["policy"].score(errors, batch)
            found[f"skill/{name}"] = float(scored.mean())
        return found


def errors(model: nn.Module, batch: Batch) -> torch.Tensor:
    return (model(batch["x"]).squeeze(1) - batch["y"]) ** 2


@dataclass(frozen=True)
class SkillIt:
    """Weights proportional to exp(eta times the losses of the last `window` measurements)."""

    eta: float = 0.5
    window: int = 2

    def start(self, ctx):
        return {"measured": []}

    def act(self, state, ctx):
        losses = {
            k.removeprefix("skill/"): v
            for k, v in ctx.last["report"].items()
            if k.startswith("skill/")
        }
        if not losses:
            return (), state
        measured = [*state["measured"], losses][-self.window :]
        total = {name: sum(row[name] for row in measured) for name in losses}
        values = {name: math.exp(self.eta * value) for name, value in total.items()}
        return (Set({"source.weights": values}),), {"measured": measured}


def online_mixture() -> Recipe:
    skills = {"easy": Lines(slope=0.5), "hard": Lines(slope=3.0)}
    source = Mixture(skills, {"easy": 1.0, "hard": 1.0})
    learn = Learn("policy", Squared(), AdamW(lr=0.02))
    phase = Phase(
        30, source, (learn,), rows=8, controllers=(SkillIt(),), monitors=(Skills(skills),)
    )
    return Recipe({"policy": Linear2(hidden=8)}, (phase,))


def test_an_online_mixture_moves_rows_to_the_skill_that_lags():
    end, _, memory = play(online_mixture())
    history = memory.history
    assert len(end.journal) == 8, "seven times every four steps, and at the end"
    share = history[-1]["dial/source.weights.hard"] / (
        history[-1]["dial/source.weights.hard"] + history[-1]["dial/source.weights.easy"]
    )
    assert share > 0.6
    assert history[-1]["tokens/hard"] > history[-1]["tokens/easy"]
    assert {"loss/easy", "loss/hard"} <= set(history[0])


def test_an_online_mixture_is_resumed_bit_for_bit():
    resumed_equals_undisturbed(online_mixture(), (3, 8, 17))


# --- B. A policy and a reward model that learn from each other, in seven moves.

ARMS = 4


@dataclass(frozen=True)
class Arms:
    """Groups of rows, each the arm that the actor chose; the reward says whether it was right."""

    group: int = 4
    makes: ClassVar[tuple[str, ...]] = ("x", "label", "reward", "group", "id", "source")
    names: ClassVar[tuple[str, ...]] = ("arms",)

    def start(self, ctx):
        return {"round": 0}

    def next(self, state, ctx):
        draw = ctx.rng("arms", state["round"])
        prompts = torch.from_numpy(draw.integers(ARMS, size=ctx.rows // self.group))
        x = functional.one_hot(prompts.repeat_interleave(self.group), ARMS).float()
        logits = ctx.models["actor"].score(outputs, Batch({"x": x}))
        noise = -np.log(-np.log(draw.uniform(size=tuple(logits.shape))))
        label = (logits + torch.from_numpy(noise)).argmax(1)
        reward = (label == (x.argmax(1) + 1) % ARMS).float()
        ids = torch.arange(len(x)) + state["round"] * ctx.rows
        columns = {"x": x, "label": label, "reward": reward, "group": ids // self.group, "id": ids}
        batch = Batch({**columns, "source": torch.zeros(len(x), dtype=torch.int64)})
        return batch, {"round": state["round"] + 1}


@dataclass(frozen=True)
class Table:
    vocabulary: int = 0
    positions: int = 0

    def build(self, seed: int) -> nn.Module:
        module = nn.Linear(ARMS, ARMS, bias=False)
        noise = torch.randn(ARMS, ARMS, generator=torch.Generator().manual_seed(seed % 2**31))
        module.weight.data.copy_(0.01 * noise)
        return module


def outputs(model: nn.Module, batch: Batch) -> torch.Tensor:
    return model(batch["x"])


def chosen(model: nn.Module, batch: Batch) -> torch.Tensor:
    return model(batch["x"]).log_softmax(1).gather(1, batch["label"][:, None]).squeeze(1)


@dataclass(frozen=True)
class Outcome:
    """Cross-entropy of the outcome under beta times the log-ratio of reward model and reference."""

    beta: float = 1.0
    needs: ClassVar[tuple[str, ...]] = ("x", "label", "reward", "ref", "weight")

    def __call__(self, model, batch):
        logit = self.beta * (chosen(model, batch) - batch["ref"])
        loss = functional.binary_cross_entropy_with_logits(logit, batch["reward"], reduction="none")
        return Loss((batch["weight"] * loss).sum())


@dataclass(frozen=True)
class Implicit:
    beta: float = 1.0
    name: str = "implicit"
    needs: ClassVar[tuple[str, ...]] = ("prm", "ref")
    makes: ClassVar[tuple[str, ...]] = ("process",)

    def __call__(self, batch, ctx):
        return batch.plus({"process": self.beta * (batch["prm"] - batch["ref"])})


@dataclass(frozen=True)
class LeaveOneOut:
    """Outcome and process reward, each minus the mean of the others of its group."""

    group: int = 4
    name: str = "advantages"
    needs: ClassVar[tuple[str, ...]] = ("reward", "process")
    makes: ClassVar[tuple[str, ...]] = ("advantage",)

    def __call__(self, batch, ctx):
        total = sum(self._centred(batch[name]) for name in self.needs)
        return batch.plus({"advantage": total})

    def _centred(self, value: torch.Tensor) -> torch.Tensor:
        grouped = value.view(-1, self.group)
        others = (grouped.sum(1, keepdim=True) - grouped) / (self.group - 1)
        return (grouped - others).flatten()


@dataclass(frozen=True)
class Clip:
    clip: float = 0.2
    needs: ClassVar[tuple[str, ...]] = ("x", "label", "advantage", "old", "weight")

    def __call__(self, model, batch):
        ratio = (chosen(model, batch) - batch["old"]).exp()
        bounded = ratio.clamp(1 - self.clip, 1 + self.clip)
        gain = torch.minimum(ratio * batch["advantage"], bounded * batch["advantage"])
        right = {"reward": batch["reward"].sum(), "reward/count": torch.tensor(float(batch.rows))}
        return Loss(-(batch["weight"] * gain).sum(), right)


def learned_reward() -> Recipe:
    do = (
        Score("ref", "ref", chosen),
        Score("actor", "old", chosen),
        Learn("prm", Outcome(), AdamW(lr=0.05)),
        Score("prm", "prm", chosen),
        Implicit(beta=0.05),
        LeaveOneOut(),
        Learn("policy", Clip(), AdamW(lr=0.05), passes=2, minibatch=16),
        Copy("policy", "actor"),
    )
    models = {"policy": Table(), **{name: CopyOf("policy") for name in ("ref", "prm", "actor")}}
    return Recipe(models, (Phase(40, Arms(), do, rows=32),))


def test_a_policy_and_its_reward_model_learn_together():
    _, learners, memory = play(learned_reward())
    rewards = [row["policy/reward"] for row in memory.history]
    assert np.mean(rewards[:5]) < 0.4
    assert np.mean(rewards[-5:]) > 0.8
    assert memory.history[-1]["loss"] < memory.history[0]["loss"], "the reward model's"
    assert torch.equal(weights(learners["actor"]), weights(learners["policy"]))
    assert not torch.equal(weights(learners["ref"]), weights(learners["policy"]))


def test_a_learned_reward_run_is_resumed_bit_for_bit():
    resumed_equals_undisturbed(learned_reward(), (1, 20))


# --- C. Rounds of self-labelling: an actor writes a round's data once, and a learner trains on it.

MADE: list[int] = []


@dataclass(frozen=True)
class SelfLabelled:
    """Rows beyond what is known, labelled by the actor; votes that disagree are thrown away."""

    longest: float
    count: int = 24
    votes: int = 5
    makes: ClassVar[tuple[str, ...]] = ("x", "y", "id", "source")
    names: ClassVar[tuple[str, ...]] = ("labelled",)

    def start(self, ctx):
        MADE.append(1)
        x = torch.from_numpy(ctx.rng("inputs", int(ctx.time.run_step)).normal(size=(self.count, 3)))
        x = x.float() * self.longest
        prompts = [[i, vote] for i in range(self.count) for vote in range(self.votes)]
        answers = ctx.models["actor"].generate(
            prompts, lambda model, part: answered(model, x, part)
        )
        y = torch.tensor(answers, dtype=torch.float64).view(self.count, self.votes) / 1000
        agree = y.std(1) < 0.5
        return {"next": 0, "x": x[agree], "y": y.mean(1)[agree].float()}

    def next(self, state, ctx):
        index = torch.arange(state["next"], state["next"] + ctx.rows) % len(state["x"])
        columns = {"x": state["x"][index], "y": state["y"][index], "id": index}
        source = torch.zeros(ctx.rows, dtype=torch.int64)
        return Batch({**columns, "source": source}), {**state, "next": state["next"] + ctx.rows}


def answered(model: nn.Module, x: torch.Tensor, prompts: list[list[int]]) -> list[list[int]]:
    rows = torch.stack([x[i] for i, _ in prompts])
    jitter = torch.tensor([[0.01 * vote] for _, vote in prompts])
    return [[round(1000 * float(y))] for y in model(rows + jitter).squeeze(1)]


def self_improving() -> Recipe:
    learn = Learn("policy", Squared(), AdamW(lr=0.05))
    known = Phase(10, Lines(), (learn, Copy("policy", "actor", AT_END)), rows=8, name="known")
    rounds = tuple(
        Phase(
            6,
            SelfLabelled(longest=1.0 + r),
            (learn, Copy("policy", "actor", AT_END)),
            rows=8,
            name=f"round {r}",
        )
        for r in range(3)
    )
    models = {"policy": Linear2(), "actor": CopyOf("policy")}
    return Recipe(models, (known, *rounds))


def test_each_round_is_labelled_once_and_learned_from():
    MADE.clear()
    end, learners, memory = play(self_improving())
    assert len(MADE) == 3
    assert end.run_step == 28
    assert [row["phase"] for row in memory.history[10::6]] == [f"round {r}" for r in range(3)]
    assert torch.equal(weights(learners["actor"]), weights(learners["policy"]))


def test_a_round_resumed_in_its_middle_keeps_its_data():
    resumed_equals_undisturbed(self_improving(), (5, 10, 13, 22))
    MADE.clear()


# --- D. Learning-rate trials with rollback.


@dataclass(frozen=True)
class Rates:
    """Every `tau` steps, try each rate for a few steps from here and take the best."""

    rates: tuple[float, ...]
    tau: int = 6
    steps: int = 3
    data: str = "rewind"
    seen: list = field(default_factory=list, compare=False)

    def start(self, ctx):
        return {"tried": []}

    def act(self, state, ctx):
        if not ctx.trial:
            due = (int(ctx.time.step) + 1) % self.tau == 0
            trials = [Trial({"lr": rate}, self.steps, self.data) for rate in self.rates]
            return trials[:1] if due else (), {"tried": []}
        self.seen.append([row["tokens"] for row in ctx.trial])
        tried = [*state["tried"], ctx.trial[-1]["loss"]]
        if len(tried) < len(self.rates):
            trial = Trial({"lr": self.rates[len(tried)]}, self.steps, self.data)
            return (trial,), {"tried": tried}
        return (Set({"lr": self.rates[int(np.argmin(tried))]}),), {"tried": []}


def searching(controllers: tuple, steps: int = 24, lr: object = 0.001) -> Recipe:
    learn = Learn("policy", Squared(), SGD(lr=lr, momentum=0.5))
    do = (learn, Copy("policy", "mean", mix=0.3))
    phase = Phase(steps, Lines(), do, rows=8, controllers=controllers)
    return Recipe({"policy": Linear2(), "mean": CopyOf("policy")}, (phase,))


def test_a_search_finds_a_better_rate_than_it_began_with():
    _, _, plain = play(searching(()))
    end, _, memory = play(searching((Rates((0.001, 0.1, 1e4)),)))
    assert memory.history[-1]["loss"] < plain.history[-1]["loss"] / 2
    taken = [value for _, _, value in end.journal]
    assert taken[0] == 0.1
    assert 1e4 not in taken, "a rate that diverges is never taken"
    assert end.trial_tokens > 0
    assert len(memory.trials) == 4 * 3 * 3


@pytest.mark.parametrize("data", ["rewind", "continue"])
def test_trials_leave_no_trace_but_the_rows_they_read(data):
    same = (Rates((0.01, 0.3), data=data), Rates((0.05,), tau=4, data=data))
    _, still, plain = play(searching((), lr=Linear(0.1, 0.0)))
    quiet = tuple(replace(one, rates=one.rates, seen=[]) for one in same)
    _, tried, noisy = play(searching(tuple(map(Deaf, quiet)), lr=Linear(0.1, 0.0)))
    if data == "rewind":
        assert noisy.history == plain.history
        for name in still:
            assert torch.equal(weights(tried[name]), weights(still[name]))
    else:
        before = [row["loss"] for row in noisy.history]
        assert before[:4] == [row["loss"] for row in plain.history][:4]
        assert before[4:] != [row["loss"] for row in plain.history][4:], "other batches from here"


@dataclass(frozen=True)
class Deaf:
    """Asks for the trials of another controller and never acts on them."""

    inner: Rates

    def start(self, ctx):
        return self.inner.start(ctx)

    def act(self, state, ctx):
        actions, state = self.inner.act(state, ctx)
        return [action for action in actions if isinstance(action, Trial)], state


@pytest.mark.parametrize("data", ["rewind", "continue"])
def test_a_search_is_resumed_bit_for_bit(data):
    resumed_equals_undisturbed(searching((Rates((0.01, 0.1), data=data),)), (5, 6, 7, 15))


def test_candidates_of_a_rewinding_search_see_the_same_batches():
    controller = Rates((0.01, 0.01))
    _, _, memory = play(searching((controller,), steps=6))
    half = len(memory.trials) // 2
    assert memory.trials[:half] == memory.trials[half:]


def test_weights_may_be_left_as_a_move_made_them():
    learn = Learn("policy", Squared(), SGD(lr=0.01), weigh=AsGiven(1 / 8))
    mean = Learn("policy", Squared(), SGD(lr=0.01))
    histories = [
        play(Recipe({"policy": Linear2()}, (Phase(4, Lines(), (move,), rows=8),)))[2].history
        for move in (learn, mean)
    ]
    assert [r["loss"] for r in histories[0]] == pytest.approx([r["loss"] for r in histories[1]])
