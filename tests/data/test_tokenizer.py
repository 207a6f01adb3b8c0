import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data import build_pairs, byte_tokenizer, load_tokenizer, train_bpe
from thalweg.data.tokenizer import END
from thalweg.errors import DataError

CORPUS = ["the cat sat on the mat, the cat sat", "a cat and a mat\n\nand the end"] * 5
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@given(st.text())
def test_bytes_are_their_own_ids_and_come_back(text: str):
    tokenizer = byte_tokenizer()
    assert tokenizer.encode(text) == list(text.encode())
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode_batch([text])[0].tolist() == list(text.encode())


def test_a_bpe_has_the_size_asked_for_and_gives_texts_back():
    bpe = train_bpe(CORPUS, 270)
    assert bpe.size == 270
    for text in ("the cat", "na\u00efve \u65e5\u672c", "  \n\ttabs"):
        assert bpe.decode(bpe.encode(text)) == text
    assert len(bpe.encode("the cat sat")) < len("the cat sat")


def test_the_same_texts_train_the_same_bpe():
    assert train_bpe(CORPUS, 280).fingerprint == train_bpe(CORPUS, 280).fingerprint


def test_a_text_cannot_end_itself():
    for tokenizer in (byte_tokenizer(), train_bpe(CORPUS, 280)):
        assert tokenizer.end_id not in tokenizer.encode(f"a {END} b")
        assert tokenizer.end_id in tokenizer.encode(f"a {END} b", special=True)
        assert tokenizer.decode(tokenizer.encode(f"a {END} b")) == f"a {END} b"


def test_a_saved_tokenizer_is_the_same_here_and_in_transformers(tmp_path: Path):
    from transformers import AutoTokenizer

    bpe = train_bpe(CORPUS, 280)
    bpe.save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint == bpe.fingerprint
    assert load_tokenizer(tmp_path / "tokenizer.json").fingerprint == bpe.fingerprint
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("the cat sat")["input_ids"] == bpe.encode("the cat sat")
    assert theirs.eos_token_id == bpe.end_id


def test_a_chat_is_rendered_as_transformers_does(tmp_path: Path):
    byte_tokenizer().save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({**config, "chat_template": TEMPLATE})
    )
    chats = load_tokenizer(tmp_path)
    assert chats.chat([{"role": "user", "content": "hi"}], ask=True) == f"<user>hi{END}<assistant>"
    assert chats.fingerprint != byte_tokenizer().fingerprint


def with_config(folder: Path, **entries: object) -> Path:
    """Save the byte tokenizer with more in its tokenizer_config.json."""
    folder.mkdir(exist_ok=True)
    byte_tokenizer().save(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **entries}))
    return folder


def test_tokens_that_a_template_names_are_part_of_the_fingerprint(tmp_path: Path):
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    found = [
        load_tokenizer(with_config(tmp_path, chat_template=template, bos_token=token))
        for token in ("<one>", "<two>")
    ]
    assert [t.chat([{"role": "user", "content": "hi"}]) for t in found] == ["<one>hi", "<two>hi"]
    assert found[0].fingerprint != found[1].fingerprint
    found[0].save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint == found[0].fingerprint


def test_of_several_chat_templates_the_default_is_used(tmp_path: Path):
    several = [{"name": "tools", "template": "no"}, {"name": "default", "template": TEMPLATE}]
    chats = load_tokenizer(with_config(tmp_path, chat_template=several))
    assert chats.chat([{"role": "user", "content": "hi"}]) == f"<user>hi{END}"


def test_several_chat_templates_without_a_default_are_refused_where_one_is_needed(tmp_path: Path):
    several = [{"name": "tools", "template": "x"}, {"name": "rag", "template": "y"}]
    tokenizer = load_tokenizer(with_config(tmp_path, chat_template=several))
    assert tokenizer.encode("a") == [97]
    with pytest.raises(DataError, match=r'tools, rag[\s\S]*"name": "default"'):
        tokenizer.chat([{"role": "user", "content": "hi"}])


@pytest.mark.parametrize("template", ["{% for %}", "{{ raise_exception('no') }}", "{{ 1 + 'a' }}"])
def test_a_chat_template_that_fails_names_the_chat(tmp_path: Path, template: str):
    tokenizer = with_config(tmp_path / "tokenizer", chat_template=template)
    chat = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(chat))
    with pytest.raises(DataError, match=r"does not render[\s\S]*a\.jsonl, line 1"):
        build_pairs(
            tmp_path / "a.jsonl",
            messages="messages",
            tokenizer=tokenizer,
            home=tmp_path / "home",
            progress=False,
        )


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_a_config_that_is_no_object_is_named(tmp_path: Path, text: str):
    (with_config(tmp_path) / "tokenizer_config.json").write_text(text)
    with pytest.raises(DataError, match=r"a config that[\s\S]*tokenizer_config\.json"):
        load_tokenizer(tmp_path)


def test_a_chat_without_a_template_is_refused():
    with pytest.raises(DataError, match="without a chat template"):
        byte_tokenizer().chat([{"role": "user", "content": "hi"}])


def test_a_hub_name_without_network_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError) as caught:
        load_tokenizer("nobody/nothing")
    text = str(caught.value)
    assert "tokenizer 'nobody/nothing' cannot be loaded" in text
    assert "no network" in text
    assert "bpe:4096" in text


def test_a_broken_tokenizer_file_is_named(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"does not load[\s\S]*tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_an_unknown_end_of_text_is_refused(tmp_path: Path):
    byte_tokenizer().save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|endoftxt|>"}')
    with pytest.raises(DataError, match=r"did you mean '<\|endoftext\|>'"):
        load_tokenizer(tmp_path)


def test_a_bpe_smaller_than_the_bytes_is_refused():
    with pytest.raises(DataError, match="at least 257"):
        train_bpe(CORPUS, 256)
