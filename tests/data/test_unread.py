from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_helpers import ctx, pair_store, preference_store, text_store
from thalweg.core.batch import Batch
from thalweg.core.lazy import Lazy
from thalweg.core.protocols import Context, Source, State
from thalweg.core.time import Time
from thalweg.data import Corpus, Mixture, Ordered, Pairs, Preferences
from thalweg.data.mixture import weights_at
from thalweg.data.unread import Addressed, are_addressed
from thalweg.schedules import Blend


@dataclass(frozen=True)
class Whole:
    """Hides that a source can say where its rows lie."""

    source: Any

    @property
    def makes(self) -> tuple[str, ...]:
        return self.source.makes

    @property
    def names(self) -> tuple[str, ...]:
        return self.source.names

    def start(self, ctx: Context) -> State:
        return self.source.start(ctx)

    def room(self, state: State, ctx: Context) -> int:
        return self.source.room(state, ctx)

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        return self.source.next(state, ctx)


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Source]]:
    """Sources that make the same columns, some of them with rows that are not full."""
    folder = tmp_path_factory.mktemp("stores")
    one, two = (text_store(folder, [letter * n for n in (9, 30, 4)], letter) for letter in "ab")
    asked = pair_store(folder, [("x" * n, "y" * (9 - n)) for n in range(1, 9)])
    better = preference_store(folder, [("p", "good" * n, "bad") for n in range(1, 4)])
    options: Any = {"length": 16, "overlong": "cut"}
    return [
        {
            "a": Corpus(one, length=16),
            "b": Corpus(two, length=16, shuffle=False, max_epochs=3),
            "c": Ordered(one, length=16),
            "d": Pairs(asked, **options),
        },
        {"a": Preferences(better, **options), "b": Preferences(better, name="b", **options)},
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1), st.data())
def test_addressed_sources_make_the_batches_that_their_joined_ones_are(groups, number, data):
    sources = groups[number]
    some = st.lists(st.floats(0.0, 5.0), min_size=len(sources), max_size=len(sources))
    first, last = (data.draw(some.filter(lambda ws: ws[0] > 0)) for _ in range(2))
    weights = Blend(dict(zip(sources, first, strict=True)), dict(zip(sources, last, strict=True)))
    plain = {name: Whole(source) for name, source in sources.items()}
    assert are_addressed(sources.values())
    assert not are_addressed(plain.values())
    quick, slow = Mixture(sources, weights), Mixture(plain, weights)
    one, two = quick.start(ctx()), slow.start(ctx())
    for step, rows in enumerate(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))):
        now = ctx(rows, step=step, steps=6)
        numbers = weights_at(weights, now.time, tuple(sources))
        found, one = replace(quick, weights=numbers).next(one, now)
        wanted, two = replace(slow, weights=numbers).next(two, now)
        assert one == two
        assert set(found) == set(wanted)
        backwards = np.arange(rows)[::-1]
        for name in found:
            assert found[name].dtype == wanted[name].dtype
            assert torch.equal(found[name], wanted[name]), name
            assert torch.equal(found.take(backwards)[name], wanted[name].flip(0)), name


def test_texts_and_documents_stay_unread_and_weights_do_not(groups):
    mixed = Mixture(groups[0], dict.fromkeys(groups[0], 1.0))
    batch, _ = mixed.next(mixed.start(ctx()), ctx(8))
    unread = {name for name in batch if isinstance(batch.column(name), Lazy)}
    assert unread == {"tokens", "document"}
    assert batch["source"].tolist() == [0, 1, 2, 3] * 2


def test_sources_of_other_columns_are_joined(groups):
    bare = replace(groups[0]["a"], mask_documents=False)
    assert isinstance(bare, Addressed)
    mixed = Mixture({"a": bare, "b": groups[0]["b"]}, {"a": 1.0, "b": 1.0})
    batch, _ = mixed.next(mixed.start(Context(Time(0, 9))), Context(Time(0, 9), rows=4))
    assert batch["document"].shape == (4, 17)
    assert batch["document"][0].unique().tolist() == [0]
