"""Which curves the figures of the report have, built from columns of histories."""

import html
from collections.abc import Sequence

import numpy as np

from thalweg.report.draw import Figure, Series, as_dict, figure
from thalweg.report.run import Json, Points, Run
from thalweg.report.thin import smooth

__all__ = [
    "answer_figures",
    "dial_figures",
    "health_figures",
    "loss_figure",
    "mixture_figure",
    "other_figures",
]

_ANSWERS = frozenset(
    "reward length finished unparsed reward_failures kept_groups staleness skipped pairs "
    "paired_groups pair_length_gap mismatch_kl engine_kl engine_max entropy sampled_entropy clip "
    "kl agreement voted".split()
)
_LR_LOG_SPAN = 30.0
"""A learning rate that never reaches 0 and spans more than this gets a log axis."""


def loss_figure(runs: Sequence[Run]) -> Figure | None:
    """Return loss against tokens: raw and smoothed training loss, held-out, each source."""
    alone = len(runs) == 1
    series: list[Series] = _expected(runs[0]) if alone else []
    for index, run in enumerate(runs):
        series += _losses(run, 0 if alone else index, alone=alone)
    if alone:
        for index, source in enumerate(runs[0].sources):
            series += _source_losses(runs[0], source, index + 2)
    if not any(len(one.y) for one in series):
        return None
    drawn = figure("loss", "Loss", series, ("tokens", "nats per token"), large=True)
    layout = drawn.spec["layout"]
    assert isinstance(layout, dict)
    _frame(layout, series)
    if alone:
        _phases(layout, runs[0])
    return drawn._replace(logs=True)


def dial_figures(runs: Sequence[Run]) -> tuple[list[Figure], dict[str, str]]:
    """Return a small figure for each dial that moves or differs, and the values of the others."""
    paths = {path for run in runs for path in [*run.history.under("dial/"), *run.plan.dials]}
    figures: list[Figure] = []
    still: dict[str, str] = {}
    for number, path in enumerate(sorted(paths, key=lambda path: (not _is_rate(path), path))):
        curves = [(run.history.points(f"dial/{path}"), run.plan.dials.get(path)) for run in runs]
        values = [piece.value for pair in curves for piece in pair if piece is not None]
        every = np.concatenate(values)
        if len(every) == 0:
            continue
        if every.min() == every.max():
            still[path] = f"{every[0]:.6g}"
            continue
        log = _is_rate(path) and every.min() > 0 and every.max() > _LR_LOG_SPAN * every.min()
        series = [one for i, run in enumerate(runs) for one in _dial(run, i, *curves[i])]
        figures.append(figure(f"dial-{number}", path, series, ("step", ""), log=log))
    return figures, still


def mixture_figure(run: Run) -> Figure | None:
    """Return the share of each source in the delivered tokens over time; None for one source."""
    names = [name for name in run.sources if f"tokens/{name}" in run.history.columns]
    if len(names) < 2 or len(run.history) < 2:
        return None
    window = max(1, len(run.history) // 50)
    taken = {}
    for name in names:
        total = run.history.column(f"tokens/{name}")
        last = np.maximum.accumulate(np.where(np.isfinite(total), total, 0.0))
        taken[name] = np.diff(last, prepend=0.0)
    if run.history.step[0] > 1:  # a branch: its first count holds all of its parent's
        taken = {name: values[1:] for name, values in taken.items()}
    step = run.history.step[-len(taken[names[0]]) :]
    whole = smooth(np.sum(list(taken.values()), axis=0), window)
    shares = {
        name: np.divide(smooth(values, window), whole, out=np.zeros_like(whole), where=whole > 0)
        for name, values in taken.items()
    }
    series = [Series(name, step, 100 * shares[name], i + 2) for i, name in enumerate(names)]
    return figure("mixture", "Delivered mixture", series, ("step", "% of tokens"))


def health_figures(runs: Sequence[Run]) -> list[Figure]:
    """Return gradient norm, throughput, utilisation and memory over the steps."""
    charts = (
        ("grad_norm", "Gradient norm", "norm before clipping", 1.0),
        ("tokens_per_second", "Throughput", "tokens / s", 1.0),
        ("utilisation", "Utilisation", "% of peak model FLOPs", 100.0),
        ("memory_bytes", "Memory", "GiB", 2.0**-30),
    )
    figures = []
    for column, title, unit, scale in charts:
        alone = len(runs) == 1
        series = [
            one
            for index, run in enumerate(runs)
            for one in _measured(run, index, column, scale, alone=alone)
        ]
        if series:
            drawn = figure(column, title, series, ("step", unit))
            if column == "grad_norm":
                drawn = drawn._replace(logs=True)
            else:
                as_dict(as_dict(drawn.spec["layout"])["yaxis"])["rangemode"] = "tozero"
            figures.append(drawn)
    return figures


def answer_figures(runs: Sequence[Run]) -> list[Figure]:
    """Return what rollouts report over the steps: rewards, pass@k, length, agreement."""
    names = dict.fromkeys(name for run in runs for name in run.history.columns if _of_answers(name))
    figures = []
    first = ("heldout/pass@1", "reward")
    for number, name in enumerate(sorted(names, key=lambda name: (name not in first, name))):
        alone = len(runs) == 1
        series = [
            s for i, run in enumerate(runs) for s in _measured(run, i, name, 1.0, alone=alone)
        ]
        if series:
            figures.append(figure(f"answers-{number}", name, series, ("step", "")))
    return figures


def other_figures(runs: Sequence[Run]) -> list[Figure]:
    """Return a small figure for every other column of the history: monitors, further models."""
    known = {"tokens", "loss", "grad_norm", "seconds", "tokens_per_second", "utilisation"}
    known |= {"memory_bytes", "elapsed"}
    taken = ("dial/", "load/", "loss/", "tokens/", "heldout/loss")
    names = dict.fromkeys(name for run in runs for name in run.history.columns)
    figures = []
    for number, name in enumerate(sorted(names)):
        if name in known or name.startswith(taken) or _of_answers(name):
            continue
        points = [run.history.points(name) for run in runs]
        series = [
            Series(run.name, p.step, p.value, i)
            for i, (run, p) in enumerate(zip(runs, points, strict=True))
            if len(p.step)
        ]
        if series:
            figures.append(figure(f"other-{number}", name, series, ("step", "")))
    return figures


def _of_answers(name: str) -> bool:
    plain = name.removeprefix("heldout/")
    return plain in _ANSWERS or plain.startswith(("pass@", "reward/"))


def _losses(run: Run, colour: int, *, alone: bool) -> list[Series]:
    train, held = run.history.points("loss"), run.history.points("heldout/loss")
    name = "train" if alone else run.name
    mean = smooth(train.value, _window(len(train.value)))
    raw = Series(f"{name}, each step", train.tokens, train.value, colour, name, train.step, "faint")
    series = [raw._replace(chip=False)] if alone else []
    series.append(Series(name, train.tokens, mean, colour, name, train.step))
    if len(held.step):
        dots = Series("held-out", held.tokens, held.value, 1, "held-out", held.step, "points")
        other = dots._replace(name=f"{name}, held-out", colour=colour, group=name, chip=False)
        series.append(dots if alone else other)
    return series


def _expected(run: Run) -> list[Series]:
    """Return the predicted curve with its interval as one closed line."""
    found = run.plan.prediction
    if found is None:
        return []
    x = np.concatenate([found.tokens, found.tokens[::-1]])
    y = np.concatenate([found.high, found.low[::-1]])
    name = f"predicted, {100 * found.level:.0f} %"
    band = Series(name, x, y, group="predicted", style="band", chip=False)
    line = Series("predicted", found.tokens, found.loss, group="predicted", step=found.step)
    return [band, line._replace(style="expected")]


def _source_losses(run: Run, source: str, colour: int) -> list[Series]:
    train = run.history.points(f"loss/{source}")
    held = run.history.points(f"heldout/loss/{source}")
    group = f"source {source}"
    series = []
    if len(train.step):
        mean = smooth(train.value, _window(len(train.value)))
        series.append(Series(source, train.tokens, mean, colour, group, train.step, shown=False))
    if len(held.step):
        name, style = f"{source}, held-out", "points"
        dots = Series(name, held.tokens, held.value, colour, group, held.step, style, shown=False)
        series.append(dots._replace(chip=not len(train.step)))
    return series


def _dial(run: Run, colour: int, made: Points, planned: Points | None) -> list[Series]:
    series = []
    if planned is not None and len(planned.step):
        series.append(Series("planned", planned.step, planned.value, colour, style="planned"))
    if len(made.step):
        series.append(Series(run.name, made.step, made.value, colour))
    return series


def _measured(run: Run, colour: int, column: str, scale: float, *, alone: bool) -> list[Series]:
    points = run.history.points(column)
    if len(points.step) == 0:
        return []
    values = scale * points.value
    mean = Series(run.name, points.step, smooth(values, _window(len(values))), colour)
    raw = Series(f"{run.name}, each step", points.step, values, colour, run.name, style="faint")
    if column == "memory_bytes":
        return [mean._replace(y=values)]
    return [raw._replace(chip=False), mean] if alone else [mean]


def _window(count: int) -> int:
    return max(1, min(11, count // 10), count // 100)


def _is_rate(path: str) -> bool:
    return path.split(".")[-1] == "lr"


def _frame(layout: dict[str, Json], series: Sequence[Series]) -> None:
    """Start the loss axis below the first steep fall, so that the rest can be read."""
    curves = [one for one in series if one.style in ("line", "points") and one.shown and len(one.y)]
    late = [one.y[min(len(one.y) // 20 + 1, len(one.y) - 1) :] for one in curves]
    low, high = min(y.min() for y in late), max(y.max() for y in late)
    room = 0.06 * (high - low) or 0.1
    as_dict(layout["yaxis"])["range"] = [float(low - room), float(high + room)]


def _phases(layout: dict[str, Json], run: Run) -> None:
    """Mark where each phase starts."""
    names, tokens = run.history.phase, run.history.column("tokens")
    starts = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]]
    if len(starts) < 2:
        return
    shapes: list[Json] = []
    labels: list[Json] = []
    for start in starts:
        x = float(tokens[start])
        line: dict[str, Json] = {"color": "@muted", "width": 1, "dash": "dot"}
        shapes.append({"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1})
        as_dict(shapes[-1])["line"] = line
        labels.append(
            {"x": x, "y": 1, "yref": "paper", "text": html.escape(names[start]), "showarrow": False}
        )
        as_dict(labels[-1]).update(xanchor="left", yanchor="bottom", font={"color": "@muted"})
    layout |= {"shapes": shapes[1:], "annotations": labels}
