"""Randomness is a function of the seed and a key."""

from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.rng import key_seed, rng

GOLDEN_SEED = 12129648912486487604
GOLDEN_INTEGERS = [159705139, 30704924, 587174275, 557567008]
GOLDEN_NORMALS = [-1.4733643954144928, -0.8489921513232754]
KEYS = st.lists(st.one_of(st.integers(0, 99), st.text("ab1", max_size=3)), max_size=4)


def test_draws_never_change_between_versions():
    assert key_seed(0, "model", "policy") == GOLDEN_SEED
    assert rng(7, "minibatch", 3).integers(1 << 30, size=4).tolist() == GOLDEN_INTEGERS
    assert rng(7, "noise").normal(size=2).tolist() == GOLDEN_NORMALS


@given(st.integers(0, 99), KEYS, st.integers(0, 99), KEYS)
def test_other_keys_give_other_seeds(first, key, second, other):
    same = first == second and [(type(k), k) for k in key] == [(type(k), k) for k in other]
    assert (key_seed(first, *key) == key_seed(second, *other)) == same


def test_drawing_leaves_no_trace():
    one = rng(0, "a")
    one.normal(size=100)
    assert rng(0, "a").integers(1000) == rng(0, "a").integers(1000)
