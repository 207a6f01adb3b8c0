import struct
from pathlib import Path

import numpy as np
import pytest

from data_helpers import ctx, text_store
from thalweg.data import Corpus, open_store
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
