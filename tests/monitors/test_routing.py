"""Load, specialisation and pathways of routings that are made by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_helpers import text_store
from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.protocols import Context, Routing
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.data import Corpus
from thalweg.errors import DialError, RecipeError
from thalweg.models import Moe, Transformer
from thalweg.monitors import ExpertUse, Pathways
from thalweg.monitors.routing import (
    experts_in_use,
    inconsistency,
    mean_weights,
    path,
    path_distances,
    path_text,
    specialisation,
)

SPEC = Transformer(
    vocabulary=257, width=16, layers=3, heads=2, positions=8, initial_std=0.3,
    moe=Moe(experts=4, top=2, hidden=8),
)  # fmt: skip


def ctx(spec: Transformer = SPEC) -> Context:
    return Context(Time(3, 10), models={"policy": Learner("policy", spec.build(0), World())})


def corpus(folder, name: str, text: str) -> Corpus:
    return Corpus(text_store(folder, [text] * 9, name), length=8, shuffle=False, name=name)


def test_experts_in_use_are_counted_by_entropy():
    even = np.full((2, 8), 3.0)
    assert experts_in_use(even) == pytest.approx([8.0, 8.0])
    assert experts_in_use(np.array([0.0, 4.0, 0.0])) == pytest.approx(1.0)
    assert experts_in_use(np.array([3.0, 1.0])) == pytest.approx(4 / 3**0.75)


def test_rows_may_use_few_experts_while_the_corpus_uses_all():
    rows = np.array([[8.0, 0.0], [0.0, 8.0]])
    assert experts_in_use(rows).mean() == pytest.approx(1.0)  # no balance within a sequence
    assert experts_in_use(rows.sum(0)) == pytest.approx(2.0)  # balance over the corpus


def test_specialisation_is_what_an_expert_says_of_the_source():
    assert specialisation(np.array([[4.0, 4.0], [1.0, 1.0]])) == pytest.approx(0.0)
    assert specialisation(np.array([[9.0, 0.0], [0.0, 1.0]])) == pytest.approx(np.log(2))
    half = specialisation(np.array([[3.0, 1.0], [1.0, 3.0]]))
    assert half == pytest.approx(np.log(2) + 0.75 * np.log(0.75) + 0.25 * np.log(0.25))


def test_a_path_lists_experts_by_weight_until_it_exceeds_the_threshold():
    weight = np.array([0.05, 0.3, 0.45, 0.2])
    assert path(weight) == [2, 1]
    assert path(weight, 0.9) == [2, 1, 3]
    assert path(np.array([0.7, 0.3])) == [0, 1]  # reached is not exceeded
    assert path_text(np.stack([weight, weight[::-1]])) == "2,1-1,2"


@given(st.lists(st.tuples(st.text("ab,-", max_size=7), st.text("ab,-", max_size=7)), min_size=1))
def test_distances_are_those_of_the_definition(pairs):
    def slowly(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i in range(len(a) + 1):
            for j in range(len(b) + 1):
                if not i or not j:
                    table[i][j] = i + j
                    continue
                kept = table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, kept)
        return table[-1][-1]

    assert path_distances(pairs).tolist() == [slowly(a, b) for a, b in pairs]


def test_inconsistency_by_hand():
    straight = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    assert inconsistency(straight) == pytest.approx(0.0, abs=1e-6)
    bent = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    cosines = np.array([0.5**0.5, 0.5**0.5, 1.0])
    assert inconsistency(bent) == pytest.approx(1 - cosines.mean(), abs=1e-6)
    assert np.isnan(inconsistency(np.array([[1.0, 0.0], [-1.0, 0.0]])))
    assert np.isnan(inconsistency(np.ones((1, 3))))


def test_mean_weights_leave_out_what_does_not_count():
    probs = torch.tensor([[[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]])
    empty = torch.zeros(0)

    def model(tokens, document, *, routing):
        return (Routing(probs, empty, empty, empty), Routing(1 - probs, empty, empty, empty))

    batch = Batch({"tokens": torch.zeros(1, 4).long(), "weight": torch.tensor([[1.0, 2.0, 0.0]])})
    assert mean_weights(model, batch).tolist() == [[[0.75, 0.25], [0.25, 0.75]]]


def test_the_monitor_of_use_says_what_the_routers_do(tmp_path):
    here = ctx()
    model = here.models["policy"].module
    sources = {"a": corpus(tmp_path, "a", "aaaaaaaa"), "b": corpus(tmp_path, "b", "bcdefgh")}
    found = ExpertUse(sources, rows=10)(here)
    counts = np.zeros((2, 3, 4))
    rows_used = []
    for place, source in enumerate(sources.values()):
        tokens = source.next(source.start(here), Context(Time(), rows=5))[0]["tokens"]
        document = source.next(source.start(here), Context(Time(), rows=5))[0]["document"]
        for layer, routing in enumerate(model(tokens[:, :-1], document[:, :-1], routing=True)):
            for row in routing.chosen:
                one = np.bincount(row.flatten().numpy(), minlength=4).astype(float)
                counts[place, layer] += one
                rows_used.append(experts_in_use(one))
    total = counts.sum(0)
    assert found["experts/used/row"] == pytest.approx(np.mean(rows_used))
    assert found["experts/used"] == pytest.approx(experts_in_use(total).mean())
    assert found["experts/load"] == pytest.approx((4 * total.max(1) / total.sum(1)).mean())
    assert found["experts/idle"] == (total == 0).sum()
    told = np.mean([specialisation(counts[:, layer]) for layer in range(3)])
    assert found["experts/specialisation"] == pytest.approx(told)
    assert 0 < told < np.log(2)
    assert "experts/load/b" in found


def test_texts_that_are_alike_take_one_way(tmp_path):
    here = ctx()
    with torch.no_grad():
        for block in here.models["policy"].module.blocks:
            block.mixture.router.abs_()  # so that all layers point about the same way
    same = Pathways(corpus(tmp_path, "same", "x" * 64), rows=4)(here)
    other = Pathways(corpus(tmp_path, "other", "the cat sat on it, dogs?"), rows=8)(here)
    assert same["pathway/steps"] <= other["pathway/steps"]
    assert 0 < other["pathway/distance"]
    for found in (same, other):
        assert found["pathway/consistency"] == pytest.approx(1 - found["pathway/inconsistency"])


def test_routers_of_one_direction_are_consistent(tmp_path):
    here = ctx()
    with torch.no_grad():
        for block in here.models["policy"].module.blocks:
            block.mixture.router.copy_(torch.ones(4, 16))
    found = Pathways(corpus(tmp_path, "a", "abcdefgh"), rows=3)(here)
    assert found["pathway/inconsistency"] == pytest.approx(0.0, abs=1e-6)
    assert found["pathway/distance"] == 0.0  # all weights are even, so every path is the same


def test_what_cannot_be_measured_is_refused(tmp_path):
    text = corpus(tmp_path, "a", "abcdefgh")
    for wrong in ({"rows": 1}, {"pairs": 0}, {"threshold": 1.0}):
        with pytest.raises(DialError, match="Pathways"):
            Pathways(text, **wrong)
    with pytest.raises(DialError, match="0 sources"):
        ExpertUse({})
    dense = Transformer(vocabulary=257, width=16, layers=1, heads=2, positions=8)
    for monitor in (Pathways(text, rows=2), ExpertUse({"a": text})):
        assert monitor.before(ctx()) == {}
        with pytest.raises(RecipeError, match="'policy', a model without experts"):
            monitor.before(ctx(dense))  # at step 0, not a twentieth later
