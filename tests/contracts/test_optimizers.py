"""One battery over every public optimizer spec: what its fields refuse."""

from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from typing import Literal, get_origin, get_type_hints

import pytest

import thalweg.optim as room
from thalweg.errors import RecipeError

ADAM = room.AdamW(lr=1e-3)
EXAMPLES = [
    ADAM,
    room.SGD(lr=0.1, momentum=0.9, nesterov=True),
    room.Muon(lr=0.02, adam=ADAM),
    room.NAdamW(),
    room.ScheduleFree(ADAM),
    room.Prodigy(),
    room.DoG(),
    room.Mechanic(ADAM),
    room.Projected(ADAM),
    room.Groups({"*": ADAM}),
]


def bad_values() -> Iterator[tuple[object, str, object]]:
    """Yield (spec, field, nonsense) by the kind of every field."""
    for spec in EXAMPLES:
        for field, hint in get_type_hints(type(spec)).items():
            old = getattr(spec, field, None)
            if hint is bool or get_origin(hint) is Literal:
                yield from ((spec, field, bad) for bad in ("nonsense", None, ["original"]))
            elif isinstance(old, tuple):
                yield from ((spec, field, bad) for bad in (list(old), 0.9, "nonsense", None))
            elif isinstance(old, float):
                yield from ((spec, field, bad) for bad in ("1e-3", None, True, [old], (old,)))
            elif is_dataclass(old):
                yield from ((spec, field, bad) for bad in (room.AdamW, "AdamW", None, [old]))


def test_every_public_spec_has_an_example() -> None:
    public = {kind for name in room.__all__ if is_dataclass(kind := getattr(room, name))}
    assert {type(spec) for spec in EXAMPLES} == public


@pytest.mark.parametrize(("spec", "field", "bad"), list(bad_values()))
def test_nonsense_in_a_field_is_refused_when_the_spec_is_made(spec, field, bad) -> None:
    with pytest.raises(RecipeError, match=field if field != "inner" else type(spec).__name__):
        replace(spec, **{field: bad})


def test_what_is_refused_says_what_to_write() -> None:
    with pytest.raises(RecipeError, match="scale='match_rms_adamw'"):
        room.Muon(lr=0.02, adam=ADAM, scale="match_rms_adam")


@pytest.mark.parametrize("other", [room.SGD(lr=0.1), room.NAdamW()])
def test_beside_muon_stands_adamw_and_nothing_else(other) -> None:
    with pytest.raises(RecipeError, match=r"Muon\.adam"):
        room.Muon(lr=0.02, adam=other)


@pytest.mark.parametrize(
    "bad", [[("*", ADAM)], None, ADAM, {1: ADAM}, {"*": 0.1}, {"*": room.AdamW}, {}]
)
def test_groups_are_a_mapping_of_patterns_to_specs(bad) -> None:
    with pytest.raises(RecipeError, match="Groups"):
        room.Groups(bad)
