"""Answers: the same whatever reads them, in whatever company; log-probs are the trainer's."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from thalweg.core.batch import Batch
from thalweg.core.moves import logprobs
from thalweg.errors import DialError, RecipeError
from thalweg.models import Decoder, HuggingFace, Lora, Pretrained, Transformer, Wrapped
from thalweg.rollouts import Answer, Sampling, generate, text_of

STORIES = Path(__file__).parents[2].parent / "shared" / "data" / "stories260k"
needs_stories = pytest.mark.skipif(
    not STORIES.is_dir(), reason="the stories260k data is not beside the repository"
)
SPEC = Transformer(
    vocabulary=31, width=32, layers=2, heads=4, kv_heads=2, positions=40, initial_std=0.3
)
PROMPTS = [[1, 2, 3, 4, 5], [7], [9, 8, 7], [1, 2, 3, 4, 5], [11] * 12, [4, 4], [30, 2, 1]]
ENDS = Sampling(new_tokens=20, stop_ids=(3, 4, 5, 6, 7))


class Plain(torch.nn.Module):
    """The same model without a cache: only the forward contract."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens_RT: torch.Tensor) -> torch.Tensor:
        return self.inner(tokens_RT)


@pytest.fixture(scope="module")
def model() -> Decoder:
    return SPEC.build(0)


def ids(found: Sequence[Sequence[Answer]]) -> list[list[list[int]]]:
    return [[answer.tokens for answer in answers] for answers in found]


def flat(found: Sequence[Sequence[Answer]]) -> list[Answer]:
    return [answer for answers in found for answer in answers]


@needs_stories
def test_greedy_text_of_a_real_model_is_the_known_one():
    golden = json.loads((STORIES / "golden.json").read_text())
    module = Pretrained(str(STORIES)).build(0)
    [[answer]] = generate(module, [golden["prompt_ids"]], Sampling(new_tokens=200, temperature=0))
    assert golden["prompt_ids"] + answer.tokens == golden["greedy_ids_from_bos_201"]


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("slots", [1, 3, 64])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.7])
def test_the_cache_and_the_refill_change_nothing(model, slots, group, temperature):
    how = Sampling(new_tokens=20, stop_ids=ENDS.stop_ids, temperature=temperature)
    cached = generate(model, PROMPTS, how, group=group, slots=slots)
    plain = generate(Plain(model), PROMPTS, how, group=group, slots=64)
    assert ids(cached) == ids(plain)
    for mine, theirs in zip(flat(cached), flat(plain), strict=True):
        assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
        assert mine.finished == theirs.finished


def test_an_answer_depends_on_its_key_not_on_its_company_or_place(model):
    keys = [3, 14, 15, 92, 65, 35, 89]
    whole = generate(model, PROMPTS, ENDS, group=2, keys=keys, seed=5)
    back = generate(model, PROMPTS[::-1], ENDS, group=2, keys=keys[::-1], seed=5, slots=3)
    alone = [
        generate(model, [prompt], ENDS, group=2, keys=[key], seed=5)[0]
        for prompt, key in zip(PROMPTS, keys, strict=True)
    ]
    assert ids(whole) == ids(back[::-1]) == ids(alone)
    assert ids(whole) != ids(generate(model, PROMPTS, ENDS, group=2, keys=keys, seed=6))
    assert whole[0][0] != whole[3][0], "one prompt under two keys"


def test_a_shorter_limit_gives_the_beginning(model):
    long = generate(model, PROMPTS, Sampling(new_tokens=20))
    short = generate(model, PROMPTS, Sampling(new_tokens=7))
    assert ids(short) == [[answer.tokens[:7] for answer in answers] for answers in long]


def score(module: torch.nn.Module, rows: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    longest = max(map(len, rows)) + pad
    padded = [[*row] + [0] * (longest - len(row)) for row in rows]
    with torch.no_grad():
        return logprobs(module.eval(), Batch({"tokens": torch.tensor(padded)}))


@pytest.mark.parametrize("pad", [0, 5])
def test_log_probs_are_those_of_the_training_forward(model, pad):
    found = flat(generate(model, PROMPTS, ENDS, group=4))
    prompts = [prompt for prompt in PROMPTS for _ in range(4)]
    rows = [[*p, *answer.tokens] for p, answer in zip(prompts, found, strict=True)]
    for order in (range(len(rows)), range(len(rows) - 1, -1, -1)):
        trained = score(model, [rows[i] for i in order], pad)
        for place, i in enumerate(order):
            first = len(prompts[i]) - 1
            theirs = trained[place, first : first + len(found[i].tokens)].tolist()
            assert found[i].logprobs == pytest.approx(theirs, abs=1e-4)


def test_log_probs_are_those_of_a_packed_row(model):
    prompts = [[1, 2, 3], [7]]
    found = flat(generate(model, prompts, Sampling(new_tokens=6)))
    rows = [[*p, *answer.tokens] for p, answer in zip(prompts, found, strict=True)]
    document = [number for number, row in enumerate(rows) for _ in row]
    tokens = torch.tensor([[*rows[0], *rows[1]]])
    packed = Batch({"tokens": tokens, "document": torch.tensor([document])})
    with torch.no_grad():
        trained = logprobs(model.eval(), packed)[0].tolist()
    second = len(rows[0])
    assert found[0].logprobs == pytest.approx(trained[2 : second - 1], abs=1e-4)
    assert found[1].logprobs == pytest.approx(trained[second:], abs=1e-4)


def test_log_probs_in_bfloat16_are_close_to_the_training_forward(model):
    with torch.autocast("cpu", torch.bfloat16):
        found = flat(generate(model, PROMPTS, ENDS, group=4))
        prompts = [prompt for prompt in PROMPTS for _ in range(4)]
        rows = [[*p, *answer.tokens] for p, answer in zip(prompts, found, strict=True)]
        trained = score(model, rows, 0)
    gaps = [
        trained[i, len(prompts[i]) - 1 + t] - value
        for i, answer in enumerate(found)
        for t, value in enumerate(answer.logprobs)
    ]
    gap = torch.stack(gaps)
    assert float((gap.exp() - 1 - gap).mean()) <= 1e-3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when it compiles
def test_a_compiled_step_gives_the_same():
    model = replace(SPEC, layers=1).build(0)
    eager = generate(model, PROMPTS, ENDS, group=2, slots=3)
    assert ids(eager) == ids(generate(model, PROMPTS, ENDS, group=2, slots=3, compiled=True))


def test_adapters_are_part_of_the_model():
    spec = Lora(base=SPEC, rank=2)
    module = spec.build(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    found = generate(module, PROMPTS, Sampling(new_tokens=8))
    assert ids(found) == ids(generate(Plain(module), PROMPTS, Sampling(new_tokens=8)))
    assert ids(found) != ids(generate(SPEC.build(0), PROMPTS, Sampling(new_tokens=8)))


@needs_stories
@pytest.mark.parametrize("slots", [2, 64])
def test_a_model_of_transformers_goes_through_its_own_cache(slots):
    ours = Pretrained(str(STORIES)).build(0)
    theirs = HuggingFace(str(STORIES)).build(0)
    assert isinstance(theirs, Wrapped)
    prompts = [[1, 403, 407], [1], [1, 5, 6, 7, 8, 9], [1, 300]]
    how = Sampling(new_tokens=12, stop_ids=(410,))
    mine, found = (generate(m, prompts, how, group=2, slots=slots) for m in (ours, theirs))
    assert ids(mine) == ids(found)
    for a, b in zip(flat(mine), flat(found), strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_a_row_that_ended_is_not_read_beyond_the_last_position_of_transformers():
    small = GPT2Config(vocab_size=20, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    module = Wrapped(GPT2LMHeadModel(small))
    together = generate(module, [[1] * 10, [2, 3], [3, 4]], Sampling(new_tokens=14))
    assert [len(answer.tokens) for answer in flat(together)] == [6, 14, 14]
    [[alone]] = generate(module, [[2, 3]], Sampling(new_tokens=14), keys=[1])
    assert together[1][0].tokens == alone.tokens


@needs_stories
def test_greedy_answers_are_those_of_transformers():
    module = HuggingFace(str(STORIES)).build(0)
    [[answer]] = generate(module, [[5, 6, 7]], Sampling(new_tokens=8, temperature=0))
    theirs = module.inner.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=8, do_sample=False)
    assert answer.tokens == theirs[0, 3:].tolist()


def test_a_row_ends_with_its_end_token_and_says_so(model):
    free = generate(model, PROMPTS, Sampling(new_tokens=10, temperature=0))
    end = free[0][0].tokens[4]
    stopped = generate(model, PROMPTS, Sampling(new_tokens=10, temperature=0), end_id=end)
    for [long], [short] in zip(free, stopped, strict=True):
        cut = long.tokens.index(end) + 1 if end in long.tokens else 10
        assert (short.tokens, short.finished) == (long.tokens[:cut], end in long.tokens)


def letters(tokens: Sequence[int]) -> str:
    return "".join(chr(97 + token % 26) for token in tokens)


def test_a_stop_text_may_lie_across_tokens(model):
    [[free]] = generate(model, [[1]], Sampling(new_tokens=20))
    stop = letters(free.tokens)[6:9]
    [[answer]] = generate(model, [[1]], Sampling(new_tokens=20, stop=(stop,)), decode=letters)
    first = letters(free.tokens).index(stop)
    assert answer.tokens == free.tokens[: first + 3]
    assert answer.finished
    assert text_of(answer, letters, (stop,)) == letters(free.tokens)[:first]


def test_a_row_ends_at_the_last_position(model):
    [[answer]] = generate(model, [[1] * 35], Sampling(new_tokens=20))
    assert len(answer.tokens) == 5
    assert not answer.finished


@pytest.mark.parametrize(
    ("prompts", "how", "said"),
    [
        ([[1], []], Sampling(), "prompt 1 is empty"),
        ([[1] * 41], Sampling(), "prompt 0 has 41 tokens"),
        ([[1]], Sampling(stop=("x",)), "without decode"),
    ],
)
def test_what_cannot_be_continued_is_refused(model, prompts, how, said):
    with pytest.raises(RecipeError, match=said):
        generate(model, prompts, how)


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "min_p", "new_tokens"])
def test_a_number_out_of_range_is_refused(model, name):
    with pytest.raises(DialError, match=f"{name}=-1"):
        generate(model, [[1]], Sampling(**{name: -1}))


def test_nothing_in_gives_nothing_out_and_the_mode_stays(model):
    assert generate(model, [], Sampling()) == []
    assert generate(model, [[1]], Sampling(new_tokens=0)) == [[Answer([], [], False)]]
    model.train()
    generate(model, [[1]], Sampling(new_tokens=1))
    assert model.training
