"""Decays that leave a trunk: no trace on it, the branch of the command line, WSD-S."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from core_helpers import play
from lab import Linear2, Lines, Squared
from run_helpers import lab_recipe, names, rows, start, stop_after, tensors
from thalweg.branches import decayed
from thalweg.controllers import DecayBranches
from thalweg.core.moves import Learn
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.session import resume
from thalweg.core.time import Time, share, steps, tokens
from thalweg.data import Mixture
from thalweg.errors import DialError, RecipeError
from thalweg.grafts import graft
from thalweg.optim import SGD, AdamW, Muon
from thalweg.schedules import Inverse, Linear, OneMinusSqrt, Warmup, WsdS
from thalweg.schedules.shapes import Constant


def lines(*controllers, lr=0.05, optimizer=None, source=None, length: int = 40) -> Recipe:
    learn = Learn("policy", Squared(), optimizer or AdamW(lr=lr))
    phase = Phase(length, source or Lines(), (learn,), rows=8, controllers=controllers)
    return Recipe({"policy": Linear2(hidden=4)}, (phase,))


def rates(memory_rows) -> list[float]:
    return [row["dial/learn.policy.optimizer.lr"] for row in memory_rows]


def test_branches_leave_no_trace_on_the_trunk():
    trunk = Warmup(Constant(0.05), over=steps(5))
    _, plain, still = play(lines(lr=trunk))
    branches = DecayBranches((16, 40), variants={"a": {}, "b": {"weight_decay": 0.5}})
    _, learners, memory = play(lines(branches, lr=trunk))
    assert memory.history == still.history
    before, after = plain["policy"].snapshot(), learners["policy"].snapshot()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before), "weights and moments"
    assert len(memory.trials) == 2 * (2 + 4)


def test_a_decay_takes_its_share_and_falls_along_its_shape():
    _, _, memory = play(lines(DecayBranches((20, 40), decay=share(0.2))))
    want = [0.05 * (1 - (k / n) ** 0.5) for n in (4, 8) for k in range(n)]
    assert rates(memory.trials) == pytest.approx(want)
    assert [row["step"] for row in memory.trials] == [*range(17, 21), *range(33, 41)]


def test_every_rate_of_every_optimizer_decays():
    spec = Muon(lr=0.02, adam=AdamW(lr=0.01))
    _, _, memory = play(lines(DecayBranches((20,), shape=Linear(1.0, 0.0)), optimizer=spec))
    names = ("dial/learn.policy.optimizer.lr", "dial/learn.policy.optimizer.adam.lr")
    found = [[row[name] for name in names] for row in memory.trials]
    assert found == [pytest.approx(row) for row in ([0.02, 0.01], [0.01, 0.005])]
    one = DecayBranches((20,), shape=Linear(1.0, 0.0), paths=("adam.lr",))
    _, _, memory = play(lines(one, optimizer=spec))
    assert [row[names[0]] for row in memory.trials] == [0.02, 0.02]


def test_branches_may_read_other_data():
    source = Mixture({n: Lines(name=n) for n in ("web", "code")}, {"web": 1.0, "code": 1.0})
    only = {n: {**{"web": 0.0, "code": 0.0}, n: 1.0} for n in ("web", "code")}
    variants = {n: {"source.weights": only[n]} for n in only}
    _, _, memory = play(lines(DecayBranches((20,), variants=variants), source=source))
    first, second = memory.trials[:2], memory.trials[2:]
    assert first[1]["tokens/web"] - first[0]["tokens/web"] == 8
    assert second[1]["tokens/code"] - second[0]["tokens/code"] == 8


def folder_recipe(*controllers, lr=0.05) -> Recipe:
    recipe = lab_recipe(30, lr=lr)
    return replace(recipe, phases=(replace(recipe.phases[0], controllers=controllers),))


def test_a_kept_branch_is_the_branch_of_the_command_line_bit_for_bit(tmp_path):
    trunk = Constant(0.05)
    start(tmp_path / "run", folder_recipe(DecayBranches((20,), decay=steps(8)), lr=trunk))
    start(tmp_path / "plain", folder_recipe(lr=trunk))
    fork = decayed(folder_recipe(lr=trunk), 12, 8, OneMinusSqrt(1.0))
    graft(tmp_path / "plain", tmp_path / "by-hand", fork)
    resume(tmp_path / "by-hand")
    kept = tmp_path / "run" / "branches" / "decayed@20"
    assert tensors(kept) == tensors(tmp_path / "by-hand")
    trials = [json.loads(t) for t in (tmp_path / "run" / "trials.jsonl").read_text().splitlines()]
    by_hand = rows(tmp_path / "by-hand")[-8:]
    assert [row["loss"] for row in trials] == [row["loss"] for row in by_hand]
    events = (tmp_path / "run" / "events.jsonl").read_text()
    assert "decayed@20: loss" in events


@pytest.mark.parametrize("then", ["trunk", "branch"])
@pytest.mark.parametrize("stop", [6, 8, 10, 19])
def test_a_run_stopped_anywhere_goes_on_bit_for_bit(tmp_path, then, stop):
    branches = DecayBranches((10, 20), decay=share(0.4), then=then)
    start(tmp_path / "whole", folder_recipe(branches))
    start(tmp_path / "cut", folder_recipe(branches), stop_after(stop))
    resume(tmp_path / "cut")
    for file in ("history.jsonl", "trials.jsonl"):
        assert (tmp_path / "cut" / file).read_text() == (tmp_path / "whole" / file).read_text()
    assert tensors(tmp_path / "cut") == tensors(tmp_path / "whole")


def test_going_on_from_the_branch_is_wsd_s_dial_for_dial(tmp_path):
    targets = (steps(10), steps(20), steps(30))
    whole = WsdS(0.05, targets, decay=share(0.3))
    goes_on = DecayBranches(targets, decay=share(0.3), shape=Inverse(1.0, 0.1), then="branch")
    start(tmp_path / "schedule", folder_recipe(lr=whole))
    start(tmp_path / "branch", folder_recipe(goes_on))
    want, found = rows(tmp_path / "schedule"), rows(tmp_path / "branch")
    assert rates(found) == pytest.approx(rates(want), rel=1e-12)
    assert [row["loss"] for row in found] == pytest.approx([row["loss"] for row in want], rel=1e-5)
    saved = [name for name in names(tmp_path / "branch") if "decayed" in name]
    assert [name.split(".")[1] for name in saved] == ["decayed@10", "decayed@20", "decayed@30"]
    assert not (tmp_path / "branch" / "branches").exists()


def test_targets_are_read_on_the_clock_of_the_phase():
    clock = Time(0, steps=100, batch_tokens=50)
    found = DecayBranches((10, share(0.5), tokens(4000)), decay=share(0.2)).decays(clock)
    assert [tuple(fork) for fork in found] == [(8, 2), (40, 10), (64, 16)]
    cycles = DecayBranches((10, share(0.5)), decay=share(0.2), then="branch").decays(clock)
    assert [tuple(fork) for fork in cycles] == [(8, 2), (42, 8)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"targets": (20, 10)},
        {"targets": (3,)},
        {"targets": (10,), "decay": steps(10)},
        {"targets": (500,)},
        {"targets": (41,), "then": "branch"},
    ],
)
def test_targets_that_cannot_be_are_refused_before_the_first_step(wrong):
    with pytest.raises(RecipeError, match="targets"):
        play(lines(DecayBranches(**wrong)))


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"targets": ()}, RecipeError),
        ({"variants": {"a": {}}, "then": "branch"}, RecipeError),
        ({"shape": Linear(0.5, 0.0)}, DialError),
        ({"decay": steps(0)}, DialError),
    ],
)
def test_branches_that_cannot_be_are_refused_when_they_are_written(wrong, kind):
    with pytest.raises(kind):
        DecayBranches(**{"targets": (10,), **wrong})


def test_sgd_without_a_scheduled_rate_decays_too():
    _, _, memory = play(lines(DecayBranches((20,), decay=steps(4)), optimizer=SGD(lr=0.1)))
    assert rates(memory.trials)[0] == 0.1
    assert np.all(np.diff(rates(memory.trials)) < 0)
