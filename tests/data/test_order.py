import hashlib

import numpy as np
import pytest

from thalweg.data.order import order_key, permute


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1000, 10**6])
def test_every_index_comes_exactly_once(size: int):
    found = permute(np.arange(size), size, key=12345)
    assert np.array_equal(np.sort(found), np.arange(size))


@pytest.mark.parametrize(
    ("size", "key", "digest"),
    [
        (7, 1, "7dff68f48c31ffce"),
        (1000, order_key(0, "web", 0), "2dd3ef9fd546265a"),
        (1000, order_key(0, "web", 1), "9c453a806fc3de5b"),
        (10**9, order_key(7, "code", 3), "1ce714d9671cad56"),
    ],
)
def test_the_order_of_version_1_never_changes(size: int, key: int, digest: str):
    first = permute(np.arange(min(size, 10_000)), size, key)
    assert hashlib.blake2b(first.tobytes(), digest_size=8).hexdigest() == digest


def test_two_epochs_have_nothing_in_common():
    one, two = (permute(np.arange(10**5), 10**5, order_key(0, "web", e)) for e in (0, 1))
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.01
    assert abs(np.corrcoef(one, np.arange(10**5))[0, 1]) < 0.01
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.01


def test_all_orders_of_four_things_come_about_equally_often():
    found: dict[tuple[int, ...], int] = {}
    for key in range(4800):
        order = tuple(permute(range(4), 4, key).tolist())
        found[order] = found.get(order, 0) + 1
    assert len(found) == 24
    assert 130 < min(found.values())
    assert max(found.values()) < 270


def test_one_index_of_twenty_million_needs_no_table():
    assert 0 <= int(permute([19_999_999], 20_000_000, 5)[0]) < 20_000_000
