"""Write the report: one page that holds everything it needs and opens without a network.

The page carries plotly.js once (4.8 MB, from the plotly package), the figures as JSON, and a policy
that forbids it to load anything. All text of the run is escaped by the template.
"""

import json
import math
import os
import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from thalweg.report.compare import (
    LABELS,
    Comparison,
    Summary,
    compare,
    difference_text,
)
from thalweg.report.difference import recipe_difference
from thalweg.report.draw import LARGE, SMALL, Figure
from thalweg.report.experts import load_figures
from thalweg.report.family import Member, family
from thalweg.report.figures import (
    answer_figures,
    dial_figures,
    health_figures,
    loss_figure,
    mixture_figure,
    other_figures,
)
from thalweg.report.forgetting import change_of, gap_figures
from thalweg.report.numbers import (
    MISSING,
    bytes_text,
    count_text,
    duration_text,
    number_text,
    percent_text,
    rate_text,
)
from thalweg.report.read import read_run
from thalweg.report.run import Json, Run
from thalweg.report.solved import solving

__all__ = ["write_report"]

LANE = 34
"""Height of a run in the drawing of the branches, pixels."""
SAMPLES_OPEN = 3
"""Samples shown before the rest is folded away."""
EVENTS_OPEN = 12


class Tile(NamedTuple):
    """A headline number."""

    label: str
    value: str
    note: str = ""


class Delivered(NamedTuple):
    """What a source was to give and gave. Numbers as text; shares 0 to 1 for the bars."""

    name: str
    planned: str
    delivered: str
    difference: str
    off: bool
    planned_epochs: str
    epochs: str
    share: float


class Lane(NamedTuple):
    """A run in the drawing of the branches; places in percent of the longest run."""

    member: Member
    left: float
    width: float
    link: str
    """SVG path from the parent's lane; empty for a trunk."""
    colour: int | None
    """Of the runs on this page; None for their relatives."""
    loss: str


class Command(NamedTuple):
    """Something to do next."""

    what: str
    text: str


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write one self-contained HTML page about one run, or a comparison of several.

    Args:
        runs: Folders of runs; the first is the baseline of a comparison.
        out: The file to write; its folder is made if missing.

    Returns:
        `out`.

    Raises:
        StateError: A folder is no run, or one of its files is damaged.
    """
    from plotly.offline import get_plotlyjs

    found = [read_run(folder) for folder in runs]
    page = _context(found)
    page["plotlyjs"] = Markup(get_plotlyjs())  # the library itself
    environment = Environment(
        loader=PackageLoader("thalweg.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": count_text, "leaf": _leaf, "kind": _kind}
    text = environment.get_template("page.html.j2").render(page)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        half.write_text(text, encoding="utf-8")
        half.replace(out)
    except OSError as error:
        half.unlink(missing_ok=True)
        error.filename = str(out)  # a full disk names no file
        raise
    return out


def _context(runs: Sequence[Run]) -> dict[str, object]:
    comparison = compare(runs)
    loss = loss_figure(runs)
    dials, still = dial_figures(runs)
    mixtures = [mixture_figure(run) for run in runs[:1]] if len(runs) == 1 else []
    others = load_figures(runs) + other_figures(runs)
    groups: dict[str, list[Figure]] = {
        "loss": [loss] if loss else [],
        "answers": answer_figures(runs),
        "mixture": [figure for figure in mixtures if figure],
        "dials": dials,
        "health": health_figures(runs),
        "gap": gap_figures(others),
        "other": [one for one in others if not one.title.startswith("stability/")],
    }
    figures = [figure for group in groups.values() for figure in group]
    return {
        "title": runs[0].name if len(runs) == 1 else " / ".join(run.name for run in runs),
        "runs": [_run(run, index) for index, run in enumerate(runs)],
        "alone": len(runs) == 1,
        "tiles": _tiles(comparison.summaries[0], runs[0]),
        "table": _table(comparison),
        "judged": any(math.isfinite(one.reward) for one in comparison.summaries),
        "gaps": [
            (gap, LABELS[gap.metric], difference_text(gap))
            for gap in comparison.differences
            if gap.seeds
        ],
        "figures": groups,
        "figures_json": _script({f.id: {**f.spec, "large": f.large} for f in figures}),
        "thinned": sum(figure.thinned for figure in figures),
        "limits": (LARGE, SMALL),
        "still": still,
        "lanes": _lanes(runs),
        "lane_height": LANE,
        "difference": recipe_difference(runs) if len(runs) > 1 else {},
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "samples_open": SAMPLES_OPEN,
        "events_open": EVENTS_OPEN,
    }


def _script(value: object) -> Markup:
    """Return JSON that is safe inside a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # no tag can begin in it


def _leaf(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _kind(name: str) -> str:
    """Return the class in the record's "module:Class"."""
    return name.rsplit(":", maxsplit=1)[-1].rsplit(".", maxsplit=1)[-1]


def _run(run: Run, index: int) -> dict[str, object]:
    return {
        "name": run.name,
        "recipe": run.recipe,
        "seed": run.seed,
        "colour": index % 8,
        "state": _state(run),
        "parent": run.parent,
        "models": run.models,
        "change": change_of(run),
        "sources": _delivered(run),
        "finished": run.finished,
        "samples": sorted(run.samples, key=lambda sample: -sample.step),
        "trials": [(one, number_text(one.loss)) for one in run.trials[::-1]],
        "changes": run.changes,
        "events": run.events[::-1],
        "tree": run.tree,
        "options": run.options or {},
        "overrides": run.overrides or {},
        "versions": run.versions,
        "commands": _commands(run),
    }


def _state(run: Run) -> str:
    done = int(run.history.step[-1]) if len(run.history) else 0
    if not math.isfinite(run.plan.steps):
        return f"step {done:,}"
    if run.finished:
        return f"finished, {done:,} steps"
    return f"step {done:,} of {run.plan.steps:,.0f}"


def _tiles(summary: Summary, run: Run) -> list[Tile]:
    planned = run.plan.tokens
    of = f"of {count_text(planned)} planned" if planned > 0 else ""
    tiles = [
        Tile("Held-out loss", number_text(summary.heldout), "nats per token"),
        *_solved(run),
        *_expectation(run),
        Tile("Perplexity", number_text(summary.perplexity, 2), "exp(held-out loss)"),
        Tile("Training loss", number_text(summary.loss), "mean of the last 5 % of steps"),
        Tile("Tokens", count_text(summary.tokens), of),
        Tile("Time", duration_text(summary.seconds), _work(run.flops)),
        Tile("Throughput", rate_text(summary.tokens_per_second), "tokens / s, median"),
        Tile("Utilisation", percent_text(summary.utilisation), "of peak model FLOPs, median"),
        Tile("Parameters", count_text(summary.parameters), ", ".join(run.models)),
        Tile("Memory", bytes_text(summary.memory_bytes), "peak"),
    ]
    return [tile for tile in tiles if tile.value != MISSING]


def _expectation(run: Run) -> list[Tile]:
    """Return the loss that was expected at the end, and where the run stands against it."""
    expected = run.plan.prediction
    if expected is None:
        return []
    end, found = expected.final, run.deviation
    note = f"{end.low:.3f} to {end.high:.3f} at the end"
    if found is not None:
        note += f"; measured {found.gap:+.3f}, {found.place}"
    return [Tile("Predicted loss", number_text(end.loss), note)]


def _solved(run: Run) -> list[Tile]:
    """Return what the run solves and earns at its end."""
    found = solving(run.history)
    reward = Tile("Reward", number_text(found.reward, 3), "mean of the last 5 % of steps")
    return [Tile("Solved (pass@1)", found.text, found.note), reward]


def _work(flops: float) -> str:
    return f"{flops:.2e} training FLOPs" if flops > 0 else "wall clock"


def _table(comparison: Comparison) -> list[dict[str, object]]:
    summaries = comparison.summaries
    heldout, loss = _best([s.heldout for s in summaries]), _best([s.loss for s in summaries])
    solved = -_best([-s.solved for s in summaries])
    if any(math.isfinite(s.reward) for s in summaries):
        loss = math.nan  # that of a policy on its own answers does not say how good it is
    rows = []
    for index, one in enumerate(summaries):
        rows.append(
            {
                "name": one.name,
                "colour": index % 8,
                "seed": MISSING if one.seed is None else one.seed,
                "heldout": number_text(one.heldout),
                "heldout_gap": _gap(one.heldout, summaries[0].heldout, index),
                "heldout_best": one.heldout == heldout,
                "loss": number_text(one.loss),
                "loss_gap": _gap(one.loss, summaries[0].loss, index),
                "loss_best": one.loss == loss,
                "perplexity": number_text(one.perplexity, 2),
                "steps": f"{one.steps:,}",
                "tokens": count_text(one.tokens),
                "time": duration_text(one.seconds),
                "rate": rate_text(one.tokens_per_second),
                "utilisation": percent_text(one.utilisation),
                "memory": bytes_text(one.memory_bytes),
                "parameters": count_text(one.parameters),
                "solved": percent_text(one.solved),
                "solved_best": one.solved == solved,
                "reward": number_text(one.reward, 3),
            }
        )
    return rows


def _best(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return min(finite) if len(finite) > 1 else math.nan


def _gap(value: float, base: float, index: int) -> str:
    return f"{value - base:+.4f}" if index and math.isfinite(value - base) else ""


def _delivered(run: Run) -> list[Delivered]:
    given = {name: run.history.last(f"tokens/{name}") for name in run.sources}
    whole = sum(value for value in given.values() if math.isfinite(value))
    rows = []
    for name in run.sources:
        plan = run.plan.sources.get(name)
        planned, epochs, size = plan or (math.nan, math.nan, math.nan)
        took = given[name] if math.isfinite(given[name]) else 0.0
        gap = took / planned - 1 if planned > 0 else math.nan
        rows.append(
            Delivered(
                name=name,
                planned=count_text(planned),
                delivered=count_text(took),
                difference=f"{100 * gap:+z.3f} %" if math.isfinite(gap) else MISSING,
                off=run.finished and math.isfinite(gap) and abs(gap) > 1e-3,
                planned_epochs=number_text(epochs, 2),
                epochs=number_text(took / size if size > 0 else math.nan, 2),
                share=took / whole if whole else 0.0,
            )
        )
    return rows


def _lanes(runs: Sequence[Run]) -> list[Lane]:
    members = family([run.folder for run in runs])
    chosen = {run.folder.resolve().name: index % 8 for index, run in enumerate(runs)}
    longest = max((member.end for member in members), default=0) or 1
    row = {member.name: index for index, member in enumerate(members)}
    lanes = []
    for index, member in enumerate(members):
        left = 100 * member.start / longest
        link = ""
        if member.depth and member.parent in row:
            top = (row[member.parent] + 0.5) * LANE
            link = f"M{10 * left:.2f} {top:.1f} V{(index + 0.5) * LANE:.1f}"
        width = 100 * (member.end - member.start) / longest
        loss = number_text(member.loss)
        lanes.append(Lane(member, left, width, link, chosen.get(member.name), loss))
    return lanes


def _commands(run: Run) -> list[Command]:
    name = shlex.quote(_address(run.folder))
    folder = shlex.quote(str(run.folder.resolve() / "export"))
    done = int(run.history.step[-1]) if len(run.history) else 0
    saved = [step for step in _saved(run.folder) if step <= done]
    at = saved[-1] if saved else done
    more = run.plan.tokens if run.plan.tokens > 0 else 1e9
    commands = [] if run.finished else [Command("Go on where it stopped", f"thalweg resume {name}")]
    return [
        *commands,
        Command("Decay from here, as a branch", _branch(name, at)),
        Command("Train on for as long again", f"thalweg extend {name} --tokens {more:.3g}"),
        Command("Write some text", f"thalweg sample {name}"),
        Command("Save for transformers", f"thalweg export {name} {folder}"),
    ]


def _branch(name: str, at: int) -> str:
    return f"thalweg branch {name} --at {at} --decay {max(1, at // 10)}"


def _address(folder: Path) -> str:
    """Return the run's name where the command line finds it by name, else its full path."""
    shelf = Path(os.environ.get("THALWEG_HOME", "runs")).resolve()
    full = folder.resolve()
    return full.name if full.parent == shelf else str(full)


def _saved(folder: Path) -> list[int]:
    names = [path.name for path in (folder / "checkpoints").glob("step-*")]
    found = [re.match(r"step-(\d+)", name) for name in names]
    return sorted(int(one[1]) for one in found if one)
