import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core_helpers import play
from data_helpers import ctx, text_store
from thalweg.core.batch import Batch
from thalweg.core.moves import Learn
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.time import share
from thalweg.data import Corpus, Cut
from thalweg.errors import DialError
from thalweg.models import Transformer
from thalweg.objectives import NextToken
from thalweg.optim import AdamW
from thalweg.schedules import Staircase


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("cut")
    return Corpus(text_store(folder, ["abcdefghijklm", "nopqrst", "uvwxyz"] * 3), length=12)


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 14), rows=st.integers(1, 6))
def test_no_target_is_lost_or_doubled(text: Corpus, length: int, rows: int):
    batch, _ = text.next(text.start(ctx()), ctx(rows))
    short = Cut(length)(batch, ctx())
    assert short["tokens"].shape == (rows * -(-12 // length), min(length, 12) + 1)

    def pairs(part: Batch) -> list[tuple[int, int]]:
        kept = part["weight"] > 0
        before, after = part["tokens"][:, :-1][kept], part["tokens"][:, 1:][kept]
        return list(zip(before.tolist(), after.tolist(), strict=True))

    assert pairs(short) == pairs(batch)


@settings(max_examples=20, deadline=None)
@given(length=st.integers(1, 12), take=st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_a_lazy_batch_is_cut_as_a_loaded_one_and_read_by_piece(text: Corpus, length: int, take):
    batch, _ = text.next(text.start(ctx()), ctx(4))
    lazy, loaded = Cut(length)(batch, ctx()), Cut(length)(batch.loaded(), ctx())
    mine = [row * (lazy.rows // 4) for row in take]
    for name in lazy:
        assert torch.equal(lazy[name], loaded[name])
        assert torch.equal(lazy.take(mine)[name], loaded[name][mine])


def test_rows_that_are_short_enough_stay_whole(text: Corpus):
    batch, _ = text.next(text.start(ctx()), ctx(2))
    assert Cut(12)(batch, ctx()) is batch
    with pytest.raises(DialError, match="at least 1 target"):
        Cut(0)(batch, ctx())


def test_a_run_grows_its_rows_at_the_same_tokens_a_step(text: Corpus):
    model = Transformer(vocabulary=257, width=8, layers=1, heads=1, positions=12)
    learn = Learn("policy", NextToken(), AdamW(lr=1e-3))
    cut = Cut(Staircase((3, 6, 12), at=(share(0.4), share(0.7))))
    phase = Phase(10, text, (cut, learn), rows=4)
    _, _, memory = play(Recipe({"policy": model}, (phase,)))
    assert [row["dial/cut.length"] for row in memory.history] == [3] * 4 + [6] * 3 + [12] * 3
    plain, _, other = play(Recipe({"policy": model}, (Phase(10, text, (learn,), rows=4),)))
    assert plain.run_tokens == memory.history[-1]["tokens"]
    assert [r["tokens"] for r in memory.history] == [r["tokens"] for r in other.history]
