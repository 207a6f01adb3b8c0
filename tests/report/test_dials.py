"""Pictures of dials: well-formed, small, true to the numbers."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from thalweg.errors import DialError
from thalweg.report.dials import dial_svg, plan_svg, plot_plan

SVG = "{http://www.w3.org/2000/svg}"


def lines(picture: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'points="([^"]+)"', picture)
    return [[tuple(map(float, pair.split(","))) for pair in text.split()] for text in found]


def texts(picture: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(picture).iter(f"{SVG}text")]


def test_a_straight_line_is_two_points() -> None:
    (line,) = lines(dial_svg({"lr": (range(1000), np.linspace(0.0, 1.0, 1000))}))
    assert len(line) == 2
    (left, bottom), (right, top) = line
    assert left < right
    assert bottom > top


def test_corners_stay_where_they_are() -> None:
    (line,) = lines(dial_svg({"lr": ([0, 50, 100, 150], [0.0, 1.0, 1.0, 0.0])}))
    assert [y for _, y in line] == [130.0, 22.0, 22.0, 130.0]
    assert [x for x, _ in line] == pytest.approx([56, 193.3, 330.7, 468], abs=0.1)


def test_a_smooth_curve_is_drawn_within_a_pixel() -> None:
    x = np.arange(5001)
    y = 0.5 * (1 + np.cos(np.pi * x / 5000))
    (line,) = lines(dial_svg({"lr": (x, y)}))
    across, down = np.array(line).T
    drawn = np.interp(56 + x / 5000 * 412, across, down)
    assert np.abs(drawn - (130 - 108 * y)).max() < 1.0
    assert len(line) < 100


def test_a_picture_reads_in_light_and_dark_and_asks_for_no_font() -> None:
    picture = dial_svg({"lr": ([0, 1], [0.0, 1.0])})
    assert "prefers-color-scheme:dark" in picture
    assert 'fill="currentColor"' in picture
    assert "url(" not in picture
    assert "@font-face" not in picture


def test_labels_say_the_numbers() -> None:
    found = texts(dial_svg({"lr": ([0, 20_000], [0.0, 3e-4])}, title="lr", x_label="steps"))
    assert found == ["0", "1e-4", "2e-4", "3e-4", "0", "10k", "20k steps", "lr"]


def test_two_lines_have_a_legend_and_names_are_escaped() -> None:
    picture = dial_svg({"a<b": ([0, 1], [0, 1]), "c": ([0, 1], [1, 0])}, title="x & y")
    assert {"a<bc", "x & y"} <= set(texts(picture))
    assert len(lines(picture)) == 2


@pytest.mark.parametrize("value", [0.0, 0.3, -2.0])
def test_a_constant_and_a_lone_point_have_a_place(value: float) -> None:
    for x, y in (([0, 10], [value, value]), ([5], [value])):
        (line,) = lines(dial_svg({"lr": (x, y)}))
        assert len(line) == 2
        assert all(22 <= down <= 130 for _, down in line)


def test_the_same_numbers_give_the_same_picture() -> None:
    series = {"lr": ([0, 1, 2], [0.0, 0.7, 0.1])}
    assert dial_svg(series) == dial_svg({"lr": (np.arange(3), np.array([0.0, 0.7, 0.1]))})


@pytest.mark.parametrize(
    "series",
    [
        {},
        {"lr": ([], [])},
        {"lr": ([0, 1], [0.0])},
        {"lr": ([0, 1], [0.0, float("nan")])},
        {"lr": ([1, 0], [0.0, 1.0])},
    ],
)
def test_what_cannot_be_drawn_is_refused(series) -> None:
    with pytest.raises(DialError, match="dial_svg"):
        dial_svg(series)


PLAN = {
    "steps": 3,
    "sources": {"web": {}, "code": {}},
    "dials": {
        "main.learn.policy.optimizer.lr": {"step": [0, 1, 2], "value": [1.0, 0.5, 0.0]},
        "main.source.weights.web": {"step": [0, 2], "value": [0.9, 0.1]},
        "main.source.weights.code": {"step": [0, 2], "value": [0.1, 0.9]},
    },
}


def test_a_plan_has_a_panel_for_each_dial_and_one_for_a_mixture(tmp_path: Path) -> None:
    picture = plan_svg(PLAN)
    assert {"main.learn.policy.optimizer.lr", "main.source.weights"} <= set(texts(picture))
    assert len(lines(picture)) == 3
    assert 'height="240"' in picture
    path = tmp_path / "new" / "plan.svg"
    plot_plan(PLAN, path)
    assert path.read_text() == picture


def test_a_plan_without_dials_is_refused() -> None:
    with pytest.raises(DialError, match="a plan without dials"):
        plan_svg({"steps": 3, "dials": {}})
