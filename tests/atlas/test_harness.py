"""The harness: what is finished is kept, what has changed is run again, seeds are paired."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import thalweg.atlas.listing as listing
from thalweg.atlas import kit, measure, reproduce, verbs
from thalweg.atlas.runs import history
from thalweg.core.claim import Size
from thalweg.errors import DialError, NotReproduced, RecipeError
from thalweg.optim import AdamW

TOY = '''
"""A coin that falls on its seed."""
from thalweg.atlas.verdict import lower
from thalweg.core.claim import Claim

def arms(size):
    def count(seed, way):
        with open({log!r}, "a") as file:
            file.write(f"{{way}}{{seed}} ")
        if {fails} and seed == 1:
            raise KeyboardInterrupt
        return {{"loss": {value} + seed}}
    return {{"up": lambda seed: count(seed, "u"), "down": lambda seed: count(seed, "d")}}

def judge(results):
    return lower(results.of("up", "loss"), results.of("down", "loss"), "up minus down", by={by})

claim = Claim(paper="a book", statement="{words}", arms=arms, judge=judge, seeds=3, deviations="-")
'''


class Folder:
    """A folder with one entry, `toy`, in place of the atlas's."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch) -> None:
        self.path, self.log = path / "toy.py", path / "log"
        patch.setenv("THALWEG_HOME", str(path / "home"))
        patch.setattr(listing, "__file__", str(path / "listing.py"))
        patch.setattr(listing.importlib, "import_module", self._import)
        self.write()

    def write(self, *, fails: bool = False, value: float = 1.0, words: str = "x", by: float = 0.0):
        self.log.write_text("")
        text = TOY.format(log=str(self.log), fails=fails, value=value, words=words, by=by)
        self.path.write_text(text)

    def _import(self, name: str):
        spec = importlib.util.spec_from_file_location(name, self.path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @property
    def ran(self) -> list[str]:
        return self.log.read_text().split()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Folder:
    return Folder(tmp_path, monkeypatch)


def test_every_arm_gets_every_seed_once_and_the_second_time_none(folder):
    found = reproduce("toy")
    assert folder.ran == ["u0", "d0", "u1", "d1", "u2", "d2"]
    assert found.seeds == 3
    assert found.results.of("up", "loss").tolist() == [1.0, 2.0, 3.0]
    assert reproduce("toy").verdict == found.verdict
    assert len(folder.ran) == 6


def test_more_seeds_run_only_what_is_missing(folder):
    reproduce("toy", seeds=1)
    reproduce("toy", seeds=2)
    assert folder.ran == ["u0", "d0", "u1", "d1"]


def test_an_experiment_that_was_killed_goes_on(folder, tmp_path):
    folder.write(fails=True)
    with pytest.raises(KeyboardInterrupt):
        reproduce("toy")
    kept = json.loads((tmp_path / "home/atlas/toy/small/results.json").read_text())
    assert sorted(kept["arms"]) == ["down", "up"]
    assert list(kept["arms"]["up"]) == ["0"]


def test_other_words_keep_the_numbers_and_other_code_does_not(folder):
    reproduce("toy", seeds=2)
    folder.write(words="another sentence")
    reproduce("toy", seeds=2)
    assert folder.ran == []
    folder.write(value=2.0)
    assert reproduce("toy", seeds=2).results.of("up", "loss").tolist() == [2.0, 3.0]


def test_tiny_and_small_are_kept_apart_and_tiny_has_two_seeds(folder):
    assert reproduce("toy", Size("tiny")).seeds == 2
    reproduce("toy")
    assert len(folder.ran) == 4 + 6


def test_no_seed_and_no_such_entry_are_refused(folder):
    with pytest.raises(DialError, match="1 or more"):
        reproduce("toy", seeds=0)
    with pytest.raises(RecipeError, match="did you mean 'toy'"):
        reproduce("tyo")


def test_strict_fails_after_the_table_on_a_claim_that_is_not_reproduced(folder, capsys):
    folder.write(by=1.0)
    with pytest.raises(NotReproduced, match="toy at size tiny"):
        verbs.reproduced(["toy"], "tiny", None, None, strict=True)
    assert "not reproduced" in capsys.readouterr().out


def test_a_recipe_arm_is_trained_with_the_seed_and_reports_its_last_numbers():
    recipe = kit.lm(AdamW(lr=1e-2), 4, rows=2)
    a, b, again = measure(recipe, 0), measure(recipe, 1), measure(recipe, 0)
    assert a == again
    assert a["loss"] != b["loss"]
    assert a["step"] == 4
    assert 3.0 < a["heldout/loss"] < 5.0


def test_a_run_that_diverges_ends_with_an_infinite_loss():
    recipe = kit.lm(AdamW(lr=1e30), 6, rows=2)
    rows = history(recipe)
    assert rows[-1]["loss"] == float("inf")
    assert len(rows) < 7


def test_what_is_not_a_number_is_refused():
    with pytest.raises(RecipeError, match="'loss' of type str"):
        measure(lambda seed: {"loss": "low"}, 0)


def test_the_list_imports_no_entry():
    before = set(sys.modules)
    text = verbs.listed(["rex"])
    assert "arXiv:2107.04197" in text
    assert "thalweg.atlas.rex" not in set(sys.modules) - before
