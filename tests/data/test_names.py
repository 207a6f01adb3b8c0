from pathlib import Path

import pytest

from thalweg.recipes.parts import named_files


@pytest.fixture
def partitioned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for language in ("en", "de"):
        folder = tmp_path / "data" / f"lang={language}"
        folder.mkdir(parents=True)
        (folder / f"{language}-text.txt").write_text("x")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("partitioned")
@pytest.mark.parametrize(
    ("item", "name"),
    [
        ("data/lang=en/en-text.txt", "en-text"),
        ("data/lang=de", "de"),
        ("data/lang=*/*.txt", "data"),
    ],
)
def test_a_path_with_an_equals_sign_is_a_path(item: str, name: str):
    assert named_files([item], each_file=False) == {name: [item]}


@pytest.mark.usefixtures("partitioned")
def test_a_name_before_a_path_with_an_equals_sign_is_a_name():
    found = named_files(["english=data/lang=en"], each_file=False)
    assert found == {"english": ["data/lang=en"]}
    assert list(named_files(["data/lang=*/*.txt"], each_file=True)) == ["de-text", "en-text"]
