"""Word problems: GSM8K and MATH answers, the labelled ones, and texts made to fool a verifier."""

import json
import time
from fractions import Fraction
from pathlib import Path

import pytest

from thalweg.tasks import Rows, same_math, verify_boxed, verify_marked
from thalweg.tasks.latex import Unreadable, clean, read_expression
from thalweg.tasks.mathqa import boxed, marked

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_gsm8k = pytest.mark.skipif(
    not (SHARED / "gsm8k").is_dir(), reason="needs the shared GSM8K files"
)
needs_math = pytest.mark.skipif(not (SHARED / "math500").is_dir(), reason="needs shared MATH-500")


@needs_gsm8k
@pytest.mark.parametrize(("name", "size"), [("test", 1319), ("train", 7473)])
def test_every_reference_answer_of_gsm8k_is_right_and_the_next_ones_wrong(name, size):
    task = Rows(str(SHARED / "gsm8k" / f"{name}.jsonl"))
    assert task.size == size
    problems = [task.problem(index) for index in range(size)]
    for problem, other in zip(problems, problems[1:] + problems[:1], strict=True):
        assert task.verify(problem, problem.answer).right
        same = marked(problem.answer) == marked(other.answer)
        assert task.verify(problem, other.answer).right == same


@needs_gsm8k
def test_every_labelled_solution_is_judged_as_its_label_says():
    file = SHARED / "gsm8k" / "example_model_solutions.jsonl"
    right = wrong = unreadable = 0
    for line in file.read_text().splitlines():
        row = json.loads(line)
        for solution in (value for value in row.values() if isinstance(value, dict)):
            verdict = verify_marked(row["ground_truth"], solution["solution"], "\nA:")
            assert verdict.right == solution["is_correct"]
            right += verdict.right
            wrong += verdict.parsed and not verdict.right
            unreadable += not verdict.parsed
    assert right + wrong + unreadable == 4 * 1319
    assert unreadable < 20


@needs_math
def test_every_answer_of_math_500_is_read_right_and_no_other_is():
    rows = [json.loads(x) for x in (SHARED / "math500" / "test.jsonl").read_text().splitlines()]
    answers = [row["answer"] for row in rows]
    task = Rows(str(SHARED / "math500" / "test.jsonl"))
    for index, (answer, row) in enumerate(zip(answers, rows, strict=True)):
        problem = task.problem(index)
        assert task.verify(problem, row["solution"]).right, answer
        assert verify_boxed(answer, rf"\boxed{{ {answer} }}.").right, answer
        for distance in (1, 10, 100):
            other = answers[(index + distance) % 500]
            if clean(other).split("=")[-1] != clean(answer).split("=")[-1]:
                assert not same_math(answer, other), (answer, other)


@needs_math
def test_nearly_every_answer_of_math_500_is_read_as_mathematics():
    from thalweg.tasks.same import _WORDS, _read

    rows = [json.loads(x) for x in (SHARED / "math500" / "test.jsonl").read_text().splitlines()]
    words = 0
    for row in rows:
        text = clean(row["answer"])
        if _WORDS.fullmatch(text):
            words += 1
        else:
            _read(text)  # raises where it is not readable
    assert words < 20


SAME = [
    ("18", "18.00"),
    ("0.5", r"\frac{1}{2}"),
    (r"\frac{14}{3}", "14/3"),
    (r"\frac{14}{3}", r"4\frac{2}{3}"),
    (r"\frac 59", r"\dfrac{5}{9}"),
    (r"\frac9{19}", "9/19"),
    (r"137 \frac{1}{2}", "137.5"),
    (r"11\sqrt2", "11*sqrt(2)"),
    (r"3\sqrt{13}", r"\sqrt{117}"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
    (r"\sqrt[3]{8}", "2"),
    (r"2^{10}", "1024"),
    ("x^2+2x+1", "(x+1)^2"),
    ("(a+5)(b+2)", "ab + 2a + 5b + 10"),
    (r"\cot x", r"\frac{\cos x}{\sin x}"),
    (r"\sin^2 x + \cos^2 x", "1"),
    (r"\frac{\pi}{2}", "pi/2"),
    ("6 - 5i", "-5i + 6"),
    ("i^2", "-1"),
    ("5!", "120"),
    (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}"),
    (r"\{1\pm\sqrt{5},-2\}", r"-2, 1-\sqrt5, 1+\sqrt5"),
    ("3, 5, 7", r"\{7, 3, 5\}"),
    ("3, 5, 7", "3, 5, and 7"),
    ("x=5", "5"),
    ("1, 2", "x=1 or x=2"),
    ("3", r"\log_{2}{8}"),
    ("5", "x = 5"),
    ("y = 2x + 3", "y = 3 + 2x"),
    ("y = 2x + 1", "y - 2x = 1"),
    ("y = 2x + 1", "2y = 4x + 2"),
    ("y = 2x + 1", "x = (y - 1)/2"),
    ("y = x", "x = y"),
    ("x = 3", "2x = 6"),
    ("x = 1, y = 2", "y = 2, x = 1"),
    ("x = 1, 2", "x = 2 or x = 1"),
    (r"x = 1 \pm \sqrt{2}", r"x = 1 - \sqrt2, x = 1 + \sqrt2"),
    ("5x - 7y + 11z + 4 = 0", "-10x + 14y - 22z = 8"),
    (r"x \in [-2,7]", "[-2, 7]"),
    (r"(-\infty, 2) \cup (3, \infty)", r"(3,\infty)\cup(-\infty,2)"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
    (
        r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}",
        r"\begin{bmatrix}-\frac13\\ \frac23\end{bmatrix}",
    ),
    (r"10,\!080", "10080"),
    ("10080", "10,080"),
    (r"\$32,\!348", "32348"),
    (r"90^\circ", "90"),
    (r"45^\circ", r"\frac{\pi}{4}"),
    (r"45^{\circ}", "45\u00b0"),
    (r"120\text{ degrees}", "120"),
    (r"180^\circ - x", "180 - x"),
    (r"30^\circ, 60^\circ", "60, 30"),
    (r"\sin 30^\circ", "1/2"),
    (r"\sin(30^\circ)", "0.5"),
    (r"\cos 60^{\circ}", "0.5"),
    ("\\tan 45\u00b0", "1"),
    (r"\sin^2 30^\circ + 1", "1.25"),
    (r"2 \sin 30^\circ \cos 60^\circ", "1/2"),
    (r"\sin x \cos x", r"\frac{\sin 2x}{2}"),
    (r"\sin 2\sqrt{3}x", r"\sin(\sqrt{12}x)"),
    (r"x = 45^\circ", r"x = \pi/4"),
    (r"50\%", "50"),
    (r"864 \mbox{ inches}^2", "864"),
    (r"5.4 \text{ cents}", "5.4"),
    (r"\text{(C)}", "C"),
    (r"\text{Evelyn}", "evelyn"),
    ("4210_{5}", "4210_5"),
    ("-3", "\u22123"),
    (r"\sqrt{2}", "\u221a2"),
]


@pytest.mark.parametrize(("truth", "given"), SAME)
def test_what_means_the_same_is_the_same_both_ways(truth, given):
    assert same_math(truth, given) is True
    assert same_math(given, truth) is True


OTHER = [
    ("7", "8"),
    ("7", "-7"),
    ("7", "7, 8"),
    ("7", "7 or 8"),
    ("7", r"\{7, 7\}"),
    ("2", "2." + "0" * 50 + "1"),
    ("1/3", "0.333333333333333333333333333333"),
    (r"\sqrt{51}", "7.14142842854285"),
    (r"\pi", "3.14159265358979"),
    ("(1,2)", "(2,1)"),
    ("(3,4]", "[3,4)"),
    ("(3,4]", "3,4"),
    ("x^2", "x^3"),
    ("x", "y"),
    ("2x", "2"),
    ("y = 2x + 3", "y = 2x + 4"),
    ("x + y = 0", "x + 2y = 0"),
    ("x = 5", "y = 5"),
    ("x = 1, y = 2", "x = 2, y = 1"),
    ("a = 1, b = 2", "b = 1, a = 2"),
    ("x = 1 or x = 2", "y = 1 or y = 2"),
    (r"x \in [1,2]", r"y \in [1,2]"),
    ("52_8", "52"),
    ("45", r"\frac{\pi}{4}"),
    (r"45^\circ", "44"),
    (r"45^\circ", r"\frac{\pi}{3}"),
    (r"\sin 30^\circ", r"\sin 30"),
    (r"\text{even}", "odd"),
    (r"\text{(C)}", "(D)"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}"),
    ("5!", "5"),
    (r"1 \pm \sqrt{19}", r"1+\sqrt{19}"),
]


@pytest.mark.parametrize(("truth", "given"), OTHER)
def test_what_means_something_else_is_wrong(truth, given):
    assert same_math(truth, given) is False


ADVERSARIAL = [
    "",
    "   ",
    "not 7",
    "the answer is not 7",
    "seven",
    "10^{10^{10^{10}}}",
    "9^{9^{9^9}}",
    "9**9**9**9",
    "1" + "0" * 5000,
    "((" * 500,
    r"\sqrt{" * 200 + "7" + "}" * 200,
    r"\frac{1}{" * 300,
    "100000!",
    "7!!!!!!!!",
    "1/0",
    r"\frac{0}{0}",
    "0^{-1}",
    r"\log 0",
    r"\tan(10^{30})",
    "\u0667",
    "\uff17",
    "\u00b2",
    "__import__('os').system('true')",
    "().__class__",
    "lambda: 7",
    r"\input{/etc/passwd}",
    r"\def\x{7}\x",
    "7; 7",
    "7 = 7 = 7",
    "7 # 7",
    "7 0",
    "7.0.0",
    r"7\text{ or so}",
    r"7\text{ or }8",
    r"7\text{7}",
    r"7 \text{ is not it}",
    "\x007",
    "7\ud800",
    "{7",
    "+",
    "7 +",
    "^7",
    "|7",
    "((7,7))",
    "+".join("7" * 900),
    "7" + "!" * 1500,
]


@pytest.mark.parametrize("given", ADVERSARIAL, ids=lambda text: repr(text[:20]))
def test_what_is_no_answer_is_not_readable_and_costs_nothing(given):
    begin = time.process_time()
    assert same_math("7", given) is None
    assert not verify_boxed("7", rf"\boxed{{{given}}}").right
    assert time.process_time() - begin < 1.0


def test_values_of_two_names_without_the_names_are_not_readable():
    assert same_math("x = 1, y = 2", "1, 2") is None
    assert same_math("x = 1, y = 2", "2, 1") is None


def test_a_degree_behind_a_function_s_brackets_is_not_readable():
    assert same_math("1/2", r"\sin(30)^\circ") is None


def test_a_nan_is_a_product_of_letters_and_not_a_number():
    assert same_math("7", "NaN") is False


def test_the_number_behind_the_last_mark_counts():
    assert marked("#### 7\n#### 8\n") == 8
    assert marked("#### 1,234,567.50\nand so on") == Fraction(2469135, 2)
    assert marked("#### $-3") is None
    assert marked("#### -$3.") == -3
    assert marked("#### .5") == Fraction(1, 2)
    assert marked("#### 50%") == 50


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "####",
        "#### ",
        "####\n7",
        "#### seven",
        "#### not 7",
        "#### 7 or 8",
        "#### 7 8",
        "#### 7, 8",
        "#### 12,34",
        "#### 7 apples",
        "#### 1e5",
        "#### 0x10",
        "#### 1/2",
        "#### 7.0.0",
        "#### --7",
        "#### NaN",
        "#### inf",
        "#### \u0667",
        "#### \uff17",
        "#### .",
        "#### $",
        "#### " + "7" * 1000,
        "#### __import__('os')",
    ],
)
def test_a_mark_without_one_number_is_not_readable(text):
    verdict = verify_marked("#### 7", text)
    assert not verdict.parsed
    assert verdict.score == 0.0


def test_the_last_closed_box_counts():
    assert boxed(r"\boxed{1} or \boxed{2}") == "2"
    assert boxed(r"\boxed{1} or \boxed{2") == "1"
    assert boxed(r"\fbox{no} \fboxed {\frac{1}{2}}") == r"\frac{1}{2}"
    assert boxed(r"\boxed{\{1, 2\}}") == r"\{1, 2\}"
    assert boxed("7") is None


def test_trees_by_hand():
    assert read_expression("2x^{-1}") == (
        "*",
        ("number", Fraction(2)),
        ("^", ("symbol", "x"), ("neg", ("number", Fraction(1)))),
    )
    assert read_expression(r"\sqrt[3]{x_1}") == (
        "root",
        ("number", Fraction(3)),
        ("symbol", "x_1"),
    )
    with pytest.raises(Unreadable):
        read_expression(r"\operatorname{x}")
