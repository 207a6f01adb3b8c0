import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core_helpers import play
from data_helpers import REAL, text_store
from thalweg.controllers import LearningProgress, LossProportional, Pilots, SkillIt
from thalweg.controllers.mixture import progress_weights
from thalweg.controllers.skill import influence, skill_weights, skills_graph
from thalweg.core.control import steer
from thalweg.core.learner import Learner
from thalweg.core.loop import Bench, Memory, run_phase
from thalweg.core.moves import Learn
from thalweg.core.names import finder
from thalweg.core.protocols import Context, Controller, Set, Trial
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.session import build_learners
from thalweg.core.state import RunState
from thalweg.core.time import Time, steps
from thalweg.core.world import World
from thalweg.data import Corpus, Mixture
from thalweg.errors import DialError, RecipeError
from thalweg.models import Transformer
from thalweg.monitors import HeldOut
from thalweg.objectives import NextToken
from thalweg.optim import AdamW

GRAPHS = REAL / "skills-graphs"
NAMES = ("a", "b")


def seen(step: int, **losses: float) -> Context:
    """Return what a controller sees after step number `step` of 100."""
    report = {f"heldout/loss/{name}": loss for name, loss in losses.items()}
    return Context(Time(step - 1, 100), last={"report": {"loss": 1.0, **report}})


def weights_of(actions) -> dict[str, float]:
    (action,) = actions
    assert isinstance(action, Set)
    return action.values["source.weights"]


def trainer(graph: list[list[float]], records: list[list[float]], eta: float) -> list[float]:
    """Return one round of the authors' mw_trainer, line by line."""
    out = []
    for i in range(len(graph)):
        total = 0.0
        for j in range(len(graph[0])):
            window = sum(record[j] for record in records[-3:])
            total += max(graph[i][j], 0.0) * window
        out.append(1.0 * math.exp(eta * total))
    return [value / sum(out) for value in out]


def test_weights_start_from_the_graph_and_follow_a_window_of_three():
    graph = [[1.0, 0.5], [0.0, 1.0]]
    control = SkillIt(skills_graph(np.array(graph), NAMES), every=2, eta=0.3)
    state = control.start(seen(0))
    actions, state = control.act(state, seen(1))
    first = [math.exp(0.45), math.exp(0.3)]
    assert list(weights_of(actions).values()) == pytest.approx([x / sum(first) for x in first])
    records = []
    for step in range(2, 11):
        losses = [3.0 - 0.1 * step, 2.0 + 0.05 * step]
        records.append(losses)
        actions, state = control.act(
            json.loads(json.dumps(state)), seen(step, a=losses[0], b=losses[1])
        )
        if step % 2:
            assert not actions
        else:
            assert list(weights_of(actions).values()) == pytest.approx(trainer(graph, records, 0.3))
    assert len(state["records"]) == 3


@pytest.mark.skipif(not GRAPHS.is_dir(), reason="the released graphs are not here")
@pytest.mark.parametrize("file", ["stance_detection.npy", "spanish_qg_normalized.npy"])
def test_released_graphs_are_read_and_followed(file: str):
    matrix = np.load(GRAPHS / file)
    names = [f"skill-{i}" for i in range(len(matrix))]
    control = SkillIt(skills_graph(matrix, names), eta=0.2)
    actions, _ = control.act(control.start(seen(0)), seen(1))
    wanted = trainer(matrix.tolist(), [[1 / 3] * len(matrix)] * 3, 0.2)
    assert list(weights_of(actions).values()) == pytest.approx(wanted)


def test_a_large_eta_does_not_overflow():
    weights = skill_weights(np.array([[9.0], [8.0]]), np.array([30.0]), eta=100.0)
    assert weights.tolist() == [1.0, pytest.approx(0.0)]


def test_negative_influence_counts_as_none():
    assert skill_weights(np.array([[-5.0], [0.0]]), np.ones(1), 1.0).tolist() == [0.5, 0.5]
    assert influence(np.array([2.0]), np.array([math.inf])).tolist() == [0.0]


def test_normalised_losses_forget_their_scale():
    graph = skills_graph(np.eye(2), NAMES)
    for scale in (1.0, 100.0):
        control = SkillIt(graph, every=1, normalised=True)
        state = control.start(seen(0))
        for step in range(1, 4):
            actions, state = control.act(state, seen(step, a=4.0 / step, b=scale * 2.0))
        if scale == 1.0:
            first = weights_of(actions)
    assert weights_of(actions) == pytest.approx(first)


def test_a_graph_that_tells_nothing_is_noted():
    notes = []
    ctx = replace(seen(1), note=lambda kind, text: notes.append((kind, text)))
    control = SkillIt(skills_graph(np.ones((2, 2)), NAMES))
    control.act(control.start(ctx), ctx)
    assert notes == [("warning", "the skills graph tells no source from another: uniform weights")]


def test_pilots_ask_for_one_trial_a_source_and_build_the_graph():
    control = SkillIt(Pilots(NAMES, steps=5), eta=1.0)
    state = control.start(seen(0))
    actions, state = control.act(state, seen(1))
    assert not actions  # no losses yet
    actions, state = control.act(state, seen(2, a=2.0, b=4.0))
    assert actions == [Trial({"source.weights": {"a": 1.0, "b": 0.0}}, 5)]
    end = {"heldout/loss/a": 1.0, "heldout/loss/b": 3.0}
    ctx = replace(seen(2, a=2.0, b=4.0), trial=({"loss": 1.0}, end))
    actions, state = control.act(json.loads(json.dumps(state)), ctx)
    assert actions == [Trial({"source.weights": {"a": 0.0, "b": 1.0}}, 5)]
    end = {"heldout/loss/a": 2.5, "heldout/loss/b": 1.0}
    actions, state = control.act(state, replace(ctx, trial=(end,)))
    assert state["graph"] == [[0.5, 0.25], [0.0, 0.75]]
    assert list(weights_of(actions).values()) == pytest.approx([0.5, 0.5])


def test_pilots_without_a_measurement_say_what_is_missing():
    control = SkillIt(Pilots(NAMES, steps=5))
    _, state = control.act(control.start(seen(0)), seen(2, a=2.0, b=4.0))
    with pytest.raises(RecipeError, match="HeldOut"):
        control.act(state, replace(seen(2), trial=({"loss": 1.0},)))
    _, state = control.act(state, replace(seen(2), trial=({"loss": math.inf},)))
    assert state["pilots"] == [[0.0, 0.0]]


def progress(records: list[list[float]], alpha: float, theta: float) -> list[float]:
    """Return the weights of OMNI's curriculum, one task and one record at a time."""
    fast, slow = list(records[0]), list(records[0])
    for record in records[1:]:
        for i, p in enumerate(record):
            fast[i] = alpha * p + (1 - alpha) * fast[i]
            slow[i] = alpha * fast[i] + (1 - alpha) * slow[i]

    def reweight(x: float) -> float:
        return x * (1 - theta) / (x + theta * (1 - 2 * x))

    lp = [abs(reweight(f) - reweight(s)) for f, s in zip(fast, slow, strict=True)]
    mean = sum(lp) / len(lp)
    std = math.sqrt(sum((x - mean) ** 2 for x in lp) / len(lp)) or 1.0
    squashed = [1 / (1 + math.exp(-(x - mean) / std)) for x in lp]
    return [0.95 * x / sum(squashed) + 0.05 / len(lp) for x in squashed]


def test_learning_progress_is_the_one_of_the_paper():
    control = LearningProgress(("a", "b", "c"), every=1, alpha=0.2, signal="success")
    state, records = control.start(seen(0)), []
    for step in range(1, 9):
        records.append([0.1 * step, 0.5, 0.3 + 0.02 * step])
        values = dict(zip("abc", records[-1], strict=True))
        actions, state = control.act(json.loads(json.dumps(state)), seen(step, **values))
        assert list(weights_of(actions).values()) == pytest.approx(progress(records, 0.2, 0.1))
    assert weights_of(actions)["a"] > weights_of(actions)["c"] > weights_of(actions)["b"]


def test_no_success_at_all_is_no_progress():
    assert progress_weights(np.zeros(4), np.zeros(4)).tolist() == [0.25] * 4
    some = progress_weights(np.array([0.0, 0.5]), np.array([0.0, 0.1]), floor=0.1)
    assert some.tolist() == pytest.approx([0.05, 0.95])


def test_loss_proportional_keeps_the_last_loss_of_a_source_that_had_no_row():
    control = LossProportional(NAMES, every=1, alpha=1.0, floor=0.0)
    state = control.start(seen(0))
    actions, state = control.act(state, seen(1, a=3.0))
    assert not actions
    actions, state = control.act(state, seen(2, b=1.0))
    assert weights_of(actions) == {"a": 0.75, "b": 0.25}
    actions, _ = replace(control, power=2.0, floor=0.2).act(state, seen(3, a=2.0))
    assert weights_of(actions) == pytest.approx({"a": 0.8 * 0.8 + 0.1, "b": 0.8 * 0.2 + 0.1})


def test_bad_numbers_are_refused_at_the_start():
    with pytest.raises(RecipeError, match="row 'b' measures"):
        SkillIt({"a": {"x": 1.0}, "b": {"y": 1.0}}).start(seen(0))
    with pytest.raises(RecipeError, match="no graph"):
        SkillIt({}).start(seen(0))
    with pytest.raises(RecipeError, match="transpose"):
        skills_graph(np.ones((2, 3)), NAMES)
    with pytest.raises(DialError, match="floor = 2"):
        LossProportional(NAMES, floor=2).start(seen(0))
    with pytest.raises(DialError, match="alpha = -1"):
        LearningProgress(NAMES, alpha=-1).start(seen(0))


# --- in a run


def recipe(folder: Path, controller: Controller) -> Recipe:
    stores = {n: text_store(folder, [n * 30 + "xyz"] * 9, n) for n in NAMES}
    text = {n: Corpus(store, length=12, name=n) for n, store in stores.items()}
    held = {n: replace(corpus, shuffle=False) for n, corpus in text.items()}
    model = Transformer(vocabulary=257, width=16, layers=1, heads=2, positions=12)
    phase = Phase(
        18,
        Mixture(text, {"a": 1.0, "b": 1.0}),
        (Learn("policy", NextToken(), AdamW(lr=0.01)),),
        rows=4,
        controllers=(controller,),
        monitors=(HeldOut(held, every=steps(2), most=4),),
    )
    return Recipe({"policy": model}, (phase,))


@pytest.mark.parametrize(
    "controller",
    [
        SkillIt(Pilots(NAMES, steps=4), every=6, eta=3.0),
        LearningProgress(NAMES, every=4),
        LossProportional(NAMES, every=4, losses="loss/"),
    ],
    ids=lambda controller: controller.name,
)
def test_a_run_moves_its_weights_and_resumes_to_the_same_history(tmp_path, controller):
    whole = recipe(tmp_path, controller)
    end, _, memory = play(whole)
    assert end.journal
    moved = [row for row in memory.history if "dial/source.weights.a" in row]
    assert any(abs(row["dial/source.weights.a"] - 0.5) > 1e-3 for row in moved)
    assert sum(memory.last.source["given"]) == 18 * 4
    for cut in (3, 11):
        state, learners, first = until(whole, cut)
        state = RunState.from_json(json.loads(json.dumps(state.to_json())))
        again, _, rest = play(whole, state, learners)
        assert first.history + rest.history == memory.history
        assert rest.last.source == memory.last.source
        assert again.journal == end.journal


def until(whole: Recipe, cut: int) -> tuple[RunState, dict[str, Learner], Memory]:
    """Run the first `cut` steps."""
    learners, memory = build_learners(whole, World()), Memory()
    bench = Bench(whole, learners, World(), memory, finder())
    state, _ = run_phase(bench, whole.phases[0], RunState(), steer=steer, stop=cut)
    return state, learners, memory


def test_weights_for_a_source_that_does_not_exist_are_refused_at_the_first_step(tmp_path):
    wrong = SkillIt(skills_graph(np.eye(2), ("a", "bb"), NAMES))
    with pytest.raises(DialError, match="for 'bb' did you mean"):
        play(recipe(tmp_path, wrong))
