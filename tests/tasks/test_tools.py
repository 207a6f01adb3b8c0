"""Where it is decided which tool is called."""

import pytest

from thalweg.tasks.tools import key_token_weights

GET, USER, ID, NAME, SET, END, X = range(7)


def test_the_first_token_and_those_behind_a_shared_beginning_decide():
    answer = [X, GET, USER, ID, END, X, X, X]
    others = [[GET, USER], [GET, USER, NAME], [SET, USER, ID]]
    # keys: GET (position 1), and ID (3), where get_user and get_user_name part from it
    weights = key_token_weights(answer, [GET, USER, ID], others)
    assert weights == [1, 3, 1, 3, 1, 1, 1, 1]


def test_a_name_that_others_go_on_from_is_decided_by_its_end():
    weights = key_token_weights([GET, USER, END, X, X, X], [GET, USER], [[GET, USER, ID]])
    assert weights == [2, 1, 2, 1, 1, 1]


def test_the_weight_is_capped_and_never_below_1():
    assert key_token_weights([GET, *[X] * 30], [GET], [])[0] == 9.0
    assert key_token_weights([GET, *[X] * 30], [GET], [], cap=4.0)[0] == 4.0
    assert key_token_weights([GET, END], [GET], [[GET, ID]]) == [1.0, 1.0]


@pytest.mark.parametrize("name", [[SET], []])
def test_an_answer_without_the_name_weighs_1(name):
    assert key_token_weights([GET, USER], name, []) == [1.0, 1.0]


def test_a_key_behind_the_end_of_a_cut_answer_is_left_out():
    assert key_token_weights([X, X, X, GET], [GET], [[GET, ID]]) == [1, 1, 1, 3]
