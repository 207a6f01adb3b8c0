"""The toys of the atlas: text of known entropy, and many runs that do not disturb each other."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from thalweg.atlas import kit
from thalweg.atlas import race as racing
from thalweg.atlas.kit import Markov
from thalweg.atlas.race import race, rates
from thalweg.core.protocols import Context
from thalweg.core.time import Time
from thalweg.schedules import Constant, Linear


def take(source: Markov, row: int, rows: int, seed: int = 0) -> np.ndarray:
    ctx = Context(Time(), seed, rows=rows)
    state = json.loads(json.dumps({"row": row}))
    return source.next(state, ctx)[0]["tokens"].numpy()


def test_the_text_is_a_function_of_key_seed_and_row():
    source = Markov()
    assert (take(source, 32, 4) == take(source, 32, 4)).all()
    assert (take(source, 32, 4) != take(source, 36, 4)).any()
    assert (take(source, 32, 4) != take(source, 32, 4, seed=1)).any()
    assert (take(source.held_out, 0, 4) == take(source.held_out, 0, 4, seed=1)).all()


def test_the_next_token_follows_the_language():
    source = Markov()
    odds = kit._language(64, 0, 0.0)
    np.testing.assert_allclose(odds.sum(axis=2), 1.0)
    rows = take(source.held_out, 0, 2000)
    a, b, c = rows[:, :-2].ravel(), rows[:, 1:-1].ravel(), rows[:, 2:].ravel()
    loss = -np.log(odds[a, b, c]).mean()
    expected = -(odds[a, b] * np.log(odds[a, b])).sum(axis=1).mean()
    assert loss == pytest.approx(expected, abs=0.01)
    assert loss == pytest.approx(source.entropy, abs=0.01)


def test_a_shift_changes_its_share_of_the_language():
    plain, shifted = kit._language(64, 0, 0.0), kit._language(64, 0, 0.25)
    same = (plain == shifted).all(axis=2).mean()
    assert same == pytest.approx(0.75**2, abs=0.1)  # both lines of a context must stay
    assert (kit._language(64, 1, 0.0) != plain).any()


def test_training_and_held_out_text_share_the_language_and_not_the_rows():
    train, held = take(Markov(), 0, 2000), take(Markov().held_out, 0, 2000)
    counts = [np.bincount(rows.ravel(), minlength=64) / rows.size for rows in (train, held)]
    np.testing.assert_allclose(*counts, atol=0.01)
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in held}


def test_python_text_has_a_part_that_is_not_trained_on():
    train, held = kit.python_text(), kit.python_text(held_out=True)
    assert train.size > 5 * held.size > 0
    assert train.vocabulary == 257


def test_a_run_is_the_same_alone_and_among_others():
    table = rates([Constant(1e-2), Linear(3e-2, 0.0), Constant(1e-3)], 5)
    together, alone = race(table, 3), race(table[1:2], 3)
    np.testing.assert_allclose(together.loss[1], alone.loss[0], rtol=1e-5)
    np.testing.assert_allclose(together.heldout[1], alone.heldout[0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_a_run_is_what_torchs_optimizer_makes(kind):
    table = rates([Linear(3e-2, 0.0)], 6)
    weights = list(racing._fresh(1, 64, 0).weights)
    optimizer = (
        torch.optim.Adam(weights, betas=racing.BETAS, eps=racing.EPS)
        if kind == "adam"
        else torch.optim.SGD(weights, momentum=0.9)
    )
    losses, norms = [], []
    for step, rate in enumerate(table[0]):
        loss = racing._losses(weights, torch.from_numpy(take(Markov(), 4 * step, 4))).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = rate
        flat = torch.cat([w.grad.flatten() for w in weights])
        losses.append(float(loss.detach()))
        norms.append(float(flat.abs().sum() if kind == "adam" else flat.norm()))
        optimizer.step()
    found = race(table, 0, optimizer=kind)
    np.testing.assert_allclose(found.loss[0], losses, rtol=1e-5)
    np.testing.assert_allclose(found.norm[0], norms, rtol=1e-4)


def test_a_run_that_diverges_is_infinite_and_the_others_go_on():
    found = race(np.array([[1e-2] * 8, [1e38] * 8]), 0)
    assert np.isfinite(found.final[0])
    assert np.isinf(found.final[1])


def test_measurements_count_the_updates_before_them():
    found = race(rates([Constant(1e-2)], 6), 0, measure=(0, 3))
    assert found.steps.tolist() == [0, 3, 6]
    assert found.heldout.shape == (1, 3)
    short = race(rates([Constant(1e-2)], 3), 0)
    assert found.heldout[0, 1] == pytest.approx(short.final[0], rel=1e-6)


def test_a_race_can_go_on_and_be_forked():
    first = race(rates([Constant(1e-2), Constant(3e-3)], 4), 0)
    kept = [w.detach().clone() for w in first.end.weights]
    forks = race(rates([Constant(1e-2)] * 3, 3), 0, start=first.end.pick([0, 0, 1]))
    assert (forks.loss[0] == forks.loss[1]).all()
    assert (forks.loss[1] != forks.loss[2]).any()
    assert forks.end.updates == 7
    assert all((a == b).all() for a, b in zip(kept, first.end.weights, strict=True))


def test_runs_with_texts_of_their_own_are_what_they_are_alone():
    texts = (Markov(), Markov(key=1), Markov())
    table = rates([Constant(1e-2)] * 3, 4)
    found = race(table, 2, text=texts)
    np.testing.assert_allclose(found.loss[0], found.loss[2], rtol=1e-6)
    for run, text in enumerate(texts):
        alone = race(table[:1], 2, text=text, on=text)
        np.testing.assert_allclose(found.loss[run], alone.loss[0], rtol=1e-5)
        there = racing.held_out(found.end, text)[run]
        assert there == pytest.approx(alone.final[0], rel=1e-5)


def test_a_nano_decoder_learns_the_text():
    from thalweg.atlas.runs import final, history
    from thalweg.optim import AdamW

    recipe = replace(kit.lm(AdamW(lr=1e-2), 40, rows=8), seed=1)
    assert final(history(recipe))["heldout/loss"] < 3.8 < np.log(64)
