"""Hypergradient rates: their formulas, their direction, and FedHyper made of them."""

from dataclasses import replace

import numpy as np
import pytest

from core_helpers import play, weights
from lab import Linear2, Lines, Squared
from thalweg.controllers import Hypergradient, client_rate, global_scale, hyper_rate, local_scale
from thalweg.core.loop import Bench, Memory, run
from thalweg.core.moves import Learn
from thalweg.core.names import finder
from thalweg.core.protocols import Context, Set
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.session import build_learners
from thalweg.core.state import RunState
from thalweg.core.time import Time, steps
from thalweg.core.world import World
from thalweg.errors import DialError, RecipeError
from thalweg.optim import SGD, AdamW
from thalweg.schedules import Constant, Times, Warmup


def moved(controller: Hypergradient, signals: list[float], rate: float = 0.1) -> list[float]:
    """Feed signals to the controller alone; return the rates that it sets."""
    state, found = controller.start(Context(Time())), []
    for step, signal in enumerate(signals):
        report = {"grad_cos": signal, "grad_dot": signal, "dial/learn.a.optimizer.lr": rate}
        actions, state = controller.act(state, Context(Time(step), last={"report": report}))
        found += [action.values["lr"] for action in actions if isinstance(action, Set)]
    return found


def test_the_rate_rises_while_steps_agree_and_falls_while_they_oppose():
    rule = Hypergradient(1e-4, 1.0, kappa=0.1, every=1)
    assert moved(rule, [1.0] * 3) == pytest.approx([0.1 * 1.1**k for k in (1, 2, 3)])
    assert moved(rule, [-1.0] * 3) == pytest.approx([0.1 * 0.9**k for k in (1, 2, 3)])
    assert moved(rule, [0.0] * 3) == [0.1] * 3


def test_the_raw_form_adds_and_both_are_held_in_their_range():
    raw = Hypergradient(0.05, 0.2, kappa=0.01, form="raw", every=1)
    assert moved(raw, [3.0, -1.0, 100.0, -100.0]) == pytest.approx([0.13, 0.12, 0.2, 0.05])


def test_a_set_every_few_steps_has_seen_every_step():
    rule = Hypergradient(1e-4, 1.0, kappa=0.1, every=3)
    assert moved(rule, [1.0, -1.0, 0.5] * 2) == pytest.approx(
        [0.1 * 1.1 * 0.9 * 1.05, 0.1 * (1.1 * 0.9 * 1.05) ** 2]
    )


def test_a_report_without_the_product_is_refused_at_the_first_step():
    recipe = lines(lr=0.1, controller=Hypergradient(1e-4, 1.0), watch=())
    with pytest.raises(RecipeError, match="watch="):
        play(recipe)


@pytest.mark.parametrize("wrong", [{"low": -1.0}, {"high": 1e-6}, {"kappa": 0.0}, {"every": 0}])
def test_rules_that_cannot_be_are_refused(wrong):
    with pytest.raises(DialError):
        Hypergradient(**{"low": 1e-5, "high": 1.0, **wrong})


# --- on a model


def lines(lr, controller, steps: int = 60, optimizer=SGD, watch=("grad_dot",)) -> Recipe:
    spec = SGD(lr=lr, momentum=0.5) if optimizer is SGD else AdamW(lr=lr)
    learn = Learn("policy", Squared(), spec, watch=watch)
    phase = Phase(steps, Lines(), (learn,), rows=64, controllers=(controller,))
    return Recipe({"policy": Linear2()}, (phase,))


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_a_rate_that_is_far_too_small_rises_and_learns_more(optimizer):
    rule = Hypergradient(1e-5, 0.1, kappa=0.1, every=5)
    end, _, memory = play(lines(1e-3, rule, optimizer=optimizer))
    still = Hypergradient(1e-3, 1e-3, every=5)
    _, _, plain = play(lines(1e-3, still, optimizer=optimizer))
    rates = [value for _, _, value in end.journal]
    assert rates[0] < rates[2] < max(rates)
    assert max(rates) > 0.01
    assert memory.history[-1]["loss"] < plain.history[-1]["loss"] / 2


def test_a_rate_that_is_too_large_falls():
    rule = Hypergradient(1e-3, 1.0, kappa=0.1, every=5)
    end, _, _ = play(lines(0.9, rule))
    assert end.journal[-1][2] < 0.5


def test_it_can_move_a_factor_inside_a_schedule_and_leave_the_schedule():
    lr = Times(Warmup(Constant(0.05), over=steps(20)), 1.0)
    rule = Hypergradient(0.1, 10.0, path="lr.second", initial=1.0, every=5, kappa=0.05)
    end, _, memory = play(lines(lr, rule, steps=40))
    assert {path for _, path, _ in end.journal} == {"learn.policy.optimizer.lr.second"}
    row, factor = memory.history[12], dict((s, v) for s, _, v in end.journal)[10]
    assert row["dial/learn.policy.optimizer.lr"] == pytest.approx(0.05 * 13 / 20 * factor)


def test_a_stopped_run_goes_on_bit_for_bit():
    recipe = lines(1e-3, Hypergradient(1e-5, 0.1, kappa=0.1, every=5), steps=20)
    whole, learners, memory = play(recipe)

    class Ending(Memory):
        left = 8

        def interrupted(self) -> bool:
            self.left -= 1
            return self.left == 0

    first, second, built = Ending(), Memory(), build_learners(recipe, World())
    bench = Bench(recipe, built, World(), first, finder())
    state = RunState.from_json(run(bench, RunState()).to_json())
    end = run(replace(bench, recorder=second), state)
    assert first.history + second.history == memory.history
    assert end.journal == whole.journal
    assert (weights(built["policy"]) == weights(learners["policy"])).all()


# --- FedHyper


def slow_global(dots: list[float], low: float, high: float) -> list[float]:
    """The authors' loop: `agg` is the scale minus 1, clipped after each addition."""
    agg, found = 0.0, []
    for dot in dots:
        agg += dot
        if agg < low - 1:
            agg = low - 1
        elif agg > high - 1:
            agg = high - 1
        found.append(1 + agg)
    return found


@pytest.mark.parametrize(("low", "high"), [(0.2, 5.0), (0.8, 5.0)])
def test_the_global_rule_is_the_authors(low, high):
    dots = np.random.default_rng(0).normal(0, 1.5, 40).tolist()
    scale, found = 1.0, []
    for dot in dots:
        scale = global_scale(scale, dot, low=low, high=high)
        found.append(scale)
    assert found == pytest.approx(slow_global(dots, low, high), rel=1e-12)


def test_the_local_rule_is_the_authors():
    draw = np.random.default_rng(1)
    scale = slow = 1.0
    for own, server in draw.normal(0, 0.4, (60, 2)).tolist():
        gamma = 1 + 0.1 * server / (10 * 0.5) + own
        slow = max(0.1, min(10.0, min(1.1, gamma) * slow))
        scale = local_scale(scale, own, server, clients=10 * 0.5)
        assert scale == pytest.approx(slow, rel=1e-12)


def test_a_server_gives_rates_by_the_unlimited_scale():
    scale = global_scale(global_scale(1.0, 20.0, high=np.inf), -15.0, high=np.inf)
    assert client_rate(0.01, scale) == pytest.approx(0.06)
    assert client_rate(0.01, -3.0) == 0.001


def federated(rounds: int, rule: str, lr: float = 0.01) -> list[float]:
    """Return |w - w*| after each round: 4 clients with quadratics, 3 local steps each."""
    draw = np.random.default_rng(0)
    optima = draw.normal(1.0, 0.2, (4, 500))
    w, scale, last, gaps = np.zeros(500), 1.0, np.zeros(500), []
    for _ in range(rounds):
        ends = []
        for optimum in optima:
            local, beta, before = w.copy(), 1.0, last
            for k in range(3):
                update = -lr * beta * (local - optimum)
                local = local + update
                if rule == "local" and k:
                    dots = float(update @ before), float(update @ last)
                    beta = local_scale(beta, *dots, clients=4)
                before = update
            ends.append(local - w)
        delta = np.mean(ends, 0)
        if rule == "global":
            scale = global_scale(scale, float(last @ delta))
        w, last = w + scale * delta, delta
        gaps.append(float(np.linalg.norm(w - optima.mean(0))))
    return gaps


def test_fedhypers_server_is_faster_than_averaging_when_the_clients_rate_is_small():
    plain, hyper = federated(60, "none"), federated(60, "global")
    halved = [next(i for i, g in enumerate(gaps) if g < plain[0] / 2) for gaps in (plain, hyper)]
    assert halved[1] < halved[0] / 2
    assert hyper[-1] < plain[-1] / 10


def test_fedhypers_clients_gain_a_little_in_short_rounds():
    plain, hyper = federated(60, "none"), federated(60, "local")
    assert 0.9 * plain[-1] < hyper[-1] < plain[-1]


def test_the_pure_rule_is_the_derivative_of_the_loss_by_the_rate():
    curvature, w, lr = np.array([1.0, 0.2]), np.array([1.0, -2.0]), 0.3
    u = curvature * w

    def loss(rate: float) -> float:
        return float(0.5 * (curvature * (w - rate * u) ** 2).sum())

    slope = (loss(lr + 1e-6) - loss(lr - 1e-6)) / 2e-6
    g = curvature * (w - lr * u)
    assert hyper_rate(lr, float(g @ u), kappa=0.1, form="raw") == pytest.approx(lr - 0.1 * slope)
