"""README and docs are run: python blocks as they stand, commands at a twentieth of their size.

A block is left out only after a comment that says why: <!-- not run: needs two GPUs -->.
"""

import doctest
import importlib
import importlib.util
import json
import pkgutil
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import thalweg
from thalweg import cli
from thalweg.recipes import quickstart

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if "api" not in p.parts),
]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)

BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+) -->\n+)?"
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n"
    r"(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
CHEAP = {"--model": "250k", "--length": "32", "--batch": "4"}
SCALED = ("--steps", "--at", "--decay", "--step")
TRAINING = ("quickstart", "pretrain", "continue_pretrain", "sft")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    title: str | None
    body: str
    why: str | None
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("body"))
        yield Block(found["language"], found["title"], found["body"], found["why"], line)


def commands(body: str) -> Iterator[list[str]]:
    """Yield the words of every thalweg command of a console block, comments left out."""
    for line in body.replace("\\\n", " ").splitlines():
        if line.startswith("$ thalweg "):
            yield shlex.split(line[len("$ thalweg ") :], comments=True)


def cheap(words: list[str]) -> list[str]:
    """Return the command with counts of steps divided by 20, and small models and rows."""
    verb, *rest = words
    out = []
    for before, word in zip(["", *rest], rest, strict=False):
        if before in SCALED and word.isdecimal():
            word = str(max(1, int(word) // 20))
        elif before == "--tokens" and verb == "sample":
            word = "8"
        elif before == "--model" and word in ("1m", "10m", "125m", "1b"):
            word = CHEAP["--model"]
        elif before in ("--length", "--batch"):
            word = CHEAP[before]
        word = re.sub(
            r"(?:(?<=-plus-)|(?<=-at-))\d+$", lambda n: str(max(1, int(n[0]) // 20)), word
        )
        out.append(word)
    trains = verb in ("train", "plan") and rest[:1] and rest[0] in TRAINING and "--help" not in rest
    if trains:
        for option in sorted(CHEAP.keys() - set(out)):
            out += [option, CHEAP[option]]
        if "--tokenizer" not in out and rest[0] in ("quickstart", "pretrain"):
            out += ["--tokenizer", "bytes"]
        if "--tokens" in out:
            place = out.index("--tokens")
            del out[place : place + 2]
        if "--steps" not in out:
            out += ["--steps", "20"]
    if verb == "sample" and "--tokens" not in out:
        out += ["--tokens", "8"]
    quiet = verb in ("train", "resume", "branch", "extend") and "--help" not in out and out
    return [verb, *out, *(["--quiet"] if quiet and "--quiet" not in out else [])]


def exit_code() -> int:
    """Run the command line in this process."""
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def lay_texts(folder: Path) -> None:
    """Write the small texts that the pages speak of."""
    draw = random.Random(0)
    words = "river valley the deep water stone runs slow under bridge and falls".split()
    sums = "1 2 3 4 plus is seven minus equals two".split()

    def line(known: list[str], count: int) -> str:
        return " ".join(draw.choice(known) for _ in range(count)) + ".\n"

    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "prose.txt").write_text("".join(line(words, 12) for _ in range(400)))
    (corpus / "notes.txt").write_text("".join(line(words, 9) for _ in range(200)))
    records = [json.dumps({"text": line(sums, 10)}) for _ in range(400)]
    (corpus / "sums.jsonl").write_text("\n".join(records))
    pairs = [{"prompt": line(words, 2).strip(), "answer": line(sums, 2).strip()} for _ in range(80)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the texts of the pages, and a quickstart that reads little."""
    lay_texts(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THALWEG_HOME", str(tmp_path / "runs"))
    few = [str(Path(random.__file__)), str(Path(shlex.__file__))]
    monkeypatch.setattr(quickstart, "standard_library", lambda: few)
    return tmp_path


def test_every_block_has_a_language_that_is_known():
    known = {"python", "console", "bash", "text", "json", "tree"}
    for page in PAGES:
        assert page.read_text().count("\n```") == 2 * len(list(blocks(page))), page
        assert {block.language for block in blocks(page)} <= known, page


@EVERY_PAGE
def test_a_page_runs_from_top_to_bottom(
    page: Path, desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    space: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.why is not None:
            continue
        if block.title is not None:
            (desk / block.title).write_text(block.body)
        if block.language == "python":
            exec(
                compile("\n" * block.line + block.body, str(page), "exec", dont_inherit=True), space
            )
        if block.language == "console":
            for words in commands(block.body):
                monkeypatch.setattr(sys, "argv", ["thalweg", *cheap(words)])
                code = exit_code()
                said = capsys.readouterr()
                assert code == 0, f"{shlex.join(cheap(words))}\n{said.out}{said.err}"


@EVERY_PAGE
def test_a_page_names_only_files_that_exist(page: Path):
    for name in re.findall(r"`((?:src/thalweg|tests|benchmarks|docs)/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), name


@EVERY_PAGE
def test_a_page_links_only_to_pages_that_exist(page: Path):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@EVERY_PAGE
def test_a_page_is_ascii(page: Path):
    page.read_bytes().decode("ascii")


def test_the_pages_name_every_recipe_and_verb():
    text = "".join(page.read_text() for page in PAGES)
    verbs = [command.name or command.callback.__name__ for command in cli.app.registered_commands]
    for verb in verbs:
        assert f"thalweg {verb}" in text, verb
    from thalweg.recipes import summaries

    for recipe in summaries():
        assert recipe in text, recipe


def test_ci_runs_the_command_of_the_readme():
    block = next(
        b for b in blocks(ROOT / "README.md") if b.language == "bash" and "pytest" in b.body
    )
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    steps = block.body.strip().split(" && ")
    assert [line for line in script if line in steps] == steps


def modules() -> list[str]:
    found = pkgutil.walk_packages(thalweg.__path__, "thalweg.")
    return [module.name for module in found if not module.name.endswith("__main__")]


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_give_what_they_say(name: str, desk: Path):
    failed, _ = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert failed == 0


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the extra docs")
def test_the_pages_build_without_a_warning(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    where = {"config-file": ROOT / "mkdocs.yml", "site-dir": tmp_path / "site"}
    options = [f"--{name}={path}" for name, path in where.items()]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").exists()
