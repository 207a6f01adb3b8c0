"""One battery over every public schedule; the first test fails if one has no example here."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import get_args, get_origin, get_type_hints

import numpy as np
import pytest

import thalweg.schedules as room
from schedule_examples import BATCH_TOKENS, END, EXAMPLES, Example, halves
from thalweg.core.protocols import Schedule
from thalweg.core.time import Span, Time, share, steps, tokens
from thalweg.core.tree import read_record, record
from thalweg.errors import DialError

UNITS = {"steps": steps, "share": share, "tokens": tokens}


def public() -> set[type]:
    """Return every schedule class that the room exports."""
    found = (getattr(room, name) for name in room.__all__)
    return {kind for kind in found if isinstance(kind, type) and issubclass(kind, Schedule)}


def moment(step: int, end: int = END) -> Time:
    return Time(
        step, end, tokens=BATCH_TOKENS * step, run_step=1000 + step, batch_tokens=BATCH_TOKENS
    )


def plan(begin: int, end: int) -> Time:
    s = np.arange(begin, end)
    return Time(s, END, tokens=BATCH_TOKENS * s, run_step=1000 + s, batch_tokens=BATCH_TOKENS)


def columns(value: object) -> dict[str, np.ndarray]:
    """Return a schedule's value as named arrays, whether it is one number or a mapping."""
    named = value if isinstance(value, Mapping) else {"": value}
    return {key: np.asarray(item) for key, item in named.items()}


@pytest.fixture(params=EXAMPLES, ids=lambda example: type(example.schedule).__name__)
def example(request: pytest.FixtureRequest) -> Example:
    return request.param


def test_every_public_schedule_has_an_example() -> None:
    assert {type(example.schedule) for example in EXAMPLES} == public()


def test_it_is_finite_also_before_and_after_the_phase(example: Example) -> None:
    for values in columns(example.schedule(plan(-5, 2 * END))).values():
        assert np.isfinite(values).all()


def test_a_plan_is_the_run_to_the_last_bit(example: Example) -> None:
    planned = columns(example.schedule(plan(0, END + 10)))
    for step in range(END + 10):
        for key, value in columns(example.schedule(moment(step))).items():
            assert planned[key][step] == value, (key, step)


def test_a_moment_gives_python_floats_and_a_plan_float64(example: Example) -> None:
    now = example.schedule(moment(3))
    for value in now.values() if isinstance(now, Mapping) else [now]:
        assert type(value) is float
    for values in columns(example.schedule(plan(0, END))).values():
        assert values.dtype == np.float64
        assert values.shape == (END,)


def test_an_empty_plan_has_no_values(example: Example) -> None:
    for values in columns(example.schedule(plan(0, 0))).values():
        assert values.shape == (0,)


def test_a_numpy_integer_is_a_moment(example: Example) -> None:
    step = np.arange(END)[7]
    assert example.schedule(moment(step)) == example.schedule(moment(7))


def test_it_is_frozen_and_equal_to_its_copy(example: Example) -> None:
    copy = dataclasses.replace(example.schedule)
    assert copy == example.schedule
    assert copy is not example.schedule
    name = dataclasses.fields(copy)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(copy, name, 0.0)


def test_it_prints_what_it_is(example: Example) -> None:
    assert repr(example.schedule).startswith(type(example.schedule).__name__ + "(")


def test_its_record_reads_back(example: Example) -> None:
    known = {kind.__name__: kind for kind in (*public(), Span)} | {"halves": halves}
    data = json.loads(json.dumps(record(example.schedule)))
    assert read_record(data, lambda name: known[name.split(":")[1]]) == example.schedule


def test_its_last_value_holds_after_the_phase(example: Example) -> None:
    if not example.holds:
        pytest.skip("it never ends")
    end = example.schedule(moment(END))
    assert all(example.schedule(moment(END + more)) == end for more in (1, 7, 10 * END))


def test_it_does_not_jump(example: Example) -> None:
    if not example.smooth:
        pytest.skip("it jumps by design")
    for values in columns(example.schedule(plan(0, END + 1))).values():
        reach = np.ptp(values)
        # The steepest is 1 - sqrt(u) over a quarter of the phase: its first step is 1 / sqrt(50).
        assert np.abs(np.diff(values)).max(initial=0.0) <= 0.15 * reach


def test_every_number_in_it_may_be_overridden_but_not_by_nonsense(example: Example) -> None:
    for field in dataclasses.fields(example.schedule):
        if isinstance(getattr(example.schedule, field.name), float):
            for bad in (math.nan, math.inf, "1e-3", None, True):
                with pytest.raises(DialError, match=field.name):
                    dataclasses.replace(example.schedule, **{field.name: bad})


def test_a_number_where_a_length_belongs_is_refused_with_a_length_to_write(
    example: Example,
) -> None:
    for field, hint in get_type_hints(type(example.schedule)).items():
        if Span not in (hint, *get_args(hint)):
            continue
        several = get_origin(hint) is tuple
        for bad in (10, 0.2, "10", *([share(0.5), [share(0.5)], (10,), (None,)] * several)):
            with pytest.raises(DialError, match=field) as refused:
                dataclasses.replace(example.schedule, **{field: bad})
            for written in refused.value.write.split(" or "):
                value = eval(written.removeprefix(f"{field}="), UNITS)
                assert all(isinstance(one, Span) for one in (value if several else (value,)))
