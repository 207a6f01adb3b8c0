"""The pipeline, on sums: what stays, what is left out, and what is paid for."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_server import serving
from thalweg.core.rng import rng
from thalweg.data import build_pairs
from thalweg.data.ledger import Ledger
from thalweg.errors import DataError, DialError, RecipeError
from thalweg.models import Transformer
from thalweg.rollouts import (
    Caller,
    ChatServer,
    Drawn,
    Inspired,
    Local,
    Sampling,
    Synthesis,
    synthesise,
    votes,
)
from thalweg.rollouts.authors import Asker, Want
from thalweg.rollouts.decontaminate import nearest, same_problems
from thalweg.tasks import Addition, Rows, same_math
from thalweg.tasks.mathqa import final_answer

SUMS = Addition(digits=2)
QUIET = {"say": lambda text: None}
PLAN = Synthesis(seeds=4, solutions=5, votes=5, solve="{problem}", similar=None)


def total(prompt: str) -> int:
    return sum(map(int, re.findall(r"\d+", prompt)))


def right(prompt: str, number: int) -> str:
    return f"{' ' * number}{total(prompt)}"


def rows_of(made) -> list[dict]:
    return [json.loads(line) for line in made.path.read_text().splitlines()]


def test_right_solutions_of_seeds_stay_and_wrong_ones_do_not(tmp_path):
    def half(prompt, number):
        return str(total(prompt) + number % 2)

    made = synthesise(SUMS, Caller(half), tmp_path / "o.jsonl", replace(PLAN, rounds=0), **QUIET)
    rows = rows_of(made)
    assert [row["label"] for row in rows] == [str(total(row["prompt"])) for row in rows]
    assert [row["agreement"] for row in rows] == [0.6] * 4
    assert made.counts == ({"problems": 4, "solutions": 20, "kept": 4},)


def test_the_majority_labels_a_new_problem_and_the_others_go(tmp_path):
    def mostly(prompt, number):
        return right(prompt, number) if number < 3 else "7"

    new = Drawn(SUMS, count=6)
    made = synthesise(SUMS, Caller(mostly), tmp_path / "o.jsonl", PLAN, proposer=new, **QUIET)
    fresh = [row for row in rows_of(made) if row["round"] == 1]
    assert len(fresh) == 18
    assert all(row["label"] == str(total(row["prompt"])) for row in fresh)
    assert {row["agreement"] for row in fresh} == {0.6}
    none = replace(PLAN, agree=0.8)
    made = synthesise(SUMS, Caller(mostly), tmp_path / "n.jsonl", none, proposer=new, **QUIET)
    assert made.counts[1]["labelled"] == 0
    assert {row["round"] for row in rows_of(made)} == {0}


def test_problems_that_are_known_empty_or_in_a_benchmark_are_left_out(tmp_path):
    def inspired(prompt, number):
        if prompt.startswith("like "):
            return ["10+11=", "10+11=", prompt.removeprefix("like "), " ", "30+31=", "40+41="][
                number
            ]
        return right(prompt, number)

    made = synthesise(
        SUMS, Caller(inspired), tmp_path / "o.jsonl", replace(PLAN, seeds=1),
        proposer=Inspired(6, "like {problem}"), benchmarks=["what is 30 + 31"], **QUIET,
    )  # fmt: skip
    assert made.counts[1]["contaminated"] == 0  # the benchmark has more words than these share
    made = synthesise(
        SUMS, Caller(inspired), tmp_path / "o.jsonl", replace(PLAN, seeds=1),
        proposer=Inspired(6, "like {problem}"), benchmarks=["30 + 31"], **QUIET,
    )  # fmt: skip
    assert made.counts[1] == {
        "proposed": 6, "unreadable": 1, "double": 2, "contaminated": 1,
        "asked": 2, "labelled": 2, "kept": 10,
    }  # fmt: skip
    assert {row["prompt"] for row in rows_of(made) if row["round"]} == {"10+11=", "40+41="}
    assert {row["parent"] for row in rows_of(made) if row["round"]} == {0}


def test_problems_of_a_round_are_the_seeds_of_the_next(tmp_path):
    def grow(prompt, number):
        if prompt.startswith("like "):
            return f"{prompt.removeprefix('like ')[:-1]}+{number + 1}="
        return right(prompt, number)

    plan = replace(PLAN, seeds=1, rounds=3, keep=1)
    new = Inspired(2, "like {problem}")
    made = synthesise(SUMS, Caller(grow), tmp_path / "o.jsonl", plan, proposer=new, **QUIET)
    rows = rows_of(made)
    assert [row["round"] for row in rows] == [0, 1, 1, 2, 2, 2, 2, *[3] * 8]
    by_number = {row["number"]: row for row in rows}
    for row in rows[1:]:
        parent = by_number[row["parent"]]
        assert row["prompt"].startswith(parent["prompt"][:-1])
        assert parent["round"] == row["round"] - 1
    assert made.problems == len(by_number) == 15


def test_near_doubles_are_left_out(tmp_path):
    text = "Ann has three red apples and buys four more at the market on Sunday: how many now"
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": text, "answer": "#### 7"}))

    def inspired(prompt, number):
        if prompt.startswith("like "):
            return [text + "?", "Bob counts nine birds and then two fly away; how many?"][number]
        return "#### 7"

    plan = replace(PLAN, seeds=None, similar=0.8)
    made = synthesise(
        Rows(str(rows)), Caller(inspired), tmp_path / "o.jsonl", plan,
        proposer=Inspired(2, "like {problem}"), **QUIET,
    )  # fmt: skip
    assert made.counts[1]["double"] == 1
    assert made.counts[1]["labelled"] == 1


def test_a_killed_job_pays_for_nothing_twice_and_ends_the_same(tmp_path):
    class Killed(Exception):
        pass

    def author(limit):
        calls = []

        def fn(prompt, number):
            calls.append(prompt)
            if len(calls) > limit:
                raise Killed
            return right(prompt, int(rng(0, prompt, number).integers(3)))

        return calls, Caller(fn, name="a")

    new = Drawn(SUMS, count=4)
    whole = synthesise(SUMS, author(99)[1], tmp_path / "a.jsonl", PLAN, proposer=new, **QUIET)
    paid = 0
    for limit in (7, 9, 1):
        calls, killed = author(limit)
        with pytest.raises(Killed):
            synthesise(SUMS, killed, tmp_path / "b.jsonl", PLAN, proposer=new, **QUIET)
        paid += len(calls) - 1
        assert not (tmp_path / "b.jsonl").exists()
    calls, last = author(99)
    again = synthesise(SUMS, last, tmp_path / "b.jsonl", PLAN, proposer=new, **QUIET)
    assert paid + len(calls) == 4 * 5 + 4 * 5
    assert again.path.read_bytes() == whole.path.read_bytes()


def test_a_chat_server_writes_problems_and_solutions(tmp_path):
    def answer(prompt, seed):
        if "inspired by it" in prompt:
            a, b = rng(seed, "new").integers(1, 90, size=2).tolist()
            return f"Ann has {a} pears and Bob has {b}. How many have they together?"
        problem = prompt.split("\n\n")[0]
        return f"I add them.\n#### {total(problem) + (seed % 4 == 0)}"

    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        json.dumps({"question": "Eve has 3 figs and Max has 4. How many?", "answer": "#### 7"})
    )
    told = []
    with serving(answer) as server:
        author = ChatServer(model="m", url=server.url)
        plan = Synthesis(solutions=4, votes=9, agree=0.5, similar=None)
        made = synthesise(
            Rows(str(rows), prompt="{}"), author, tmp_path / "o.jsonl", plan,
            proposer=Inspired(5), price=(1.0, 2.0), say=told.append,
        )  # fmt: skip
    found = rows_of(made)
    assert made.counts[1]["labelled"] == 5
    assert all(row["label"] == str(total(row["prompt"])) for row in found)
    assert all(final_answer(row["answer"]) == row["label"] for row in found if row["round"])
    assert told[0].startswith("round 0: 1 problems, 4 solutions")
    assert told[-1].endswith("spent")
    assert build_pairs(made.path, tokenizer="bytes").train


def test_a_model_of_ours_labels_sums(tmp_path):
    model = Transformer(vocabulary=257, width=8, layers=1, heads=2, positions=32)
    how = Sampling(new_tokens=4, stop_ids=tuple(range(99, 257)))
    local = Local(model=model, sampling=how, template="{prompt}{answer}")
    plan = replace(PLAN, agree=0.2, final=str.strip)
    made = synthesise(
        SUMS, local, tmp_path / "o.jsonl", plan, proposer=Drawn(SUMS, 3, rise=1.0), **QUIET
    )
    again = synthesise(
        SUMS, replace(local), tmp_path / "o.jsonl", plan, proposer=Drawn(SUMS, 3, rise=1.0), **QUIET
    )
    assert made.counts == again.counts
    assert again.cost.startswith("0 answers written")
    other = Local(model=model, sampling=Sampling(new_tokens=3), template="{prompt}{answer}")
    assert local.mark != other.mark != replace(other, seed=1).mark


def test_a_model_s_answers_do_not_depend_on_how_they_are_asked_for():
    model = Transformer(vocabulary=257, width=8, layers=1, heads=2, positions=32)
    local = Local(model=model, sampling=Sampling(new_tokens=6))
    [(_, whole)] = local.write([Want("1+1=", 4)])
    [(_, some)] = local.write([Want("1+1=", 2, first=2)])
    assert whole.said[2:] == some.said


def test_nothing_that_stays_is_an_error_with_the_counts(tmp_path):
    wrong = Caller(lambda prompt, number: f"{number}x")
    with pytest.raises(DataError, match="round 0: 4 problems, 20 solutions, 0 kept"):
        synthesise(SUMS, wrong, tmp_path / "o.jsonl", PLAN, proposer=Drawn(SUMS, 2), **QUIET)
    assert not (tmp_path / "o.jsonl").exists()


def test_what_cannot_work_is_refused_before_anything_is_asked(tmp_path):
    author = Caller(right)
    with pytest.raises(DialError, match="no end"):
        synthesise(SUMS, author, tmp_path / "o.jsonl", replace(PLAN, seeds=None), **QUIET)
    with pytest.raises(DialError, match="agree in"):
        replace(PLAN, agree=0.0)
    with pytest.raises(DialError, match="problem"):
        replace(PLAN, solve="2+2=")
    with pytest.raises(DialError, match="problem"):
        Inspired(prompt="another")
    with pytest.raises(RecipeError, match="temperature 0"):
        synthesise(SUMS, replace(author, temperature=0.0), tmp_path / "o.jsonl", PLAN, **QUIET)
    assert not list(tmp_path.iterdir())


def test_the_judge_of_pairs_is_asked_in_both_orders(tmp_path):
    asked = []

    def judge(prompt, number):
        asked.append(prompt)
        one, other = re.findall(r"Problem \d:\n(.*)", prompt)
        return "They differ. Yes." if one < other and one[0] == other[0] else "no"

    asker = Asker(Caller(judge), Ledger(tmp_path / "l.jsonl"))
    found = same_problems(asker, ["b red", "b blue"], ["a red", "b red fish", "c blue"], count=1)
    assert found == [True, False]
    assert len(asked) == 4


def test_problems_are_asked_as_they_are_whatever_braces_they_have(tmp_path):
    asked = []

    def judge(prompt, number):
        asked.append(prompt)
        return "no"

    asker = Asker(Caller(judge), Ledger(tmp_path / "l.jsonl"))
    texts = (r"\text{one}", r"{other} one")
    same_problems(asker, texts[:1], texts[1:], count=1, ask="{one}|{other}")
    assert asked == ["|".join(texts), "|".join(reversed(texts))]


def test_neighbours_are_found_by_their_rare_words():
    others = ["the a b", "the zebra", "the a c"]
    assert nearest(["the zebra a"], others, 3)[0][0] == 1
    assert nearest(["nothing common"], others, 2) == [[]]
    assert nearest([], others, 1) == []


def test_equal_numbers_vote_together():
    finals = [r"\frac{1}{2}", "1/2", "0.5", "3", None]
    assert votes(finals, same_math) == [[0, 1, 2], [3]]
    assert final_answer("#### 1,000.0") == final_answer("1000") == "1000"
    assert final_answer("the answer is 7") is None
    assert final_answer("") is None


@given(st.lists(st.sampled_from(["1", "2", "3", None])))
def test_votes_hold_every_answer_once(answers):
    found = votes(answers)
    assert sorted(place for group in found for place in group) == [
        place for place, answer in enumerate(answers) if answer is not None
    ]
    assert [len(group) for group in found] == sorted(map(len, found), reverse=True)
