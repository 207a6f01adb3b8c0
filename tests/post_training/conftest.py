"""The command line, where a module's `folder` stands."""

import pytest

from shell_helpers import Shell


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Run a command; return its code and all that it said."""
    shell = Shell(folder, monkeypatch, capsys)

    def call(*words: str) -> tuple[int, str]:
        code, out, err = shell(*words)
        return code, out + err

    return call
