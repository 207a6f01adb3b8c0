import gzip
import json
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_helpers import REAL, write_lines
from thalweg.data import documents
from thalweg.data.files import find_files, plan_parts
from thalweg.errors import DataError

TEXTS = ["one", "two\nlines", "", "d\u00e9j\u00e0 vu"]


def texts(source: object, field: str = "text") -> list[str]:
    return [document.text for document in documents(source, field)]  # type: ignore[arg-type]


def test_every_format_gives_the_same_documents(tmp_path: Path):
    records = [{"text": text, "n": 1} for text in TEXTS]
    plain = write_lines(tmp_path / "a.jsonl", records)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with pa.output_stream(tmp_path / "c.jsonl.zst", compression="zstd") as out:
        out.write(plain.read_bytes())
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "d.parquet", row_group_size=2)
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst", "d.parquet"):
        assert texts(tmp_path / name) == TEXTS, name


def test_a_saved_data_set_is_read_without_the_library(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list([{"text": text} for text in TEXTS])
    whole.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": whole, "test": whole}).save_to_disk(tmp_path / "many")
    assert texts(tmp_path / "one") == TEXTS
    assert texts(tmp_path / "many") == TEXTS
    assert texts(tmp_path / "many" / "test") == TEXTS


def test_a_folder_and_a_pattern_are_read_in_sorted_order(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.md").write_text("second")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "deep" / "c.py").write_text("third")
    (tmp_path / ".hidden.txt").write_text("never")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert texts(tmp_path) == ["first", "second", "third"]
    assert texts(str(tmp_path / "**" / "*.py")) == ["third"]
    assert texts([tmp_path / "b.md", tmp_path / "a.txt"]) == ["second", "first"]


def test_a_linked_folder_is_read_and_a_link_back_is_no_more_text(tmp_path: Path):
    for name in ("real", "corpus"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    (tmp_path / "corpus" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "corpus")
    (tmp_path / "corpus" / "own").symlink_to(tmp_path / "corpus")
    assert texts(tmp_path / "corpus") == ["corpus", "real"]


@pytest.mark.parametrize("source", [".", "*", "**/*.txt", "gone.txt"])
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, source: str):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"leads nowhere[\s\S]*gone\.txt"):
        texts(str(tmp_path / source))


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "locked").mkdir()
    real = Path.iterdir

    def refuses(folder: Path) -> object:  # as the system does, but for root too
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(Path, "iterdir", refuses)
    with pytest.raises(DataError, match=r"Permission denied[\s\S]*locked"):
        texts(tmp_path)


def test_a_byte_order_mark_is_no_text(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello")
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "hello"}')
    assert texts(tmp_path) == ["hello", "hello"]


def test_a_document_says_its_file_and_line(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "x"}\n\n{"text": "y"}\n')
    assert [document.where for document in documents(file)] == [
        f"{file}, line 1",
        f"{file}, line 3",
    ]


def test_parts_of_a_long_file_join_to_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("thalweg.data.files.PART_BYTES", 50)
    long = "".join(f"line {i}\n" for i in range(40))
    (tmp_path / "a.txt").write_text(long)
    records = write_lines(tmp_path / "b.jsonl", [{"text": f"document {i}"} for i in range(20)])
    assert len(plan_parts([[tmp_path / "a.txt", records]])) > 10
    assert texts(tmp_path) == [long, *(f"document {i}" for i in range(20))]
    with records.open("a") as out:
        out.write("nonsense\n")
    with pytest.raises(DataError, match="line 21"):
        texts(records)


def test_parts_are_cut_where_no_white_space_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("thalweg.data.files.PART_BYTES", 10)
    text = "one\n\n\n  two\nthree\n\n" * 20
    (tmp_path / "a.txt").write_text(text)
    more = plan_parts([[tmp_path / "a.txt"]])[1:]
    starts = [segment.start for part in more for segment in part]
    assert len(starts) > 9
    assert all(text[:start].endswith("two\n") for start in starts)


def test_an_empty_folder_is_an_empty_corpus(tmp_path: Path):
    with pytest.raises(DataError, match="an empty corpus"):
        texts(tmp_path)
    with pytest.raises(DataError, match="an empty corpus"):
        texts(str(tmp_path / "*.txt"))


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path):
    (tmp_path / "corpus.txt").write_text("x")
    with pytest.raises(DataError, match=r"did you mean 'corpus\.txt'\?"):
        texts(tmp_path / "corpsu.txt")


@pytest.mark.parametrize("name", ["ids.npy", "ids.ds", "ids.bin", "ids.idx"])
def test_a_store_of_ids_is_no_text(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(DataError, match=r"holds token ids[\s\S]*Corpus\("):
        find_files(tmp_path / name)


def test_a_byte_that_is_not_utf8_is_found(tmp_path: Path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(DataError, match=r"byte 0xe9 at byte 3[\s\S]*latin\.txt, byte 3"):
        texts(tmp_path)
    (tmp_path / "latin.txt").unlink()
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "ok"}\n{"text": "\xff"}\n')
    with pytest.raises(DataError, match="byte 0xff at byte 25"):
        texts(tmp_path)


@pytest.mark.parametrize("code", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_utf16_is_recognised_by_its_mark(tmp_path: Path, code: str, name: str):
    (tmp_path / name).write_bytes('\ufeff{"text": "x"}'.encode(code))
    with pytest.raises(DataError, match="iconv -f utf-16 -t utf-8"):
        texts(tmp_path)


def test_a_table_with_a_damaged_page_or_end_is_named(tmp_path: Path):
    table = pa.table({"text": [str(number) for number in range(5000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    whole = (tmp_path / "a.parquet").read_bytes()
    with pa.ipc.new_stream(tmp_path / "b.arrow", table.schema) as out:
        out.write_table(table)
    cut = (tmp_path / "b.arrow").read_bytes()[:-300]
    for name, damaged in {
        "a.parquet": whole[:30] + b"\xff" * 370 + whole[400:],
        "b.arrow": cut,
        "c.parquet": whole[:-100],
        "d.parquet": b"",
        "e.arrow": b"nonsense",
    }.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(DataError, match=rf"file that does not read[\s\S]*{name}"):
            texts(tmp_path / name)


def test_a_value_of_a_table_that_is_not_utf8_is_named_by_its_row(tmp_path: Path):
    places = pa.py_buffer(struct.pack("<3i", 0, 1, 3))
    values = pa.Array.from_buffers(pa.string(), 2, [None, places, pa.py_buffer(b"a\xff\xfe")])
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"'text' is not UTF-8[\s\S]*a\.parquet, row 1"):
        texts(tmp_path)


def test_two_columns_of_the_fields_name_are_refused(tmp_path: Path):
    table = pa.table([["a"], ["b"], ["c"]], names=["text", "text", "other"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="2 columns of the name 'text'"):
        texts(tmp_path)
    assert texts(tmp_path, "other") == ["c"]


@pytest.mark.parametrize("index", ["state.json", "dataset_dict.json"])
@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"splits": 3, "_data_files": [3]}'])
def test_a_saved_data_set_with_a_broken_index_names_it(tmp_path: Path, index: str, content: str):
    (tmp_path / index).write_text(content)
    with pytest.raises(DataError, match=rf"a {index} that cannot be used"):
        texts(tmp_path)


def test_a_saved_data_set_without_one_of_its_files_names_it(tmp_path: Path):
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "data-0.arrow"}]}')
    with pytest.raises(DataError, match=r"without data-0\.arrow"):
        texts(tmp_path)


def test_a_line_that_is_nested_too_deep_is_named(tmp_path: Path):
    deep = "[" * 200_000 + "]" * 200_000
    (tmp_path / "a.jsonl").write_text(f'{{"text": "x"}}\n{{"text": "y", "more": {deep}}}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2"):
        texts(tmp_path)


def test_a_line_without_the_field_names_the_line_and_its_fields(tmp_path: Path):
    file = write_lines(tmp_path / "a.jsonl", [{"text": "x"}, {"txet": "y", "id": 1}])
    with pytest.raises(DataError) as caught:
        texts(file)
    text = str(caught.value)
    assert "without the field 'text'; it has: id, txet" in text
    assert f"{file}, line 2" in text
    assert "did you mean 'txet'?" in text


def test_a_table_without_the_field_names_its_columns(tmp_path: Path):
    pq.write_table(pa.table({"content": ["x"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="it has: content, n"):
        texts(tmp_path)
    assert texts(tmp_path, "content") == ["x"]


@pytest.mark.parametrize("line", ["{'text': 1}", "[1, 2]", '"text"', '{"text": "cut'])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x"}) + "\n" + line + "\n")
    with pytest.raises(DataError, match=r"a\.jsonl, line 2"):
        texts(tmp_path)


@pytest.mark.parametrize("value", [3, None, ["x"], "\ud800"])
def test_a_field_that_is_no_text_is_named(tmp_path: Path, value: object):
    write_lines(tmp_path / "a.jsonl", [{"text": value}])
    with pytest.raises(DataError, match="field 'text'"):
        texts(tmp_path)


def test_damaged_files_are_named(tmp_path: Path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 100)[:-20])
    with pytest.raises(DataError, match=r"compressed file that is damaged[\s\S]*a\.jsonl\.gz"):
        texts(tmp_path / "a.jsonl.gz")
    (tmp_path / "b.parquet").write_bytes(b"PAR1nonsense")
    with pytest.raises(DataError, match=r"parquet file that does not read[\s\S]*b\.parquet"):
        texts(tmp_path / "b.parquet")


def test_a_saved_data_set_without_train_lists_its_splits(tmp_path: Path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["test", "dev"]}')
    with pytest.raises(DataError, match="the splits"):
        find_files(tmp_path)


def test_a_data_set_of_the_hub_without_network_says_so(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(proxy, raising=False)
    with pytest.raises(DataError, match=r"'hf:nobody/nothing' without network[\s\S]*save_to_disk"):
        texts("hf:nobody/nothing")


def test_a_slice_of_a_split_is_refused_and_can_be_saved_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "hub").mkdir()
    pq.write_table(pa.table({"text": ["a", "b", "c"]}), tmp_path / "hub" / "train.parquet")
    assert texts(f"hf:{tmp_path / 'hub'}") == ["a", "b", "c"]
    with pytest.raises(DataError, match=r"a slice[\s\S]*split='train\[:2\]'\)\.save_to_disk"):
        texts(f"hf:{tmp_path / 'hub'}:train[:2]")
    part = datasets.load_dataset(str(tmp_path / "hub"), split="train[:2]")
    part.save_to_disk(tmp_path / "part")
    assert texts(tmp_path / "part") == ["a", "b"]


@pytest.mark.skipif(not REAL.is_dir(), reason="the texts beside the repository are not here")
def test_real_domains_are_read():
    found = next(iter(documents(REAL / "domains" / "code-python.jsonl")))
    assert "import" in found.text
