"""Freezing again and again: only what moves is made anew, and nothing else is told apart."""

import math
from dataclasses import dataclass
from typing import Any

import pytest

from thalweg.core.freeze import at, freezing
from thalweg.core.protocols import Schedule
from thalweg.core.time import Time, share
from thalweg.schedules import Constant, Wsd


@dataclass(frozen=True)
class Given(Schedule[Any]):
    """The values of a list, one a step."""

    values: tuple[Any, ...]

    def __call__(self, time: Time) -> Any:
        return self.values[int(time.step)]


@dataclass(frozen=True)
class Pair:
    moving: Any
    still: Any = None


def test_every_moment_is_what_at_gives_and_moments_alike_are_one_object():
    tree = Pair(Wsd(1.0, warmup=share(0.2), decay=share(0.2)), (Pair(Constant(2.0)), "text"))
    freeze = freezing(tree)
    assert freeze is not None
    found = [freeze(Time(step, 20)) for step in range(20)]
    assert found == [at(tree, Time(step, 20)) for step in range(20)]
    assert all(one is found[5] for one in found[5:15])
    assert found[1] is not found[2]
    assert all(one.still is found[0].still for one in found)


def same(one: Any, other: Any) -> bool:
    """Return whether two values are written alike, and so read back alike."""
    return type(one) is type(other) and repr(one) == repr(other)


@pytest.mark.parametrize(
    "values",
    [
        (1, 1.0, True, 1, None, None, 0),
        (0.0, -0.0, 0, 0.0, False),
        (math.nan, math.nan, 1.0),
        ({"a": 1.0, "b": 0.0}, {"a": 1.0, "b": -0.0}, {"b": -0.0, "a": 1.0}, {"a": 1}),
        ("x", "y", (0.0,), (-0.0,)),
    ],
)
def test_values_that_are_written_differently_are_not_taken_for_each_other(values):
    for part in (Given(values), Pair(Given(values)), (Given(values), 3), {"a": Given(values)}):
        freeze = freezing(part)
        assert freeze is not None
        for step in range(len(values)):
            now, alone = freeze(Time(step, 9)), at(part, Time(step, 9))
            assert same(now, alone)


def test_a_mapping_that_a_schedule_changes_in_place_is_seen():
    weights = {"a": 1.0}

    @dataclass(frozen=True)
    class Same(Schedule[Any]):
        def __call__(self, time: Time) -> Any:
            weights["a"] = float(time.step)
            return weights

    freeze = freezing(Pair(Same()))
    assert freeze is not None
    assert [freeze(Time(step, 9)).moving["a"] for step in range(3)] == [0.0, 1.0, 2.0]


def test_only_the_fields_that_are_named_are_frozen():
    ramp = Constant(1.0)
    freeze = freezing(Pair(ramp, ramp), only=("still",))
    assert freeze is not None
    found = freeze(Time(5, 9))
    assert (found.moving, found.still) == (ramp, 1.0)
    assert freezing(Pair(ramp, 1), only=("still",)) is None
