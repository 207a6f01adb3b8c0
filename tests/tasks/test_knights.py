"""Knights and Knaves: our truth against a second one, the published sets, worked searches."""

import ast
import re
from itertools import product
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from thalweg.core.protocols import Problem
from thalweg.core.rng import rng
from thalweg.errors import DataError, DialError
from thalweg.tasks import Knights, problem_at
from thalweg.tasks.islanders import read_islanders, say, solve_islanders, true_of

SHARED = Path(__file__).parents[3] / "shared" / "data" / "knights-knaves"


def truth(statement, knights) -> bool:
    """Return the truth by Python's own operators: a second implementation."""
    kind, *parts = statement
    if kind == "telling-truth":
        return knights[parts[0]]
    if kind == "lying":
        return not knights[parts[0]]
    a, b = truth(parts[0], knights), truth(parts[-1], knights)
    return {"not": not a, "and": a and b, "or": a or b, "->": not a or b, "<=>": a == b}[kind]


def brute_force(statements) -> list[tuple[bool, ...]]:
    worlds = product((True, False), repeat=len(statements))
    return [w for w in worlds if all(truth(s, w) == k for s, k in zip(statements, w, strict=True))]


@pytest.mark.parametrize("people", [2, 3, 4, 5, 6])
def test_problems_have_one_solution_and_read_back(people):
    for index in range(40):
        problem = problem_at(Knights(people), 0, index)
        statements = problem.facts["statements"]
        [solution] = brute_force(statements)
        roles = dict(re.findall(r"(\w+) is a (knight|knave)", problem.answer))
        assert [roles[n] == "knight" for n in problem.facts["names"]] == list(solution)
        island = read_islanders(problem.prompt)
        assert list(island.names) == problem.facts["names"]
        assert list(island.statements) == statements


def test_half_known_worlds_decide_what_every_completion_decides():
    draw = rng(0)
    for index in range(60):
        for statement in problem_at(Knights(3), 1, index).facts["statements"]:
            known = [[True, False, None][i] for i in draw.integers(3, size=3)]
            worlds = [
                w
                for w in product((True, False), repeat=3)
                if all(k is None or k == x for k, x in zip(known, w, strict=True))
            ]
            values = {truth(statement, world) for world in worlds}
            decided = true_of(statement, known)
            assert decided is None or values == {decided}
            if None not in known:
                assert decided is not None


def test_a_search_ends_at_the_solution_and_takes_back_what_contradicts():
    backs = 0
    for index in range(40):
        problem = problem_at(Knights(4, scratchpad=True), 0, index)
        lines = problem.answer.splitlines()
        assumed = {}
        for line in lines[:-1]:
            found = re.fullmatch(r"Assume (\w+) is a (knight|knave)\.", line)
            if found:
                assumed[found[1]] = found[2]
            backs += "go back" in line
        roles = dict(re.findall(r"(\w+) is a (knight|knave)", lines[-1]))
        assert lines[-1].startswith("Answer: ")
        assert assumed == roles
    assert backs > 0


@pytest.mark.parametrize("kind", ["statement", "leaf"])
def test_a_perturbed_problem_has_another_solution(kind):
    task = Knights(4)
    for index in range(20):
        problem = problem_at(task, 0, index)
        other = task.perturb(problem, rng(1, index), kind)
        old, new = problem.facts["statements"], other.facts["statements"]
        assert sum(a != b for a, b in zip(old, new, strict=True)) == 1
        assert len(solve_islanders(new)) == 1
        assert not task.verify(other, problem.answer).right
        assert task.verify(other, other.answer).right


ADA = Problem("...", "Ada is a knight and Emil is a knave.", {"names": ["Ada", "Emil"]})


@pytest.mark.parametrize(
    "answer",
    [
        "Emil is a knave, Ada is a knight",
        "(1) Ada is a knight\n(2) Emil is a knave",
        "1. Ada is a knight\n2. Emil is a knave.",
        "Assume Ada is a knave. No. Answer: Ada is a knight and Emil is a knave.",
        "<think>Emil is a knight?</think><answer> Ada is a knight, Emil is a knave</answer>",
    ],
)
def test_order_and_numbers_do_not_matter(answer):
    assert Knights().verify(ADA, answer).right


@pytest.mark.parametrize(
    "answer",
    [
        "Ada is a knight.",
        "Ada is a knight, Ada is a knave and Emil is a knave.",
        "Ada is a knight, Emil is a knave, Emil is a knave.",
        "It is not so that Ada is a knight and Emil is a knave.",
        "Ada is not a knight and Emil is a knave.",
        "Ada is a knight or Emil is a knave.",
        "Ada is a knight and Emil is a knave and Zoe is a knave.",
        "ada is a knight and emil is a knave.",
        "Ada: knight, Emil: knave",
    ],
)
def test_what_says_more_less_or_something_else_is_not_readable(answer):
    assert not Knights().verify(ADA, answer).parsed


def test_one_wrong_person_of_two_is_wrong_and_counted():
    verdict = Knights().verify(ADA, "Ada is a knight and Emil is a knight.")
    assert verdict.parsed
    assert verdict.score == 0.0
    assert verdict.parts == {"person": 0.5}


def test_statements_in_english_by_hand():
    ada, bo = ["telling-truth", 0], ["lying", 1]
    assert say(["<=>", ada, bo], ["Ada", "Bo"]) == "Ada is a knight if and only if Bo is a knave"
    assert say(["not", bo], ["Ada", "Bo"]) == "Bo is not a knave"


def test_a_text_that_is_no_puzzle_is_refused():
    for text in ("", "You meet 2 inhabitants: Ada, and Bo. Ada said that Bo is a knave."):
        with pytest.raises(DataError, match="statement"):
            read_islanders(text)


def test_too_many_people_are_refused():
    with pytest.raises(DialError):
        Knights(people=13)
    with pytest.raises(DialError):
        problem_at(Knights(people=12), 0, 0, level=1.0)


def listed(statement):
    return [listed(part) for part in statement] if isinstance(statement, tuple) else statement


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared puzzles")
@pytest.mark.parametrize("people", [3, 4, 5, 6])
def test_the_published_sets_are_read_solved_and_judged(people):
    for split in ("train", "test"):
        for row in pq.read_table(SHARED / f"{people}ppl_{split}.parquet").to_pylist():
            island = read_islanders(row["quiz"])
            assert list(island.names) == row["names"]
            assert list(island.statements) == listed(ast.literal_eval(row["statements"]))
            assert solve_islanders(island.statements) == [tuple(row["solution"])]
            problem = Problem(row["quiz"], row["solution_text"], {"names": row["names"]})
            assert Knights().verify(problem, row["solution_text_format"]).right
