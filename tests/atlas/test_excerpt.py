"""Finite toy texts: passes, noise, and that they are part of the text they are taken from."""

import numpy as np

from thalweg.atlas.excerpt import Excerpt
from thalweg.atlas.kit import Markov
from thalweg.core.protocols import Context
from thalweg.core.time import Time

TEXT = Markov(length=16).held_out


def rows(source: Excerpt, count: int, seed: int = 0) -> np.ndarray:
    ctx = Context(Time(0), seed, rows=count)
    return source.next(source.start(ctx), ctx)[0]["tokens"].numpy()


def test_every_pass_has_the_same_windows_in_another_order():
    found = rows(Excerpt(TEXT, 12, first=3), 24)
    passes = [sorted(map(tuple, part)) for part in (found[:12], found[12:])]
    assert passes[0] == passes[1] == sorted(map(tuple, TEXT.windows(np.arange(3, 15))))
    assert not np.array_equal(found[:12], found[12:])


def test_it_goes_on_where_its_state_says():
    source, ctx = Excerpt(TEXT, 5), Context(Time(0), rows=4)
    first, state = source.next(source.start(ctx), ctx)
    second, _ = source.next(state, ctx)
    whole = rows(source, 8)
    assert np.array_equal(np.concatenate([first["tokens"], second["tokens"]]), whole)


def test_the_last_windows_are_noisy_and_alike_in_every_pass():
    clean, noisy = (rows(Excerpt(TEXT, 10, noisy=part, shuffle=False), 20) for part in (0.0, 0.8))
    changed = (clean != noisy).mean(1)
    assert (changed[[0, 1, 10, 11]] == 0).all()
    assert 0.3 < changed[2:10].mean() < 0.7
    assert np.array_equal(noisy[:10], noisy[10:])
