"""The command line: verbs only. What they do stands in launch.py and finish.py."""

import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

# Idle threads spin for some microseconds: none costs a third of generation, many a busy machine.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import typer

from thalweg.cli_options import Own, repeated, signature_of
from thalweg.cli_synthesise import synthesise
from thalweg.errors import Diverged, ThalwegError, no_room, of_file

if TYPE_CHECKING:
    from thalweg.core.recipe import Recipe
    from thalweg.core.state import RunState
    from thalweg.launch import Origin

__all__ = ["app", "main"]

app = typer.Typer(
    help="One small training loop in which everything that changes over a run is a schedule.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Act = Callable[["Recipe", "Origin", Mapping[str, Any]], None]
PAST = typer.Option("--from", help="Runs to predict the loss from, one or several.")
SINK = typer.Option(help="tensorboard or wandb; repeat for both.")
OPEN = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
Run = Annotated[str, typer.Argument(help="Name or folder of a run.")]
Name = Annotated[
    str, typer.Option("--run", "--name", help="Name of the new run; torchrun lets --name through.")
]
Sinks = Annotated[list[str], typer.Option("--sink", help="tensorboard or wandb; repeat for both.")]
Rate = Annotated[
    str, typer.Option(help="proposed (by the convex bound), keep, or a factor of the rate: 0.5.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress line.")]
Elsewhere = Annotated[
    Literal["refuse", "warn"], typer.Option(help="For past runs unlike this recipe.")
]
TRAIN: Own = {
    "run": (Name, ""),
    "past": (Annotated[list[str] | None, PAST], None),
    "elsewhere": (Elsewhere, "refuse"),
    "sink": (Annotated[list[str] | None, SINK], None),
    "quiet": (Quiet, False),
}
"""Options of `train`; `plan` takes them too, so that one word turns a run into its plan."""


@app.command(context_settings=OPEN)
def train(context: typer.Context, recipe: Annotated[str, typer.Argument()] = "") -> None:
    """Train a recipe, or a Python file with a function recipe(). --help after its name: options."""
    if recipe in ("", "--help", "-h"):
        _print_recipes("train")
        return
    _with_recipe(recipe, [*context.args], "train", TRAIN, _train)


@app.command(context_settings=OPEN)
def plan(context: typer.Context, recipe: Annotated[str, typer.Argument()] = "") -> None:
    """Say what a recipe would do: data, dials, cost, and with --from RUN... the loss to expect."""
    if recipe in ("", "--help", "-h"):
        _print_recipes("plan")
        return
    picture = typer.Option(help="Draw the dials into this .svg file.")
    pilot = typer.Option("--pilot", help="Run short pilots first, and predict from them.")
    own = {
        "plot": (Annotated[Path | None, picture], None),
        "pilot": (Annotated[bool, pilot], False),
    }
    _with_recipe(recipe, [*context.args], "plan", {**TRAIN, **own}, _plan)


@app.command()
def resume(run: Run, sink: Sinks = [], quiet: Quiet = False) -> None:  # noqa: B006  # typer reads it
    """Go on with a run where it stopped, however it stopped."""
    from thalweg import launch

    _close(*launch.resume_run(launch.find_run(run), sink, quiet=quiet))


@app.command()
def branch(
    run: Run,
    changes: Annotated[list[str] | None, typer.Argument(help="path=value ...")] = None,
    at: Annotated[int | None, typer.Option(help="Step of the run; its end if not given.")] = None,
    decay: Annotated[
        int | None, typer.Option(help="Let the rate decay over this many steps.")
    ] = None,
    rate: Rate = "keep",
    name: Name = "",
    quiet: Quiet = False,
) -> None:
    """Start a run from a step of another: let it decay, or go on with something changed."""
    from thalweg import launch, lineage

    folder = lineage.branch_run(launch.find_run(run), at, decay, changes or [], name, rate)
    _close(*launch.resume_run(folder, quiet=quiet))


@app.command()
def extend(
    run: Run,
    tokens: Annotated[float | None, typer.Option(help="More target tokens.")] = None,
    steps: Annotated[int | None, typer.Option(help="More steps.")] = None,
    rate: Rate = "keep",
    name: Name = "",
    quiet: Quiet = False,
) -> None:
    """Go on with a longer run, from where the longer one's dials leave the shorter one's."""
    from thalweg import launch, lineage

    folder = lineage.extend_run(launch.find_run(run), tokens, steps, name, rate)
    _close(*launch.resume_run(folder, quiet=quiet))


@app.command()
def report(
    runs: Annotated[list[str], typer.Argument(help="Runs; several are drawn in one page.")],
    out: Annotated[Path | None, typer.Option(help="Where to write the page.")] = None,
) -> None:
    """Write one self-contained HTML page about a run, or several."""
    from thalweg.launch import find_run
    from thalweg.report import write_report

    folders = [find_run(run) for run in runs]
    target = out or (folders[0] / "report.html" if len(folders) == 1 else Path("report.html"))
    print(write_report(folders, target))


@app.command()
def compare(runs: Annotated[list[str], typer.Argument(help="Two runs or more.")]) -> None:
    """Print final numbers of runs side by side, seeds paired, and what their recipes differ in."""
    from thalweg.launch import find_run
    from thalweg.report import compare as compared
    from thalweg.report import read_run, recipe_difference, text_table

    read = [read_run(find_run(run)) for run in runs]
    print(text_table(compared(read)))
    for path, values in recipe_difference(read).items():
        print(f"{path}: " + " | ".join(values))


@app.command()
def sample(
    run: Run,
    prompt: Annotated[list[str], typer.Option(help="Text to go on from; repeatable.")] = [],  # noqa: B006
    tokens: Annotated[int, typer.Option(help="Tokens to write.")] = 120,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.8,
    top_p: Annotated[
        float, typer.Option(help="Of the likeliest tokens with this probability.")
    ] = 0.95,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
) -> None:
    """Let a run's model write."""
    from thalweg import finish, launch

    prompts = tuple(prompt) or finish.PROMPTS
    rows = finish.sample(
        launch.find_run(run),
        prompts,
        tokens=tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
    for start, text, full in rows:
        print(f"--- {start!r}\n{start}{text}\n")
        if full:
            print("(the model has no further positions)", file=sys.stderr)


@app.command()
def evaluate(
    run: Run,
    data: Annotated[
        list[str], typer.Option(help="Text; the run's held-out text if not given.")
    ] = [],  # noqa: B006
    field: Annotated[str, typer.Option(help="Where JSON lines have their text.")] = "text",
) -> None:
    """Measure the loss of a run's model on text, nats per token."""
    from thalweg import launch

    found = launch.evaluate_run(launch.find_run(run), data, field)
    for name, loss in found.by_source().items():
        print(f"{name:24} {loss:8.4f} nats per token  ({found.tokens[name]:,} tokens)")
    print(f"{'all':24} {found.loss:8.4f} nats per token")


@app.command()
def export(run: Run, folder: Annotated[Path, typer.Argument(help="Folder to write.")]) -> None:
    """Write a folder that transformers loads with from_pretrained."""
    from thalweg import finish, launch

    print(finish.export_run(launch.find_run(run), folder))


@app.command()
def data(
    run: Run,
    step: Annotated[int, typer.Option(help="Step of the history, from 1.")],
    rows: Annotated[int, typer.Option(help="Rows to show.")] = 4,
    characters: Annotated[int, typer.Option(help="Characters of a row.")] = 400,
) -> None:
    """Show what a run's model saw at a step."""
    from thalweg import finish, launch

    print(finish.show_data(launch.find_run(run), step, rows, characters))


@app.command(name="list")
def list_runs() -> None:
    """List the runs under $THALWEG_HOME (default ./runs)."""
    from thalweg.report.listing import listing

    print(listing(Path(os.environ.get("THALWEG_HOME", "runs"))))


@app.command()
def reproduce(
    names: Annotated[list[str] | None, typer.Argument(help="Entries; all if none.")] = None,
    size: Annotated[
        Literal["tiny", "small"], typer.Option(help="tiny: seconds; small: minutes.")
    ] = "small",
    seeds: Annotated[int | None, typer.Option(help="What the entry says if not given.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the entries, run nothing.")] = False,
    record: Annotated[Path | None, typer.Option(help="JSON file to put verdicts into.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a claim is not reproduced.")
    ] = False,
) -> None:
    """Test the claims of papers: reproduced, not reproduced or inconclusive, with numbers."""
    from thalweg.atlas import verbs
    from thalweg.atlas.listing import entries

    if list_:
        print(verbs.listed(names or [*entries()]))
        return
    print(verbs.reproduced(names or [*entries()], size, seeds, record, strict=strict))


app.command()(synthesise)


@app.command(name="laws", context_settings={**OPEN, "help_option_names": []}, add_help_option=False)
def laws_group(context: typer.Context) -> None:
    """Fit laws to loss curves, predict runs, choose schedules: fit, predict, optimise, compare."""
    from thalweg.cli_laws import laws

    typer.main.get_command(laws).main([*context.args] or ["--help"], prog_name="thalweg laws")


def main() -> None:
    """Run the command line; errors made for people are printed without a traceback."""
    try:
        with _plain_warnings():
            app(standalone_mode=True)
    except Diverged as error:
        print(f"diverged: {error}", file=sys.stderr)
        raise SystemExit(4) from error
    except ThalwegError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(3) from error
    except OSError as error:
        if not error.filename and not no_room(error):
            raise
        print(f"error: {of_file(error)}", file=sys.stderr)
        raise SystemExit(3) from error


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print our own warnings as sentences, without the line of code that gave them."""
    with warnings.catch_warnings():
        usual = warnings.formatwarning

        def plain(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            line: str | None = None,
        ) -> str:
            if category.__module__.startswith("thalweg"):
                return f"warning: {message}\n"
            return usual(message, category, filename, lineno, line)

        warnings.formatwarning = plain
        try:
            yield
        finally:
            warnings.formatwarning = usual


def _print_recipes(verb: str) -> None:
    """Print the recipes without importing them."""
    from thalweg.recipes import summaries

    print(f"Usage: thalweg {verb} RECIPE [OPTIONS] [path=value ...]\n\nRecipes:")
    for name, line in summaries().items():
        print(f"  {name:20} {line}")
    print("  FILE.py              A file of yours with a function recipe(...) -> Recipe.\n")
    print(f"Options of a recipe: thalweg {verb} RECIPE --help")


def _with_recipe(name: str, arguments: Sequence[str], verb: str, own: Own, act: Act) -> None:
    """Parse the recipe's options and the verb's own, and act on the recipe."""
    from thalweg import launch
    from thalweg.recipes.named import file_of

    function, file = launch.find_recipe(name)
    options = inspect.signature(function, eval_str=True).parameters

    def call(*, changes: list[str], **chosen: Any) -> None:
        ours = {key: chosen.pop(key) for key in own}
        given = {key: value for key, value in chosen.items() if value != options[key].default}
        changed = dict(launch.parse_override(text) for text in changes or [])
        recipe = launch.made(function, chosen, changed, given)
        act(recipe, launch.Origin(name, given, changed, file or file_of(given)), ours)

    call.__doc__ = (function.__doc__ or "").split("\n\n")[0]
    signature = signature_of(function, own)
    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__annotations__ = {key: one.annotation for key, one in signature.parameters.items()}
    arguments = repeated(arguments, "--from")
    inner = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    inner.command(name=name)(call)
    typer.main.get_command(inner).main([*arguments], prog_name=f"thalweg {verb} {name}")


def _train(recipe: "Recipe", origin: "Origin", own: Mapping[str, Any]) -> None:
    from thalweg import launch, planning

    if own["past"]:
        recipe, origin, text = planning.foreseen(recipe, origin, own["past"], own["elsewhere"])
        print(text)
    sinks = tuple(own["sink"] or ())
    _close(*launch.run_recipe(launch.Request(recipe, origin, own["run"], sinks, own["quiet"])))


def _plan(recipe: "Recipe", origin: "Origin", own: Mapping[str, Any]) -> None:
    from thalweg import launch, planning

    ask = planning.Ask(
        tuple(own["past"] or ()), own["pilot"], own["elsewhere"], own["run"], own["quiet"]
    )
    print(launch.describe(recipe, own["plot"]), end="\n\n")
    text, code = planning.answer(recipe, origin, ask)
    print(text)
    raise SystemExit(code)


def _close(folder: Path, state: "RunState", code: int) -> None:
    """Write what a finished run is good for, say what to try next, and exit."""
    from thalweg import finish

    finish.close(folder, state, code)
    raise SystemExit(code)
