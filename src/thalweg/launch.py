"""From a request to a run: recipes by name or file, overrides, signals, what follows a run.

`cli.py` only parses; what it asks for stands here.
"""

import ast
import importlib
import inspect
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from thalweg import finish
from thalweg.core.names import called, home_folder, load_file
from thalweg.core.plan import plan
from thalweg.core.recipe import Recipe, check
from thalweg.core.session import Origin, Session, open_run, resume, train
from thalweg.core.state import RunState
from thalweg.core.tree import put
from thalweg.core.world import is_main
from thalweg.data import build
from thalweg.describe import chosen, description
from thalweg.errors import RecipeError, StateError, did_you_mean
from thalweg.evaluate import HeldOutLoss
from thalweg.recipes import summaries
from thalweg.recipes.parts import named_files
from thalweg.report import Progress, Sink, TensorBoard, WandB
from thalweg.report.dials import plot_plan
from thalweg.report.read import read_plan
from thalweg.report.sinks import check_sink

__all__ = [
    "Interrupt",
    "Origin",
    "Request",
    "find_recipe",
    "find_run",
    "made",
    "new_run",
    "override",
    "parse_override",
    "resume_run",
    "run_recipe",
]

INTERRUPTED = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""Exit codes of a run that was asked to end and saved."""


@dataclass(frozen=True)
class Request:
    """A recipe, made, with where it came from."""

    recipe: Recipe
    origin: Origin
    name: str = ""
    """Of the run; empty for the recipe's name and a counter."""
    sinks: tuple[str, ...] = ()
    """tensorboard, wandb."""
    quiet: bool = False


class Interrupt:
    """Remembers a signal until the loop asks. The second one ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Return whether somebody asked the run to end."""
        return self.signal is not None

    def listen(self) -> None:
        """Catch SIGINT and SIGTERM from now on."""
        for number in INTERRUPTED:
            signal.signal(number, self._catch)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise SystemExit(INTERRUPTED[signal.Signals(number)])
        self.signal = number
        print("\nfinishing this step, then saving; again to end at once", file=sys.stderr)


def find_recipe(name: str) -> tuple[Callable[..., Recipe], Path | None]:
    """Return the `recipe` function of a name or of a Python file, and the file if it is one.

    Raises:
        RecipeError: No such recipe, or a file without a function `recipe`.
    """
    if name.endswith(".py"):
        file = Path(name)
        if not file.exists():
            raise RecipeError(
                f"'{name}'",
                expected="a Python file with a function recipe(...) -> Recipe",
                where=str(file.absolute().parent),
                write="the path of the file",
            )
        module: ModuleType = load_file(file)
    elif name in summaries():
        file, module = None, importlib.import_module(f"thalweg.recipes.{name}")
    else:
        raise RecipeError(
            f"recipe '{name}'",
            expected="a recipe, or a file: thalweg train my_recipe.py",
            where="thalweg.recipes",
            write=did_you_mean(name, summaries()),
        )
    function = getattr(module, "recipe", None)
    if not inspect.isfunction(function):
        raise RecipeError(
            f"'{name}' has no function 'recipe'",
            expected="def recipe(...) -> Recipe, its arguments the options",
            where=name,
            write="def recipe(steps: int = 1000) -> Recipe: ...",
        )
    return function, file


def parse_override(text: str) -> tuple[str, Any]:
    """Return path and value of `path=literal`. A bare word is a string.

    Raises:
        RecipeError: No `=`, or a value that is no literal.
    """
    path, sign, value = text.partition("=")
    if not sign or not path:
        raise RecipeError(
            f"'{text}'",
            expected="an option (--steps 100), or an override (path=literal)",
            where="the command line",
            write="path=value, as lr.peak=0.002; a switch like --quiet has no value behind it",
        )
    if value.replace("-", "").replace("_", "").isalnum() and value[:1].isalpha():
        named = {"none": None, "null": None, "true": True, "false": False}
        return path, named.get(value.lower(), value)
    try:
        return path, ast.literal_eval(value)
    except (ValueError, SyntaxError) as error:
        raise RecipeError(
            f"value '{value}' of {path}",
            expected="a Python literal: a number, a string, a tuple, True, None",
            where=path,
            write=f"{path}=VALUE, as lr.peak=0.002",
        ) from error


def override(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with values at paths (or unique endings).

    Raises:
        RecipeError: An unknown or ambiguous path, or a value of another kind.
    """
    for path, value in values.items():
        recipe = put(recipe, path, value)
    return recipe


def made(
    function: Callable[..., Recipe],
    options: Mapping[str, Any],
    changes: Mapping[str, Any],
    given: Mapping[str, Any],
) -> Recipe:
    """Return the recipe that a function makes of its options, changed and checked.

    Args:
        function: The function.
        options: Its arguments.
        changes: Values at paths.
        given: The options that a person wrote; a refusal of one's number names it.

    Raises:
        RecipeError: What the function or the check refuses, or no recipe.
    """
    try:
        recipe = function(**options)
        if not isinstance(recipe, Recipe):
            raise RecipeError(
                f"recipe() returned {type(recipe).__name__}",
                expected="a Recipe",
                where=f"{function.__module__}.recipe",
                write="return Recipe({'policy': model}, (phase,))",
            )
        recipe = override(recipe, changes)
        check(recipe)
    except RecipeError as error:
        said = set(re.findall(r"-?\d[\d.e+-]*|nan|inf", error.given))
        words = [f"--{k.replace('_', '-')} {v}" for k, v in given.items() if _number(v) & said]
        if words and "--" not in error.where:
            error.where += f" ({', '.join(words)})"
        raise
    return recipe


def _number(value: Any) -> set[str]:
    """Return how a message may write a number."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return {str(value), f"{value:g}"} if plain else set()


def new_run(name: str, recipe: str) -> Path:
    """Return the folder of a new run: the name, or the recipe's name and a counter."""
    home = home_folder()
    if name:
        return Path(name) if os.sep in name else home / name
    base, number = Path(recipe).stem, 1
    while (home / f"{base}-{number}").exists():
        number += 1
    return home / f"{base}-{number}"


def find_run(name: str) -> Path:
    """Return the folder of a run, by name under the home folder or by path.

    Raises:
        StateError: There is none.
    """
    for folder in (Path(name), home_folder() / name):
        if (folder / "recipe.json").exists():
            return folder
    known = [p.parent.name for p in home_folder().glob("*/recipe.json")]
    raise StateError(
        f"run '{name}'",
        expected="the name or folder of a run",
        where=str(home_folder()),
        write=did_you_mean(name, known) if known else "thalweg train quickstart",
    )


def run_recipe(request: Request) -> tuple[Path, RunState, int]:
    """Train a recipe in a new folder; return it, the state it ended in, and the exit code."""
    from thalweg.models import keep_freed_memory

    keep_freed_memory()
    folder = new_run(request.name, request.origin.recipe)
    interrupt = Interrupt()
    with ExitStack() as stack:
        session = _session(folder, request.sinks, request.quiet, interrupt, stack)
        interrupt.listen()
        if is_main():
            print("".join(f"{line}\n" for line in chosen(request.recipe)), end="")
        state = train(request.recipe, folder, request.origin, session)
    return folder, state, _exit_code(folder, interrupt)


def resume_run(
    folder: Path, sinks: Sequence[str] = (), *, quiet: bool = False
) -> tuple[Path, RunState, int]:
    """Go on with a run; return its folder, the state it ended in, and the exit code."""
    from thalweg.models import keep_freed_memory

    keep_freed_memory()
    interrupt = Interrupt()
    with ExitStack() as stack:
        session = _session(folder, tuple(sinks), quiet, interrupt, stack)
        interrupt.listen()
        state = resume(folder, session)
    return folder, state, _exit_code(folder, interrupt)


def _exit_code(folder: Path, interrupt: Interrupt) -> int:
    if interrupt.signal is None:
        return 0
    name = signal.Signals(interrupt.signal).name
    print(f"{name}: saved; go on with: thalweg resume {called(folder)}", file=sys.stderr)
    return INTERRUPTED[signal.Signals(interrupt.signal)]


def _session(
    folder: Path, sinks: tuple[str, ...], quiet: bool, interrupt: Interrupt, stack: ExitStack
) -> Session:
    for kind in sinks:
        check_sink(kind)
    makers: list[Callable[[], Callable[..., None]]] = []
    if not quiet:
        makers.append(lambda: stack.enter_context(_progress(folder)).update)
    for kind in sinks:
        makers.append(lambda kind=kind: _writer(_sink(kind, folder), stack))  # type: ignore[misc]
    main = is_main()

    def warn(text: str) -> None:
        if main:
            print(text, file=sys.stderr)

    return Session(makers, interrupt, warn)


def _writer(sink: Sink, stack: ExitStack) -> Callable[..., None]:
    stack.callback(sink.close)

    def write(report: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        values = {**report, **timing}
        numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
        sink.write(int(report["step"]), numbers)

    return write


def _sink(kind: str, folder: Path) -> Sink:
    if kind == "tensorboard":
        return TensorBoard(folder / "tensorboard")
    return WandB(project="thalweg", name=folder.name)


def _progress(folder: Path) -> Progress:
    """Return the line of a run: its planned steps, and its predicted loss if there is one."""
    planned = read_plan(folder)
    known = math.isfinite(planned.steps)
    return Progress(steps=int(planned.steps) if known else None, prediction=planned.prediction)


def describe(recipe: Recipe, picture: Path | None = None) -> str:
    """Return what a recipe would do, in lines: steps, data, dials, parameters, FLOPs, memory.

    Args:
        recipe: The recipe; nothing is trained.
        picture: Where to draw the dials, as SVG.
    """
    check(recipe)
    planned = plan(recipe)
    if picture is not None:
        plot_plan(planned.to_json(), picture)
    return description(planned, recipe)


def evaluate_run(run: Path, data: Sequence[str], field: str) -> HeldOutLoss:
    """Return the loss of a run's model on its held-out text, or on files."""
    if not data:
        return finish.evaluate(run)
    recipe, _ = open_run(run)
    tokenizer = finish.tokenizer_of(recipe, run)
    files = named_files(data, each_file=False)
    stores = {n: build(f, tokenizer=tokenizer, field=field).train for n, f in files.items()}
    return finish.evaluate(run, stores)
