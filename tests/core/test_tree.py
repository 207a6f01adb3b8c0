"""Paths, changes, freezing, records."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_helpers import line_recipe
from thalweg.core.freeze import at
from thalweg.core.names import finder
from thalweg.core.protocols import Schedule
from thalweg.core.time import Time, steps
from thalweg.core.tree import differences, find_path, flatten, get, put, read_record, record
from thalweg.errors import DialError, RecipeError
from thalweg.schedules import Blend, By, Constant, Cosine, Linear, Times


@dataclass(frozen=True)
class Node:
    number: object = 0.0
    child: object = None
    many: tuple = ()
    table: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Doubled:
    number: object
    twice: object = field(init=False, default=None)

    def __post_init__(self) -> None:
        if isinstance(self.number, float):
            object.__setattr__(self, "twice", 2 * self.number)


LEAVES = st.one_of(
    st.integers(-9, 9), st.floats(-9, 9), st.booleans(), st.text("abc", max_size=3), st.none()
)
SCHEDULES = st.builds(Linear, st.floats(0, 1), st.floats(0, 1))
NAMES = st.text("klmn", min_size=1, max_size=3)


def trees(leaves: st.SearchStrategy) -> st.SearchStrategy:
    def nodes(inner: st.SearchStrategy) -> st.SearchStrategy:
        many = st.lists(inner, max_size=3).map(tuple)
        return st.builds(Node, inner, inner, many, st.dictionaries(NAMES, inner, max_size=3))

    return st.builds(Node, st.recursive(leaves, nodes, max_leaves=8))


@given(trees(LEAVES), st.data())
def test_what_is_put_at_a_path_stands_there_and_nothing_else_changes(tree, data):
    numbers = [p for p, v in flatten(tree).items() if type(v) is float]
    if not numbers:
        return
    path = data.draw(st.sampled_from(numbers))
    before = flatten(tree)
    after = flatten(put(tree, path, 77.5))
    assert after[path] == 77.5
    leaves = [p for p, v in before.items() if not isinstance(v, Node | tuple | dict)]
    assert all(after[p] == before[p] for p in leaves if p != path)
    assert flatten(tree) == before


@given(trees(LEAVES))
def test_every_full_path_is_found_and_holds_what_flatten_says(tree):
    for path, value in flatten(tree).items():
        assert find_path(tree, path) == path
        assert get(tree, path) is value


@given(trees(LEAVES), st.integers(0, 100))
def test_a_tree_without_schedules_is_frozen_to_the_same_object(tree, step):
    assert at(tree, Time(step, 100)) is tree


@given(trees(st.one_of(LEAVES, SCHEDULES)), st.integers(0, 99))
def test_a_frozen_tree_has_the_value_of_every_schedule_and_no_schedule(tree, step):
    time = Time(step, 100)
    frozen = flatten(at(tree, time))
    assert not any(isinstance(value, Schedule) for value in frozen.values())
    for path, value in flatten(tree).items():
        if isinstance(value, Schedule):
            assert frozen[path] == value(time)


@given(trees(st.one_of(LEAVES, SCHEDULES)))
def test_a_record_reads_back_through_json_to_an_equal_tree(tree):
    find = {"test_tree:Node": Node}
    text = json.dumps(record(tree))
    read = read_record(
        json.loads(text), lambda name: find.get("test_tree:" + name.split(":")[1]) or finder()(name)
    )
    assert read == tree
    assert differences(record(read), record(tree)) == []


def test_an_unchanged_branch_of_a_scheduled_tree_keeps_its_identity():
    still = Node(1.0)
    frozen = at(Node(Linear(1.0, 0.0), still), Time(5, 10))
    assert frozen.child is still
    assert frozen.number == 0.5


def test_schedules_inside_mappings_tuples_and_other_schedules_are_frozen():
    tree = Node(Times(Linear(1.0, 0.0), Constant(2.0)), None, (Linear(0.0, 1.0),), {"a": Cosine(4)})
    frozen = at(tree, Time(5, 10))
    assert frozen.number == pytest.approx(1.0)
    assert frozen.many[0] == pytest.approx(0.5)
    assert frozen.table["a"] == pytest.approx(2.0)


def test_a_part_that_makes_a_field_itself_makes_it_again_when_it_is_frozen():
    assert at(Doubled(Linear(1.0, 0.0)), Time(5, 10)).twice == 1.0


def test_a_schedule_of_a_mapping_freezes_to_plain_numbers():
    frozen = at(Node(Blend({"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 0.0})), Time(1, 2))
    assert frozen.number == {"a": 0.5, "b": 0.5}
    assert all(type(value) is float for value in frozen.number.values())


def test_named_parts_give_their_names_to_paths():
    paths = flatten(line_recipe())
    assert "main.learn.policy.optimizer.lr" in paths
    assert "main.learn.policy.optimizer.lr.start" in paths


def test_a_unique_ending_is_enough():
    recipe = line_recipe()
    assert find_path(recipe, "lr") == "main.learn.policy.optimizer.lr"
    assert put(recipe, "lr", 0.5).phases[0].do[0].optimizer.lr == 0.5


def test_a_typo_is_answered_with_the_nearest_path():
    with pytest.raises(RecipeError, match=r"did you mean 'optimizer\.lr'"):
        find_path(line_recipe(), "optimiser.lr")


def test_an_ambiguous_ending_is_answered_with_the_candidates():
    tree = Node(child=Node(table={"lr": 1.0}), table={"k": Node(table={"lr": 2.0})})
    with pytest.raises(RecipeError, match="'lr' ends 2 places") as caught:
        find_path(tree, "lr")
    assert caught.value.write == "one of: child.table.lr, table.k.table.lr"


@pytest.mark.parametrize(
    ("old", "new"), [(1.0, "x"), (True, 1), (1, 1.5), ("a", 2), (1.0, True), (Linear(1, 0), "x")]
)
def test_a_value_of_another_kind_is_refused_with_the_present_one(old, new):
    with pytest.raises(DialError) as caught:
        put(Node(old), "number", new)
    assert repr(old) in caught.value.expected
    assert caught.value.where == "number"


@pytest.mark.parametrize(
    ("old", "new"),
    [(1.0, 2), (1, 2.0), (1.0, Linear(1, 0)), (Linear(1, 0), 0.5), (None, 3), (2.0, None)],
)
def test_numbers_and_schedules_may_replace_each_other(old, new):
    assert put(Node(old), "number", new).number == new


def test_a_whole_number_written_as_a_float_stays_whole():
    assert type(put(Node(1), "number", 2.0).number) is int


@pytest.mark.parametrize("value", [lambda t: t, np.ones(3), object(), {1, 2}])
def test_what_has_no_record_is_refused_in_four_parts(value):
    with pytest.raises(RecipeError) as caught:
        record(Node(child=Node(value)))
    error = caught.value
    assert error.where == "child.number"
    assert all((error.given, error.expected, error.write))


def test_a_class_inside_a_function_has_no_record():
    @dataclass(frozen=True)
    class Hidden:
        x: int = 1

    with pytest.raises(RecipeError, match="top level"):
        record(Hidden())


def double(time: Time) -> float:
    return 2.0 * float(np.max(time.step))


def test_a_function_at_the_top_level_of_a_file_has_a_record():
    data = record(By(double))
    assert data["fn"] == {"$function": f"{__name__}:double"}
    read = read_record(data, lambda name: double if name.endswith(":double") else By)
    assert read == By(double)


def test_numbers_that_json_has_no_word_for_survive():
    tree = Node(float("inf"), float("-inf"))
    text = json.dumps(record(tree), allow_nan=False)
    assert read_record(json.loads(text), lambda name: Node) == tree


def test_a_record_with_an_unknown_field_says_whose_code_wrote_it():
    with pytest.raises(RecipeError, match=r"fields of thalweg\.core\.time:Span"):
        read_record({"$": "thalweg.core.time:Span", "length": 3}, finder())


def test_differences_name_every_changed_path():
    a, b = record(line_recipe(lr=0.1)), record(line_recipe(lr=0.2, steps=13))
    assert [path for path, _, _ in differences(a, b)] == [
        "phases.0.steps",
        "phases.0.do.0.optimizer.lr",
    ]


def test_lengths_have_paths_too():
    assert put(Node(child=steps(3)), "count", 5).child == steps(5)
