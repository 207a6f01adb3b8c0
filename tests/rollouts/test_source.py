"""Rollouts: what a batch holds, who is left out, what help does, and that state is a value."""

import copy
import json
import math
import sys
import time
from dataclasses import dataclass, replace

import pytest
import torch

from core_helpers import play
from data_helpers import write_lines
from rollout_helpers import SOURCE, Low, Room, batch_of, recipe
from thalweg.core.batch import COLUMNS, Batch
from thalweg.core.loop import Bench, Memory, run
from thalweg.core.moves import logprobs
from thalweg.core.names import finder
from thalweg.core.protocols import Grade, Problem
from thalweg.core.session import build_learners
from thalweg.core.state import RunState
from thalweg.core.world import World
from thalweg.data.tokenizer import byte_tokenizer
from thalweg.errors import DialError, RecipeError
from thalweg.models import Transformer
from thalweg.rollouts import (
    Demonstrations,
    Hint,
    Judge,
    Keep,
    Mismatch,
    Questions,
    ReplayWindow,
    Sampling,
    best_of,
    majority,
    pass_at_k,
    prompt_ids,
)

# --- a batch


def test_a_batch_holds_what_it_promises():
    batch = batch_of(SOURCE)
    assert set(batch) == set(SOURCE.makes)
    for name in batch:
        assert batch[name].dtype == getattr(torch, COLUMNS[name].dtype), name
    assert batch.rows == 16
    assert batch["group"].tolist() == [g for g in range(4) for _ in range(4)]
    assert batch["id"].tolist() == list(range(16))
    assert batch["weight"].shape[1] % 4 == 0


def test_weight_lies_on_the_answer_with_its_end_and_nowhere_else():
    batch = batch_of(replace(SOURCE, sampling=Sampling(new_tokens=9, stop_ids=tuple(range(99)))))
    for row in range(batch.rows):
        tokens, weight = batch["tokens"][row].tolist(), batch["weight"][row].tolist()
        places = [place + 1 for place, one in enumerate(weight) if one]
        assert places == list(range(places[0], places[-1] + 1))
        answer = [tokens[place] for place in places]
        ends = [token < 99 or token == 256 for token in answer]
        assert batch["finished"][row] == ends[-1]
        assert not any(ends[:-1])
        assert set(tokens[places[-1] + 1 :]) <= {256}
        assert tokens[0] == 256
        assert all(97 <= token < 123 for token in tokens[1 : places[0]])


def test_stored_log_probs_are_those_of_the_training_forward():
    room = Room()
    batch = batch_of(SOURCE, room)
    now = room.ctx.models["actor"].score(logprobs, batch)
    counts = batch["weight"] > 0
    assert (now - batch["old"])[counts].abs().max() < 1e-4
    assert not batch["old"][~counts].any()
    Mismatch(every=1)(batch, room.ctx)
    assert room.logged["engine_kl"] < 1e-8
    assert room.logged["engine_max"] < 1e-4


def test_rewards_and_numbers_are_those_of_the_answers():
    room = Room()
    batch = batch_of(SOURCE, room)
    texts = [
        byte_tokenizer().decode(batch["tokens"][i, 1:][batch["weight"][i] > 0], special=False)
        for i in range(16)
    ]
    rewards = [Low().verify(Problem("", ""), text).score for text in texts]
    assert batch["reward"].tolist() == rewards
    lengths = (batch["weight"] > 0).sum(1).float()
    groups = torch.tensor(rewards).view(4, 4)
    assert room.logged["reward"] == pytest.approx(sum(rewards) / 16)
    assert room.logged["length"] == pytest.approx(float(lengths.mean()))
    assert room.logged["unparsed"] == sum(text == "" for text in texts) / 16
    assert room.logged["sampled_entropy"] == pytest.approx(
        -float(batch["old"].sum() / batch["weight"].sum()), rel=1e-5
    )
    assert room.logged["pass@1"] == pytest.approx(float(groups.mean()))
    by_hand = [pass_at_k(4, int(group.sum()), 2) for group in groups]
    assert room.logged["pass@2"] == pytest.approx(sum(by_hand) / 4)
    assert room.logged["reward/long"] == pytest.approx(sum(len(t) / 8 for t in texts) / 16)
    assert len(room.samples) == 2
    assert room.samples[0]["reward"] >= room.samples[1]["reward"]
    assert room.samples[0]["verdict"] in ("right", "wrong", "unparsed")


def test_the_version_is_the_step_of_the_last_copy():
    assert set(batch_of(SOURCE, Room(step=7))["version"].tolist()) == {7}
    copied = Room(step=7, last={"report": {"version/actor": 4}})
    assert set(batch_of(SOURCE, copied)["version"].tolist()) == {4}
    assert copied.logged["staleness"] == 3
    _, _, memory = play(recipe(every=2))
    assert [row["version/actor"] for row in memory.history] == [0, 2, 2, 4, 4, 6]
    assert [row["staleness"] for row in memory.history] == [0, 1, 0, 1, 0, 1]


def test_problems_may_be_few():
    batch = batch_of(replace(SOURCE, problems=1, first=5))
    firsts = {tuple(batch["tokens"][i, :2].tolist()) for i in range(16)}
    assert len(firsts) == 1
    assert len(set(batch["group"].tolist())) == 4


# --- state is a value


def test_a_batch_is_a_function_of_state_seed_and_weights():
    source = replace(SOURCE, replay=ReplayWindow(share=0.5, steps=2))
    room = Room()
    state = source.start(room.ctx)
    for _ in range(3):
        before = copy.deepcopy(state)
        batch, after = source.next(state, room.ctx)
        again, same = source.next(json.loads(json.dumps(state)), room.ctx)
        assert state == before
        assert after == same == json.loads(json.dumps(after))
        assert all(torch.equal(batch[name], again[name]) for name in batch)
        state = after


class Stopping(Memory):
    """Ends the run after a step and keeps what a checkpoint holds."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def interrupted(self) -> bool:
        return self.last is not None and self.last.run_step == self.after


@pytest.mark.parametrize("after", [1, 3])
def test_an_rl_run_resumed_in_its_middle_is_the_same_bit_for_bit(after):
    source = replace(SOURCE, replay=ReplayWindow(share=0.5, steps=2), keep=Keep(oversample=1.5))
    whole = recipe(source)
    _, learners, memory = play(whole)
    first, stopped = build_learners(whole, World()), Stopping(after)
    state = run(Bench(whole, first, World(), stopped, finder()), RunState())
    assert state.run_step == after
    state = RunState.from_json(json.loads(json.dumps(state.to_json())))
    fresh = build_learners(whole, World())
    for name, learner in fresh.items():
        if first[name].spec is not None:
            learner.load(lambda tensors: None, first[name].spec)
        learner.restore(first[name].snapshot())
    rest = Memory()
    run(Bench(whole, fresh, World(), rest, finder()), state)
    assert stopped.history + rest.history == memory.history
    for name in learners:
        ours, theirs = fresh[name].snapshot(), learners[name].snapshot()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_reward_rises():
    _, _, memory = play(recipe(steps=25, every=1))
    rewards = [row["reward"] for row in memory.history]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.2


def test_at_rate_zero_sampler_and_trainer_stay_equal():
    made = recipe(steps=12, every=1, lr=0.0)
    phase = made.phases[0]
    phase = replace(phase, do=(Mismatch(model="policy", every=1), *phase.do))
    _, _, memory = play(replace(made, phases=(phase,)))
    assert max(row["engine_max"] for row in memory.history) < 1e-4


# --- groups


def scores(source, room=None):
    batch = batch_of(source, room)
    groups: dict[int, list[float]] = {}
    for group, reward in zip(batch["group"].tolist(), batch["reward"].tolist(), strict=True):
        groups.setdefault(group, []).append(reward)
    return groups


def test_only_groups_with_a_signal_are_kept_and_they_are_whole():
    room = Room()
    every = scores(SOURCE)
    kept = scores(replace(SOURCE, keep=Keep(low=0.3, high=0.9)), room)
    expected = {g: r for g, r in every.items() if 0.3 < sum(r) / 4 < 0.9}
    assert kept == expected
    assert 0 < len(kept) < 4, "the example has groups of both kinds"
    assert room.logged["kept_groups"] == len(kept) / 4
    assert room.logged["reward"] == sum(map(sum, every.values())) / 16, "of all that was written"


def test_oversampling_fills_the_batch_with_groups_that_pass():
    kept = scores(replace(SOURCE, keep=Keep(low=0.3, high=0.9, oversample=4.0)))
    assert len(kept) == 4
    assert all(0.3 < sum(rewards) / 4 < 0.9 for rewards in kept.values())
    filled = scores(replace(SOURCE, keep=Keep(low=0.3, high=0.9, fill=True)))
    assert len(filled) == 4


def test_a_batch_of_which_nothing_passes_has_a_loss_of_zero():
    source = replace(SOURCE, keep=Keep(low=0.999, high=1.0))
    room = Room()
    batch = batch_of(source, room)
    assert batch.rows == 4
    assert not batch["weight"].any()
    assert room.logged["kept_groups"] == 0
    assert room.notes[-1][0] == "empty"
    _, _, memory = play(recipe(source, steps=2))
    assert [row["loss"] for row in memory.history] == [0.0, 0.0]
    assert [row["grad_norm"] for row in memory.history] == [0.0, 0.0]
    assert [kind for _, kind, _ in memory.events] == ["empty", "empty"]


def test_truncated_answers_are_judged_or_worth_nothing_or_left_out():
    judged, nothing, masked = (
        batch_of(replace(SOURCE, truncated=how)) for how in ("judge", "zero", "mask")
    )
    open_ = ~judged["finished"]
    assert open_.any()
    assert not nothing["reward"][open_].any()
    assert torch.equal(masked["reward"], judged["reward"])
    assert not masked["weight"][open_].any()
    assert torch.equal(masked["weight"][~open_], judged["weight"][~open_])


# --- help


def hinted(problem: Problem) -> str:
    return f"hint {problem.prompt}"


def briefly(problem: Problem) -> str:
    return "?"


def begin(problem: Problem) -> str:
    return "abc"


def test_hinted_rows_keep_the_plain_prompt_and_the_log_probs_of_the_hinted_one():
    plain = batch_of(SOURCE)
    source = replace(SOURCE, hint=Hint(fn=hinted, rows=2, when="always"), length=30)
    room = Room()
    batch = batch_of(source, room)
    assert batch["guided"].tolist() == [False, False, True, True] * 4
    own = ~batch["guided"]
    assert torch.equal(batch["reward"][own], plain["reward"][own])
    actor = room.ctx.models["actor"]
    for row in torch.nonzero(batch["guided"]).flatten().tolist():
        counts = batch["weight"][row] > 0
        start = int(counts.nonzero()[0]) + 1
        answer = batch["tokens"][row, 1:][counts].tolist()
        seen = prompt_ids(
            byte_tokenizer(),
            "hint " + byte_tokenizer().decode(batch["tokens"][row, 1:start]),
            SOURCE.template,
        )
        under = actor.score(logprobs, Batch({"tokens": torch.tensor([seen + answer])}))[0]
        assert batch["old"][row][counts].tolist() == pytest.approx(
            under[len(seen) - 1 :].tolist(), abs=1e-4
        )


def test_a_prompt_shorter_than_the_plain_one_gives_no_row_that_is_too_long():
    hint = Hint(fn=briefly, rows=2, when="always")
    batch = batch_of(replace(SOURCE, hint=hint, length=7, sampling=Sampling(new_tokens=20)))
    assert batch["weight"].shape[1] == 7
    full = batch["guided"] & (batch["weight"][:, -1] > 0)
    assert full.any()
    assert not batch["finished"][full].all(), "the example has answers that were cut"


def test_a_teacher_s_words_are_learned_with_the_actor_s_own_log_probs():
    room = Room()
    batch = batch_of(
        replace(SOURCE, hint=Hint(fn=begin, rows=1, when="always", place="answer")), room
    )
    now = room.ctx.models["actor"].score(logprobs, batch)
    counts = batch["weight"] > 0
    assert (now - batch["old"])[counts].abs().max() < 1e-4
    for row in torch.nonzero(batch["guided"]).flatten().tolist():
        answer = batch["tokens"][row, 1:][counts[row]].tolist()
        assert bytes(answer[:3]) == b"abc"
        assert batch["reward"][row] == 1.0


def test_help_is_for_groups_that_failed():
    every = scores(SOURCE)
    batch = batch_of(replace(SOURCE, hint=Hint(fn=begin, place="answer")))
    helped = {g for g, one in zip(batch["group"].tolist(), batch["guided"], strict=True) if one}
    assert helped == {group for group, rewards in every.items() if 1.0 not in rewards}


def test_replayed_groups_keep_their_log_probs_and_versions():
    source = replace(SOURCE, replay=ReplayWindow(share=0.5, steps=1))
    state, seen = None, {}
    for step in range(4):
        room = Room(step=step)
        state = source.start(room.ctx) if state is None else state
        batch, state = source.next(state, room.ctx)
        assert batch.rows == 16
        fresh = batch["version"] == step
        assert int(fresh.sum()) == (16 if step == 0 else 8)
        assert set(batch["version"].tolist()) <= {step, step - 1}
        width = 6
        for row in range(16):
            facts = (batch["tokens"][row, :6].tolist(), batch["old"][row, :width].tolist())
            assert seen.setdefault(int(batch["id"][row]), facts) == facts
    assert len(state["replay"]) <= 2


# --- rewards of the user


def odd(prompt: str, answer: str, problem: Problem) -> float:
    return float(len(answer) % 2)


def raising(prompt: str, answer: str, problem: Problem) -> float:
    if len(answer) % 2:
        raise KeyError("no such thing")
    return 1.0


def undefined(prompt: str, answer: str, problem: Problem) -> float:
    return math.nan if len(answer) % 2 else 1.0


def huge(prompt: str, answer: str, problem: Problem) -> float:
    return 1e25 if len(answer) % 2 else 1.0


def leaving(prompt: str, answer: str, problem: Problem) -> float:
    return 1.0 if len(answer) % 2 == 0 else sys.exit(3)


def hanging(prompt: str, answer: str, problem: Problem) -> float:
    try:
        while len(answer) % 2:
            time.sleep(0.001)
    except Exception:
        return 5.0
    return 1.0


def failing(prompt: str, answer: str, problem: Problem) -> float:
    raise OSError("always")


def uneven(batch: Batch) -> list[bool]:
    return [
        len(byte_tokenizer().decode(batch["tokens"][i, 1:][batch["weight"][i] > 0], special=False))
        % 2
        == 1
        for i in range(batch.rows)
    ]


def test_a_reward_may_be_a_function():
    batch = batch_of(replace(SOURCE, judge=Judge(reward=odd)))
    assert batch["reward"].tolist() == [float(one) for one in uneven(batch)]


@pytest.mark.parametrize(
    ("reward", "word"),
    [
        (raising, "raised: KeyError"),
        (leaving, "raised: SystemExit: 3"),
        (undefined, "not finite: a reward of nan"),
        (huge, "not finite: a reward of 1e+25"),
        (hanging, "late"),
    ],
)
def test_a_reward_call_that_fails_is_counted_and_the_run_goes_on(reward, word):
    room = Room()
    judge = Judge(reward=reward, seconds=0.05, otherwise=-1.0)
    batch = batch_of(replace(SOURCE, judge=judge), room)
    assert batch["reward"].tolist() == [-1.0 if one else 1.0 for one in uneven(batch)]
    assert room.logged["reward_failures"] == sum(uneven(batch)) > 0
    assert [kind for kind, _ in room.notes] == ["reward"]
    assert word in room.notes[0][1]


def test_a_reward_that_always_fails_stops_the_run():
    with pytest.raises(RecipeError, match="16 of 16 reward calls failed; the first raised: OSErr"):
        batch_of(replace(SOURCE, judge=Judge(reward=failing)))


@dataclass(frozen=True)
class Parts(Low):
    part: object = 0.5

    def verify(self, problem, answer):
        return Grade(1.0, parts={"share": self.part})


def test_parts_that_are_no_finite_numbers_are_failed_calls():
    assert Judge()(Parts(), Problem("", ""), "x") == (1.0, "right", {"share": 0.5}, "")
    for part, said in ((math.nan, "a part 'share' of nan"), ("half", "could not convert")):
        found = Judge()(Parts(part=part), Problem("", ""), "x")
        assert found.failed
        assert said in found.problem


class Raising(Low):
    def verify(self, problem, answer):
        raise ValueError


def test_a_task_that_raises_is_treated_alike():
    assert Judge()(Raising(), Problem("", ""), "x").verdict == "raised"
    assert Judge()(Low(), Problem("", ""), "").verdict == "unparsed"
    assert Judge()(Low(), Problem("", ""), "z") == (0.0, "wrong", {"long": 1 / 8}, "")


# --- prompts


class Told(Low):
    """Prompts as told."""

    prompts = ("", "x" * 40, "ab")

    def make(self, draw, level):
        return Problem(self.prompts[int(draw.integers(3))], "a")


def test_an_empty_prompt_is_asked_and_one_without_room_is_left_out():
    room = Room(rows=32)
    batch = batch_of(replace(SOURCE, task=Told()), room)
    starts = {int(batch["weight"][i].nonzero()[0]) for i in range(32)}
    assert starts == {0, 2}, "after the end-of-text alone, and after two letters"
    assert room.logged["skipped"] > 0
    assert room.notes[0] == ("skipped", f"left out a prompt of 41 tokens: '{'x' * 40}'")


class Endless(Low):
    def make(self, draw, level):
        return Problem("x" * 40, "a")


def test_prompts_that_never_fit_are_refused():
    with pytest.raises(RecipeError, match="prompts in a row of 41 tokens"):
        batch_of(replace(SOURCE, task=Endless()))


def test_questions_of_a_file_come_once_an_epoch(tmp_path):
    rows = [{"question": f"q{i}", "answer": "yes" if i % 2 else "no"} for i in range(4)]
    file = write_lines(tmp_path / "rows.jsonl", rows)
    task = Questions(str(file), prompt="question")
    assert task.verify(task.problem(1), " yes\n") == Grade(1.0)
    batch = batch_of(replace(SOURCE, task=task, group=2))
    asked = [bytes(batch["tokens"][i, 1:3].tolist()) for i in range(0, 16, 2)]
    assert sorted(asked[:4]) == sorted(asked[4:]) == [b"q0", b"q1", b"q2", b"q3"]


# --- what is refused


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sampling": Sampling(top_p=0.9)}, "sampler's log-probs larger"),
        ({"sampling": Sampling(temperature=0.0)}, "drawn from the actor's own distribution"),
        ({"group": 3}, "a batch of 16 rows in groups of 3"),
        ({"actor": "acter"}, "did you mean 'actor'"),
        ({"template": "{answer}"}, "{prompt} and behind it {answer}"),
        ({"length": 49}, "rows of 49 targets for a model of 48 positions"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(change, said):
    with pytest.raises(RecipeError) as caught:
        replace(SOURCE, **change).start(Room().ctx)
    assert said in str(caught.value)


def test_a_tokenizer_the_actor_does_not_know_is_refused():
    small = Transformer(vocabulary=200, width=16, layers=1, heads=2, positions=48)
    with pytest.raises(RecipeError, match="a tokenizer of 257 ids for a model that knows 200"):
        SOURCE.start(Room(small).ctx)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"problems": 0}, "problems=0 is too small"),
        ({"group": 0}, "group=0 is too small"),
        ({"group": -2}, "group=-2 is too small"),
        ({"length": 1}, "length=1 is too small"),
        ({"keep": Keep(oversample=0.5)}, "keep.oversample=0.5 is too small"),
        ({"sampling": Sampling(new_tokens=0)}, "sampling.new_tokens=0 is too small"),
    ],
)
def test_a_number_that_is_too_small_is_refused(change, said):
    with pytest.raises(DialError, match=said):
        replace(SOURCE, **change).start(Room().ctx)


@dataclass(frozen=True)
class Own(Low):
    """A task that gives whatever it is told to."""

    gives: object = None

    def make(self, draw, level):
        return self.gives


@dataclass(frozen=True)
class Empty(Low):
    size: int = 0

    def problem(self, index):
        raise IndexError


class Levelless(Low):
    def make(self, draw):
        return Problem("a", "b")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (Empty(), "size = 0"),
        (Levelless(), "make(draw): too many positional arguments"),
        (Own(), "NoneType, None"),
        (Own(gives=("1+1=", "2")), "tuple, ('1+1=', '2')"),
        (Own(gives=Problem("1+1=", 2)), "a problem with answer 2"),
        (Own(gives=Problem("a\ud800", "2")), "half of a surrogate pair"),
    ],
)
def test_a_task_that_gives_no_problems_is_refused_at_the_start(task, said):
    for source in (replace(SOURCE, task=task), Demonstrations(task=task)):
        with pytest.raises(RecipeError) as caught:
            source.start(Room().ctx)
        assert said in str(caught.value)
        assert type(task).__name__ in caught.value.where


class Verdictless(Low):
    def verify(self, problem, answer):
        return 1.0


def test_a_verdict_that_is_no_grade_is_a_failed_call():
    assert Judge()(Verdictless(), Problem("", ""), "x").problem == (
        "TypeError: verify gave float, no Grade"
    )


# --- one of several


def test_pass_at_k_counts_the_draws_without_a_right_answer():
    assert pass_at_k(4, 2, 2) == pytest.approx(1 - 1 / 6)
    assert pass_at_k(5, 0, 3) == 0.0
    assert pass_at_k(5, 3, 3) == 1.0
    with pytest.raises(RecipeError, match="pass@3 of 2"):
        pass_at_k(2, 1, 3)


def test_majority_and_best():
    assert majority([None, "b", "a", "b"]) == "b"
    assert majority([None]) is None
    assert best_of([1.0, 3.0, 3.0]) == 1
