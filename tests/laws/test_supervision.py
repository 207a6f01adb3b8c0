import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import DialError
from thalweg.laws.supervision import cot_information, enough_examples, examples_needed

tables = st.tuples(
    st.lists(st.lists(st.integers(0, 1), min_size=6, max_size=6), min_size=1, max_size=8),
    st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=8, max_size=8),
    st.sampled_from([0.0, 0.2, 0.4]),
)


def slow(outputs, traces, target, eps):
    """The definitions, word for word: a minimum over bad hypotheses of -log of an agreement."""
    answers, steps = [], []
    for h in range(len(outputs)):
        count = len(outputs[h])
        wrong = sum(outputs[h][x] != outputs[target][x] for x in range(count))
        if Fraction(wrong, count) <= Fraction(str(eps)):
            continue
        alike = [outputs[h][x] == outputs[target][x] for x in range(count)]
        whole = [alike[x] and traces[h][x] == traces[target][x] for x in range(count)]
        answers.append(-math.log(sum(alike) / count) if any(alike) else math.inf)
        steps.append(-math.log(sum(whole) / count) if any(whole) else math.inf)
    return min(answers, default=math.inf), min(steps, default=math.inf)


@given(tables)
def test_it_is_what_the_definitions_say(drawn):
    outputs, traces, eps = drawn
    traces = traces[: len(outputs)]
    found = cot_information(np.array(outputs), np.array(traces), 0, eps)
    assert tuple(found) == pytest.approx(slow(outputs, traces, 0, eps))


@given(tables)
def test_steps_never_harm_and_an_answer_is_worth_at_least_eps(drawn):
    outputs, traces, eps = drawn
    found = cot_information(np.array(outputs), np.array(traces[: len(outputs)]), 0, eps)
    assert found.steps >= found.answers >= eps


def test_steps_that_say_nothing_gain_nothing_and_steps_that_tell_all_are_infinite():
    outputs = np.array([[0, 0, 1, 1], [0, 0, 1, 0]])
    assert cot_information(outputs, 0 * outputs, 0, 0.1).ratio == 1.0
    telling = np.array([[0] * 4, [1] * 4])
    assert cot_information(outputs, telling, 0, 0.1).steps == math.inf


def test_rare_inputs_count_by_their_odds():
    outputs = np.array([[0, 0], [0, 1]])
    found = cot_information(outputs, outputs, 0, 0.1, np.array([0.75, 0.25]))
    assert found.answers == pytest.approx(-math.log(0.75))


def test_examples_are_counted_up_to_the_last_bad_hypothesis():
    outputs = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1]])
    traces = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 9, 9, 9]])
    drawn = np.array([1, 3, 1, 0])
    assert examples_needed(outputs, None, 0, 0.1, drawn) == 4
    assert examples_needed(outputs, None, 0, 0.3, drawn) == 2
    assert examples_needed(outputs, traces, 0, 0.3, drawn) == 1
    assert examples_needed(outputs, None, 0, 0.6, drawn) == 0
    assert examples_needed(outputs, None, 0, 0.1, drawn[:3]) == math.inf


def test_the_bound_holds_for_random_classes():
    draw = np.random.default_rng(0)
    missed = 0
    for _ in range(200):
        outputs = draw.integers(2, size=(50, 40))
        information = cot_information(outputs, outputs, 0, 0.1).answers
        bound = enough_examples(information, 50, delta=0.1)
        missed += examples_needed(outputs, None, 0, 0.1, draw.integers(40, size=400)) > bound
    assert missed <= 20


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(DialError, match="one shape"):
        cot_information(np.zeros((2, 3), int), np.zeros((2, 4), int), 0, 0.1)
    with pytest.raises(DialError, match=r"eps=1\.0"):
        cot_information(np.zeros((2, 3), int), np.zeros((2, 3), int), 0, 1.0)
