"""One battery over every public task; the first test fails if one has no example here."""

import dataclasses
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest

import thalweg.tasks as room
from thalweg.core.protocols import Grade, Listed, Problem, Task
from thalweg.core.rng import rng
from thalweg.errors import DialError
from thalweg.tasks import (
    Addition,
    Choices,
    Knights,
    Maze,
    Modular,
    Multiplication,
    Rows,
    Strings,
    ToolCalls,
    Zebra,
    problem_at,
)

ROWS = {
    "gsm8k": {"question": "1 + {}?", "answer": "1 + {0} is\n#### {1}"},
    "math": {"problem": "1 + {}?", "solution": r"it is \boxed{{{1}}}", "answer": "{1}", "level": 2},
    "exact": {"prompt": "1 + {}?", "answer": "{1}"},
    "choice": {"question": "1 + {}?", "choices": ["{1}", "9{0}"], "answer": 0},
}
GENERATED = {
    "addition": Addition(),
    "addition, any length": Addition(digits=4, fewest=1),
    "addition, reversed": Addition(digits=3, fewest=2, reverse=True),
    "addition, in steps": Addition(digits=3, fewest=1, scratchpad=True),
    "addition, reversed, in steps": Addition(digits=3, reverse=True, scratchpad=True),
    "multiplication": Multiplication(),
    "multiplication, reversed, in steps": Multiplication(reverse=True, scratchpad=True),
    "modular": Modular(),
    "modular product, in steps": Modular(13, "*", terms=4, scratchpad=True),
    "copy": Strings("copy", length=5, fewest=2),
    "reverse": Strings("reverse"),
    "sort": Strings("sort"),
    "maze": Maze(nodes=10, hops=2),
    "knights": Knights(),
    "knights, in steps": Knights(scratchpad=True),
    "zebra": Zebra(2, 2),
    "zebra, compact": Zebra(2, 2, notation="compact", reward="cell"),
    "tools": ToolCalls(),
    "tools, exact": ToolCalls(reward="exact"),
    "choices": Choices(Addition()),
}
NAMES = [*GENERATED, *(f"rows, {form}" for form in ROWS)]

GARBAGE = {
    "nothing": "",
    "spaces": " \n\t ",
    "a sentence": "I do not know.",
    "the wrong way round": "the answer is not 7",
    "a question": "?",
    "not a number": "NaN",
    "infinity": "Infinity",
    "minus infinity": "-inf",
    "a null byte": "\x00",
    "arabic digits": "\u0667\u0668",
    "wide digits": "\uff17",
    "superscript digits": "\u00b2\u00b3",
    "letters without end": "z" * 1_000_000,
    "braces without end": "{" * 1_000_000,
    "objects without end": '{"a":' * 200_000,
    "brackets without end": "[" * 100_000 + "]" * 100_000,
    "a tower": "10**10**10**10",
    "a tower in latex": r"\boxed{10^{10^{10^{10}}}}",
    "deep latex": r"\boxed{" + r"\frac{1}{" * 500 + "1" + "}" * 500 + "}",
    "an open box": r"\boxed{7",
    "an empty box": r"\boxed{}",
    "an empty mark": "####",
    "a mark and words": "#### seven",
    "python": "__import__('os').system('echo hit')",
    "python behind the mark": "#### __import__('os').getcwd()",
    "python in a box": r"\boxed{().__class__.__bases__}",
    "json that is not": '{"name": NaN, "arguments": Infinity}',
    "a list": '["A", "B"]',
    "html": "<script>alert(1)</script>",
    "a surrogate": "\ud800",
}
"""Texts that no task can read an answer from."""

SOMEHOW = {
    "digits without end": "9" * 1_000_000,
    "zeros without end": "0" * 1_000_000,
    "marked digits without end": "#### " + "9" * 1_000_000,
    "boxed digits without end": r"\boxed{" + "9" * 1_000_000 + "}",
    "a huge exponent": "1e999999999",
    "boxes without end": r"\boxed{7}" * 50_000,
    "two answers": "7\n8",
    "every letter": "A B C D",
    "one number": "7",
    "a negative": "-7",
    "commas": "7,8,9",
    "a json number": '{"solution": {"House 1": {"Name": 1e999}}}',
    "a json of lists": '{"solution": {"House 1": {"Name": [[[]]]}}}',
    "a json call of nothing": '{"name": "", "arguments": {}}',
    "a way without end": "1>" * 400_000 + "1",
    "people without end": "Ada is a knight, " * 50_000,
}
"""Texts that some tasks can read; none may take them for right, stop or take long."""


def write_rows(folder: Path, form: str) -> str:
    """Write nine rows of a form; a value of the pattern may hold the number and its sum."""

    def fill(value: object, n: int) -> object:
        if isinstance(value, list):
            return [fill(item, n) for item in value]
        return value.replace("{}", str(n)).replace("{{{1}}}", f"{{{n + 1}}}").replace(
            "{0}", str(n)
        ).replace("{1}", str(n + 1)) if isinstance(value, str) else value  # fmt: skip

    path = folder / f"{form}.jsonl"
    rows = [{key: fill(value, n) for key, value in ROWS[form].items()} for n in range(20, 29)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.fixture(params=NAMES)
def task(request: pytest.FixtureRequest, tmp_path: Path) -> Task:
    name = request.param
    if name in GENERATED:
        return GENERATED[name]
    return Rows(write_rows(tmp_path, name.removeprefix("rows, ")))


def plain(problem: Problem) -> dict[str, object]:
    return {"prompt": problem.prompt, "answer": problem.answer, "facts": dict(problem.facts)}


def wrong_answers(task: Task, problem: Problem) -> list[str]:
    """Return texts in the form of an answer that are wrong."""
    if isinstance(task, Knights):
        head, mark, answer = problem.answer.rpartition("Answer:")
        swapped = answer.replace("knight", "k").replace("knave", "knight").replace("k ", "knave ")
        return [head + mark + swapped.replace("k,", "knave,").replace("k.", "knave.")]
    if isinstance(task, Choices) or problem.facts.get("form") == "choice":
        return [letter for letter in "AB" if letter != problem.answer]
    others = [problem_at(task, 0, index).answer for index in range(30)]
    final = problem.answer.split("#")[-1].strip()
    return [other for other in others if other.split("#")[-1].strip() != final]


def test_every_public_task_is_in_the_battery():
    kinds = [getattr(room, name) for name in room.__all__]
    tasks = {k for k in kinds if isinstance(k, type) and hasattr(k, "make")}
    assert tasks - {type(task) for task in GENERATED.values()} == {Rows, room.Gym}


def test_a_problem_is_a_function_of_seed_index_and_level(task):
    first = [plain(problem_at(task, 3, index)) for index in range(5)]
    np.random.default_rng(1).random()
    assert [plain(problem_at(task, 3, index)) for index in reversed(range(5))] == first[::-1]
    assert [plain(problem_at(task, 4, index)) for index in range(5)] != first


def test_making_uses_only_its_own_generator(task):
    first, again = (task.make(rng(0, "x"), 0.0) for _ in range(2))
    assert plain(first) == plain(again)


def test_the_answer_of_a_problem_is_right(task):
    for index in range(20):
        problem = problem_at(task, 0, index)
        verdict = task.verify(problem, problem.answer)
        assert verdict.right
        assert verdict.score == 1.0
        assert task.verify(problem, f"  {problem.answer}\n").right


def test_other_answers_are_wrong(task):
    problem = problem_at(task, 0, 0)
    wrong = wrong_answers(task, problem)
    assert wrong
    for answer in wrong:
        verdict = task.verify(problem, answer)
        assert not verdict.right
        assert verdict.score < 1
    assert any(task.verify(problem, answer).parsed for answer in wrong)


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_not_readable(task, name):
    problem = problem_at(task, 0, 0)
    begin = time.process_time()
    verdict = task.verify(problem, GARBAGE[name])
    assert time.process_time() - begin < 2.0
    assert isinstance(verdict, Grade)
    if problem.facts.get("form") != "exact":  # which reads any text
        assert not verdict.parsed
    assert not verdict.right
    assert math.isfinite(verdict.score)


@pytest.mark.parametrize("name", SOMEHOW)
def test_odd_answers_are_judged_in_no_time_and_never_right(task, name):
    problem = problem_at(task, 0, 0)
    begin = time.process_time()
    verdict = task.verify(problem, SOMEHOW[name])
    assert time.process_time() - begin < 2.0
    assert not verdict.right or problem.facts.get("form") == "exact"
    assert verdict.score <= 1


def test_a_problem_survives_json(task):
    problem = problem_at(task, 0, 1)
    again = Problem(**json.loads(json.dumps(plain(problem), allow_nan=False)))
    assert plain(again) == plain(problem)
    assert task.verify(again, problem.answer) == task.verify(problem, problem.answer)
    wrong = wrong_answers(task, problem)[0]
    assert task.verify(again, wrong) == task.verify(problem, wrong)


def test_prompts_have_words_and_difficulty_is_a_number(task):
    problem = problem_at(task, 0, 2)
    assert problem.prompt.strip()
    assert problem.answer.strip()
    assert isinstance(problem.facts["difficulty"], float)


@pytest.mark.parametrize("name", GENERATED)
def test_a_level_makes_it_harder_by_its_own_measure(name):
    def difficulty(level: float) -> float:
        drawn = [problem_at(GENERATED[name], 0, index, level) for index in range(40)]
        return float(np.mean([problem.facts["difficulty"] for problem in drawn]))

    measured = [difficulty(level) for level in (0.0, 0.5, 1.0, 2.0, 3.0)]
    assert measured == sorted(set(measured))


@pytest.mark.parametrize("name", GENERATED)
def test_a_harder_problem_is_still_right_about_itself(name):
    problem = problem_at(GENERATED[name], 1, 0, level=3.0)
    assert GENERATED[name].verify(problem, problem.answer).right


def test_a_level_that_is_none_is_refused(task):
    for level in (-1.0, math.nan, math.inf):
        with pytest.raises(DialError):
            problem_at(task, 0, 0, level)


def test_a_listed_task_gives_each_row_once_an_epoch(task):
    if not isinstance(task, Listed):
        return
    epochs = [
        [problem_at(task, 0, epoch * task.size + i).prompt for i in range(task.size)]
        for epoch in range(3)
    ]
    assert len({frozenset(epoch) for epoch in epochs}) == 1
    assert len(set(epochs[0])) == task.size
    assert epochs[0] != epochs[1]


def test_a_task_is_frozen_and_has_no_state(task):
    assert type(task).__dataclass_params__.frozen
    before = dataclasses.asdict(task) if not isinstance(task, Zebra) else repr(task)
    task.verify(task.make(rng(5), 0.0), "7")
    assert before == (dataclasses.asdict(task) if not isinstance(task, Zebra) else repr(task))
