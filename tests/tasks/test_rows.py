"""Problems from files, multiple choice, tool calls, the adapter."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from thalweg.core.protocols import Grade, Problem
from thalweg.errors import DataError, DialError, RecipeError
from thalweg.tasks import Addition, Choices, Gym, Rows, ToolCalls, grade_call, problem_at
from thalweg.tasks import verify_choice as judge


def write(folder, *rows) -> str:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


def test_the_forms_are_told_apart_by_the_first_row(tmp_path):
    forms = {
        "gsm8k": {"question": "q", "answer": "a\n#### 1"},
        "math": {"problem": "q", "answer": "1"},
        "choice": {"question": "q", "choices": ["a", "b"], "answer": 1},
        "exact": {"prompt": "q", "answer": "a"},
    }
    for form, row in forms.items():
        problem = Rows(write(tmp_path, row)).problem(0)
        assert problem.facts["form"] == form
    assert Rows(write(tmp_path, forms["gsm8k"]), "exact").problem(0).facts["form"] == "exact"


def test_a_solution_with_a_box_is_the_answer_to_learn_from(tmp_path):
    row = {"problem": "q", "solution": r"so \boxed{\frac12}", "answer": "0.5", "level": 3}
    problem = Rows(write(tmp_path, row)).problem(0)
    assert problem.answer == r"so \boxed{\frac12}"
    assert problem.facts == {"difficulty": 3.0, "form": "math", "truth": "0.5"}
    only = Rows(write(tmp_path, {"problem": "question", "answer": "x^2"})).problem(0)
    assert only.answer == r"\boxed{x^2}"


def test_the_question_stands_in_the_prompt_as_it_is(tmp_path):
    path = write(tmp_path, {"prompt": r"\frac{1}{2} {}", "answer": "a"})
    assert Rows(path, prompt="Q: {}\nA:").problem(0).prompt == "Q: \\frac{1}{2} {}\nA:"


def test_a_file_that_changes_is_read_again(tmp_path):
    path = write(tmp_path, {"prompt": "q", "answer": "a"})
    assert Rows(path).size == 1
    write(tmp_path, {"prompt": "q", "answer": "a"}, "", {"prompt": "r", "answer": "b"})
    assert Rows(path).size == 2


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no rows"),
        (["{"], "not JSON"),
        (["[1]"], "list"),
        ([{"text": "a"}], "text"),
        ([{"question": "q", "answer": "#### 1"}, {"question": "q", "answer": "#### one"}], ":2"),
        ([{"question": "q", "answer": "#### 1"}, {"question": "q", "answer": ""}], ":2"),
        ([{"question": 3, "answer": "#### 1"}], "question"),
        ([{"question": "q", "answer": 2.5}], "answer 2.5"),
        ([{"question": "q", "answer": True}], "text or a whole number"),
        ([{"question": "q", "answer": None}], "text or a whole number"),
        ([{"question": "q", "answer": " "}], "text or a whole number"),
        ([{"question": "q", "answer": "1"}, {"question": "\ud800", "answer": "1"}], "surrogate"),
        (["[" * 100_000], "not JSON"),
        ([{"question": "q", "choices": None, "answer": 0}], "a list of choices"),
        ([{"problem": "q", "solution": "no box"}], "box"),
        ([{"question": "q", "choices": ["a"], "answer": 0}], "1 choices"),
        ([{"question": "q", "choices": ["a", "b"], "answer": "c"}], "'c'"),
        ([{"question": "q", "choices": ["a", "b"], "answer": 2}], "2"),
    ],
)
def test_a_bad_row_stops_with_its_line(tmp_path, rows, said):
    with pytest.raises(DataError, match=said):
        Rows(write(tmp_path, *rows)).problem(0)


def test_bytes_that_are_no_text_stop_with_their_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"question": "q", "answer": "1"}\n{"question": "\xff", "answer": "1"}\n')
    with pytest.raises(DataError, match="can't decode byte 0xff") as caught:
        _ = Rows(str(path)).size
    assert caught.value.where.endswith("rows.jsonl:2")


def test_an_answer_may_be_a_whole_number(tmp_path):
    task = Rows(write(tmp_path, {"question": "1+1=", "answer": 2}))
    problem = task.problem(0)
    assert (problem.answer, problem.facts["form"]) == ("2", "exact")
    assert task.verify(problem, " 2").right


def test_a_missing_file_and_a_bad_form_are_refused():
    with pytest.raises(DataError, match="no file"):
        Rows("nowhere.jsonl").size  # noqa: B018
    with pytest.raises(RecipeError, match="gsm8k"):
        Rows("x", "gsm9k")
    with pytest.raises(RecipeError, match="prompt"):
        Rows("x", prompt="Answer:")


@pytest.mark.parametrize(
    "text",
    [
        *("B", "b", "(B)", "B.", "[b]", "The answer is B", "answer: (B)."),
        *("So the correct answer is B.", "It may be A.\nB", "B) or not B)\n\n B \n"),
    ],
)
def test_a_letter_on_the_last_line_is_read(text):
    assert judge("B", text, 4).right


@pytest.mark.parametrize(
    "text",
    [
        *("", "B or C", "not B", "The answer is not B", "A B", "E", "Z", "BB", "B C D", "1", "?"),
        *("B\nI think", "answer", "the", "\u0412", "\uff22", "B" * 100_000, "B?", "B!"),
        *("A, B", "All of them", "NaN", "B = 3"),
    ],
)
def test_what_is_no_letter_is_not_readable(text):
    assert judge("B", text, 4) == Grade(0.0, parsed=False)


def test_options_are_answers_of_the_same_task_and_one_is_right():
    task = Choices(Addition(), options=5)
    places = set()
    for index in range(40):
        problem = problem_at(task, 0, index)
        question, *options, _ = problem.prompt.split("\n")
        a, b = map(int, question.removesuffix("=").split("+"))
        values = [int(option.split(") ")[1]) for option in options]
        assert values[ord(problem.answer) - ord("A")] == a + b
        assert values.count(a + b) == 1
        assert len(set(values)) == 5
        places.add(problem.answer)
    assert places == set("ABCDE")


def test_a_task_with_too_few_answers_is_refused(tmp_path):
    path = write(tmp_path, {"prompt": "q", "answer": "yes"}, {"prompt": "r", "answer": "no"})
    with pytest.raises(RecipeError, match="2 different answers"):
        problem_at(Choices(Rows(path), options=3), 0, 0)


TOOLS = {"get_user": ["name", "limit", "city"], "get_user_id": ["name"]}
CALL = {"name": "get_user", "arguments": {"name": "Ada", "limit": 3}}


@pytest.mark.parametrize(
    ("given", "score", "share"),
    [
        (CALL, 1.0, 1.0),
        ({**CALL, "arguments": {"name": "Ada", "limit": 4}}, -0.25, 0.5),
        ({**CALL, "arguments": {"name": "Ada", "limit": "3"}}, -0.25, 0.5),
        ({**CALL, "arguments": {"name": "Ada", "limit": 3.0}}, -0.25, 0.5),
        ({**CALL, "arguments": {"name": "Ada"}}, -0.5, 0.5),
        ({**CALL, "arguments": {"name": "Ada", "limit": 3, "city": "Oslo"}}, -0.5, 2 / 3),
        ({**CALL, "arguments": {"name": "Ada", "city": "Oslo"}}, -1.0, 1 / 3),
        ({**CALL, "arguments": {"name": "Ada", "limit": 3, "x": 1}}, -0.8, 2 / 3),
        ({**CALL, "arguments": {"name": "Ada", "x": 1}}, -1.3, 1 / 3),
        ({**CALL, "arguments": {"city": "Oslo", "x": 1}}, -1.8, 0.0),
        ({"name": "get_user"}, -0.5, 0.0),
        ({**CALL, "name": "get_user_id"}, -1.5, 0.0),
        ({**CALL, "name": "get_users"}, -2.0, 0.0),
    ],
)
def test_a_call_is_graded_by_its_worst_error(given, score, share):
    verdict = grade_call(json.dumps(CALL), f"I call {json.dumps(given)}", TOOLS)
    assert verdict.parsed
    assert verdict.score == score
    assert verdict.parts["arguments"] == pytest.approx(share)


@pytest.mark.parametrize(
    "text",
    [
        *("", "get_user", "get_user(name='Ada')", "{}", "[]", '{"name": 3}', '{"arguments": {}}'),
        *('{"name": "get_user", "arguments": []}', '{"name": "get_user", "arguments": "Ada"}'),
        *('{"name": null, "arguments": {}}', "{'name': 'get_user', 'arguments': {}}", '{"name"'),
        *('{"name": ["get_user"]}', "null", "true", "NaN", '"get_user"', "{{{{", "}}}}"),
        *('{"name": "get_user", "arguments": {"limit": NaN}}', "{" * 100_000, '{"a":' * 50_000),
        *('{"name": "get_user", "arguments": {"limit": ' + "9" * 5000 + "}}", "\ud800"),
    ],
)
def test_what_is_no_call_is_not_readable(text):
    verdict = grade_call(json.dumps(CALL), text, TOOLS)
    assert not verdict.parsed
    assert verdict.score == -2.0


def test_a_request_determines_the_call():
    for index in range(50):
        problem = problem_at(ToolCalls(tools=6, arguments=3), 0, index)
        call = json.loads(problem.answer)
        request = problem.prompt.split("Request: ")[1].split("\n")[0]
        name, _, said = request.partition(" with ")
        assert name.replace(" ", "_") == call["name"]
        pairs = (part.partition(" ") for part in said.split(" and "))
        assert {key: json.loads(value) for key, _, value in pairs} == call["arguments"]
        parameters = problem.facts["tools"][call["name"]]
        assert set(call["arguments"]) < set(parameters)


def test_without_reasoning_gym_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(RecipeError) as error:
        problem_at(Gym("chain_sum"), 0, 0)
    assert error.value.write == "pip install 'thalweg[gym]'"


class Sums:
    """What a data set of reasoning-gym looks like from outside."""

    def __init__(self, seed: int, terms: int) -> None:
        numbers = [(seed >> 3 * i) % 8 for i in range(terms)]
        question = " + ".join(map(str, numbers))
        self.item = {"question": question, "answer": str(sum(numbers)), "metadata": {"seed": seed}}

    def __getitem__(self, index: int) -> dict[str, object]:
        return [self.item][index]

    def score_answer(self, answer: str, entry: dict[str, object]) -> float:
        return 1.0 if int(answer) == int(entry["answer"]) else 0.01


def test_a_gym_task_is_drawn_by_seed_and_scored_by_the_library(monkeypatch):
    library = ModuleType("reasoning_gym")
    made = SimpleNamespace(create=lambda name, seed, size, terms: Sums(seed, terms))
    monkeypatch.setattr(library, "create_dataset", made.create, raising=False)
    monkeypatch.setitem(sys.modules, "reasoning_gym", library)
    task = Gym("chain_sum", {"terms": 3})
    first, other = problem_at(task, 0, 0), problem_at(task, 0, 1)
    assert first == problem_at(task, 0, 0) != other
    assert task.verify(first, first.answer).right
    assert task.verify(first, "-1") == Grade(0.01)
    assert task.verify(first, "not a number") == Grade(0.0, parsed=False)
    assert task.verify(first, "") == Grade(0.0, parsed=False)
    with pytest.raises(DialError):
        problem_at(task, 0, 0, level=1.0)


@pytest.mark.parametrize(
    "make",
    [lambda: ToolCalls(tools=0), lambda: ToolCalls(arguments=6), lambda: ToolCalls(reward="x")],
)
def test_tool_calls_out_of_range_are_refused(make):
    with pytest.raises(RecipeError):
        make()


def test_an_exact_reward_knows_only_right_and_wrong():
    problem = Problem("...", json.dumps(CALL), {"tools": TOOLS})
    task = ToolCalls(reward="exact")
    assert task.verify(problem, json.dumps(CALL)).score == 1.0
    assert task.verify(problem, json.dumps({**CALL, "arguments": {}})).score == 0.0
    assert task.verify(problem, "?") == Grade(
        0.0, parsed=False, parts={"name": 0.0, "arguments": 0.0}
    )
