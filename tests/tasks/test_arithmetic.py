"""Sums, products, remainders, strings and mazes, by hand and by brute force."""

import re
from itertools import pairwise

import numpy as np
import pytest

from thalweg.core.protocols import Grade, Problem
from thalweg.core.rng import rng
from thalweg.errors import DialError, RecipeError
from thalweg.tasks import Addition, Maze, Modular, Multiplication, Strings, problem_at
from thalweg.tasks.arithmetic import _carries, _partials
from thalweg.tasks.draw import rise

SUMS = [
    Addition(digits=4, fewest=1, reverse=reverse, scratchpad=scratchpad)
    for reverse in (False, True)
    for scratchpad in (False, True)
]


def number(text: str, *, reverse: bool) -> int:
    return int(text[::-1] if reverse else text)


@pytest.mark.parametrize("task", SUMS, ids=str)
def test_a_sum_is_right_and_its_operands_have_the_digits_asked_for(task):
    lengths = set()
    for index in range(200):
        problem = problem_at(task, 0, index)
        a, b = problem.prompt.removesuffix("=").split("+")
        lengths |= {len(a), len(b)}
        final = problem.answer.split("#")[-1]
        total = number(a, reverse=task.reverse) + number(b, reverse=task.reverse)
        assert number(final, reverse=task.reverse) == total
        if task.reverse:
            assert len(final) == max(len(a), len(b)) + 1
    assert lengths == {1, 2, 3, 4}


def test_the_steps_of_a_sum_by_hand():
    assert _carries("17", "35") == "7+5+0=12,1+3+1=5#"
    assert _carries("999", "1") == "9+1+0=10,9+0+1=10,9+0+1=10#"


def test_the_partial_products_by_hand():
    assert _partials("12", "34", reverse=False) == "48=48,360=408#"
    assert _partials("12", "34", reverse=True) == "84=84,063=804#"


def test_products_and_their_running_sums_are_right():
    task = Multiplication(digits=3, fewest=1, scratchpad=True)
    for index in range(100):
        problem = problem_at(task, 0, index)
        a, b = map(int, problem.prompt.removesuffix("=").split("*"))
        assert problem.answer.endswith(f"={a * b}#{a * b}")


@pytest.mark.parametrize("operation", ["+", "-", "*"])
def test_remainders_are_right(operation):
    task = Modular(11, operation, terms=3, scratchpad=True)
    for index in range(100):
        problem = problem_at(task, 0, index)
        a, b, c = map(int, re.findall(r"\d+", problem.prompt)[:3])
        two = {"+": a + b, "-": a - b, "*": a * b}[operation]
        three = {"+": two + c, "-": two - c, "*": two * c}[operation]
        assert problem.answer == f"{two % 11},{three % 11}#{three % 11}"


def test_right_wrong_and_unreadable_are_three_outcomes():
    problem = Problem("17+35=", "52")
    assert Addition().verify(problem, "052") == Grade(1.0)
    assert Addition().verify(problem, "53") == Grade(0.0)
    assert Addition().verify(problem, "52 or 53") == Grade(0.0, parsed=False)


def test_a_scratchpad_without_an_end_is_not_readable():
    problem = Problem("17+35=", "7+5+0=12,1+3+1=5#52")
    task = Addition(scratchpad=True)
    assert task.verify(problem, "7+5+0=12,1+3+1=5#52").right
    assert task.verify(problem, "whatever#52").right
    assert not task.verify(problem, "7+5+0=12,1+3+1=5").parsed
    assert not task.verify(problem, "52").parsed


def test_a_reversed_answer_is_read_from_its_least_digit():
    problem = Problem("71+53=", "250")
    task = Addition(reverse=True)
    assert task.verify(problem, "25").right
    assert not task.verify(problem, "052").right


@pytest.mark.parametrize(
    ("rule", "answer"), [("copy", "dacb"), ("reverse", "bcad"), ("sort", "abcd")]
)
def test_strings_by_hand(rule, answer):
    task = Strings(rule, length=4, alphabet="abcd")
    assert task._rewrite("dacb") == answer
    assert task.verify(Problem(f"{rule}: dacb=", answer), answer).right


def test_sorting_follows_the_alphabet_as_given():
    assert Strings("sort", alphabet="zyx")._rewrite("xyzz") == "zzyx"


def test_a_maze_is_a_tree_and_its_way_the_only_one():
    for index in range(50):
        problem = problem_at(Maze(nodes=12, hops=4), 0, index)
        passages, _, ends = problem.prompt.removesuffix("=").partition(":")
        edges = [tuple(map(int, p.split("-"))) for p in passages.split(",")]
        assert len(edges) == 11
        beside = {n: {a + b - n for a, b in edges if n in (a, b)} for n in range(12)}
        way = list(map(int, problem.answer.split(">")))
        assert len(way) == 5 == len(set(way))
        assert ends == f"{way[0]}>{way[-1]}"
        assert all(b in beside[a] for a, b in pairwise(way))
        reached = {0}
        for _ in range(12):
            reached |= {m for n in reached for m in beside[n]}
        assert reached == set(range(12))


def test_the_trees_of_three_nodes_are_uniform():
    # the way has one hop: of the two trees that contain it, each comes half the time
    other = [
        problem_at(Maze(nodes=3, hops=1), 0, index).prompt.partition(":") for index in range(2000)
    ]
    at_start = 0
    for passages, _, ends in other:
        start, end = ends.removesuffix("=").split(">")
        extra = next(p.split("-") for p in passages.split(",") if set(p.split("-")) != {start, end})
        at_start += start in extra
    assert abs(at_start / 2000 - 0.5) < 4 * 0.5 / 2000**0.5


def test_a_detour_is_wrong_and_a_list_of_nothing_not_readable():
    problem = Problem("0-1,1-2:0>1=", "0>1")
    assert Maze().verify(problem, "0 > 1").right
    assert Maze().verify(problem, "0>1>2>1") == Grade(0.0)
    assert not Maze().verify(problem, "0->1").parsed


def test_a_level_between_whole_numbers_is_drawn():
    drawn = [rise(rng(0, index), 1.25) for index in range(4000)]
    assert set(drawn) == {1, 2}
    assert abs(np.mean(drawn) - 1.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5


@pytest.mark.parametrize(
    "make",
    [
        lambda: Addition(digits=0),
        lambda: Addition(digits=3, fewest=4),
        lambda: Addition(digits=2.5),
        lambda: Multiplication(digits=10_000),
        lambda: Modular(1),
        lambda: Modular(7, "/"),
        lambda: Strings("shuffle"),
        lambda: Strings(alphabet="aab"),
        lambda: Strings(alphabet="a="),
        lambda: Maze(nodes=3, hops=3),
        lambda: Maze(nodes=1),
    ],
)
def test_sizes_out_of_range_are_refused_when_built(make):
    with pytest.raises(RecipeError) as error:
        make()
    assert error.value.expected


def test_a_level_beyond_the_task_says_so():
    with pytest.raises(DialError, match="hops"):
        problem_at(Maze(nodes=5, hops=3), 0, 0, level=2.0)
