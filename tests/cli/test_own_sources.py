"""The verbs on runs whose data no recipe of ours names: ordered documents, ids of another tool."""

import json

import numpy as np
import pytest

RECIPE = '''
from thalweg.core.moves import Learn
from thalweg.core.recipe import Phase, Recipe
from thalweg.data import Corpus, Ordered, build
from thalweg.models import Transformer
from thalweg.objectives import NextToken
from thalweg.optim import AdamW


def recipe(steps: int = 2) -> Recipe:
    """Two steps."""
    learn = Learn("policy", NextToken(), AdamW(lr=1e-3))
    model = Transformer(vocabulary=320, width=16, layers=1, heads=1, positions=64)
    return Recipe({{"policy": model}}, (Phase(steps, {source}, (learn,), rows=4),))
'''
ORDERED = 'Ordered(str(build("a.txt", progress=False).train), length=16)'
IDS = 'Corpus("ids.npy", length=16)'


def trained(shell, source: str) -> str:
    (shell.folder / "mine.py").write_text(RECIPE.format(source=source))
    np.save(shell.folder / "ids.npy", (np.arange(5000) * 7 % 300).astype("uint16"))
    code, out, err = shell("train", "mine.py", "--quiet")
    assert code == 0, err
    return str(out)


def test_ordered_documents_are_sampled_shown_measured_and_exported_as_text(shell):
    assert "thalweg sample mine-1" in trained(shell, ORDERED)
    assert (shell.folder / "runs/mine-1/export/tokenizer.json").is_file()
    code, out, err = shell("data", "mine-1", "--step", "1")
    assert code == 0, err
    assert "word" in out
    code, out, err = shell("sample", "mine-1", "--prompt", "word", "--tokens", "3")
    assert code == 0, err
    code, out, err = shell("evaluate", "mine-1", "--data", "b.txt")
    assert code == 0, err
    assert "nats per token" in out


def test_a_run_on_ids_is_shown_and_exported_without_a_tokenizer(shell):
    out = trained(shell, IDS)
    assert "export:" in out
    assert "thalweg sample" not in out
    config = json.loads((shell.folder / "runs/mine-1/export/config.json").read_text())
    assert config["vocab_size"] == 320
    code, out, err = shell("data", "mine-1", "--step", "1")
    assert code == 0, err
    assert "targets\n" in out
    code, _, err = shell("export", "mine-1", "elsewhere")
    assert code == 0, err
    assert not (shell.folder / "elsewhere" / "tokenizer.json").exists()


@pytest.mark.parametrize("verb", [("sample",), ("evaluate", "--data", "b.txt")])
def test_text_for_a_run_on_ids_is_refused(shell, verb):
    trained(shell, IDS)
    code, _, err = shell(verb[0], "mine-1", *verb[1:])
    assert code == 3
    assert "a run on ids, whose tokenizer nobody kept: ids.npy" in err
