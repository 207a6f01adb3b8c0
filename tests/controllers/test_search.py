"""AutoLRS: its forecast, its stages, what it finds, and that a killed search starts over."""

import json
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import optimize
from scipy.interpolate import UnivariateSpline

from core_helpers import play, weights
from lab import Linear2, Lines, Squared
from thalweg.controllers import AutoLrs
from thalweg.controllers.search import smoothed, stage_forecast
from thalweg.core.batch import Batch
from thalweg.core.loop import Bench, Memory, run
from thalweg.core.moves import Learn
from thalweg.core.names import finder
from thalweg.core.protocols import Context, Set, Trial
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.session import build_learners
from thalweg.core.state import RunState
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.errors import DialError, RecipeError
from thalweg.optim import SGD

# --- the forecast, step by step as in the authors' code


def slow_without_outliers(x, y, rounds, drop):
    bound = (len(x) - 1) // 2
    for _ in range(rounds):
        spline = UnivariateSpline(x, y, k=2)(x)
        order = sorted(range(len(x)), key=lambda i: abs(y[i] - spline[i]))
        count = round(drop * len(x))
        worst = {i for i in order[len(x) - count :] if i < bound}
        keep = [i for i in range(len(x)) if i not in worst]
        x, y = x[keep], y[keep]
    return x, y


def slow_forecast(loss, horizon):
    x, y = np.arange(len(loss), dtype=float), np.asarray(loss)
    smooth = UnivariateSpline(*slow_without_outliers(x, y, 10, 0.03), k=2)(x)

    def left(log_rate):
        rows = np.stack([np.exp(-np.exp(log_rate[0]) * x), np.ones_like(x)], 1)
        return float(np.linalg.lstsq(rows, smooth, rcond=None)[1][0])

    rate = -np.exp(optimize.fmin(left, 0, xtol=1e-6, ftol=1e-12, disp=False)[0])
    rows = np.stack([np.exp(rate * x), np.ones_like(x)], 1)
    a, c = np.linalg.lstsq(rows, smooth, rcond=None)[0]
    return a * np.exp(rate * horizon) + c


def noisy(seed: int, length: int = 100, decay: float = 150.0) -> list[float]:
    draw = np.random.default_rng(seed)
    return (4 + np.exp(-np.arange(length) / decay) + 0.03 * draw.normal(size=length)).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_the_forecast_is_that_of_the_authors_code(seed):
    loss = noisy(seed)
    assert stage_forecast(range(100), loss, 1000) == pytest.approx(
        slow_forecast(loss, 1000), rel=1e-4
    )


@pytest.mark.parametrize(
    ("rounds", "drop", "length"), [(10, 0.03, 100), (1, 1 / 16, 16), (3, 0, 9)]
)
def test_smoothing_is_the_authors_spline(rounds, drop, length):
    x, y = np.arange(length, dtype=float), np.array(noisy(7, length, 30.0))
    kept = slow_without_outliers(x, y, rounds, drop)
    assert smoothed(x, y, rounds=rounds, drop=drop) == pytest.approx(
        UnivariateSpline(*kept, k=2)(x), abs=1e-10
    )


def test_an_outlier_of_the_first_half_is_forgotten_and_one_of_the_second_is_not():
    clean = [2 + 0.001 * (100 - t) for t in range(100)]
    early, late = list(clean), list(clean)
    early[10], late[90] = 9.0, 9.0
    assert smoothed(range(100), early) == pytest.approx(clean, abs=1e-9)
    assert abs(smoothed(range(100), late) - clean).max() > 0.1


# --- what it asks for


def asked(controller: AutoLrs, steps: int | None, losses) -> list[tuple[int, str, float, int]]:
    """Run the controller alone; a trial with value v has the losses `losses(v)`."""
    state, found = controller.start(Context(Time())), []
    for step in range(steps or 3000):
        ctx = Context(Time(step, steps, run_step=step), last={"report": {"loss": 1.0}})
        actions, state = controller.act(state, ctx)
        while actions:
            (action,) = actions
            ((_, value),) = action.values.items()
            if isinstance(action, Set):
                found.append((step + 1, "set", value, 0))
                break
            found.append((step + 1, "try", value, action.steps))
            rows = tuple({"loss": loss} for loss in losses(value)[: action.steps])
            actions, state = controller.act(state, replace(ctx, trial=rows))
    return found


def valley(value: float) -> list[float]:
    """Losses that end lowest for values near 0.01."""
    end = 2 + 0.1 * np.log(value / 0.01) ** 2
    return [end + np.exp(-t / 5) for t in range(400)]


def test_stages_double_and_each_begins_with_a_search():
    found = asked(AutoLrs(1e-4, 1.0, stage=40, longest=160, tries=4, begin=10), 500, valley)
    sets = [step for step, what, _, _ in found if what == "set"]
    assert sets == [10, 50, 130, 290, 450]
    lengths = [(step, count) for step, what, _, count in found if what == "try"]
    assert lengths == [
        (s, n) for s, n in zip(sets, (4, 8, 16, 16, 16), strict=True) for _ in "1234"
    ]


def test_a_stage_cut_short_by_the_phase_is_searched_for_what_is_left():
    found = asked(AutoLrs(1e-4, 1.0, stage=100, longest=100, probe=0.2, tries=3), 113, valley)
    assert [(step, n) for step, what, _, n in found if what == "try"] == [(1, 20)] * 3 + [
        (101, 12)
    ] * 3
    assert asked(AutoLrs(1e-4, 1.0, stage=100, longest=100), 103, valley)[-1][:2] == (1, "set")


def test_tries_are_in_range_and_distinct_and_the_best_is_taken():
    found = asked(AutoLrs(1e-4, 1.0, stage=100, longest=100, tries=10), 100, valley)
    values = [value for _, what, value, _ in found if what == "try"]
    assert len(set(values)) == 10
    assert all(1e-4 <= value <= 1.0 + 1e-12 for value in values)
    best = min(values, key=lambda v: abs(np.log(v / 0.01)))
    assert found[-1][1:3] == ("set", best)
    assert 0.5 < best / 0.01 < 2


def test_a_small_kappa_closes_in_on_the_best():
    few = asked(AutoLrs(1e-4, 1.0, stage=100, longest=100, tries=8, kappa=1.0), 100, valley)
    assert 0.8 < few[-1][2] / 0.01 < 1.25


def test_values_that_diverge_are_never_taken_unless_all_do():
    def bursts(value):
        return [2.0, 3.0, float("inf")] if value > 0.001 else valley(value)

    search = AutoLrs(1e-4, 1.0, stage=100, longest=100, tries=8)
    assert asked(search, 100, bursts)[-1][2] <= 0.001
    never = asked(search, 100, lambda value: [float("inf")])
    assert never[-1][2] == min(value for _, what, value, _ in never if what == "try")


def test_among_forecasts_at_the_floor_the_lowest_end_decides():
    def falling(value):
        slope = 0.3 if value > 0.01 else 0.2
        return [8 - slope * t for t in range(20)]

    found = asked(AutoLrs(1e-4, 1.0, stage=100, longest=100, probe=0.2, tries=6), 100, falling)
    assert found[-1][2] > 0.01


def test_the_last_regime_forecasts_what_is_measured():
    search = AutoLrs(1e-4, 1.0, stage=40, longest=40, tries=2, late="heldout/loss")
    state = {**search.start(Context(Time())), "full": True, "asked": 0.01}
    ctx = Context(Time(40, 400, run_step=40))
    rows = [{"loss": 5.0, **({"heldout/loss": 3 - t / 8} if t % 2 else {})} for t in range(16)]
    _, after = search.act(state, replace(ctx, trial=rows))
    values = [3 - t / 8 for t in range(1, 16, 2)]
    want = stage_forecast(range(1, 16, 2), values, 40, rounds=1, drop=1 / 8)
    assert after["tried"] == [[0.01, max(want, 0.0), values[-1]]]
    with pytest.raises(RecipeError, match="measured 1 times"):
        search.act(state, replace(ctx, trial=rows[:2]))
    with pytest.raises(RecipeError, match="measured 0 times"):
        search.act({**state, "full": False}, replace(ctx, trial=[{"loss": 1.0}] * 8))


def test_no_value_is_tried_twice_even_where_nothing_is_explored():
    search = AutoLrs(1e-4, 1.0, stage=100, longest=100, tries=12, kappa=0.0)
    ctx = Context(Time(0, 400), last={"report": {}})
    (action,), state = search.act(search.start(ctx), ctx)
    tried = []
    while isinstance(action, Trial):
        tried.append(action.values["lr"])
        bowl = 2.0 + 0.1 * (math.log10(tried[-1]) + 2.0) ** 2
        rows = [{"loss": bowl + math.exp(-t / 3)} for t in range(action.steps)]
        (action,), state = search.act(state, replace(ctx, trial=rows))
    assert len({round(math.log10(value), 9) for value in tried}) == 12


def test_a_last_stage_that_the_phase_cuts_short_is_searched_by_the_loss():
    search = AutoLrs(1e-4, 1.0, stage=1000, longest=1000, tries=2, late="heldout/loss")
    state = {**search.start(Context(Time())), "full": True, "until": 9000}
    ctx = Context(Time(9979, 10_000, run_step=9979), last={"report": {}})
    (trial,), state = search.act(state, ctx)
    assert trial.steps == 20
    rows = [{"loss": 3.0 - 0.01 * t} for t in range(20)]
    _, after = search.act(state, replace(ctx, trial=rows))
    assert after["tried"][0][1] == pytest.approx(2.8, abs=0.02)


@pytest.mark.parametrize(
    "wrong",
    [{"low": 0.0}, {"high": 1e-5}, {"tries": 1}, {"probe": 1.5}, {"stage": 8}, {"longest": 10}],
)
def test_searches_that_cannot_be_are_refused(wrong):
    with pytest.raises(DialError):
        AutoLrs(**{"low": 1e-4, "high": 1.0, **wrong})


# --- on a model


@dataclass(frozen=True)
class Bowl:
    """The same three rows for ever: a quadratic with curvatures 1, 0.1 and 0.01 (times 2/3)."""

    makes: ClassVar[tuple[str, ...]] = ("x", "y", "id", "source")
    names: ClassVar[tuple[str, ...]] = ("bowl",)

    def start(self, ctx):
        return {"seen": 0}

    def next(self, state, ctx):
        x = torch.diag(torch.tensor([1.0, 0.1**0.5, 0.1]))
        none = torch.zeros(3, dtype=torch.int64)
        columns = {"x": x, "y": torch.tensor([3.0, 3.0, 3.0]), "id": torch.arange(3)}
        return Batch({**columns, "source": none}), {"seen": state["seen"] + 1}


def bowl(steps: int, lr: float, controllers: tuple = ()) -> Recipe:
    learn = Learn("policy", Squared(), SGD(lr=lr), clip=None)
    phase = Phase(steps, Bowl(), (learn,), rows=3, controllers=controllers)
    return Recipe({"policy": Linear2()}, (phase,))


def test_it_finds_a_rate_within_a_factor_of_2_of_the_best_of_a_grid():
    grid = np.geomspace(1e-3, 10.0, 25)

    def final(lr: float) -> float:
        try:
            return play(bowl(101, lr))[2].history[-1]["loss"]
        except Exception:  # a rate that diverges
            return np.inf

    best = grid[int(np.argmin([final(float(lr)) for lr in grid]))]
    search = AutoLrs(1e-3, 10.0, stage=100, longest=100, probe=0.2, tries=12)
    end, _, _ = play(bowl(101, 1e-6, (search,)))
    ((_, path, found),) = end.journal
    assert path == "learn.policy.optimizer.lr"
    assert 0.5 <= found / best <= 2.0


def lines(data: str = "rewind", path: str = "lr") -> Recipe:
    search = AutoLrs(1e-3, 1.0, stage=8, longest=16, probe=0.5, tries=3, data=data, path=path)
    learn = Learn("policy", Squared(), SGD(lr=1e-3, momentum=0.5))
    phase = Phase(30, Lines(), (learn,), rows=8, controllers=(search,))
    return Recipe({"policy": Linear2()}, (phase,))


def test_any_dial_can_be_searched_by_the_ending_of_its_path():
    end, _, _ = play(lines(path="momentum"))
    assert {path for _, path, _ in end.journal} == {"learn.policy.optimizer.momentum"}


class Fuse(Memory):
    """A recorder that cuts the power at the n-th trial, or asks for the end after n steps."""

    def __init__(self, *, trials: int = -1, steps: int = -1) -> None:
        super().__init__()
        self.left = {"trials": trials, "steps": steps}
        self.saved: tuple[str, dict] | None = None

    def trial(self, state, rows, facts):
        super().trial(state, rows, facts)
        self.left["trials"] -= 1
        if self.left["trials"] == 0:
            raise KeyboardInterrupt

    def save(self, state, learners, tags=()):
        kept = {name: learner.snapshot() for name, learner in learners.items()}
        self.saved = (json.dumps(state.to_json()), kept)
        self.at = (len(self.history), len(self.trials))

    def interrupted(self):
        self.left["steps"] -= 1
        return self.left["steps"] == 0


@pytest.mark.parametrize("data", ["rewind", "continue"])
@pytest.mark.parametrize("fuse", [{"trials": 2}, {"trials": 5}, {"steps": 1}, {"steps": 12}])
def test_a_search_cut_off_in_its_middle_starts_over_and_ends_bit_for_bit_the_same(data, fuse):
    recipe = lines(data)
    whole, learners, memory = play(recipe)
    first, second = Fuse(**fuse), Memory()
    built = build_learners(recipe, World())
    bench = Bench(recipe, built, World(), first, finder())
    if "trials" in fuse:
        with pytest.raises(KeyboardInterrupt):
            run(bench, RunState())
    else:
        run(bench, RunState())
    assert first.saved is not None
    state, kept = first.saved
    for name, learner in built.items():
        learner.restore(kept[name])
    end = run(replace(bench, recorder=second), RunState.from_json(json.loads(state)))
    steps, trials = first.at
    assert first.history[:steps] + second.history == memory.history
    assert first.trials[:trials] + second.trials == memory.trials
    assert end.journal == whole.journal
    assert torch.equal(weights(built["policy"]), weights(learners["policy"]))


def test_a_trial_is_what_it_asks_for_first():
    (action,), state = AutoLrs(1e-4, 1.0, stage=40).act(
        AutoLrs(1e-4, 1.0, stage=40).start(Context(Time())), Context(Time(0, 100))
    )
    assert isinstance(action, Trial)
    assert action.values == {"lr": state["asked"]}
    assert (action.steps, action.data, action.keep) == (4, "rewind", None)
