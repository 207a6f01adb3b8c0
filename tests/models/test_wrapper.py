from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MambaConfig, MistralConfig
from transformers.utils import logging

from thalweg.errors import DataError, RecipeError
from thalweg.models.export import export
from thalweg.models.wrapper import HuggingFace, Wrapped
from thalweg.rollouts import Sampling, generate

logging.set_verbosity_error()
SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = GPT2Config(
    vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2,
    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
)  # fmt: skip
TOKENS = torch.randint(64, (2, 12), generator=torch.Generator().manual_seed(0))


def _saved(config: Any, folder: Path) -> HuggingFace:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return HuggingFace(str(folder))


def test_it_follows_the_forward_contract(tmp_path: Path) -> None:
    spec = _saved(GPT2, tmp_path)
    assert (spec.vocabulary, spec.positions) == (64, 64)
    model = spec.build(0)
    weight = torch.rand(2, 12)
    expected = model(TOKENS).log_softmax(-1).gather(2, TOKENS[..., None])[..., 0]
    scored = model(TOKENS, targets_RT=TOKENS, weight_RT=weight)
    assert (scored.logprobs - expected).abs().max() < 1e-5
    assert not scored.logprobs.requires_grad
    assert abs(scored.loss + (weight * expected).sum()) < 1e-4
    free = model(TOKENS, targets_RT=TOKENS)
    assert free.loss is None
    assert free.logprobs.requires_grad


@pytest.mark.parametrize("config", [GPT2, LlamaConfig(**SMALL)])
def test_a_packed_row_equals_its_documents_alone(config: Any) -> None:
    model = Wrapped(AutoModelForCausalLM.from_config(config))
    document = torch.tensor([[0] * 5 + [1] * 7, [3] * 12], dtype=torch.int32)
    packed = model(TOKENS, document)
    assert (packed[:1, :5] - model(TOKENS[:1, :5])).abs().max() < 1e-5
    assert (packed[:1, 5:] - model(TOKENS[:1, 5:])).abs().max() < 1e-5
    assert (packed[1:] - model(TOKENS[1:])).abs().max() < 1e-5


@pytest.mark.parametrize("config", [GPT2, LlamaConfig(**SMALL)])
def test_it_shows_what_the_head_multiplies(config: Any) -> None:
    model = Wrapped(AutoModelForCausalLM.from_config(config))
    head = model.inner.get_output_embeddings().weight
    for document in (None, torch.tensor([[0] * 5 + [1] * 7, [3] * 12], dtype=torch.int32)):
        alone = model(TOKENS, document, hidden=True)
        assert (alone @ head.T - model(TOKENS, document)).abs().max() < 1e-5
        scored = model(TOKENS, document, targets_RT=TOKENS, hidden=True)
        assert torch.equal(scored.hidden, alone)
        assert scored.hidden.requires_grad
    assert model(TOKENS, targets_RT=TOKENS).hidden is None


def test_a_recurrent_model_refuses_documents() -> None:
    config = MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4)
    model = Wrapped(AutoModelForCausalLM.from_config(config))
    with pytest.raises(RecipeError, match="rows of 12 tokens with documents"):
        model(TOKENS, torch.zeros(2, 12, dtype=torch.int32))


def test_a_sliding_window_shorter_than_the_row_refuses_documents() -> None:
    config = MistralConfig(**SMALL, num_key_value_heads=4, sliding_window=8)
    model = Wrapped(AutoModelForCausalLM.from_config(config))
    document = torch.zeros(2, 12, dtype=torch.int32)
    model(TOKENS[:, :8], document[:, :8])
    with pytest.raises(RecipeError, match="rows of 12 tokens"):
        model(TOKENS, document)


def test_fresh_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    spec = HuggingFace(_saved(GPT2, tmp_path).folder, fresh=True)
    before = torch.random.get_rng_state()
    one, again, other = (spec.build(seed)(TOKENS) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_it_generates_as_transformers_does(tmp_path: Path) -> None:
    model = _saved(LlamaConfig(**SMALL), tmp_path).build(0)
    [[ours]] = generate(model, [[5, 6, 7]], Sampling(new_tokens=8, temperature=0))
    theirs = model.inner.generate(
        torch.tensor([[5, 6, 7]]), max_new_tokens=8, do_sample=False, eos_token_id=None,
        attention_mask=torch.ones(1, 3), pad_token_id=0,
    )  # fmt: skip
    assert ours.tokens == theirs[0, 3:].tolist()


def test_it_goes_out_again(tmp_path: Path) -> None:
    spec = _saved(GPT2, tmp_path / "in")
    model = spec.build(0)
    export(model, spec, tmp_path / "out")
    assert torch.equal(HuggingFace(str(tmp_path / "out")).build(0)(TOKENS), model(TOKENS))


def test_layers_and_flops_are_found() -> None:
    model = Wrapped(AutoModelForCausalLM.from_config(LlamaConfig(**SMALL)))
    assert len(model.blocks) == 2
    weights = 2 * (4 * 32 * 32 + 3 * 32 * 48) + 32 * 64
    assert model.flops(10) == 6 * weights + 6 * 2 * 32 * 10


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no model that transformers can load"):
        HuggingFace(str(tmp_path)).build(0)
