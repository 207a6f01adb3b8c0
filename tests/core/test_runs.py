"""A run's folder: stopped anywhere it goes on, damaged it says so, and nothing is lost."""

import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core_helpers import LAB
from data_helpers import text_store
from run_helpers import history, lab, lab_recipe, names, rows, start, stop_after, tensors
from thalweg.branches import (
    before_decay,
    branch,
    decayed,
    every_value,
    extended,
    learning_rates,
    still_from,
)
from thalweg.controllers import Watch
from thalweg.core.checkpoint import checkpoints
from thalweg.core.cost import flops_by_phase, state_bytes
from thalweg.core.moves import Learn
from thalweg.core.protocols import Next, Save, Set, Stop, Trial
from thalweg.core.recipe import Compute, Phase, Recipe, Saves
from thalweg.core.session import Session, build_learners, resume, train
from thalweg.core.time import share, tokens
from thalweg.core.time import steps as count
from thalweg.core.world import World
from thalweg.data import Corpus
from thalweg.errors import DialError, Diverged, RecipeError, StateError
from thalweg.grafts import as_it_went, graft
from thalweg.models import Transformer
from thalweg.objectives import NextToken
from thalweg.optim import SGD, AdamW, Groups
from thalweg.schedules import Constant, Cosine, Linear, Rewarm, Warmup, Wsd


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    start(folder, lab_recipe(30, *CONTROL))
    return folder


CONTROL = (
    (5, (Trial({"lr": 3.0}, 4),)),
    (7, (Save("seven"), Set({"lr": Linear(0.2, 0.0)}))),
    (13, (Trial({"lr": 0.5}, 2, data="continue", keep="hot"), Save("thirteen"))),
)


def same(folder: Path, other: Path) -> None:
    assert history(folder) == history(other)
    assert tensors(folder) == tensors(other)


@pytest.mark.parametrize("stop", [1, 5, 7, 8, 13, 29, 30])
def test_a_run_stopped_anywhere_goes_on_bit_for_bit_through_its_folder(whole, tmp_path, stop):
    folder = tmp_path / "run"
    start(folder, lab_recipe(30, *CONTROL), stop_after(stop))
    assert len(rows(folder)) == stop
    resume(folder)
    same(folder, whole)
    assert (folder / "trials.jsonl").read_text() == (whole / "trials.jsonl").read_text()


def test_a_finished_run_is_resumed_to_nothing(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (folder / "checkpoints").rglob("*")}
    assert resume(folder).run_step == 30
    assert {p: p.stat().st_mtime_ns for p in (folder / "checkpoints").rglob("*")} == before


@pytest.mark.parametrize("step", [7, 13])
def test_a_run_killed_right_after_a_tagged_save_remembers_what_was_set(whole, tmp_path, step):
    folder = shutil.copytree(whole, tmp_path / "run")
    for path in checkpoints(folder):
        if int(path.name[5:13]) > step:
            shutil.rmtree(path)
    assert names(folder)[-1].startswith(f"step-{step:08d}")
    resume(folder)
    same(folder, whole)


def test_a_phase_that_was_ended_stays_ended_when_the_run_is_stopped_there(tmp_path):
    def recipe():
        one = lab_recipe(9, (4, (Next(),)))
        two = replace(lab_recipe(5).phases[0], name="second")
        return replace(one, phases=(*one.phases, two))

    start(tmp_path / "whole", recipe())
    start(tmp_path / "cut", recipe(), stop_after(4))
    resume(tmp_path / "cut")
    assert len(rows(tmp_path / "cut")) == 9
    same(tmp_path / "cut", tmp_path / "whole")


def test_a_stopped_run_is_saved_and_stays_stopped(tmp_path):
    folder = tmp_path / "run"
    start(folder, lab_recipe(12, (5, (Stop("enough"),))))
    assert names(folder)[-1] == "step-00000005.stopped"
    assert resume(folder).stopped == "enough"
    assert len(rows(folder)) == 5


def test_a_kept_trial_is_a_run_of_its_own_and_not_the_trunk(whole):
    branch_folder = whole / "branches" / "hot"
    about = json.loads((branch_folder / "recipe.json").read_text())
    assert about["parent"] == {"run": "run", "step": 13}
    assert names(branch_folder) == ["step-00000015.trial"]
    assert resume(branch_folder).stopped == "kept at the end of a trial from step 13"
    assert "step-00000015.trial" not in names(whole)


def test_tensors_in_a_source_state_survive(tmp_path):
    import torch

    from thalweg.core.state import RunState

    state = RunState(source={"rows": torch.tensor([[1, 2], [3, 4]]), "x": [torch.rand(3)]})
    read = RunState.from_json(json.loads(json.dumps(state.to_json())))
    assert torch.equal(read.source["rows"], state.source["rows"])
    assert torch.equal(read.source["x"][0], state.source["x"][0])


# --- kills


def go_on(folder: str) -> None:
    resume(Path(folder))


def slow_recipe():
    return lab_recipe(160, *CONTROL, saves=Saves(every=count(7), last=2, milestone=count(100)))


def killed_until_done(folder: Path, kills: int, draw: random.Random, longest: float) -> int:
    """Resume a run in processes that are killed at random moments; return how often one was."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["thalweg.core.session", "run_helpers", "test_runs"])
    done = 0
    while done < kills:
        process = server.Process(target=go_on, args=(str(folder),))
        process.start()
        process.join(draw.uniform(0.2, longest))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -9
        done += 1
    return done


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_at_random_moments_ends_bit_for_bit_the_same(tmp_path, kills):
    start(tmp_path / "whole", slow_recipe())
    folder = tmp_path / "run"
    start(folder, slow_recipe(), stop_after(10))
    killed_until_done(folder, kills, random.Random(kills), 2.0 if kills < 5 else 1.0)
    resume(folder)
    same(folder, tmp_path / "whole")


# --- damage


@pytest.fixture
def halfway(tmp_path) -> Path:
    start(tmp_path / "run", lab_recipe(12), stop_after(8))
    return tmp_path / "run"


def newest(folder: Path, kind: str) -> Path:
    return next((folder / "checkpoints" / names(folder)[-1]).rglob(kind))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def alter(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("kind", ["*.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("harm", [truncate, alter, Path.unlink])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_used(halfway, tmp_path, harm, kind):
    start(tmp_path / "whole", lab_recipe(12))
    harm(newest(halfway, kind))
    said: list[str] = []
    resume(halfway, Session(warn=said.append))
    assert "step-00000008 is damaged" in said[0]
    assert "using the checkpoint before it" in said[0]
    assert said[1] == "resuming run at step 6"
    same(halfway, tmp_path / "whole")
    assert not (halfway / "checkpoints" / "step-00000008").exists(), "damage does not stay"


@pytest.mark.parametrize("text", ["[]", "{}", '{"a": 1}', '{"state.json": [1, 2, 3]}'])
def test_a_manifest_that_says_nothing_is_damage(halfway, tmp_path, text):
    newest(halfway, "manifest.json").write_text(text)
    said: list[str] = []
    resume(halfway, Session(warn=said.append))
    assert "step-00000008 is damaged" in said[0]
    assert said[1] == "resuming run at step 6"


def test_when_every_checkpoint_is_damaged_the_run_is_refused_and_left_alone(halfway):
    for path in checkpoints(halfway):
        alter(path / "state.json")
    before = history(halfway)
    with pytest.raises(StateError, match="all damaged"):
        resume(halfway)
    assert history(halfway) == before


def test_a_run_killed_before_its_first_checkpoint_starts_anew(halfway, tmp_path):
    start(tmp_path / "whole", lab_recipe(12))
    shutil.rmtree(halfway / "checkpoints")
    for file in halfway.glob("*.jsonl"):
        file.write_text("")  # the first checkpoint is written before the first line
    resume(halfway)
    same(halfway, tmp_path / "whole")


def test_a_run_that_lost_its_checkpoints_is_refused_and_keeps_its_history(halfway):
    shutil.rmtree(halfway / "checkpoints")
    before = history(halfway)
    with pytest.raises(StateError, match="without a checkpoint, but with a history") as caught:
        resume(halfway)
    assert "train again under another --run name" in caught.value.write
    assert history(halfway) == before


def test_a_history_that_was_shortened_is_noticed(halfway):
    truncate(halfway / "history.jsonl")
    with pytest.raises(StateError, match=r"history\.jsonl has .* bytes"):
        resume(halfway)


@pytest.mark.parametrize("harm", [truncate, Path.unlink])
def test_what_a_clock_measured_may_be_lost(halfway, harm):
    harm(halfway / "timing.jsonl")
    resume(halfway)
    lines = (halfway / "timing.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps[-4:] == [9, 10, 11, 12]
    assert len(rows(halfway)) == 12


def test_an_edited_recipe_is_noticed_and_the_place_is_named(halfway):
    about = json.loads((halfway / "recipe.json").read_text())
    about["tree"]["phases"][0]["do"][0]["optimizer"]["lr"]["start"] = 0.7
    (halfway / "recipe.json").write_text(json.dumps(about))
    with pytest.raises(StateError) as caught:
        resume(halfway)
    assert caught.value.given == "phases.0.do.0.optimizer.lr.start = 0.7"
    assert "0.1" in caught.value.expected
    assert "thalweg branch " in caught.value.write


def test_an_edited_recipe_file_is_noticed(halfway):
    with (halfway / "recipe.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    with pytest.raises(StateError, match="recorded name"):
        resume(halfway)


def test_a_record_cannot_name_what_is_not_a_part(halfway):
    about = json.loads((halfway / "recipe.json").read_text())
    about["tree"]["phases"][0]["source"] = {"$": "os:system", "command": "true"}
    (halfway / "recipe.json").write_text(json.dumps(about))
    with pytest.raises(StateError, match="recorded name 'os:system'"):
        resume(halfway)


def test_weights_that_do_not_fit_are_refused_in_four_parts(halfway):
    from thalweg.core.checkpoint import fill_learners, newest_whole
    from thalweg.core.names import finder
    from thalweg.core.session import build_learners
    from thalweg.core.world import World

    wide = replace(lab_recipe(), models={"policy": lab.Linear2(hidden=5)})
    path = newest_whole(halfway, print)
    assert path is not None
    with pytest.raises(StateError, match="do not fit model 'policy'"):
        fill_learners(path, build_learners(wide, World()), World(), finder(LAB))


def test_a_folder_that_exists_is_not_written_over(halfway):
    before = history(halfway)
    with pytest.raises(StateError) as caught:
        start(halfway, lab_recipe(12))
    assert "thalweg resume " in caught.value.write
    assert history(halfway) == before
    assert [p.name for p in halfway.parent.iterdir()] == ["run"], "nothing temporary is left"


def test_two_processes_cannot_write_one_run(halfway):
    said: list[str] = []

    def resume_again() -> bool:
        with pytest.raises(StateError, match="is being written by process"):
            resume(halfway, Session(warn=said.append))
        return True

    resume(halfway, Session(interrupted=resume_again))
    assert said == [], "it is refused before anything is read or announced"
    resume(halfway)
    assert len(rows(halfway)) == 12


def test_a_loss_that_is_not_finite_names_the_last_good_checkpoint(tmp_path):
    recipe = lab_recipe(12, (7, (Set({"lr": 1e30}),)), lr=0.01)
    with pytest.raises(Diverged) as caught:
        start(tmp_path / "run", recipe)
    last = names(tmp_path / "run")[-1]
    assert f"the last good checkpoint is {last}" in caught.value.write
    assert caught.value.where.startswith("step ")
    assert "phase 'main', model 'policy'" in caught.value.where
    events = (tmp_path / "run" / "events.jsonl").read_text()
    assert '"kind": "diverged"' in events


FULL = """
import resource, sys
from pathlib import Path
from run_helpers import lab_recipe, start
from thalweg.errors import StateError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    start(Path(sys.argv[1]), lab_recipe(40, hidden=int(sys.argv[3])))
except StateError as error:
    print(error)
    sys.exit(3)
"""


def without_room(folder: Path, room: int, hidden: int) -> str:
    command = [sys.executable, "-c", FULL, str(folder), str(room), str(hidden)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=env
    )
    assert done.returncode == 3, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(
    ("room", "hidden", "what"),
    [
        pytest.param(4000, 4, "history.jsonl cannot be written", marks=pytest.mark.slow),
        (12000, 256, "the checkpoint cannot be written"),
    ],
)
def test_a_disk_without_room_stops_the_run_and_loses_nothing(tmp_path, room, hidden, what):
    folder = tmp_path / "run"
    said = without_room(folder, room, hidden)
    for part in (what, "expected:", "where:", "make room, then: thalweg resume "):
        assert part in said
    resume(folder)
    start(tmp_path / "whole", lab_recipe(40, hidden=hidden))
    same(folder, tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_finds_no_room_at_its_start_leaves_nothing(tmp_path):
    assert "a folder that cannot be written" in without_room(tmp_path / "run", 1000, 4)
    assert list(tmp_path.iterdir()) == []


# --- what is kept


def kept(tmp_path, saves: Saves, *script) -> list[str]:
    start(tmp_path / "run", lab_recipe(24, *script, saves=saves))
    return [name.removeprefix("step-000000") for name in names(tmp_path / "run")]


def test_the_newest_the_milestones_and_the_tagged_are_kept(tmp_path):
    saves = Saves(every=count(2), last=3, milestone=count(9))
    found = kept(tmp_path, saves, (5, (Save("best"), Save("v1.0"))))
    assert found == ["00", "05.best.v1-0", "09", "18", "20", "22", "24.end-of-main"]


def test_saves_in_tokens_that_nobody_counts_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(DialError, match="does not know the tokens of a step"):
        start(tmp_path / "run", lab_recipe(6, saves=Saves(every=tokens(100))))
    assert not (tmp_path / "run").exists()


def test_milestones_are_counted_in_each_phase(tmp_path):
    one = lab_recipe(9, (5, (Next(),)), saves=Saves(every=count(2), last=1, milestone=count(4)))
    two = replace(lab_recipe(12).phases[0], name="second")
    start(tmp_path / "run", replace(one, phases=(*one.phases, two)))
    found = [int(name[5:13]) for name in names(tmp_path / "run")]
    assert found == [0, 4, 5, 9, 13, 17]


# --- branches


def curve(folder: Path) -> dict[int, dict]:
    return {row["step"]: row for row in rows(folder)}


LR = "dial/learn.policy.optimizer.lr"


@pytest.fixture(scope="module")
def trunk(tmp_path_factory) -> tuple:
    recipe = lab_recipe(20, lr=Wsd(0.1, warmup=count(4), decay=count(5)))
    folder = tmp_path_factory.mktemp("trunk") / "trunk"
    start(folder, replace(recipe, saves=Saves(count(4), 2, count(4))))
    return folder, replace(recipe, saves=Saves(count(4), 2, count(4)))


def test_a_decay_branch_is_its_parent_until_the_fork_and_decays_from_there(trunk, tmp_path):
    folder, recipe = trunk
    fork = decayed(recipe, 10, 4, Linear(1.0, 0.0))
    assert graft(folder, tmp_path / "branch", fork) == 8
    resume(tmp_path / "branch")
    parent, child = curve(folder), curve(tmp_path / "branch")
    assert [child[s] for s in (9, 10)] == [parent[s] for s in (9, 10)]
    assert child[11]["loss"] == parent[11]["loss"], "the first rate that differs is step 12's"
    assert [child[s][LR] for s in range(11, 15)] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert max(child) == 14


def test_a_changed_branch_is_its_parent_until_the_fork(trunk, tmp_path):
    folder, recipe = trunk
    graft(folder, tmp_path / "branch", branch(recipe, 12, {"clip": 0.5}))
    resume(tmp_path / "branch")
    parent, child = curve(folder), curve(tmp_path / "branch")
    assert min(child) == 13
    assert child[13]["loss"] == parent[13]["loss"]
    assert child[20]["loss"] != parent[20]["loss"]


def test_a_branch_of_another_length_keeps_the_clock_of_its_trunk(tmp_path):
    recipe = lab_recipe(20, lr=Wsd(0.1, warmup=count(0), decay=share(0.5)))
    start(tmp_path / "trunk", replace(recipe, saves=Saves(count(4), 2, count(4))))
    graft(tmp_path / "trunk", tmp_path / "branch", branch(recipe, 8, {"main.steps": 24}))
    resume(tmp_path / "branch")
    parent, child = curve(tmp_path / "trunk"), curve(tmp_path / "branch")
    assert max(child) == 24
    assert [child[s][LR] for s in range(9, 21)] == [parent[s][LR] for s in range(9, 21)]
    named = branch(recipe, 8, {"main.steps": 24, "optimizer.lr": 0.05})
    (rate,) = learning_rates(named.recipe.phases[0]).values()
    assert every_value(rate, named.recipe.phases[0])[[7, 8, 23]] == pytest.approx([0.1, 0.05, 0.05])


def test_a_fork_that_learns_nothing_is_known_and_the_last_step_before_its_decay():
    recipe = lab_recipe(20, lr=Wsd(0.1, warmup=count(4), decay=count(5)))
    for fork in (decayed(recipe, 20, 4, Linear(1.0, 0.0)), branch(recipe, 20, {"main.steps": 30})):
        assert still_from(fork) == 20
    assert still_from(branch(recipe, 16, {"main.steps": 30})) == 20
    assert still_from(branch(recipe, 20, {"main.steps": 30, "optimizer.lr": 0.1})) is None
    last = before_decay(recipe, 20)
    assert last == 15
    assert still_from(decayed(recipe, last, 4, Linear(1.0, 0.0))) is None


def test_an_extension_leaves_where_the_decay_began_and_is_longer(trunk, tmp_path):
    folder, recipe = trunk
    fork = extended(recipe, 10)
    assert graft(folder, tmp_path / "longer", fork) <= fork.step
    resume(tmp_path / "longer")
    start(tmp_path / "fresh", lab_recipe(30, lr=Wsd(0.1, warmup=count(4), decay=count(5))))
    child, fresh = curve(tmp_path / "longer"), curve(tmp_path / "fresh")
    assert max(child) == 30
    assert all(child[step] == fresh[step] for step in child)


def test_an_extension_leaves_warm_ups_alone_that_are_shares_of_a_stage():
    recipe = lab_recipe(200, lr=Rewarm(0.1, 0.01, stages=(count(100), count(100))))
    assert extended(recipe, 100).step == 200
    assert extended(lab_recipe(20, lr=Warmup(0.1, over=share(0.2))), 10).step == 20


def test_an_extended_cosine_leaves_at_its_start_and_says_why(tmp_path):
    recipe = lab_recipe(12, lr=Cosine(0.1))
    start(tmp_path / "run", recipe)
    fork = extended(recipe, 6)
    assert fork.step <= 1
    assert any("optimizer.lr" in change for change in fork.changes)
    graft(tmp_path / "run", tmp_path / "longer", fork)
    resume(tmp_path / "longer")
    start(tmp_path / "fresh", lab_recipe(18, lr=Cosine(0.1)))
    assert history(tmp_path / "longer") == history(tmp_path / "fresh")


@pytest.mark.parametrize("end", [Stop("enough"), Next()])
def test_a_fork_of_a_run_that_a_controller_ended_goes_on(tmp_path, end):
    recipe = lab_recipe(12, (5, (end,)), lr=Constant(0.1))
    assert start(tmp_path / "run", recipe).run_step == 5
    graft(tmp_path / "run", tmp_path / "branch", branch(recipe, 5, {"clip": 0.5}))
    assert resume(tmp_path / "branch").run_step == 12
    assert min(curve(tmp_path / "branch")) == 6


def test_a_fork_of_a_branch_that_a_trial_left_goes_on(tmp_path):
    recipe = lab_recipe(12, (5, (Trial({"lr": 0.2}, 3, keep="tried"),)), lr=Constant(0.1))
    start(tmp_path / "run", recipe)
    tried = tmp_path / "run" / "branches" / "tried"
    graft(tried, tmp_path / "longer", extended(recipe, 4))
    assert resume(tmp_path / "longer").run_step == 16


def test_steps_behind_a_phase_that_ended_early_are_steps_of_the_next(tmp_path):
    (phase,) = lab_recipe(12, (5, (Next(),)), lr=Linear(0.1, 0.0)).phases
    second = replace(phase, controllers=(), name="second")
    recipe = replace(lab_recipe(12), phases=(replace(phase, name="first"), second))
    assert start(tmp_path / "run", recipe).run_step == 17
    went = as_it_went(recipe, tmp_path / "run")
    graft(tmp_path / "run", tmp_path / "branch", branch(went, 9, {"second.learn.policy.clip": 0.5}))
    assert resume(tmp_path / "branch").run_step == 17
    parent, child = curve(tmp_path / "run"), curve(tmp_path / "branch")
    assert [child[s]["loss"] for s in (9, 10)] == [parent[s]["loss"] for s in (9, 10)]
    assert child[10]["dial/learn.policy.clip"] == 0.5
    graft(tmp_path / "run", tmp_path / "early", branch(went, 3, {"first.learn.policy.clip": 0.5}))
    assert resume(tmp_path / "early").run_step == 17
    assert [curve(tmp_path / "early")[s][LR] for s in (4, 5)] == [parent[s][LR] for s in (4, 5)]


def test_a_dial_that_a_controller_turns_is_not_for_a_fork(tmp_path):
    recipe = lab_recipe(12, (4, (Set({"lr": 0.05}),)), lr=Constant(0.1))
    start(tmp_path / "run", recipe)
    for fork in (branch(recipe, 9, {"optimizer.lr": 0.2}), decayed(recipe, 9, 3, Linear(1.0, 0.0))):
        with pytest.raises(StateError, match=r"lr, which a controller of this run sets"):
            graft(tmp_path / "run", tmp_path / "branch", fork)
    graft(tmp_path / "run", tmp_path / "branch", branch(recipe, 9, {"clip": 0.5}))
    assert resume(tmp_path / "branch").run_step == 12
    assert curve(tmp_path / "branch")[12][LR] == 0.05


def test_a_fork_before_every_checkpoint_is_refused(tmp_path):
    recipe = lab_recipe(12, lr=Constant(0.1))
    start(tmp_path / "run", recipe)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000000")
    with pytest.raises(StateError, match="at or before step 1"):
        graft(tmp_path / "run", tmp_path / "b", branch(recipe, 1, {"clip": 0.5}))
    assert not (tmp_path / "b").exists()


def test_a_branch_beyond_the_run_is_refused():
    with pytest.raises(StateError, match="at most 12"):
        branch(lab_recipe(12), 40, {"clip": 0.5})
    with pytest.raises(RecipeError, match="did you mean"):
        branch(lab_recipe(12), 4, {"clipp": 0.5})


@pytest.mark.parametrize(
    "optimizer", [SGD(0.05, momentum=0.9), Groups({"*bias": SGD(0.05), "*": SGD(0.1, 0.5)})]
)
def test_moments_of_every_optimizer_are_resumed(tmp_path, optimizer):
    start(tmp_path / "whole", lab_recipe(9, optimizer=optimizer))
    start(tmp_path / "cut", lab_recipe(9, optimizer=optimizer), stop_after(4))
    resume(tmp_path / "cut")
    same(tmp_path / "cut", tmp_path / "whole")


def test_an_endless_run_goes_on_until_it_is_asked_to_end(tmp_path):
    recipe = lab_recipe(1, lr=0.1)
    endless = replace(recipe, phases=(replace(recipe.phases[0], steps=None),))
    start(tmp_path / "run", endless, stop_after(5))
    resume(tmp_path / "run", stop_after(4))
    assert len(rows(tmp_path / "run")) == 9
    assert isinstance(endless.phases[0], Phase)


def test_a_branch_is_not_judged_by_the_prediction_of_its_trunk(trunk, tmp_path):
    _, recipe = trunk
    watch = Watch((1, 100), (-9.0, -9.0), (-9.1, -9.1), (-8.9, -8.9), patience=12)
    phase = replace(recipe.phases[0], controllers=(watch,))
    watched = replace(recipe, phases=(phase,))
    start(tmp_path / "run", watched)
    graft(tmp_path / "run", tmp_path / "branch", branch(watched, 8, {"clip": 0.5}))
    resume(tmp_path / "branch")
    assert "above the interval" in (tmp_path / "run" / "events.jsonl").read_text()
    assert not (tmp_path / "branch" / "events.jsonl").exists(), "nothing to say"


def test_models_that_learn_in_one_phase_cost_nothing_in_another():
    facts = {name: {"flops_per_token": flops} for name, flops in (("policy", 3.0), ("other", 5.0))}
    recipe = lab_recipe(4)
    (phase,) = recipe.phases
    both = replace(phase, do=(*phase.do, Learn("other", lab.Squared(), SGD(lr=0.1))), name="both")
    found = flops_by_phase(facts, replace(recipe, phases=(phase, both)))
    assert found == {phase.name: 3.0, "both": 8.0}


def test_a_run_that_needs_more_memory_than_there_is_says_so_before_it_starts(tmp_path, monkeypatch):
    said = list[str]()
    for limit in (1 << 40, 10):
        monkeypatch.setattr("thalweg.core.world.memory_limit", lambda device, has=limit: has)
        start(tmp_path / f"{limit}", lab_recipe(1), Session(warn=said.append))
    (warning,) = said
    assert warning.startswith("warning: about 0.0 GiB will be needed where there are 0.0")


def test_weights_that_do_not_learn_take_no_room_for_moments():
    recipe = lab_recipe(1)
    learner = build_learners(recipe, World())["policy"]
    count, first = learner.parameter_count(), next(learner.module.parameters())
    assert state_bytes(recipe, "policy", learner) == 16 * count
    first.requires_grad = False
    assert state_bytes(recipe, "policy", learner) == 16 * count - 12 * first.numel()
    assert state_bytes(recipe, "other", learner) == 4 * count


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when it compiles
def test_a_compiled_run_on_several_threads_is_the_same_every_time(tmp_path):
    words = Corpus(text_store(tmp_path, ["some words " * 900]), length=64)
    model = Transformer(vocabulary=257, width=128, layers=1, heads=4, positions=64)
    phase = Phase(6, words, (Learn("policy", NextToken(), AdamW(lr=1e-2)),), rows=64)
    recipe = Recipe({"policy": model}, (phase,), compute=Compute(compile=True))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for name in ("one", "two"):
            train(recipe, tmp_path / name)
    finally:
        torch.set_num_threads(threads)
    assert history(tmp_path / "one") == history(tmp_path / "two")


def test_a_run_that_goes_on_elsewhere_says_that_it_may_differ(tmp_path):
    start(tmp_path / "run", lab_recipe(6), stop_after(2))
    file, said = tmp_path / "run" / "recipe.json", list[str]()
    resume(tmp_path / "run", replace(stop_after(2), warn=said.append))
    assert not [text for text in said if "bit for bit" in text]
    about = json.loads(file.read_text())
    about["versions"] |= {"threads": "64", "torch": "1.0"}
    file.write_text(json.dumps(about))
    resume(tmp_path / "run", replace(stop_after(1), warn=said.append))
    now = torch.get_num_threads()
    assert said[-1].startswith("perhaps not bit for bit from here on")
    assert said[-1].endswith(f"torch 1.0 -> {torch.__version__}, threads 64 -> {now}")
