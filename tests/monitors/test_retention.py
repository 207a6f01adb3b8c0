"""Recognition and recall on models whose memory is known."""

from itertools import combinations
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from data_helpers import text_store
from thalweg.core.learner import Learner
from thalweg.core.protocols import Context, Scored
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.data import Corpus
from thalweg.errors import DialError
from thalweg.evaluate import continued
from thalweg.models import Transformer
from thalweg.monitors import Memory
from thalweg.monitors.retention import recalled, recognised, rouge_l

SHORT = st.lists(st.integers(0, 3), max_size=6)


class Alphabet(nn.Module):
    """Knows that every byte is followed by the next one, and nothing else."""

    def __init__(self, sure: float) -> None:
        super().__init__()
        self.sure = nn.Parameter(torch.tensor(sure))

    def forward(self, tokens_RT, document_RT=None, *, targets_RT=None, weight_RT=None):
        logits = self.sure * nn.functional.one_hot((tokens_RT + 1) % 257, 257).float()
        if targets_RT is None:
            return logits
        return Scored(None, logits.log_softmax(-1).gather(-1, targets_RT[..., None])[..., 0])


def corpus(folder: Path, name: str, text: str) -> Corpus:
    return Corpus(text_store(folder, [text], name), length=8, shuffle=False, name=name)


def measured(folder: Path, sure: float) -> dict[str, float]:
    study = corpus(folder, "study", "abcdefghijklmnopqrstuvwxyz")
    foils = corpus(folder, "foils", "azbycxdwevfugthsirjqkplomn")
    ctx = Context(Time(0, 1), models={"policy": Learner("policy", Alphabet(sure), World())})
    return dict(Memory(study, foils, rows=3)(ctx))


def test_a_model_that_knows_the_text_recognises_and_recalls_it(tmp_path):
    found = measured(tmp_path, 5.0)
    assert found["memory/recognition"] == 1.0
    assert found["memory/recall"] == found["memory/rouge"] == 1.0


def test_a_model_that_knows_nothing_is_at_chance(tmp_path):
    found = measured(tmp_path, 0.0)
    assert found["memory/recognition"] == 0.5
    assert found["memory/recall"] == 0.0


def test_greedy_keeps_the_cue_and_fills_the_row():
    learner = Learner("policy", Alphabet(1.0), World())
    for length in (3, 4):
        rows = continued(learner, torch.tensor([[5, 7], [7, 5]]), length)
        assert rows.tolist() == [[5, 7, 8, 9][:length], [7, 5, 6, 7][:length]]


def test_a_row_may_end_behind_the_last_position_of_a_decoder():
    spec = Transformer(
        vocabulary=9, width=16, layers=2, heads=2, positions=6, qk_norm=True, initial_std=0.5
    )
    module = spec.build(0)
    rows = torch.tensor([[1, 2], [3, 4], [5, 6]])
    for _ in range(5):  # the slow way: every token a pass over the whole row
        rows = torch.cat([rows, module(rows)[:, -1:].argmax(-1)], 1)
    assert torch.equal(continued(Learner("policy", module, World()), rows[:, :2], 7), rows)


def test_pairs_are_compared_one_by_one():
    assert recognised([1.0, 9.0], [2.0, 10.0]) == 1.0
    assert recalled([[1, 2], [3, 4]], [[1, 0], [0, 4]]) == 0.5


def common(one: list[int], other: list[int]) -> int:
    """The longest common subsequence by trying all."""
    for size in range(len(one), 0, -1):
        theirs = set(combinations(other, size))
        if any(part in theirs for part in combinations(one, size)):
            return size
    return 0


@given(SHORT, SHORT)
def test_rouge_is_the_longest_common_subsequence(one, other):
    assert rouge_l(one, other) == 2 * common(one, other) / max(len(one) + len(other), 1)


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"cue": 0.0}, {"cue": 1.0}])
def test_no_rows_and_no_share_are_refused(wrong):
    with pytest.raises(DialError, match="a cue between 0 and 1"):
        Memory(None, None, **wrong)
