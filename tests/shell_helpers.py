"""The command line in this process, from a folder of its own."""

import sys
from pathlib import Path

import pytest

from thalweg import cli


class Shell:
    """Runs the command line in this process, from a folder of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
        self.folder, self.patch, self.capsys = folder, monkeypatch, capsys
        monkeypatch.chdir(folder)
        monkeypatch.setenv("THALWEG_HOME", str(folder / "runs"))

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self.patch.setattr(sys, "argv", ["thalweg", *arguments])
        self.capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = self.capsys.readouterr()
        return code, out, err
