"""Small pictures of schedules and of a plan's dials, as SVG text.

Ink is currentColor: inside a page a picture takes the page's, in a file of its own it is dark on
light or light on dark as the reader's system asks. The same input gives the same text, so
pictures can be committed and compared.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from thalweg.errors import DialError
from thalweg.report.run import Floats
from thalweg.report.thin import thin

__all__ = ["dial_svg", "plan_svg", "plot_plan"]

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]

# Middle tones: each has a contrast of at least 3 on white and on #1e1e1e.
_COLOURS = ("#2f80d0", "#c8651b", "#2a9d74", "#a862c8", "#d04a5c", "#8f7a1f", "#1f94aa", "#7d8794")
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 22, 20
_STYLE = (
    "<style>svg:root{color:#24292f}"
    "@media(prefers-color-scheme:dark){svg:root{color:#d5dbe1}}</style>"
)


class _Frame(NamedTuple):
    """Where a panel stands, and what its axes span."""

    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, values: Floats) -> Floats:
        low, high = self.x
        return np.asarray(_LEFT + (values - low) / (high - low) * (self.width - _LEFT - _RIGHT))

    def down(self, values: Floats) -> Floats:
        low, high = self.y
        room = self.height - _TOP - _BOTTOM
        return np.asarray(self.top + _TOP + (high - values) / (high - low) * room)


def dial_svg(
    series: Series, *, title: str = "", x_label: str = "step", width: int = 480, height: int = 150
) -> str:
    """Return one panel with a line for each series.

    Args:
        series: Name -> (x, y), each [N], finite; x does not fall. Names are a legend if there are
            two or more.
        title: Above the panel, and what a screen reader says.
        x_label: At the right end of the horizontal axis.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.

    Raises:
        DialError: Nothing to draw, or x and y that do not pair up.

    Example:
        >>> picture = dial_svg({"lr": ([0, 50, 100], [0.0, 1.0, 0.0])}, title="lr")
        >>> picture.startswith("<svg"), "currentColor" in picture, "polyline" in picture
        (True, True, True)
    """
    panel = _panel(_checked(series), title, x_label, (0.0, float(width), float(height)))
    return _document(panel, title or ", ".join(series), width, height)


def plan_svg(plan: Mapping[str, object], *, width: int = 640, height: int = 120) -> str:
    """Return a plan's dials, one panel each, one under the other.

    The weights of a mixture, whose paths end in names of sources, share a panel.

    Args:
        plan: What plan.json holds: `dials` {path: {"step": [...], "value": [...]}}, `sources`.
        width: Of the picture, in pixels.
        height: Of each panel, in pixels.

    Raises:
        DialError: The plan has no dials.
    """
    groups = _groups(plan)
    if not groups:
        raise DialError(
            "a plan without dials",
            expected="at least one learning rate or schedule",
            where="plan.json",
            write="a recipe that trains",
        )
    panels = [
        _panel(_checked(series), name, "step", (float(i * height), float(width), float(height)))
        for i, (name, series) in enumerate(groups.items())
    ]
    return _document("".join(panels), "dials of the plan", width, height * len(panels))


def plot_plan(plan: Mapping[str, object], path: Path) -> None:
    """Write a plan's dials as an SVG file; the folder is made if it is not there.

    Args:
        plan: What plan.json holds.
        path: The file to write.

    Raises:
        DialError: The plan has no dials, or the file is none of SVG.
    """
    if path.suffix != ".svg":
        raise DialError(
            f"a picture '{path}'",
            expected="a file that ends in .svg",
            where="--plot",
            write=f"--plot {path.with_suffix('.svg')}",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(plan_svg(plan), encoding="utf-8")


def _groups(plan: Mapping[str, object]) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """Return panel -> name -> points."""
    dials, sources = plan.get("dials"), plan.get("sources")
    known = set(sources) if isinstance(sources, Mapping) else set()
    found: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for path, column in dials.items() if isinstance(dials, Mapping) else ():
        parent, _, last = path.rpartition(".")
        panel, name = (parent, last) if last in known and parent else (path, path)
        found.setdefault(panel, {})[name] = (list(column["step"]), list(column["value"]))
    return found


def _checked(series: Series) -> dict[str, tuple[Floats, Floats]]:
    found = {}
    for name, (xs, ys) in series.items():
        x, y = np.asarray(xs, np.float64), np.asarray(ys, np.float64)
        paired = x.shape == y.shape and x.ndim == 1 and len(x) > 0
        if not (paired and np.isfinite(x).all() and np.isfinite(y).all() and _rising(x)):
            raise DialError(
                f"{np.shape(xs)} places and {np.shape(ys)} values of '{name}'",
                expected="as many finite values as finite places that do not fall, at least one",
                where="dial_svg",
                write='{"lr": ([0, 1, 2], [0.1, 0.2, 0.3])}',
            )
        found[name] = (x, y)
    if not found:
        raise DialError(
            "no series",
            expected="at least one",
            where="dial_svg",
            write='{"lr": ([0, 1, 2], [0.1, 0.2, 0.3])}',
        )
    return found


def _rising(x: Floats) -> bool:
    return bool((np.diff(x) >= 0).all())


def _panel(
    series: Mapping[str, tuple[Floats, Floats]],
    title: str,
    x_label: str,
    place: tuple[float, float, float],
) -> str:
    """Return axes, title, legend and lines; `place` is top, width and height."""
    x_low, x_high = _span([x for x, _ in series.values()])
    ticks = _ticks(*_span([y for _, y in series.values()]))
    frame = _Frame(*place, (x_low, x_high), (ticks[0], ticks[-1]))
    lines = [_line(x, y, frame, number) for number, (x, y) in enumerate(series.values())]
    legend = _legend(list(series), frame) if len(series) > 1 else ""
    name = _text(_LEFT, frame.top + 14, title, "start", weight=True) if title else ""
    return _axes(frame, ticks, x_label) + name + legend + "".join(lines)


def _span(columns: Sequence[Floats]) -> tuple[float, float]:
    """Return the smallest and largest value, made apart if they are one."""
    low = float(min(column.min() for column in columns))
    high = float(max(column.max() for column in columns))
    if high > low:
        return low, high
    return (low - 1.0, high + 1.0) if low == 0 else (min(0.0, 2 * low), max(0.0, 2 * low))


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers around low and high; 0 if it is near."""
    if 0 < low < 0.35 * high:
        low = 0.0
    rough = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * unit for unit in (1, 2, 5, 10) if power * unit >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _axes(frame: _Frame, ticks: Sequence[float], x_label: str) -> str:
    """Return a faint line and a label for each tick, and the ends of the horizontal axis."""
    right = frame.width - _RIGHT
    out = []
    for tick, y in zip(ticks, frame.down(np.asarray(ticks)).tolist(), strict=True):
        out.append(
            f'<path d="M{_LEFT} {y:.1f}H{right:g}" stroke="currentColor" stroke-opacity=".18"/>'
        )
        out.append(_text(_LEFT - 6, y + 3.5, _number(tick), "end"))
    below = frame.top + frame.height - 5
    low, high = frame.x
    out.append(_text(_LEFT, below, _number(low), "start"))
    out.append(_text((_LEFT + right) / 2, below, _number((low + high) / 2), "middle"))
    out.append(_text(right, below, f"{_number(high)} {x_label}".strip(), "end"))
    return "".join(out)


def _legend(names: Sequence[str], frame: _Frame) -> str:
    """Return the names at the top right, each in the colour of its line."""
    parts = [
        f'<tspan dx="10" fill="{_COLOURS[i % len(_COLOURS)]}">{escape(name)}</tspan>'
        for i, name in enumerate(names)
    ]
    x, y = frame.width - _RIGHT, frame.top + 14
    return f'<text x="{x:g}" y="{y:g}" text-anchor="end">{"".join(parts)}</text>'


def _line(x: Floats, y: Floats, frame: _Frame, number: int) -> str:
    kept = thin(y, 800)
    places = np.stack([frame.across(x[kept]), frame.down(y[kept])], axis=1)
    points = np.asarray(places.round(1), np.float64)
    if len(points) == 1:
        points = np.array([[_LEFT, points[0, 1]], [frame.width - _RIGHT, points[0, 1]]])
    text = " ".join(f"{a:g},{b:g}" for a, b in _reduced(points))
    dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
    pattern = f' stroke-dasharray="{dash}"' if dash else ""
    colour = _COLOURS[number % len(_COLOURS)]
    return f'<polyline fill="none" stroke="{colour}" stroke-width="2"{pattern} points="{text}"/>'


def _reduced(points: Floats, off: float = 0.15) -> list[tuple[float, float]]:
    """Return fewer points of a polyline: none left out is more than `off` pixels from the rest.

    The opening window of cartography: a segment grows until a point inside strays too far.
    """
    kept, anchor = [0], 0
    for end in range(2, len(points)):
        if _distance(points[anchor + 1 : end], points[anchor], points[end]) > off:
            anchor = end - 1
            kept.append(anchor)
    last = len(points) - 1
    return [(float(a), float(b)) for a, b in points[[*kept, *([last] if last else [])]]]


def _distance(points: Floats, start: Floats, end: Floats) -> float:
    """Return the largest distance from the straight line between start and end."""
    dx, dy = end - start
    length = math.hypot(dx, dy) or 1.0
    return float(np.abs((points - start) @ np.array([-dy, dx])).max() / length)


def _number(value: float) -> str:
    """Return a short label: 0, 0.25, 3e-4, 20k."""
    if value == 0:
        return "0"
    for size, unit, mark in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= size:
            return f"{value / unit:.4g}{mark}"
    if abs(value) >= 0.01:
        return f"{value:.4g}"
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def _text(x: float, y: float, text: str, anchor: str, *, weight: bool = False) -> str:
    bold = ' font-weight="600"' if weight else ""
    return f'<text x="{x:g}" y="{y:.1f}" text-anchor="{anchor}"{bold}>{escape(text)}</text>'


def _document(body: str, title: str, width: int, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" font-family="sans-serif" font-size="11" '
        f'fill="currentColor">{_STYLE}<title>{escape(title)}</title>{body}</svg>\n'
    )
