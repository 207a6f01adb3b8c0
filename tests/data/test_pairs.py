import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_helpers import ctx, pair_store, text_store, write_lines
from thalweg.data import Pairs, build_pairs, byte_tokenizer, open_store
from thalweg.data.pack import pack
from thalweg.data.rows import Overlong
from thalweg.errors import DataError, DialError, StateError

END = 256
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def chat_tokenizer(folder: Path, template: str = TEMPLATE) -> Path:
    folder.mkdir()
    byte_tokenizer().save(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def shown(path: Path | str) -> list[tuple[str, str]]:
    """Return each example with its ids as text: what is read and, apart, what is learned."""
    store = open_store(path)
    assert store.learned is not None
    bounds = store.documents.tolist()
    out = []
    for a, b in pairwise(bounds):
        ids, flags = store.tokens[a:b], store.learned[a:b] > 0
        out.append((store.tokenizer.decode(ids[~flags]), store.tokenizer.decode(ids[flags])))
    return out


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(9, 20))
def test_packing_loses_and_doubles_nothing(lengths: list[int], capacity: int):
    bounds = pack(np.array(lengths), capacity)
    assert bounds[0] == 0
    assert bounds[-1] == len(lengths)
    rows = [lengths[a:b] for a, b in pairwise(bounds)]
    assert all(0 < sum(row) <= capacity for row in rows)
    for row, after in pairwise(rows):
        assert sum(row) + after[0] > capacity  # it would have fitted otherwise


def test_only_answers_count(tmp_path: Path):
    pairs = Pairs(pair_store(tmp_path, [("ab", "c"), ("d", "ef")]), length=11, shuffle=False)
    batch, _ = pairs.next(pairs.start(ctx()), ctx(1))
    assert batch["tokens"].tolist() == [[END, 97, 98, 99, END, END, 100, 101, 102, END, END, END]]
    assert batch["weight"].tolist() == [[0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0]]
    assert batch["document"].tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2]]
    assert pairs.sizes == {"pairs": 5}
    assert pairs.shares(ctx().time)["pairs"] == pytest.approx(5 / 11)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 9), seed=st.integers(0, 9), length=st.integers(12, 40))
def test_every_example_comes_once_an_epoch(
    many: tuple[str, list[str]], rows: int, seed: int, length: int
):
    store, examples = many
    pairs = Pairs(store, length=length)
    tokenizer = byte_tokenizer()
    state, found = pairs.start(ctx(seed=seed)), []
    while state["epoch"] < 2:
        batch, state = pairs.next(state, ctx(rows, seed=seed))
        text = [tokenizer.decode(row) for row in batch["tokens"].tolist()]
        found += [e for row in text for e in row.split("<|endoftext|>") if e]
    whole = len(examples)
    assert sorted(found[:whole]) == sorted(examples)
    assert sorted(found[whole : 2 * whole]) == sorted(examples)
    assert found[:whole] != found[whole : 2 * whole]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    pairs = [(f"{i:03d}", "x" * (1 + i % 7)) for i in range(60)]
    store = pair_store(tmp_path_factory.mktemp("many"), pairs)
    return store, [prompt + answer for prompt, answer in pairs]


@pytest.mark.parametrize(
    ("overlong", "kept", "targets"), [("drop", ["ok"], 2), ("cut", ["ok", "longer"], 3)]
)
def test_examples_longer_than_a_row(
    tmp_path: Path, overlong: Overlong, kept: list[str], targets: int
):
    store = pair_store(tmp_path, [("o", "k"), ("long", "er"), ("prompt alone", "x")])
    pairs = Pairs(store, length=5, overlong=overlong, shuffle=False)
    state = pairs.start(ctx())
    assert pairs.size == targets
    batch, _ = pairs.next(state, ctx(len(kept)))
    text = [byte_tokenizer().decode(row) for row in batch["tokens"].tolist()]
    assert [row.replace("<|endoftext|>", "") for row in text] == [k[:5] for k in kept]


def test_examples_longer_than_a_row_are_refused_with_their_number(tmp_path: Path):
    store = pair_store(tmp_path, [("o", "k"), ("long", "er")])
    with pytest.raises(DataError, match=r"1 of 2 examples are longer[\s\S]*length=7"):
        Pairs(store, length=5).start(ctx())
    assert Pairs(store, length=7).start(ctx())["row"] == 0
    with pytest.raises(DataError, match="none of 2 examples fits"):
        Pairs(store, length=2, overlong="drop").start(ctx())


def test_epochs_end(tmp_path: Path):
    store = pair_store(tmp_path, [("o", "k")] * 4)
    pairs = Pairs(store, length=3, max_epochs=1.5)
    state = pairs.start(ctx())
    assert pairs.room(state, ctx(9)) == 6
    _, state = pairs.next(state, ctx(5))
    assert pairs.room(state, ctx(9)) == 1
    with pytest.raises(DataError, match="no rows left"):
        pairs.next(state, ctx(2))


def test_running_text_is_no_store_of_answers(tmp_path: Path):
    with pytest.raises(DataError, match="a store of running text"):
        Pairs(text_store(tmp_path, ["x"])).start(ctx())


def test_a_position_in_other_pairs_is_refused(tmp_path: Path):
    (tmp_path / "other").mkdir()
    one = Pairs(pair_store(tmp_path, [("a", "b")]))
    two = Pairs(pair_store(tmp_path / "other", [("a", "c")]))
    with pytest.raises(StateError, match="have changed"):
        two.next(one.start(ctx()), ctx())
    with pytest.raises(DialError):
        Pairs(one.store, max_epochs=0).start(ctx())


def test_prompt_and_answer_are_joined_by_a_line_unless_told_otherwise(tmp_path: Path):
    file = write_lines(tmp_path / "a.jsonl", [{"q": "1+1?", "a": "2"}])
    built = build_pairs(file, prompt="q", answer="a", home=tmp_path, progress=False)
    assert shown(built.train) == [("<|endoftext|>1+1?\n", "2<|endoftext|>")]
    asked = "Q: {prompt}\nA: {answer}."
    built = build_pairs(file, prompt="q", answer="a", template=asked, home=tmp_path, progress=False)
    assert shown(built.train) == [("<|endoftext|>Q: 1+1?\nA: ", "2.<|endoftext|>")]


CHAT = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "bye"},
    {"role": "assistant", "content": "ciao"},
    {"role": "user", "content": "unanswered"},
]


def test_a_chat_without_a_template_is_written_out(tmp_path: Path):
    file = write_lines(tmp_path / "a.jsonl", [{"chat": CHAT}])
    built = build_pairs(file, messages="chat", home=tmp_path, progress=False)
    read, learned = shown(built.train)[0]
    assert read == "<|endoftext|>User: hi\nAssistant:User: bye\nAssistant:"
    assert learned == " hello<|endoftext|> ciao<|endoftext|>"


def test_the_chat_template_of_the_tokenizer_is_used(tmp_path: Path):
    tokenizer = chat_tokenizer(tmp_path / "tokenizer")
    file = write_lines(tmp_path / "a.jsonl", [{"messages": CHAT, "prompt": "p", "answer": "q"}])
    built = build_pairs(
        file, tokenizer=tokenizer, messages="messages", home=tmp_path, progress=False
    )
    read, learned = shown(built.train)[0]
    assert read == "<user>hi<|endoftext|><assistant><user>bye<|endoftext|><assistant>"
    assert learned == "hello<|endoftext|>ciao<|endoftext|>"
    assert open_store(built.train).tokens.tolist().count(END) == 4
    built = build_pairs(file, tokenizer=tokenizer, home=tmp_path, progress=False)
    assert shown(built.train) == [("<user>p<|endoftext|><assistant>", "q<|endoftext|>")]


def test_a_template_that_ends_no_answer_gets_an_end(tmp_path: Path):
    tokenizer = chat_tokenizer(tmp_path / "t", TEMPLATE.replace("{{ eos_token }}", "\n"))
    file = write_lines(tmp_path / "a.jsonl", [{"prompt": "p", "answer": "q"}])
    built = build_pairs(file, tokenizer=tokenizer, home=tmp_path, progress=False)
    assert shown(built.train) == [("<user>p\n<assistant>", "q\n<|endoftext|>")]


def test_a_template_that_rewrites_the_past_is_refused(tmp_path: Path):
    tokenizer = chat_tokenizer(tmp_path / "t", "{{ messages|length }}" + TEMPLATE)
    file = write_lines(tmp_path / "a.jsonl", [{"messages": CHAT}])
    with pytest.raises(DataError, match=r"rewrites earlier turns[\s\S]*line 1"):
        build_pairs(file, tokenizer=tokenizer, messages="messages", home=tmp_path, progress=False)


@pytest.mark.parametrize(
    "chat", ["text", [], [{"role": "user", "content": "x"}], [{"role": "assistant"}], None]
)
def test_a_chat_that_is_none_is_named(tmp_path: Path, chat: object):
    file = write_lines(tmp_path / "a.jsonl", [{"messages": CHAT}, {"messages": chat}])
    with pytest.raises(DataError, match=r"no assistant's turn[\s\S]*a\.jsonl, line 2"):
        build_pairs(file, messages="messages", home=tmp_path, progress=False)


def test_records_without_the_fields_are_named(tmp_path: Path):
    file = write_lines(tmp_path / "a.jsonl", [{"question": "x", "answer": "y"}])
    with pytest.raises(
        DataError, match=r"without the field 'prompt'; it has: answer, question[\s\S]*--prompt NAME"
    ):
        build_pairs(file, home=tmp_path, progress=False)
    with pytest.raises(DataError, match=r"--answer NAME \(in Python answer='NAME'\)"):
        build_pairs(file, prompt="question", answer="y", home=tmp_path, progress=False)
    with pytest.raises(DataError, match="--messages NAME"):
        build_pairs(file, messages="chat", home=tmp_path, progress=False)


def test_plain_text_has_no_answers(tmp_path: Path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="plain text where prompts"):
        build_pairs(tmp_path / "a.txt", home=tmp_path, progress=False)


@pytest.mark.parametrize("template", ["{answer}{prompt}", "{prompt}", "{prompt}{answer}{answer}"])
def test_a_template_without_its_places_is_refused(tmp_path: Path, template: str):
    with pytest.raises(DataError, match="template"):
        build_pairs(tmp_path / "a.jsonl", template=template, home=tmp_path, progress=False)


def test_examples_of_one_prompt_fall_on_one_side(tmp_path: Path):
    records = [{"prompt": f"p{i % 40}", "answer": f"a{i}"} for i in range(200)]
    file = write_lines(tmp_path / "a.jsonl", records)
    built = build_pairs(file, held_out=0.3, home=tmp_path, progress=False)
    assert built.held_out is not None
    sides = [{read for read, _ in shown(path)} for path in (built.train, built.held_out)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 40
