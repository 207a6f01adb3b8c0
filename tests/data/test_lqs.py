"""The co-state and the scores against finite differences and a loop over documents."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_helpers import text_store
from thalweg.data import open_store
from thalweg.data.lqs import learnability, row_loss, standardised, sweep
from thalweg.data.regress import score_learnability
from thalweg.errors import DataError, Diverged
from thalweg.models import Transformer

RATE, STEPS = 0.3, 7
MODEL = Transformer(vocabulary=11, width=8, layers=1, heads=2, positions=6, hidden=8)


def language() -> tuple:
    model = MODEL.build(0).double()
    theta = {name: value.detach() for name, value in model.named_parameters()}
    draw = torch.Generator().manual_seed(1)

    def rows(count: int) -> torch.Tensor:
        return torch.randint(11, (count, 7), generator=draw)

    return row_loss(model), theta, rows(5), [rows(3) for _ in range(STEPS)], rows(4)


def plus(theta, factor, other):
    return {name: value + factor * other[name] for name, value in theta.items()}


def slope(loss, theta, rows):
    """Return the gradient of the mean loss by torch's plain autograd."""
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    mean = torch.stack([loss(leaves, row) for row in rows]).mean()
    return dict(zip(leaves, torch.autograd.grad(mean, list(leaves.values())), strict=True))


def test_a_costate_out_of_proportion_is_refused():
    loss, theta, _, batches, target = language()
    with pytest.raises(Diverged, match=r"a co-state of .* at step \d") as caught:
        list(sweep(loss, theta, batches, target, rate=1000 * RATE))
    assert caught.value.write == "rate=1e+02"


def rest_of_run(loss, theta, batches, target) -> float:
    """Return sum over s >= t of J(theta_s), the run followed from theta_t on."""
    total = 0.0
    for rows in [*batches, None]:
        total += float(torch.stack([loss(theta, row) for row in target]).mean())
        if rows is not None:
            theta = plus(theta, -RATE, slope(loss, theta, rows))
    return total


def test_the_costate_is_the_slope_of_the_rest_of_the_run():
    loss, theta, _, batches, target = language()
    moments = list(sweep(loss, theta, batches, target, rate=RATE, every=3))
    assert [moment.step for moment in moments] == list(reversed(range(STEPS)))
    draw = torch.Generator().manual_seed(2)
    for moment in moments:
        here = plus(moment.theta, -RATE, slope(loss, moment.theta, batches[moment.step]))
        along = {n: torch.randn(v.shape, generator=draw, dtype=v.dtype) for n, v in here.items()}
        ends = [
            rest_of_run(loss, plus(here, sign * 1e-5, along), batches[moment.step + 1 :], target)
            for sign in (1, -1)
        ]
        wanted = (ends[0] - ends[1]) / 2e-5
        found = sum(float((moment.costate[n] * v).sum()) for n, v in along.items())
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("every", [1, 3, 4, 100])
def test_what_is_kept_of_the_run_does_not_change_it(every: int):
    loss, theta, _, batches, target = language()
    first = list(sweep(loss, theta, batches, target, rate=RATE, every=1))
    other = list(sweep(loss, theta, batches, target, rate=RATE, every=every))
    for one, two in zip(first, other, strict=True):
        assert all(torch.equal(one.theta[name], two.theta[name]) for name in theta)
        assert all(torch.equal(one.costate[name], two.costate[name]) for name in theta)


def transcription(loss, theta, proxy, batches, target, every: int) -> np.ndarray:
    """Return the scores as the paper's code makes them, one document and one step at a time."""
    thetas = [theta]
    for rows in batches:
        thetas.append(plus(thetas[-1], -RATE, slope(loss, thetas[-1], rows)))
    costate = slope(loss, thetas[-1], target)
    total, before = np.zeros(len(proxy)), np.ones(len(proxy))
    for step in reversed(range(len(batches))):
        norm = float(sum(v.square().sum() for v in costate.values())) ** 0.5
        if step % every == 0:
            for n, row in enumerate(proxy):
                g = slope(loss, thetas[step], row[None])
                size = float(sum(v.square().sum() for v in g.values())) ** 0.5
                cosine = sum(float((g[k] * costate[k]).sum()) for k in g) / size / norm
                total[n] += RATE * norm * size / before[n] * cosine
                before[n] = size
        leaves = {k: v.clone().requires_grad_() for k, v in thetas[step].items()}
        mean = torch.stack([loss(leaves, row) for row in batches[step]]).mean()
        first = torch.autograd.grad(mean, list(leaves.values()), create_graph=True)
        inner = sum((g * costate[k]).sum() for g, k in zip(first, leaves, strict=True))
        second = dict(zip(leaves, torch.autograd.grad(inner, list(leaves.values())), strict=True))
        more = slope(loss, thetas[step], target)
        costate = {k: costate[k] + more[k] - RATE * second[k] for k in costate}
    return total


@pytest.mark.parametrize(("every", "micro"), [(3, 2), (2, 100)])
def test_scores_are_those_of_a_loop_over_documents(every: int, micro: int):
    loss, theta, proxy, batches, target = language()
    options = {"rate": RATE, "every": every, "micro": micro}
    found = learnability(loss, theta, proxy, batches, target, **options)
    assert found == pytest.approx(transcription(loss, theta, proxy, batches, target, every))


class KilledError(Exception):
    """A process that ends."""


def test_a_killed_sweep_goes_on_from_its_last_visit(tmp_path: Path):
    loss, theta, proxy, batches, target = language()
    whole = learnability(loss, theta, proxy, batches, target, rate=RATE, every=2)
    keep = tmp_path / "sweep.npz"
    for visits in (1, 2, 3):

        def stop(done: int, total: int, visits: int = visits) -> None:
            assert total == 4
            if done == visits:
                raise KilledError

        with pytest.raises(KilledError):
            learnability(
                loss, theta, proxy, batches, target,
                rate=RATE, every=2, keep=keep, progress=stop,
            )  # fmt: skip
    again = learnability(loss, theta, proxy, batches, target, rate=RATE, every=2, keep=keep)
    assert again == pytest.approx(whole, rel=1e-9)


def test_padding_is_no_target():
    loss, theta, proxy, _, _ = language()
    short = proxy[0, :4]
    padded = torch.cat([short, torch.full((3,), -1)])
    assert float(loss(theta, padded)) == pytest.approx(float(loss(theta, short)))


def test_documents_like_the_target_score_above_noise():
    draw = np.random.default_rng(0)
    clean = lambda n: (np.arange(7) + draw.integers(0, 11, (n, 1))) % 11  # noqa: E731
    noise = lambda n: draw.integers(0, 11, (n, 7))  # noqa: E731
    proxy = torch.from_numpy(np.concatenate([clean(12), noise(12)]))
    model = MODEL.build(0)
    theta = {name: value.detach() for name, value in model.named_parameters()}
    batches = [torch.from_numpy(np.concatenate([clean(4), noise(4)])) for _ in range(20)]
    target = torch.from_numpy(clean(16))
    scores = learnability(row_loss(model), theta, proxy, batches, target, rate=0.3, every=5)
    above = (scores[:12, None] > scores[None, 12:]).mean()
    assert above > 0.9  # area under the curve


def test_equal_scores_are_all_average():
    assert standardised(np.ones(3)).tolist() == [0.0, 0.0, 0.0]
    assert standardised(np.array([0.0] * 99 + [1.0]))[-1] == 3.0


# --- on stores


def test_learnability_of_a_store_is_learned_from_a_sample_and_resumes(tmp_path: Path):
    draw = np.random.default_rng(1)
    clean = ["abcdefgh" * 3 for _ in range(40)]
    noise = ["".join(map(chr, draw.integers(97, 123, 24))) for _ in range(40)]
    both = [text for pair in zip(clean, noise, strict=True) for text in pair]
    store = open_store(text_store(tmp_path, both))
    target = open_store(text_store(tmp_path, clean[:8], "target"))
    spec = Transformer(vocabulary=257, width=16, layers=1, heads=2, positions=16)
    options = {"proxy": 40, "steps": 20, "rows": 8, "rate": 0.5, "length": 16, "epochs": 20}
    said: list[str] = []
    scores = score_learnability(
        store, target, tmp_path / "scores", spec, 16, say=said.append, **options
    )
    found = np.array(scores["lqs"])
    assert np.mean(found[::2][:, None] > found[1::2][None]) > 0.9
    assert "correlation" in said[-1]
    (tmp_path / "scores" / "lqs.f32").rename(tmp_path / "scores" / "lqs.part")
    with open(tmp_path / "scores" / "lqs.part", "r+b") as part:
        part.truncate(41)  # killed within a number
    index = tmp_path / "scores" / "scores.json"
    index.write_text(index.read_text().split('"columns"')[0] + '"columns": {}}')
    again = score_learnability(
        store, target, tmp_path / "scores", spec, 16, say=said.append, **options
    )
    assert np.array_equal(again["lqs"], found)
    assert len(said) == 11  # nothing was swept or fitted again


def test_a_target_of_another_tokenizer_is_refused(tmp_path: Path):
    store = open_store(text_store(tmp_path, ["some text"]))
    np.save(tmp_path / "ids.npy", np.arange(9))
    with pytest.raises(DataError, match="one tokenizer for both"):
        score_learnability(store, open_store(tmp_path / "ids.npy"), tmp_path / "s", MODEL, 8)
