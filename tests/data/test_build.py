import gzip
import importlib
import json
import multiprocessing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data_helpers import REAL, write_lines
from thalweg.data import Built, build, byte_tokenizer, load_tokenizer, open_store, train_bpe
from thalweg.data.files import Sources
from thalweg.errors import DataError, DialError

END = 256


def make(folder: Path, sources: Sources, **options: object) -> Built:
    return build(sources, home=folder / "home", progress=False, **options)  # type: ignore[arg-type]


def stream(path: Path | None) -> list[int]:
    assert path is not None
    return [int(token) for token in open_store(path).tokens]


def test_every_document_is_preceded_by_the_end_of_text(tmp_path: Path):
    file = write_lines(tmp_path / "a.jsonl", [{"text": "ab"}, {"text": ""}, {"text": "c"}])
    built = make(tmp_path, file)
    store = open_store(built.train)
    assert stream(built.train) == [END, 97, 98, END, 99]
    assert store.documents.tolist() == [0, 3, 5]
    assert (store.tokens.dtype, store.end_id, store.vocabulary) == (np.uint16, END, 257)
    assert store.text_bytes == 3
    assert store.tokenizer.fingerprint == byte_tokenizer().fingerprint


def test_one_big_text_holds_out_its_end(tmp_path: Path):
    (tmp_path / "a.txt").write_text("0123456789" * 10)
    built = make(tmp_path, tmp_path / "a.txt", held_out=0.1)
    assert built.tokenizer.decode(stream(built.train)[1:]) == "0123456789" * 9
    assert stream(built.held_out) == [END, *b"0123456789"]


def test_a_text_beside_records_holds_out_its_end_too(tmp_path: Path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.txt").write_text("0123456789" * 10)
    write_lines(folder / "b.jsonl", [{"text": "x"}] * 3)
    built = make(tmp_path, folder, held_out=0.1)
    assert stream(built.train) == [END, *b"0123456789" * 9, *[END, ord("x")] * 3]
    assert stream(built.held_out) == [END, *b"0123456789"]


def test_a_build_of_several_sources_divides_each_as_a_build_of_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("thalweg.data.files._FEW_TEXTS", 3)
    for name, count in {"few": 2, "many": 30}.items():
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number:02d}.txt").write_text(f"{name} text {number}\n" * 20)
    sources = [tmp_path / "few", tmp_path / "many"]
    alone = [make(tmp_path, source, held_out=0.2) for source in sources]
    both = make(tmp_path, [[source] for source in sources], held_out=0.2)
    assert stream(both.train) == [id for built in alone for id in stream(built.train)]
    assert stream(both.held_out) == [id for built in alone for id in stream(built.held_out)]


def test_a_cut_never_splits_a_character(tmp_path: Path):
    (tmp_path / "a.txt").write_text("\u65e5" * 10, encoding="utf-8")
    for share in (0.07, 0.1, 0.31, 0.5):
        built = make(tmp_path, tmp_path / "a.txt", held_out=share)
        halves = [built.tokenizer.decode(stream(p)[1:]) for p in (built.train, built.held_out)]
        assert "".join(halves) == "\u65e5" * 10


def test_equal_documents_fall_on_the_same_side(tmp_path: Path):
    records = [{"text": f"document {i % 100}"} for i in range(300)]
    built = make(tmp_path, write_lines(tmp_path / "a.jsonl", records), held_out=0.2)
    sides = []
    for path in (built.train, built.held_out):
        ids, bounds = stream(path), open_store(path).documents.tolist()  # type: ignore[arg-type]
        sides.append({tuple(ids[a:b]) for a, b in pairwise(bounds)})
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 100
    assert 8 <= len(sides[1]) <= 35


def test_a_second_build_finds_the_first(tmp_path: Path):
    file = write_lines(tmp_path / "a.jsonl", [{"text": "x"}])
    first = make(tmp_path, file)
    changed = first.train.stat().st_mtime_ns
    file.rename(tmp_path / "b.jsonl")  # another name, the same content
    assert make(tmp_path, tmp_path / "b.jsonl").train == first.train
    assert first.train.stat().st_mtime_ns == changed


def test_a_list_of_many_files_is_one_source_and_holds_out_whole_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("thalweg.data.files._FEW_TEXTS", 3)
    files = [tmp_path / f"{number:02d}.txt" for number in range(30)]
    for file in files:
        file.write_text(f"text {file.stem}\n" * 20)
    whole = {f"text {file.stem}\n" * 20 for file in files}
    held = make(tmp_path, files, held_out=0.2).held_out
    texts = bytes(id if id != END else 0 for id in stream(held)).decode().split("\0")[1:]
    assert 0 < len(texts) < 30
    assert set(texts) <= whole


def test_compressed_bytes_under_the_name_of_a_text_are_no_text(tmp_path: Path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"hello"))
    assert stream(make(tmp_path, tmp_path / "a.txt.gz").train) == [END, *b"hello"]
    (tmp_path / "a.txt.gz").rename(tmp_path / "a.txt")
    with pytest.raises(DataError, match="not UTF-8"):
        make(tmp_path, tmp_path / "a.txt")


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_a_file_that_changes_during_its_build_ends_it_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: str
):
    file = write_lines(tmp_path / "a.jsonl", [{"text": "old"}] * 9)
    module = importlib.import_module("thalweg.data.build")
    real = module.plan_parts

    def replaces(*args: object) -> object:
        write_lines(tmp_path / "b.jsonl", [{"text": "new"}] * 9).replace(file)
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module, "plan_parts", replaces)
        with pytest.raises(DataError, match=r"1 of 1 files changed[\s\S]*a\.jsonl"):
            make(tmp_path, file, tokenizer=tokenizer)
    assert not list((tmp_path / "home" / "stores" / ".work").iterdir())
    for text in ("new", "old"):
        built = make(tmp_path, write_lines(file, [{"text": text}] * 9), tokenizer=tokenizer)
        assert built.tokenizer.decode(stream(built.train)[1:]).startswith(text)


def test_another_content_field_tokenizer_or_share_is_another_store(tmp_path: Path):
    lines = [{"text": f"the cat {i}", "other": f"a dog {i}"} for i in range(50)]
    file = write_lines(tmp_path / "a.jsonl", lines)
    found = {
        make(tmp_path, file).train,
        make(tmp_path, file, field="other").train,
        make(tmp_path, file, tokenizer="bpe:260").train,
        make(tmp_path, file, held_out=0.5).train,
    }
    write_lines(file, [*lines, {"text": "more", "other": "more"}])
    found.add(make(tmp_path, file).train)
    assert len(found) == 5
    assert len({open_store(path).fingerprint for path in found}) == 5


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_a_killed_build_goes_on_and_gives_the_same_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: str
):
    monkeypatch.setattr("thalweg.data.files.PART_BYTES", 400)
    records = [{"text": f"the number {i} and some words"} for i in range(100)]
    file = write_lines(tmp_path / "a.jsonl", records)
    whole = make(tmp_path / "undisturbed", file, tokenizer=tokenizer)

    module = importlib.import_module("thalweg.data.build")
    done: list[int] = []
    real = module.encode_part

    def dies_from_five_on(number: int, *rest: object) -> None:
        if number >= 5:
            raise KeyboardInterrupt
        real(number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "encode_part", dies_from_five_on)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, file, tokenizer=tokenizer, workers=1)
    work = next((tmp_path / "home" / "stores" / ".work").iterdir())
    finished = {path: path.stat().st_mtime_ns for path in work.glob("*.json")}
    assert len([path for path in finished if path.name[0] == "0"]) == 5
    (work / "000005.train.tokens").write_bytes(b"half a part")

    def counts(number: int, *rest: object) -> None:
        if not (work / f"{number:06d}.json").is_file():
            done.append(number)
        real(number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "encode_part", counts)
    again = make(tmp_path, file, tokenizer=tokenizer, workers=1)
    assert min(done) == 5
    assert stream(again.train) == stream(whole.train)
    assert open_store(again.train).fingerprint == open_store(whole.train).fingerprint
    assert not work.exists()


def _build(folder: Path, file: Path) -> None:
    make(folder, file)


def test_two_processes_build_one_store_once(tmp_path: Path):
    file = write_lines(tmp_path / "a.jsonl", [{"text": f"text {i}" * 50} for i in range(2000)])
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=_build, args=(tmp_path, file)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    stores = [p for p in (tmp_path / "home" / "stores").iterdir() if p.name[0] != "."]
    assert len(stores) == 1
    assert open_store(make(tmp_path, file).train).documents.shape == (2001,)


def test_parts_and_workers_do_not_change_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    records = [{"text": f"number {i}\nand a line\n" * (1 + i % 7)} for i in range(200)]
    file = write_lines(tmp_path / "a.jsonl", records)
    (tmp_path / "b.txt").write_text("a long text\n" * 300)
    one = make(tmp_path / "one", [file, tmp_path / "b.txt"], workers=1)
    monkeypatch.setattr("thalweg.data.files.PART_BYTES", 700)
    many = make(tmp_path / "many", [file, tmp_path / "b.txt"], workers=4)
    assert stream(one.train) == stream(many.train)
    assert open_store(many.train).documents.shape == (202,)


def test_long_texts_encode_as_one(tmp_path: Path):
    text = "".join(f"word{i} and  spaces\n\n" for i in range(9000))
    (tmp_path / "a.txt").write_text(text)
    built = make(tmp_path, tmp_path / "a.txt", tokenizer="bpe:300")
    assert stream(built.train)[1:] == built.tokenizer.encode(text)


@pytest.mark.parametrize("line", ["word\n\n", "word\n\nword\n", "word \n", "word\n\u3000\u3000"])
def test_a_cut_never_ends_or_begins_in_white_space(tmp_path: Path, line: str):
    blanks = ["a\n\n", "a \n", "a\n\u3000\u3000b"] * 9
    train_bpe(blanks, 280).save(tmp_path)
    text = line * (1_200_000 // len(line))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    built = make(tmp_path, tmp_path / "a.txt", tokenizer=tmp_path)
    assert stream(built.train)[1:] == built.tokenizer.encode(text)


def test_a_tokenizer_folder_is_used_and_kept(tmp_path: Path):
    byte_tokenizer().save(tmp_path)
    file = write_lines(tmp_path / "a.jsonl", [{"text": "x"}])
    built = make(tmp_path, file, tokenizer=tmp_path)
    assert load_tokenizer(built.train).fingerprint == byte_tokenizer().fingerprint
    assert json.loads((built.train / "tokenizer_config.json").read_text())["eos_token"]


def test_files_without_text_are_an_empty_corpus(tmp_path: Path):
    with pytest.raises(DataError, match="an empty corpus"):
        make(tmp_path, write_lines(tmp_path / "a.jsonl", [{"text": ""}]))
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(DataError, match="an empty corpus"):
        make(tmp_path, tmp_path / "b.txt")


def test_a_share_that_leaves_a_side_empty_is_refused(tmp_path: Path):
    file = write_lines(tmp_path / "a.jsonl", [{"text": "only one"}])
    with pytest.raises(DataError, match="fell on the other side"):
        make(tmp_path, file, held_out=1e-9)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_out_of_range_is_refused(tmp_path: Path, share: float):
    with pytest.raises(DialError, match="a share"):
        make(tmp_path, write_lines(tmp_path / "a.jsonl", [{"text": "x"}]), held_out=share)


@pytest.mark.parametrize(
    "spec", ["bpe:", "bpe:abc", "bpe:200", "bpe:9999999999", "bpe:" + "9" * 9999]
)
def test_a_bad_bpe_size_is_refused(tmp_path: Path, spec: str):
    file = write_lines(tmp_path / "a.jsonl", [{"text": "x"}])
    with pytest.raises(DataError, match=r"bpe:4096"):
        make(tmp_path, file, tokenizer=spec)


def test_bad_input_leaves_no_store_behind(tmp_path: Path):
    file = write_lines(tmp_path / "a.jsonl", [{"text": "x"}, {"no": 1}])
    with pytest.raises(DataError, match="line 2"):
        make(tmp_path, file)
    assert [p.name for p in (tmp_path / "home" / "stores").iterdir() if p.name[0] != "."] == []


@pytest.mark.skipif(not REAL.is_dir(), reason="the texts beside the repository are not here")
def test_a_real_domain_comes_back_from_its_store(tmp_path: Path):
    file = REAL / "domains" / "dictionary-foldoc.jsonl"
    store = open_store(make(tmp_path, file).train)
    texts = [json.loads(line)["text"] for line in file.read_text("utf-8").splitlines()]
    bounds = store.documents.tolist()
    assert len(bounds) == len(texts) + 1
    for number in (0, 17, len(texts) - 1):
        ids = store.tokens[bounds[number] + 1 : bounds[number + 1]].tolist()
        assert store.tokenizer.decode(ids) == texts[number]
