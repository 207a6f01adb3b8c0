"""Reading ahead changes nothing: runs are those of a source that is asked in each step."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from core_helpers import play, weights
from data_helpers import pair_store, text_store
from lab import Linear2, Lines, Script, Squared
from thalweg.core import ahead as file
from thalweg.core.ahead import Ahead, is_offline
from thalweg.core.batch import Batch
from thalweg.core.dials import Dials
from thalweg.core.loop import Memory
from thalweg.core.moves import Learn
from thalweg.core.protocols import Context, Next, Schedule, Set, State, Stop, Trial
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.state import RunState
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.data import Corpus, Mixture, Pairs
from thalweg.errors import DialError
from thalweg.models import Transformer
from thalweg.objectives import NextToken
from thalweg.optim import SGD, AdamW
from thalweg.schedules import Blend, By, Linear

LR = "learn.policy.optimizer.lr"
SCRIPTS = {
    "nothing": (),
    "a dial set": ((5, (Set({LR: 0.02}),)),),
    "dials set at every step": tuple((n, (Set({LR: 0.1 / n}),)) for n in range(1, 25)),
    "rows set": ((3, (Set({"rows": 5}),)), (11, (Set({"rows": 7}),))),
    "a trial, rewound": ((6, (Trial({LR: 0.5}, 5),)),),
    "a trial, its data kept": ((6, (Trial({LR: 0.5}, 5, data="continue"),)),),
    "the end of a phase": ((9, (Next(),)),),
    "a stop": ((13, (Stop("for the test"),)),),
}


@dataclass(frozen=True)
class Fewer:
    """A move that leaves out some rows: what counts is not what was drawn."""

    needs: ClassVar[tuple[str, ...]] = ("x",)
    makes: ClassVar[tuple[str, ...]] = ()
    name: ClassVar[str] = "fewer"

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        return batch.take(range(1, batch.rows)) if int(ctx.time.step) % 3 else batch


def recipe(offline: bool, *, script: Any = (), fewer: bool = False, rows: Any = 8) -> Recipe:
    learn = Learn("policy", Squared(), SGD(Linear(0.1, 0.0)))
    do = (Fewer(), learn) if fewer else (learn,)
    source = Lines(offline=offline)
    phase = Phase(24, source, do, rows=rows, controllers=(Script(script),))
    return Recipe({"policy": Linear2()}, (phase, replace(phase, name="second", controllers=())))


def assert_equal_runs(one: Recipe, other: Recipe) -> None:
    (_, first, told), (_, second, asked) = play(one), play(other)
    assert told.history == asked.history
    assert told.trials == asked.trials
    assert told.last == asked.last
    for name in first:
        assert torch.equal(weights(first[name]), weights(second[name]))


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("fewer", [False, True])
def test_whatever_a_controller_does_the_run_is_the_same(script, fewer):
    one, other = (recipe(told, script=script, fewer=fewer) for told in (True, False))
    assert_equal_runs(one, other)


def test_schedules_that_count_tokens_see_those_that_were_given():
    seen: list[tuple[int, int]] = []

    def rows(time: Time) -> Any:
        if isinstance(time.step, int):
            seen.append((time.step, int(time.tokens)))
        return 4 + time.tokens // 40

    assert_equal_runs(*(recipe(told, rows=By(rows)) for told in (True, False)))
    assert_equal_runs(*(recipe(told, rows=By(rows), fewer=True) for told in (True, False)))
    given = [row["tokens"] for row in play(recipe(True, rows=By(rows)))[2].history]
    seen.clear()
    play(recipe(True, rows=By(rows)))
    assert dict(seen)[5] == given[4]


def test_texts_in_a_mixture_are_read_ahead_and_the_same(tmp_path, monkeypatch):
    text = text_store(tmp_path, ["a text of some words " * 40, "and another one " * 30])
    pairs = pair_store(tmp_path, [(f"what is {i}", f"it is {i}") for i in range(40)])
    sources = {"text": Corpus(text, length=32), "pairs": Pairs(pairs, length=32)}
    mixture = Mixture(sources, Blend({"text": 1, "pairs": 0}, {"text": 1, "pairs": 9}))
    learn = Learn("policy", NextToken(), AdamW(lr=Linear(1e-2, 0.0)))
    model = Transformer(vocabulary=320, width=16, layers=1, heads=1, positions=32)
    whole = Recipe({"policy": model}, (Phase(20, mixture, (learn,), rows=Linear(3, 9)),))
    _, ours, far = play(whole)
    monkeypatch.setattr(file, "_FAR", 1)
    _, theirs, near = play(whole)
    assert far.history == near.history
    assert far.last == near.last
    assert torch.equal(weights(ours["policy"]), weights(theirs["policy"]))


@dataclass(frozen=True)
class Ending(Lines):
    """Lines that end at a row."""

    end: int = 80

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        if state["row"] >= self.end:
            raise RuntimeError(f"no row {self.end}")
        return super().next(state, ctx)


class Bad(Schedule[float]):
    def __call__(self, time: Time) -> float:
        """Return a rate that no optimizer takes, at step 13."""
        return -1.0 if isinstance(time.step, int) and time.step == 13 else 0.1


def history_before(recipe: Recipe, error: type[Exception], monkeypatch: Any) -> list[Any]:
    rows: list[Any] = []
    monkeypatch.setattr(Memory, "step", lambda self, state, report, seconds: rows.append(report))
    with pytest.raises(error):
        play(recipe)
    return rows


def test_an_error_comes_at_its_own_step_and_not_before(monkeypatch):
    learn = Learn("policy", Squared(), SGD(0.1))
    phase = Phase(24, Ending(), (learn,), rows=8)
    for offline in (True, False):
        ends = Recipe({"policy": Linear2()}, (replace(phase, source=Ending(offline=offline)),))
        assert len(history_before(ends, RuntimeError, monkeypatch)) == 10
        bad = Learn("policy", Squared(), SGD(Bad()))
        phase13 = replace(phase, source=Lines(offline=offline), do=(bad,))
        fails = Recipe({"policy": Linear2()}, (phase13,))
        assert len(history_before(fails, DialError, monkeypatch)) == 13


@dataclass(frozen=True)
class Counting(Lines):
    """Lines that note down every row they are asked to begin at."""

    asked: tuple[list[int], ...] = ()

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        self.asked[0].append(state["row"])
        return super().next(state, ctx)


def asked_for(script: Any, *moves: Any) -> list[int]:
    rows: list[int] = []
    source = Counting(asked=(rows,))
    learn = Learn("policy", Squared(), SGD(0.1))
    phase = Phase(24, source, (*moves, learn), rows=8, controllers=(Script(script),))
    play(Recipe({"policy": Linear2()}, (phase,)))
    return rows


def test_nothing_is_made_twice_where_nothing_comes_between():
    assert asked_for(()) == [8 * step for step in range(24)]


def test_a_phase_whose_dials_are_set_at_every_step_makes_nothing_in_vain():
    every = SCRIPTS["dials set at every step"]
    assert asked_for(every) == [8 * step for step in range(24)]


def test_what_is_made_in_vain_stays_little(monkeypatch):
    assert len(asked_for((), Fewer())) <= 24 * 3 / 2 + 1
    early, late = (((step, (Set({LR: 0.02}),)),) for step in (2, 20))
    assert len(asked_for(early)) == 24 + 1  # of two batches read together, one
    assert len(asked_for(late)) == 24 + 3  # of eight: 16 to 23
    batch, _ = Lines().next({"row": 0}, Context(Time(), rows=8))
    monkeypatch.setattr(file, "_MUCH", 2 * sum(batch[name].nbytes for name in batch))
    assert len(asked_for(late)) == 24 + 1  # of three


def test_a_batch_is_not_handed_out_for_another_state_of_its_source():
    phase = Phase(24, Lines(), (Learn("policy", Squared(), SGD(0.1)),), rows=4)
    ahead = Ahead(Dials.of(phase, {}, lambda name: None), 0, World())
    state = RunState(source={"row": 0})
    for _ in range(2):  # then two more wait
        moment = ahead.moment(state)
        assert moment.drawn is not None
        state = replace(
            state, step=state.step + 1, run_step=state.run_step + 1, tokens=state.tokens + 4,
            source=moment.drawn.source,
        )  # fmt: skip
    moved = replace(state, source={"row": 400})
    found = ahead.moment(moved)
    assert found.drawn is not None
    assert found.drawn.batch["id"].tolist() == [400, 401, 402, 403]


def test_a_mixture_is_offline_if_all_its_sources_are():
    lines = {"a": Lines(), "b": Lines(offline=False)}
    assert not is_offline(Mixture(lines, {"a": 1, "b": 1}))
    assert is_offline(Mixture({"a": Lines()}, {"a": 1}))
