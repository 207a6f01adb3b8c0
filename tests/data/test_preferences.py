import json
from pathlib import Path

import pytest
import torch

from data_helpers import ctx, pair_store, preference_store, write_lines
from thalweg.data import Preferences, build_preferences, byte_tokenizer, open_store
from thalweg.data.rows import Overlong
from thalweg.errors import DataError, DialError, StateError

END = 256
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def read(source: Preferences, rows: int = 1) -> list[dict[str, str]]:
    """Return of each row what is read and, behind a bar, what counts, of both answers."""
    batch, _ = source.next(source.start(ctx()), ctx(rows))
    text = []
    for row in range(rows):
        shown = {}
        for half in ("chosen", "rejected"):
            ids, weight = batch[half][row], batch[f"{half}_weight"][row]
            counts = torch.cat([torch.zeros(1), weight]) > 0
            parts = [byte_tokenizer().decode(ids[keep].tolist()) for keep in (~counts, counts)]
            shown[half] = "|".join(part.replace("<|endoftext|>", "$") for part in parts)
        text.append(shown)
    return text


def test_a_row_holds_both_answers_and_only_they_count(tmp_path: Path):
    store = preference_store(tmp_path, [("ab", "c", "de"), ("f", "gh", "i")])
    source = Preferences(store, length=6, shuffle=False)
    batch, _ = source.next(source.start(ctx()), ctx(2))
    assert batch["chosen"].tolist() == [
        [END, 97, 98, 99, END, END, END],
        [END, 102, 103, 104, END, END, END],
    ]
    assert batch["rejected"][0].tolist() == [END, 97, 98, 100, 101, END, END]
    assert batch["chosen_weight"].tolist() == [[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0]]
    assert batch["rejected_weight"].tolist() == [[0, 0, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0]]
    assert source.sizes == {"preferences": 2 + 3 + 3 + 2}
    assert source.pairs == 2


def test_every_pair_comes_once_an_epoch_in_new_orders(tmp_path: Path):
    store = preference_store(tmp_path, [("p", f"{i:02d}", "no") for i in range(20)])
    source = Preferences(store, length=5)
    state, seen = source.start(ctx()), []
    for _ in range(4):
        batch, state = source.next(state, ctx(10))
        seen += [bytes(row[2:4].tolist()).decode() for row in batch["chosen"]]
    assert sorted(seen[:20]) == sorted(seen[20:]) == [f"{i:02d}" for i in range(20)]
    assert seen[:20] != seen[20:]


@pytest.mark.parametrize(("overlong", "pairs"), [("drop", 1), ("cut", 2)])
def test_pairs_longer_than_a_row(tmp_path: Path, overlong: Overlong, pairs: int):
    store = preference_store(
        tmp_path, [("p", "good", "bad"), ("p", "ok", "no"), ("prompt", "a", "b")]
    )
    source = Preferences(store, length=4, overlong=overlong, shuffle=False)
    source.start(ctx())
    assert source.pairs == pairs
    with pytest.raises(DataError, match=r"2 of 3 examples are longer[\s\S]*length=8"):
        Preferences(store, length=4).start(ctx())
    with pytest.raises(DataError, match="none of 3 examples fits"):
        Preferences(store, length=1, overlong="drop").start(ctx())


def tokenizer_with_a_template(folder: Path) -> Path:
    folder.mkdir()
    byte_tokenizer().save(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": TEMPLATE}))
    return folder


def test_the_chat_template_is_used(tmp_path: Path):
    known = tokenizer_with_a_template(tmp_path / "tokenizer")
    file = write_lines(tmp_path / "a.jsonl", [{"prompt": "p", "chosen": "q", "rejected": "r"}])
    built = build_preferences(file, tokenizer=known, home=tmp_path, progress=False)
    assert read(Preferences(str(built.train), length=24)) == [
        {"chosen": "<user>p$<assistant>$$$$|q$", "rejected": "<user>p$<assistant>$$$$|r$"}
    ]


def chat(answer: str) -> list[dict[str, str]]:
    roles = ("user", "assistant", "user", "assistant")
    texts = ("hi", "hello", "bye", answer)
    return [{"role": r, "content": t} for r, t in zip(roles, texts, strict=True)]


@pytest.mark.parametrize("templated", [False, True])
def test_of_chats_the_last_turn_counts(tmp_path: Path, templated: bool):
    known = tokenizer_with_a_template(tmp_path / "tokenizer") if templated else "bytes"
    file = write_lines(tmp_path / "a.jsonl", [{"chosen": chat("ciao"), "rejected": chat("no")}])
    built = build_preferences(file, tokenizer=known, prompt=None, home=tmp_path, progress=False)
    (shown,) = read(Preferences(str(built.train), length=80))
    last = ("ciao$", "no$") if templated else (" ciao$", " no$")
    assert (shown["chosen"].split("|")[1], shown["rejected"].split("|")[1]) == last
    assert "hello" in shown["chosen"].split("|")[0]


def test_parquet_and_a_prompt_that_both_share(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"rejected": ["r"], "prompt": ["p"], "chosen": ["c"], "other": [1]})
    pq.write_table(table, tmp_path / "a.parquet")
    built = build_preferences(tmp_path / "a.parquet", home=tmp_path, progress=False)
    assert read(Preferences(str(built.train), length=5)) == [
        {"chosen": "$p\n$|c$", "rejected": "$p\n$|r$"}
    ]


def test_pairs_of_one_prompt_fall_on_one_side(tmp_path: Path):
    records = [{"prompt": f"p{i % 30}", "chosen": f"a{i}", "rejected": "b"} for i in range(120)]
    file = write_lines(tmp_path / "a.jsonl", records)
    built = build_preferences(file, held_out=0.3, home=tmp_path, progress=False)
    assert built.held_out is not None
    sides = []
    for path in (built.train, built.held_out):
        source = Preferences(str(path), length=12, shuffle=False)
        sides.append({row["chosen"].split("\n")[0] for row in read(source, source.pairs)})
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 30


def test_other_stores_and_other_data_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="does not hold pairs of answers"):
        Preferences(pair_store(tmp_path, [("a", "b")] * 3)).start(ctx())
    one = Preferences(preference_store(tmp_path, [("a", "b", "c")]))
    (tmp_path / "other").mkdir()
    two = Preferences(preference_store(tmp_path / "other", [("a", "b", "d")]))
    with pytest.raises(StateError, match="have changed"):
        two.next(one.start(ctx()), ctx())
    with pytest.raises(DialError):
        Preferences(one.store, length=0).start(ctx())
    with pytest.raises(DialError):
        Preferences(one.store, max_epochs=0).start(ctx())
    with pytest.raises(DataError, match="no rows left"):
        Preferences(one.store, max_epochs=1).next(one.start(ctx()), ctx(2))


def test_an_empty_answer_is_its_end(tmp_path: Path):
    store = preference_store(tmp_path, [("p", "", "r")])
    assert read(Preferences(store, length=3)) == [{"chosen": "$p$|$", "rejected": "$p|r$"}]
    assert open_store(store).tokens.tolist() == [END, 112, END, END, 112, 114, END]


def test_records_without_the_fields_are_named(tmp_path: Path):
    file = write_lines(tmp_path / "a.jsonl", [{"prompt": "x", "answer": "y"}])
    with pytest.raises(DataError, match=r"without the field 'chosen'[\s\S]*--chosen NAME"):
        build_preferences(file, home=tmp_path, progress=False)
    with pytest.raises(DataError, match="--rejected NAME"):
        build_preferences(file, chosen="answer", home=tmp_path, progress=False)
    with pytest.raises(DataError, match="--chosen NAME"):
        build_preferences(file, prompt=None, home=tmp_path, progress=False)
