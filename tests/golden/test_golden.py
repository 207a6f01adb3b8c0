"""Losses and gradient norms of small runs, step by step, as they were when they were written down.

Muon orthogonalises in bfloat16, which makes steps out of rounding: only its first steps are held.
A change of these numbers is a change of what is computed: it needs a sentence in docs/log.md. To
write them anew: `python tests/golden/test_golden.py`.
"""

import json
import sys
from pathlib import Path

import pytest
import torch

from core_helpers import play
from data_helpers import text_store
from lab import Linear2, Lines, Squared
from thalweg.core.moves import Copy, Learn
from thalweg.core.recipe import CopyOf, Phase, Recipe
from thalweg.core.time import share, steps
from thalweg.data import Corpus, Mixture
from thalweg.models import Transformer
from thalweg.objectives import NextToken
from thalweg.optim import SGD, AdamW, Muon
from thalweg.schedules import Blend, Linear, Wsd

FILE = Path(__file__).with_name("losses.json")
STEPS = 30
DECODER = Transformer(vocabulary=257, width=32, layers=2, heads=2, positions=24, tied=True)


def corpora(folder: Path) -> dict[str, Corpus]:
    texts = {
        "prose": [f"{i} times to be or not to be, that is the question" for i in range(40)],
        "sums": [f"{i} + {i * i} = {i + i * i}" for i in range(90)],
    }
    stores = {name: text_store(folder, lines, name) for name, lines in texts.items()}
    return {name: Corpus(store, length=24, name=name) for name, store in stores.items()}


def ramp_with_adam(folder: Path) -> Recipe:
    source = Mixture(corpora(folder), Blend({"prose": 9, "sums": 1}, {"prose": 1, "sums": 9}))
    rate = Wsd(4e-3, warmup=steps(4), decay=share(0.2))
    learn = Learn("policy", NextToken(), AdamW(lr=rate), micro=96)
    return Recipe({"policy": DECODER}, (Phase(STEPS, source, (learn,), rows=Linear(4, 12)),))


def prose_with_muon(folder: Path) -> Recipe:
    optimizer = Muon(lr=Linear(0.02, 0.0), adam=AdamW(lr=Linear(3e-3, 0.0)))
    learn = Learn("policy", NextToken(), optimizer, passes=2, minibatch=4)
    return Recipe({"policy": DECODER}, (Phase(STEPS, corpora(folder)["prose"], (learn,), rows=8),))


def line_with_an_average(folder: Path) -> Recipe:
    do = (Learn("policy", Squared(), SGD(0.05, momentum=0.9)), Copy("policy", "mean", mix=0.1))
    models = {"policy": Linear2(hidden=8), "mean": CopyOf("policy")}
    return Recipe(models, (Phase(STEPS, Lines(), do, rows=8),))


RECIPES = (ramp_with_adam, prose_with_muon, line_with_an_average)


def curve(recipe: Recipe) -> dict[str, list[float]]:
    history = play(recipe)[2].history
    return {name: [row[name] for row in history] for name in ("loss", "grad_norm")}


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("make", RECIPES, ids=lambda make: make.__name__)
def test_a_run_computes_what_it_always_did(make, tmp_path, one_thread):
    written = json.loads(FILE.read_text())[make.__name__]
    rounding = make is prose_with_muon
    for name, values in curve(make(tmp_path)).items():
        assert len(values) == STEPS
        exact = 4 if rounding else STEPS
        tolerance = 5e-3 if rounding else 1e-5
        assert values[:exact] == pytest.approx(written[name][:exact], rel=tolerance)
        if name == "loss":
            assert values[-1] == pytest.approx(written[name][-1], rel=0.05)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    FILE.write_text(json.dumps({m.__name__: curve(m(folder)) for m in RECIPES}, indent=1) + "\n")
