import csv
import gzip
import os
import shlex
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from data_helpers import ctx, text_store, write_lines
from thalweg.data import Corpus, build, open_store
from thalweg.errors import DataError


def megatron(folder: Path, documents: list[list[int]], dtype: str = "<u2", code: int = 8) -> Path:
    """Write a .bin and .idx of one sequence a document, byte by byte as the format is defined."""
    sizes = np.array([len(d) for d in documents], "<i4")
    ends = np.concatenate([[0], np.cumsum(sizes)])
    (folder / "m.bin").write_bytes(
        np.concatenate([np.array(d, dtype) for d in documents]).tobytes()
    )
    (folder / "m.idx").write_bytes(
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, code, len(documents), len(documents) + 1)
        + sizes.tobytes()
        + (ends[:-1] * np.dtype(dtype).itemsize).astype("<i8").tobytes()
        + np.arange(len(documents) + 1).astype("<i8").tobytes()
    )
    return folder / "m.bin"


def test_rows_past_the_end_are_filled_with_end_of_text(tmp_path: Path):
    store = open_store(text_store(tmp_path, ["ab", "c"]))
    assert store.read(np.array([0, 3]), 4).tolist() == [[256, 97, 98, 256], [256, 99, 256, 256]]
    assert store.ordinals(np.array([0, 3]), 4).tolist() == [[0, 0, 0, 1], [0, 0, 1, 1]]


def test_a_store_is_opened_once(tmp_path: Path):
    path = text_store(tmp_path, ["ab"])
    assert open_store(path) is open_store(path)


@pytest.mark.parametrize(("dtype", "code"), [("<u2", 8), ("<i4", 4)])
def test_megatron_files_are_read_in_place(tmp_path: Path, dtype: str, code: int):
    path = megatron(tmp_path, [[5, 6, 7], [8], [9, 10]], dtype, code)
    for name in (path, path.with_suffix(".idx")):
        store = open_store(name)
        assert store.tokens.tolist() == [5, 6, 7, 8, 9, 10]
        assert store.documents.tolist() == [0, 3, 4, 6]
    corpus = Corpus(str(path), length=5, shuffle=False)
    batch, _ = corpus.next(corpus.start(ctx()), ctx(1))
    assert batch["tokens"].tolist() == [[5, 6, 7, 8, 9, 10]]
    assert batch["document"].tolist() == [[0, 0, 0, 1, 2, 2]]


def test_a_flat_npy_is_read_in_place(tmp_path: Path):
    np.save(tmp_path / "ids.npy", np.arange(7, dtype=np.uint32))
    store = open_store(tmp_path / "ids.npy")
    assert store.tokens.tolist() == list(range(7))
    assert store.documents.tolist() == [0, 7]
    with pytest.raises(DataError, match="without a tokenizer"):
        _ = store.tokenizer


def test_another_content_of_a_foreign_file_is_another_fingerprint(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.arange(7, dtype=np.uint16))
    np.save(tmp_path / "b.npy", np.arange(1, 8, dtype=np.uint16))
    one, two = (open_store(tmp_path / name) for name in ("a.npy", "b.npy"))
    assert one.fingerprint != two.fingerprint


def test_foreign_files_of_other_kinds_are_refused(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    (tmp_path / "b.npy").write_bytes(b"\x01\x00\x02\x00")
    (tmp_path / "c.bin").write_bytes(b"\x01\x00")
    (tmp_path / "c.idx").write_bytes(b"nonsense")
    (tmp_path / "d.txt").write_text("text")
    for name, words in [
        ("a.npy", "one dimension"),
        ("b.npy", r"numpy\.save"),
        ("c.bin", "does not begin as Megatron"),
        ("d.txt", "make a store from text"),
    ]:
        with pytest.raises(DataError, match=words):
            open_store(tmp_path / name)


def test_a_missing_store_suggests_its_neighbour(tmp_path: Path):
    (tmp_path / "corpus").mkdir()
    with pytest.raises(DataError, match="did you mean 'corpus'"):
        open_store(tmp_path / "corpsu")
    with pytest.raises(DataError, match=r"build\("):
        open_store(tmp_path / "corpus")


def test_a_truncated_store_is_noticed(tmp_path: Path):
    path = Path(text_store(tmp_path, ["hello"]))
    tokens = path / "tokens.bin"
    tokens.write_bytes(tokens.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"tokens\.bin has 11 bytes[\s\S]*damaged"):
        open_store(path)


@pytest.mark.parametrize("name", ["tokens.bin", "store.json", "tokenizer.json", ""])
def test_what_is_said_of_a_damaged_store_helps(tmp_path: Path, name: str):
    file = write_lines(tmp_path / "a.jsonl", [{"text": "ab"}] * 9)

    def again() -> list[int]:
        built = build(file, home=tmp_path / "it's", held_out=0.0, progress=False)
        return open_store(built.train).tokens.tolist()

    whole = again()
    train = next((tmp_path / "it's" / "stores").glob("[!.]*")) / "train"
    if name:
        (train / name).unlink()
    else:
        shutil.rmtree(train)
    if name == "tokens.bin":
        os.utime(train / "store.json")  # what is open in this process is looked at again
    with pytest.raises(DataError) as caught:
        again()
    advice = shlex.split(caught.value.write.split(", which")[0])
    assert advice == ["rm", "-r", str(train.parent)]
    shutil.rmtree(advice[-1])
    assert again() == whole


@pytest.mark.parametrize("name", ["tokens.bin", "documents.bin"])
def test_a_store_of_which_a_byte_has_changed_is_refused(tmp_path: Path, name: str):
    path = Path(text_store(tmp_path, ["hello", "there"]))
    open_store(path)
    changed = bytearray((path / name).read_bytes())
    changed[8] ^= 1
    (path / name).write_bytes(changed)
    os.utime(path / "store.json", ns=(1, 1))  # another process has not opened it yet
    with pytest.raises(DataError, match="as when it was built"):
        open_store(path)


def datatrove(folder: Path, documents: list[list[int]], letter: str = "H", loss: bool = False):
    """Write what its tokenizer writes: ids, the ends of documents, flags of a byte."""
    ids = [token for document in documents for token in document]
    ends = [sum(map(len, documents[: n + 1])) for n in range(len(documents))]
    file = folder / "00000_shuffled.ds"
    file.write_bytes(struct.pack(f"<{len(ids)}{letter}", *ids))
    Path(f"{file}.index").write_bytes(struct.pack(f"<{len(ends)}Q", *ends))
    Path(f"{file}.metadata").write_text(f"gpt2|{struct.calcsize(letter)}\n{len(ids)}\n{len(ids)} T")
    if loss:
        Path(f"{file}.loss").write_bytes(struct.pack(f"<{len(ids)}?", *[n % 2 for n in ids]))
    return file


def dolma(folder: Path, documents: list[list[int]], dtype: str = "uint16") -> Path:
    """Write what its tokenizer writes: ids without a header, and a table of documents."""
    ids = np.array([token for document in documents for token in document], dtype)
    file = folder / "part-0-00000.npy"
    np.memmap(file, dtype, mode="w+", shape=ids.shape)[:] = ids
    with gzip.open(folder / "part-0-00000.csv.gz", "wt", newline="") as stream:
        start = 0
        for number, document in enumerate(documents):
            end = start + len(document)
            csv.writer(stream).writerow([start, end, f'id "{number}",\n', "a.json.gz", number])
            start = end
    return file


DOCUMENTS = [[5, 6, 7, 0], [8, 0], [9, 10, 0]]


@pytest.mark.parametrize("letter", ["H", "I"])
def test_datatrove_files_are_read_in_place(tmp_path: Path, letter: str):
    store = open_store(datatrove(tmp_path, DOCUMENTS, letter, loss=True))
    assert store.tokens.tolist() == [5, 6, 7, 0, 8, 0, 9, 10, 0]
    assert store.tokens.dtype.itemsize == struct.calcsize(letter)
    assert isinstance(store.tokens.base, np.memmap)
    assert store.documents.tolist() == [0, 4, 6, 9]
    assert store.learned.tolist() == [1, 0, 1, 0, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_dolma_files_are_read_in_place(tmp_path: Path, dtype: str):
    store = open_store(dolma(tmp_path, DOCUMENTS, dtype))
    assert store.tokens.tolist() == [5, 6, 7, 0, 8, 0, 9, 10, 0]
    assert store.tokens.dtype == dtype
    assert isinstance(store.tokens.base, np.memmap)
    assert store.documents.tolist() == [0, 4, 6, 9]
    assert store.ordinals(np.array([3]), 4).tolist() == [[0, 1, 1, 2]]


@pytest.mark.parametrize("write", [datatrove, dolma])
def test_a_foreign_store_gives_rows(tmp_path: Path, write):
    source = Corpus(str(write(tmp_path, DOCUMENTS)), length=4, shuffle=False)
    batch, _ = source.next(source.start(ctx()), ctx(2))
    assert batch["tokens"].tolist() == [[5, 6, 7, 0, 8], [8, 0, 9, 10, 0]]


@pytest.mark.parametrize("write", [datatrove, dolma])
def test_the_fingerprint_of_a_foreign_store_follows_every_file(tmp_path: Path, write):
    prints = set()
    for number, documents in enumerate(
        [DOCUMENTS, [[5, 6, 7, 1], [8, 0], [9, 10, 0]], [[5, 6, 7], [0, 8, 0], [9, 10, 0]]]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        prints.add(open_store(write(folder, documents)).fingerprint)
    assert len(prints) == 3


@pytest.mark.parametrize("name", ["00000_shuffled.ds", "00000_shuffled.ds.index"])
def test_a_cut_datatrove_file_is_refused(tmp_path: Path, name: str):
    file = datatrove(tmp_path, DOCUMENTS)
    place = tmp_path / name
    place.write_bytes(place.read_bytes()[:-3])
    with pytest.raises(DataError, match="one is cut off"):
        open_store(file)


@pytest.mark.parametrize("name", ["part-0-00000.npy", "part-0-00000.csv.gz"])
def test_a_cut_dolma_file_is_refused(tmp_path: Path, name: str):
    file = dolma(tmp_path, DOCUMENTS)
    place = tmp_path / name
    place.write_bytes(place.read_bytes()[:-3])
    with pytest.raises(DataError, match="one is cut off"):
        open_store(file)


@pytest.mark.parametrize("name", ["x.bin", "x.idx"])
def test_a_cut_megatron_file_is_refused(tmp_path: Path, name: str):
    file = megatron(tmp_path, DOCUMENTS)
    place = file.with_suffix(Path(name).suffix)
    place.write_bytes(place.read_bytes()[:-3])
    with pytest.raises(DataError, match="one is cut off"):
        open_store(file)


def test_a_datatrove_file_without_its_index_or_with_an_empty_one_is_refused(tmp_path: Path):
    file = datatrove(tmp_path, DOCUMENTS)
    index = Path(f"{file}.index")
    index.write_bytes(b"")
    with pytest.raises(DataError, match="no document"):
        open_store(file)
    index.unlink()
    with pytest.raises(DataError, match="no store"):
        open_store(file)
