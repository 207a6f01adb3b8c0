from pathlib import Path

import pytest

from thalweg.data.medu import level_of, medu
from thalweg.data.weights import utilimax
from thalweg.errors import DataError

TASKS = {"sums": ["2+2=4"], "law": ["May he sue?"]}
DOCUMENTS = {"maths": ["1 plus 1", "3 plus 4"], "courts": ["the judge", "lorem"]}


class Model:
    """A language model that looks for words."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        if "examples of a test" in prompt:
            return "numbers" if "2+2" in prompt else "justice"
        wanted = "plus" if "numbers" in prompt else "judge"
        return f"It may be okay. {'GREAT' if wanted in prompt else 'Useless'}."


def test_utilities_are_mean_levels_and_lead_to_weights(tmp_path: Path):
    model, said = Model(), []
    found = medu(model, TASKS, DOCUMENTS, tmp_path / "c.jsonl", price=(4e6, 8e6), say=said.append)
    assert found.utility == {
        "maths": {"sums": 1.0, "law": 0.0},
        "courts": {"sums": 0.0, "law": 0.5},
    }
    assert found.asked == len(model.prompts) == 2 + 2 * 4
    assert found.sent == sum(map(len, model.prompts))
    assert f"{found.sent + 2 * found.received:,.2f} spent" in said[0]
    weights = utilimax(found.utility, {"maths": 1e9, "courts": 1e9}, 1e9)
    assert weights["maths"] + weights["courts"] == pytest.approx(1.0)


def test_nothing_is_asked_twice(tmp_path: Path):
    cache = tmp_path / "c.jsonl"
    first = medu(Model(), TASKS, DOCUMENTS, cache, say=lambda text: None)
    cache.write_text(cache.read_text()[:-20])  # killed within the last line
    model = Model()
    again = medu(model, TASKS, DOCUMENTS, cache, say=lambda text: None)
    assert again.utility == first.utility
    assert again.asked == len(model.prompts) == 1


def test_answers_that_cannot_be_read_are_counted_or_refused(tmp_path: Path):
    def shy(prompt: str) -> str:
        return "I cannot say." if "lorem" in prompt else "good"

    found = medu(shy, TASKS, DOCUMENTS, tmp_path / "a", say=lambda text: None)
    assert found.unread == 2
    assert found.utility["courts"]["law"] == 0.75
    with pytest.raises(DataError, match="I cannot"):
        medu(lambda prompt: "I cannot", TASKS, DOCUMENTS, tmp_path / "b")
    with pytest.raises(DataError, match="source 'web' without text"):
        medu(shy, TASKS, {"web": []}, tmp_path / "a")


def test_the_last_level_named_counts():
    assert level_of("great? no: poor") == 0.25
    assert level_of("greatest") is None
