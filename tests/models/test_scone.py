from dataclasses import replace

import numpy as np
import pytest
import torch

from thalweg.data import count_grams
from thalweg.data.grams import make_grams
from thalweg.errors import DataError, RecipeError
from thalweg.models import GramFile, GramTable, Scone, Transformer, export, freeze
from thalweg.optim import AdamW, Muon
from thalweg.optim.assign import assign
from thalweg.rollouts.engine import generate
from thalweg.rollouts.sampling import Sampling

SPEC = Transformer(
    vocabulary=12, width=16, layers=2, heads=2, positions=16, initial_std=0.3, tied=True
)
GRAMS = [[1, 2], [3, 1], [2, 3], [3, 1, 2], [2, 3, 1], [2, 3, 1, 2]]
TEXT = torch.tensor([[2, 3, 1, 2, 5, 3, 1, 2, 3], [1, 2, 0, 0, 1, 2, 3, 1, 1]])


@pytest.fixture(scope="module")
def grams(tmp_path_factory) -> str:
    made = make_grams(GRAMS, [9, 9, 9, 5, 5, 4], vocabulary=12)
    return str(made.save(tmp_path_factory.mktemp("scone") / "grams", "by hand"))


@pytest.fixture(params=["scone", "table"])
def spec(request, grams) -> Transformer:
    kind = Scone(grams, layers=1) if request.param == "scone" else GramTable(grams)
    return replace(SPEC, embedding=kind)


def said(model, gram: list[int]) -> torch.Tensor:
    """The gram model, token by token, one gram at a time."""
    inner = model.grams.vectors
    x = model.embedding(torch.tensor([gram])) + inner.position_embedding[: len(gram)]
    (block,) = inner.blocks
    heads, width = block.heads, block.head_width
    normed = block.attention_norm(x)
    q, k, v = block.qkv(normed)[0].view(len(gram), 3, heads, width).unbind(1)
    seen = []
    for head in range(heads):
        share = (k[:, head] @ q[-1, head] / width**0.5).softmax(0)  # the last looks at all
        seen.append(share @ v[:, head])
    last = x[0, -1] + block.out(torch.cat(seen))
    gate, up = block.gate_up(block.mlp_norm(last)).chunk(2, -1)
    return last + block.down(gate * torch.sigmoid(gate) * up)


def test_the_longest_gram_that_ends_at_a_token_stands_in_its_place(grams):
    model = replace(SPEC, embedding=Scone(grams, layers=1)).build(0)
    got = model.embed(TEXT)
    plain = model.embedding(TEXT)
    for row, text in enumerate(TEXT.tolist()):
        for end in range(1, len(text) + 1):
            ending = [text[start:end] for start in range(max(0, end - 4), end - 1)]
            found = next((gram for gram in ending if gram in GRAMS), None)
            expected = plain[row, end - 1] if found is None else said(model, found)
            assert torch.allclose(got[row, end - 1], expected, atol=1e-6), text[:end]


def test_a_table_has_a_vector_of_its_own_for_each_gram(grams):
    model = replace(SPEC, embedding=GramTable(grams)).build(0)
    assert not model.shares
    got = model.embed(torch.tensor([[4, 3, 1, 2]]))[0]
    rows = model.grams.vectors.embedding
    number = [model.grams.known.match(np.array([g]))[0, -1] for g in ([3, 1], [3, 1, 2])]
    assert torch.equal(got[2:], rows[number])
    assert torch.equal(got[:2], model.embedding(torch.tensor([4, 3])))


def test_grams_stay_inside_their_documents_and_look_back_only(spec):
    model = spec.build(0).eval()
    document = torch.tensor([[0, 0, 1, 1, 1, 1, 2, 2, 2], [0] * 4 + [1] * 5])
    packed = model.embed(TEXT, document)
    pieces = [model.embed(TEXT[:1, a:b]) for a, b in ((0, 2), (2, 6), (6, 9))]
    assert torch.allclose(packed[:1], torch.cat(pieces, 1), atol=1e-6)
    other = TEXT.clone()
    other[:, 5:] = 7
    assert torch.allclose(model(TEXT)[:, :5], model(other)[:, :5], atol=1e-6)


def test_every_weight_of_the_input_is_trained(spec):
    model = spec.build(0)
    weight = torch.ones(TEXT[:, 1:].shape)
    model(TEXT[:, :-1], targets_RT=TEXT[:, 1:], weight_RT=weight).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_a_batch_without_grams_has_gradients_of_zero(spec):
    model = spec.build(0)
    rows = torch.full((1, 5), 7)
    model(rows, targets_RT=rows, weight_RT=torch.ones(1, 5)).loss.backward()
    for name, parameter in model.grams.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() == 0, name


def test_micro_batches_have_the_gradient_of_the_whole(spec):
    def gradients(*parts: torch.Tensor) -> dict[str, torch.Tensor]:
        model = spec.build(0)
        for rows in parts:
            weight = torch.ones(rows[:, 1:].shape)
            model(rows[:, :-1], targets_RT=rows[:, 1:], weight_RT=weight).loss.backward()
        return {name: p.grad for name, p in model.named_parameters()}

    whole, split = gradients(TEXT), gradients(TEXT[:1], TEXT[1:])
    for name, expected in whole.items():
        assert torch.allclose(split[name], expected, atol=1e-5), name


def test_frozen_vectors_are_those_of_the_model(spec, tmp_path):
    model = spec.build(0).eval()
    frozen = freeze(model, tmp_path / "frozen", together=4)
    assert torch.allclose(frozen.embed(TEXT), model.embed(TEXT), atol=1e-6)
    assert torch.allclose(frozen(TEXT), model(TEXT), atol=1e-5)
    assert not list(frozen.grams.parameters())
    assert frozen.embedding.weight.data_ptr() == model.embedding.weight.data_ptr()
    again = replace(SPEC, embedding=GramFile(str(tmp_path / "frozen"))).build(3)
    again.load_state_dict(frozen.state_dict())
    assert torch.equal(again(TEXT), frozen(TEXT))


def test_a_file_counts_its_lookups(spec, tmp_path):
    frozen = freeze(spec.build(0), tmp_path / "frozen", dtype="float16")
    frozen(TEXT)
    positions, found, seconds = frozen.grams.lookups
    assert (positions, found) == (18, 10)
    assert 0 < seconds < 10
    assert np.load(tmp_path / "frozen" / "table.npy").dtype == np.float16


@pytest.mark.parametrize("stored", [False, True])
def test_a_model_writes_with_a_cache_what_it_writes_without(spec, stored, tmp_path):
    model = spec.build(0).eval()
    model = freeze(model, tmp_path / "frozen") if stored else model
    prompts = [[2], [2, 3], [5, 2, 3, 1], [3, 1], [7]]
    how = Sampling(new_tokens=9, temperature=0.7)
    for prompt, [answer] in zip(prompts, generate(model, prompts, how, slots=3), strict=True):
        row = torch.tensor([[*prompt, *answer.tokens]])
        scored = model(row[:, :-1], targets_RT=row[:, 1:], temperature=0.7)
        told = torch.tensor(answer.logprobs)
        assert torch.allclose(scored.logprobs[0, len(prompt) - 1 :], told, atol=1e-4)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler asks, and hides it
def test_a_compiled_model_is_the_same(spec):
    model = spec.build(0).eval()
    compiled = torch.compile(model, dynamic=False, backend="aot_eager")
    for rows in (TEXT, TEXT.flip(0), TEXT.flip(1)):
        assert torch.allclose(compiled(rows), model(rows), atol=1e-5)


def test_grams_of_a_store_go_into_a_model(tmp_path):
    from data_helpers import text_store

    store = text_store(tmp_path, ["the cat sat on the mat"] * 9)
    count_grams(store, tmp_path / "g", most=30)
    small = replace(SPEC, vocabulary=257, embedding=Scone(str(tmp_path / "g")))
    model = small.build(0)
    assert len(model.grams.vectors.blocks) == 2
    assert model.reach == 4
    with pytest.raises(DataError, match="a model of 300 token ids"):
        replace(small, vocabulary=300).build(0)


def test_muon_leaves_the_vectors_of_grams_and_positions_to_adam(spec):
    named = list(spec.build(0).named_parameters())
    muon, adam = assign(Muon(lr=0.02, adam=AdamW(lr=1e-3)), named)
    assert all(name.endswith(".weight") for name, _ in muon.named)
    assert any("embedding" in name for name, _ in adam.named if name.startswith("grams."))


def test_what_does_not_fit_is_refused(spec, grams, tmp_path):
    with pytest.raises(RecipeError, match="layers=0"):
        Scone("grams", layers=0)
    with pytest.raises(DataError, match="no grams"):
        replace(SPEC, embedding=Scone(str(tmp_path / "nowhere"))).build(0)
    with pytest.raises(RecipeError, match="without grams"):
        freeze(SPEC.build(0), tmp_path / "x")
    frozen = freeze(spec.build(0), tmp_path / "frozen")
    with pytest.raises(DataError, match=r"\(6, 16\)"):
        replace(frozen.spec, width=8).build(0)
    for model in (spec.build(0), frozen):
        with pytest.raises(RecipeError, match="grams"):
            export(model, model.spec, tmp_path / "out")
    (tmp_path / "frozen" / "table.npy").unlink()
    with pytest.raises(DataError, match=r"table\.npy"):
        frozen.spec.build(0)
