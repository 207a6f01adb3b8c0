"""From curves to plotly JSON; plotly.js draws it in the page.

Colours are names such as "@s0" or "@ink/0.4": the page's script replaces them by the values of the
light or dark theme, so one figure serves both. Text that a user chose is escaped, because plotly
reads a subset of HTML in names.
"""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

from thalweg.report.run import Floats, Ints, Json
from thalweg.report.thin import thin

__all__ = ["LARGE", "SMALL", "Figure", "Series", "as_dict", "figure"]

LARGE, SMALL = 4_000, 1_000
"""Points of a curve in a large and in a small figure."""
_COLOURS = 8
_DASHES = ("solid", "dash", "dot", "dashdot")
_GREY = ("planned", "expected", "band")


class Figure(NamedTuple):
    """A figure of the page."""

    id: str
    title: str
    note: str
    spec: dict[str, Json]
    """`data` and `layout` for plotly.js."""
    thinned: int
    """Curves that were drawn with fewer points than they have."""
    large: bool = False
    logs: bool = False
    """Offer a switch to a log axis."""


class Series(NamedTuple):
    """A curve before it is drawn."""

    name: str
    x: Floats | Ints
    y: Floats
    colour: int = 0
    """Index into the palette; past its end the dashes change."""
    group: str = ""
    """Curves of a group are switched together; empty: the name."""
    step: Ints | None = None
    """Shown on hover where x is not the step."""
    style: str = "line"
    """line, faint, points, planned; of a prediction: expected, band (a closed line)."""
    shown: bool = True
    chip: bool = True
    """Whether it has a switch of its own."""


def figure(
    id: str,
    title: str,
    series: Sequence[Series],
    units: tuple[str, str],
    *,
    log: bool = False,
    large: bool = False,
) -> Figure:
    """Return curves as a figure.

    Args:
        id: Of its element in the page.
        title: Above it.
        series: The curves.
        units: What the axes are labelled with: "step", "tokens", or anything.
        log: Whether the vertical axis is logarithmic.
        large: Whether it takes the whole width, and more points.
    """
    limit = LARGE if large else SMALL
    data: list[Json] = [_trace(one, limit, units[0]) for one in series]
    layout: dict[str, Json] = {
        "xaxis": _axis(units[0]),
        "yaxis": _axis(units[1]) | {"type": "log" if log else "linear"},
        "hovermode": "x unified" if large else "closest",
    }
    if log:
        as_dict(layout["yaxis"])["dtick"] = 1
        as_dict(layout["yaxis"])["exponentformat"] = "power"
    spec: dict[str, Json] = {"data": data, "layout": layout}
    note = "log axis" if log else ""
    thinned = sum(len(one.y) > limit for one in series)
    return Figure(id, title, note, spec, thinned, large)


def _axis(title: str) -> dict[str, Json]:
    form = {"tokens": ",.4s", "step": ",d"}.get(title, "")
    axis: dict[str, Json] = {"title": {"text": title}, "hoverformat": form}
    if title in ("tokens", "step"):
        axis |= {"rangemode": "tozero", "tickformat": "~s" if title == "tokens" else ",~d"}
    return axis


def _trace(one: Series, limit: int, across: str) -> Json:
    kept = thin(one.y, limit)
    name = html.escape(one.name)
    trace: dict[str, Json] = {
        "type": "scatter",
        "mode": "markers+lines" if one.style == "points" else "lines",
        "name": name,
        "x": _rounded(one.x[kept]),
        "y": _rounded(one.y[kept]),
        "visible": True if one.shown else "legendonly",
        "legendgroup": html.escape(one.group or one.name),
        "meta": {
            "chip": one.chip and one.style != "planned",
            "label": one.name,
            "frame": one.style in ("line", "points"),
        },
        "hovertemplate": _hover(one, across),
        "line": _stroke(one),
    }
    if one.style == "band":
        trace |= {"fill": "toself", "fillcolor": "@muted/0.16", "hoverinfo": "skip"}
        del trace["hovertemplate"]
    if one.step is not None:
        trace["customdata"] = [int(step) for step in one.step[kept]]
    if one.style == "points":
        trace["marker"] = {"size": 6, "color": _colour(one)}
    return trace


def _hover(one: Series, across: str) -> Json:
    if one.step is not None:
        return "%{y:.4f} (step %{customdata:,})" if one.style == "faint" else "%{y:.4f}"
    return f"{across} %{{x:,}}<br>%{{y:,.5~g}}"


def _stroke(one: Series) -> dict[str, Json]:
    width = {"faint": 1.0, "points": 1.2, "planned": 1.4, "band": 0.0}.get(one.style, 1.8)
    dash = _DASHES[one.colour // _COLOURS % len(_DASHES)]
    stroke: dict[str, Json] = {"color": _colour(one), "width": width, "dash": dash}
    if one.style in ("planned", "expected"):
        stroke["dash"] = "dot"
    return stroke


def _colour(one: Series) -> str:
    colour = f"@s{one.colour % _COLOURS}"
    return {"faint": f"{colour}/0.28", **dict.fromkeys(_GREY, "@muted")}.get(one.style, colour)


def _rounded(values: Floats | Ints) -> list[Json]:
    if values.dtype.kind == "i":
        return [int(value) for value in values]
    return [float(f"{value:.7g}") if math.isfinite(value) else None for value in values]


def as_dict(value: Json) -> dict[str, Json]:
    """Return a JSON value that is an object."""
    assert isinstance(value, dict)
    return value
