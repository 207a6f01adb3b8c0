"""A shell for tests: the command line in this process, in a folder with two small texts."""

import pytest

from shell_helpers import Shell


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys) -> Shell:
    words = " ".join(f"word{i % 97} and {i % 31}" for i in range(3000))
    (tmp_path / "a.txt").write_text(words)
    (tmp_path / "b.txt").write_text(words[::-1])
    return Shell(tmp_path, monkeypatch, capsys)
