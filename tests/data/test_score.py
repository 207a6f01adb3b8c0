import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data_helpers import REAL, text_store
from thalweg.data import mean_loss, open_scores, open_store, perplexity, score_documents
from thalweg.data.score import (
    coefficient_of_variation,
    groups,
    history_score,
    lengths,
    pass_rate,
    write_scores,
)
from thalweg.data.store import Store
from thalweg.errors import DataError
from thalweg.models import Transformer

TEXTS = ["abc", "de", "fghi", "v", "j", "klmnopqrstu"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(text_store(tmp_path, TEXTS))


def test_a_column_has_one_number_a_document(store: Store, tmp_path: Path):
    scores = score_documents(store, tmp_path / "s", "length", lengths, block=4)
    assert scores["length"].tolist() == [len(text) + 1 for text in TEXTS]
    assert dict(scores).keys() == {"length"}
    assert open_scores(tmp_path / "s", store)["length"].dtype == np.float32


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_killed_scoring_goes_on_and_gives_the_same(store: Store, tmp_path: Path, cut: int):
    seen: list[int] = []

    def measure(texts) -> np.ndarray:
        if len(seen) == 2 and not (tmp_path / "again").exists():
            raise KeyboardInterrupt
        seen.extend(len(text) for text in texts)
        return lengths(texts)

    with pytest.raises(KeyboardInterrupt):
        score_documents(store, tmp_path / "s", "length", measure, block=2)
    with open(tmp_path / "s" / "length.part", "ab") as part:
        part.write(b"x" * cut)  # killed within a number
    (tmp_path / "again").touch()
    scores = score_documents(store, tmp_path / "s", "length", measure, block=2)
    assert scores["length"].tolist() == seen == [len(text) + 1 for text in TEXTS]
    score_documents(store, tmp_path / "s", "length", lambda texts: 1 / 0)  # finished: not asked


def test_columns_stand_side_by_side_and_are_replaced(store: Store, tmp_path: Path):
    write_scores(store, tmp_path / "s", {"a": range(6), "b": range(6)})
    first = open_scores(tmp_path / "s", store).digests
    write_scores(store, tmp_path / "s", {"b": [0, 0, 0, 0, 0, 1]})
    second = open_scores(tmp_path / "s", store)
    assert second["b"].tolist() == [0, 0, 0, 0, 0, 1]
    assert (first["a"] == second.digests["a"], first["b"] == second.digests["b"]) == (True, False)


def test_bad_numbers_and_damaged_columns_are_refused(store: Store, tmp_path: Path):
    with pytest.raises(DataError, match="score nan of document 3"):
        write_scores(store, tmp_path / "s", {"a": [0, 1, 2, float("nan"), 4, 5]})
    with pytest.raises(DataError, match=r"shape \(5,\)"):
        write_scores(store, tmp_path / "s", {"a": range(5)})
    bad = lambda texts: np.array([np.inf if len(t) == 5 else 0 for t in texts])  # noqa: E731
    with pytest.raises(DataError, match="score inf of document 2"):
        score_documents(store, tmp_path / "s", "a", bad, block=2)
    write_scores(store, tmp_path / "s", {"a": range(6)})
    (tmp_path / "s" / "a.f32").write_bytes(b"1234")
    with pytest.raises(DataError, match="this column is damaged"):
        open_scores(tmp_path / "s", store)["a"]
    with pytest.raises(DataError, match="one of: a"):
        open_scores(tmp_path / "s", store)["c"]
    with pytest.raises(DataError, match=r"no scores\.json"):
        open_scores(tmp_path / "nothing", store)


def test_the_loss_of_a_document_is_the_mean_over_its_targets(store: Store):
    model = Transformer(vocabulary=257, width=16, layers=1, heads=2, positions=8).build(3).eval()
    texts = [np.array([256, *text.encode()]) for text in TEXTS]
    wanted = []
    for text in texts:
        ids = torch.from_numpy(text[:9])
        with torch.no_grad():
            logprobs = model(ids[None, :-1])[0].log_softmax(-1)
        wanted.append(-float(logprobs.gather(1, ids[1:, None]).mean()))
    for tokens in (4, 20, 1000):
        found = mean_loss(model, length=8, tokens=tokens)(texts)
        assert found == pytest.approx(wanted, rel=1e-5)
    assert perplexity(model, length=8)(texts) == pytest.approx(np.exp(wanted), rel=1e-5)
    assert mean_loss(model)([np.array([256])]).tolist() == [0.0]


def test_groups_hold_every_text_once_and_little_filling():
    draw = np.random.default_rng(0)
    texts = [draw.integers(0, 9, size) for size in draw.integers(1, 40, 50)]
    found = list(groups(texts, 30, 128))
    assert sorted(np.concatenate([group.which for group in found]).tolist()) == list(range(50))
    for group in found:
        assert group.ids.size <= 128
        for which, row in zip(group.which, group.ids, strict=True):
            assert row[row >= 0].tolist() == texts[which][:30].tolist()


def test_pass_rates_and_variation_by_hand():
    scores = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0.5, 0.5, 0]])
    assert pass_rate(scores).tolist() == [0.5, 0.0, 0.5]
    assert pass_rate(scores, prior=1.0).tolist() == [0.5, 1 / 6, 0.5]
    found = coefficient_of_variation(scores)
    assert found == pytest.approx([1.0, np.inf, np.sqrt(0.125) / 0.5])
    p = np.array([0.25, 0.5, 0.75])
    binary = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]])
    assert coefficient_of_variation(binary) == pytest.approx(np.sqrt((1 - p) / p))


def test_the_index_is_plain_json(store: Store, tmp_path: Path):
    write_scores(store, tmp_path / "s", {"a": range(6)})
    index = json.loads((tmp_path / "s" / "scores.json").read_text())
    assert index["fingerprint"] == store.fingerprint
    assert index["documents"] == 6


def test_the_order_of_a_published_history_is_the_published_one():
    path = REAL / "one-shot-rlvr" / "oneshot_acc_step_500.json"
    if not path.is_file():
        pytest.skip("the published histories are not beside the repository")
    history = json.loads(path.read_text())
    score = history_score(list(history.values()))
    best = [list(history)[place] for place in np.argsort(-score)[:5]]
    assert best == ["124", "267", "531", "931", "212"]
    assert score.max() == pytest.approx(0.407, abs=5e-4)
