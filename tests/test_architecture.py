"""How the house is built, as tests: who imports whom, how long a file is, what every name says."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import thalweg

ROOT = Path(thalweg.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(thalweg.__path__, "thalweg.")
    if not module.name.endswith("__main__")
)
EVERY_FILE = pytest.mark.parametrize(
    "file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix()
)
EVERY_MODULE = pytest.mark.parametrize("name", MODULES)

TOP = {
    "branches",
    "grafts",
    "cli",
    "cli_laws",
    "cli_synthesise",
    "launch",
    "finish",
    "describe",
    "lineage",
    "planning",
    "recipes",
    "atlas",
    "__main__",
}
"""What stands above the rooms; nobody below imports it."""
SIDEWAYS = {
    "schedules": set[str](),
    "laws": {"schedules"},
    "evaluate": {"data", "tasks", "models", "rollouts"},
    "monitors": {"evaluate", "data", "laws", "objectives", "schedules"},
    "objectives": {"models"},
    "models": {"objectives", "data"},
    "controllers": {"laws", "schedules"},
    "rollouts": {"models", "tasks", "data"},
    "data": {"schedules", "laws"},
    "report": {"schedules", "laws"},
    "tasks": set[str](),
}
"""Rooms that a room may look into: only for pure functions."""
GROUND = {"core", "errors", "optim"}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def module_of(file: Path) -> str:
    parts = ("thalweg", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(file: Path) -> set[str]:
    return {room_of(name) for name in imports(file) if name.startswith("thalweg.")} - {""}


@EVERY_FILE
def test_a_room_imports_what_stands_below_it(file):
    room = room_of(module_of(file))
    if room in TOP or not room:
        return
    if room == "errors":
        allowed = set[str]()
    elif room == "optim":
        allowed = {"core", "errors", "optim"}
    elif room == "core":
        allowed = GROUND
    else:
        allowed = {*GROUND, room, *SIDEWAYS.get(room, set())}
    assert ours(file) <= allowed | {"__version__"}


@EVERY_FILE
def test_nobody_imports_recipes_or_the_atlas_but_what_stands_above_them(file):
    room = room_of(module_of(file))
    if room not in TOP:
        assert not ours(file) & TOP


@pytest.mark.parametrize("room", ["schedules", "laws", "report"])
def test_some_rooms_know_no_torch(room):
    for file in (ROOT / room).rglob("*.py"):
        tree = ast.parse(file.read_text())
        for node in tree.body:  # inside functions it may be asked for
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "torch" for name in names), file


@EVERY_FILE
def test_a_file_has_at_most_400_lines(file):
    assert len(file.read_text().splitlines()) <= 400


@EVERY_FILE
def test_a_function_has_at_most_40_lines(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= 40, f"{node.name}: {lines} lines"


@EVERY_FILE
def test_a_public_function_names_its_arguments(file):
    tree = ast.parse(file.read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for node in [*tree.body, *(part for kind in classes for part in kind.body)]:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert node.args.kwarg is None, f"{node.name}: **kwargs"


@EVERY_FILE
def test_nothing_is_left_for_later(file):
    words = ("TODO", "FIXME", "XXX", "HACK")
    assert not [word for word in words if word in file.read_text()]


@EVERY_MODULE
def test_every_module_says_what_it_offers(name):
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip()
    assert isinstance(module.__all__, list)
    for part in module.__all__:
        assert hasattr(module, part)


@EVERY_MODULE
def test_every_public_name_has_a_docstring(name):
    module = importlib.import_module(name)
    for part in module.__all__:
        value = getattr(module, part)
        if inspect.isclass(value) or inspect.isfunction(value):
            text = inspect.getdoc(value) or ""
            assert text.strip(), part
            assert not text.startswith(f"{part}("), f"{part}: the dataclass's own signature"
        if inspect.isclass(value) and value.__module__ == name:
            for method, code in vars(value).items():
                plain = inspect.isfunction(code) and code.__name__ == method
                if plain and not method.startswith("_"):
                    assert (code.__doc__ or "").strip(), f"{part}.{method}"
