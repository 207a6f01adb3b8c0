"""Final numbers of runs, and honest differences between them. Pure functions.

Runs of the same recipe that differ only in their seeds form a group. Two groups are compared seed
by seed: what the seed decides (initial weights, order of the data) cancels, so fewer seeds settle
more. The interval is Student's t over the paired differences. A difference of losses that were not
measured on the same thing is given with that said: which recipe is better it cannot tell.
"""

import json
import math
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from thalweg.report.numbers import (
    bytes_text,
    count_text,
    duration_text,
    number_text,
    percent_text,
    rate_text,
)
from thalweg.report.run import History, Json, Run
from thalweg.report.solved import solving

__all__ = [
    "LABELS",
    "Comparison",
    "Difference",
    "Group",
    "Summary",
    "compare",
    "summarise",
    "text_table",
]

FINAL_SHARE = 0.05
"""Share of the steps whose mean is the final training loss."""
HEAD = tuple(
    "run,steps,tokens,train loss,held-out,perplexity,time,tok/s,util,memory,params".split(",")
)
ANSWERS = ("pass@1", "reward")
"""Further columns, where a run's answers were judged."""
LABELS = {"heldout": "held-out loss", "loss": "train loss", "solved": "pass@1"}
"""Metrics that are compared seed by seed, as they are called."""


class Summary(NamedTuple):
    """The final numbers of one run; NaN where nothing was measured."""

    name: str
    seed: int | None
    steps: int
    tokens: float
    """Target tokens consumed."""
    loss: float
    """Training loss, nats a token: mean of the last 5 % of the steps."""
    heldout: float
    """Last held-out loss, nats a token."""
    perplexity: float
    """exp(heldout)."""
    seconds: float
    """Wall time over all resumes."""
    tokens_per_second: float
    """Median."""
    utilisation: float
    """Median model-FLOP utilisation, 0 to 1."""
    memory_bytes: float
    """Peak."""
    parameters: float
    """Of all models together."""
    solved: float = math.nan
    """Share of problems solved with one answer each."""
    reward: float = math.nan
    """Mean reward of the last 5 % of the steps."""


class Group(NamedTuple):
    """Runs of one recipe."""

    name: str
    runs: tuple[str, ...]
    seeds: tuple[int | None, ...]


class Difference(NamedTuple):
    """`group` minus `baseline`, over the seeds both have."""

    metric: str
    baseline: str
    group: str
    seeds: tuple[int | None, ...]
    mean: float
    low: float
    """Lower end of the 95 % interval; NaN with fewer than two pairs."""
    high: float
    unlike: str = ""
    """What the two were measured on that differs; empty: the same."""


class Comparison(NamedTuple):
    """Summaries in the order given, groups, and each group against the first."""

    summaries: tuple[Summary, ...]
    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]


def summarise(run: Run) -> Summary:
    """Return the final numbers of a run."""
    history = run.history
    heldout = history.last("heldout/loss")
    parameters = [size.parameters for size in run.models.values()]
    answers = solving(history)
    return Summary(
        name=run.name,
        seed=run.seed,
        steps=int(history.step[-1]) if len(history) else 0,
        tokens=history.last("tokens"),
        loss=_final(history),
        heldout=heldout,
        perplexity=math.exp(heldout) if heldout < 700 else math.nan,
        seconds=run.wall_seconds,
        tokens_per_second=_median(history, "tokens_per_second"),
        utilisation=_median(history, "utilisation"),
        memory_bytes=_peak(history, "memory_bytes"),
        parameters=sum(parameters) if parameters else math.nan,
        solved=answers.end,
        reward=answers.reward,
    )


def compare(runs: Sequence[Run]) -> Comparison:
    """Return final numbers, groups of equal recipe, and paired differences to the first group.

    difference = mean over seeds s of (group_s - baseline_s), +- t(0.975, n-1) * sd / sqrt(n)

    Args:
        runs: One or more runs; the group of the first is the baseline.
    """
    summaries = tuple(summarise(run) for run in runs)
    parts: dict[str, list[Summary]] = {}
    leads: dict[str, Run] = {}
    for run, summary in zip(runs, summaries, strict=True):
        parts.setdefault(_fingerprint(run), []).append(summary)
        leads.setdefault(_fingerprint(run), run)
    members = list(parts.values())
    groups = tuple(_group(part) for part in members)
    differences = tuple(
        _difference(metric, (groups[0], members[0]), (group, part))._replace(
            unlike=_unlike(metric, runs[0], lead)
        )
        for group, part, lead in list(zip(groups, members, leads.values(), strict=True))[1:]
        for metric in LABELS
        if metric != "solved" or any(math.isfinite(one.solved) for one in summaries)
    )
    return Comparison(summaries, groups, differences)


def text_table(comparison: Comparison) -> str:
    """Return the comparison as plain text, columns aligned."""
    judged = any(math.isfinite(one.reward) for one in comparison.summaries)
    rows: list[tuple[str, ...]] = [(*HEAD, *(ANSWERS if judged else ()))]
    for one in comparison.summaries:
        more = (percent_text(one.solved), number_text(one.reward)) if judged else ()
        rows.append((*_row(one), *more))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(_cells(row, widths)).rstrip() for row in rows]
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join([*lines, *_paired_lines(comparison)])


def _final(history: History) -> float:
    losses = history.points("loss").value
    if len(losses) == 0:
        return math.nan
    return float(losses[-max(1, round(FINAL_SHARE * len(losses))) :].mean())


def _median(history: History, name: str) -> float:
    values = history.points(name).value
    return float(np.median(values)) if len(values) else math.nan


def _peak(history: History, name: str) -> float:
    values = history.points(name).value
    return float(values.max()) if len(values) else math.nan


def _fingerprint(run: Run) -> str:
    record: Json = run.tree if run.tree is not None else [run.recipe, run.options, run.overrides]
    branch: Json = run.parent.step if run.parent is not None else None
    return json.dumps([_seedless(record), branch], sort_keys=True)


def _seedless(tree: Json) -> Json:
    if isinstance(tree, dict):
        return {key: _seedless(value) for key, value in tree.items() if key != "seed"}
    return [_seedless(value) for value in tree] if isinstance(tree, list) else tree


def _group(part: Sequence[Summary]) -> Group:
    names = tuple(summary.name for summary in part)
    same = takewhile(lambda signs: len(set(signs)) == 1, zip(*names, strict=False))
    shared = "".join(signs[0] for signs in same)
    name = shared.rstrip("-_.@ 0123456789") if len(names) > 1 else names[0]
    return Group(name or names[0], names, tuple(summary.seed for summary in part))


def _difference(
    metric: str, base: tuple[Group, Sequence[Summary]], other: tuple[Group, Sequence[Summary]]
) -> Difference:
    first = {summary.seed: _metric(summary, metric) for summary in base[1]}
    second = {summary.seed: _metric(summary, metric) for summary in other[1]}
    seeds = tuple(
        seed
        for seed in first
        if seed in second and math.isfinite(first[seed]) and math.isfinite(second[seed])
    )
    gaps = np.array([second[seed] - first[seed] for seed in seeds])
    mean, half = _interval(gaps)
    return Difference(metric, base[0].name, other[0].name, seeds, mean, mean - half, mean + half)


def _unlike(metric: str, one: Run, other: Run) -> str:
    """Return what two runs measured a loss on that differs, in words, at their ends."""
    if metric == "solved":
        return ""
    pair = [_last_phase(run.tree) for run in (one, other)]
    if metric == "heldout":
        texts = [
            [[*m.get("sources", {}).values()] for m in _parts(p, "monitors", "HeldOut")]
            for p in pair
        ]
        return "of other held-out texts" if texts[0] != texts[1] else ""
    aims = [
        [(m.get("objective"), m.get("weigh")) for m in _parts(p, "do", "Learn")[:1]] for p in pair
    ]
    differing = {
        "under other objectives": aims[0] != aims[1],
        "on other data": pair[0].get("source") != pair[1].get("source"),
    }
    return " and ".join(words for words, differs in differing.items() if differs)


def _parts(phase: Any, field: str, kind: str) -> list[Any]:
    """Return the records of a kind in a field of a phase."""
    return [part for part in phase.get(field, []) if part["$"].endswith(f":{kind}")]


def _last_phase(tree: Any) -> Any:
    """Return the record of a recipe's last phase; nothing where there is none."""
    return tree["phases"][-1] if isinstance(tree, dict) and tree.get("phases") else {}


def _metric(summary: Summary, metric: str) -> float:
    return {"heldout": summary.heldout, "loss": summary.loss, "solved": summary.solved}[metric]


def _interval(gaps: np.ndarray) -> tuple[float, float]:
    if len(gaps) == 0:
        return math.nan, math.nan
    if len(gaps) == 1:
        return float(gaps[0]), math.nan
    error = gaps.std(ddof=1) / math.sqrt(len(gaps))
    return float(gaps.mean()), float(stdtrit(len(gaps) - 1, 0.975) * error)


def _row(summary: Summary) -> tuple[str, ...]:
    return (
        summary.name,
        f"{summary.steps:,}",
        count_text(summary.tokens),
        number_text(summary.loss),
        number_text(summary.heldout),
        number_text(summary.perplexity, 2),
        duration_text(summary.seconds),
        rate_text(summary.tokens_per_second),
        percent_text(summary.utilisation),
        bytes_text(summary.memory_bytes),
        count_text(summary.parameters),
    )


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *rest = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]


def _paired_lines(comparison: Comparison) -> list[str]:
    lines = []
    for gap in comparison.differences:
        text = f"{gap.group} minus {gap.baseline}, {LABELS[gap.metric]}: {difference_text(gap)}"
        lines.append(text)
    return ["", *lines] if lines else []


def difference_text(gap: Difference) -> str:
    """Return a difference with its interval, or why there is none."""
    if not math.isfinite(gap.mean):
        return "no seed for which both measured it"
    said = f"; not alike: {gap.unlike}" if gap.unlike else ""
    if not math.isfinite(gap.low):
        return f"{gap.mean:+.4f} (one pair, no interval{said})"
    return f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] ({len(gap.seeds)} pairs, 95 %{said})"
