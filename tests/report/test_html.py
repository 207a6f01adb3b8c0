"""The page says what the files say, loads nothing, and runs no text of the user."""

import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg.report import read_run, summarise, write_report
from thalweg.report.draw import LARGE
from thalweg.report.thin import thin

MakeRun = Callable[..., Path]
EVIL = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>"


class Page(HTMLParser):
    """What a browser would see: elements, attributes, and text by element id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.figures: dict[str, Any] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside = "figures" if ("id", "figures") in attrs else tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "figures":
            self.figures = json.loads(data)
        elif self._inside not in ("script", "style"):
            self.text += " " + data.strip()


def report(tmp_path: Path, *folders: Path) -> Page:
    """Write the report and read it back."""
    return Page(write_report(list(folders), tmp_path / "out" / "report.html").read_text())


def test_headline_numbers_are_those_of_the_files(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    last = json.loads((folder / "history.jsonl").read_text().splitlines()[-1])
    page = report(tmp_path, folder)
    for value in (
        f"{last['heldout/loss']:.4f}",
        f"{math.exp(last['heldout/loss']):.2f}",
        f"{summarise(read_run(folder)).loss:.4f}",
        "41.0 k",  # 40 steps of 1,024 tokens
        "1.05 M",
        "386 MiB",
    ):
        assert value in page.text


def test_the_loss_figure_holds_every_point(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    traces = {t["meta"]["label"]: t for t in report(tmp_path, folder).figures["loss"]["data"]}
    assert traces["train, each step"]["y"] == pytest.approx([line["loss"] for line in lines])
    assert traces["train, each step"]["x"] == [line["tokens"] for line in lines]
    held = [line["heldout/loss"] for line in lines if "heldout/loss" in line]
    assert traces["held-out"]["y"] == pytest.approx(held)
    assert traces["web"]["visible"] == "legendonly"


def test_every_moving_dial_has_a_figure_with_its_plan(make_run: MakeRun, tmp_path: Path) -> None:
    page = report(tmp_path, make_run())
    figures = {k: v for k, v in page.figures.items() if k.startswith("dial-")}
    assert len(figures) == 2
    first = figures["dial-0"]
    planned, made = first["data"]
    assert [t["meta"]["label"] for t in first["data"]] == ["planned", "first"]
    assert planned["x"] == made["x"] == list(range(1, 41))
    assert planned["y"] == pytest.approx(made["y"])
    assert "learn.policy.optimizer.weight_decay" in page.text


def test_planned_and_delivered_tokens_stand_side_by_side(tmp_path: Path, make_run: MakeRun) -> None:
    folder = make_run()
    plan = json.loads((folder / "plan.json").read_text())
    plan["sources"]["web"]["tokens"] = 16384
    last = json.loads((folder / "history.jsonl").read_text().splitlines()[-1])
    (folder / "plan.json").write_text(json.dumps(plan))
    gap = 100 * (last["tokens/web"] / 16384 - 1)
    assert f"{gap:+.3f} %" in report(tmp_path, folder).text


def test_the_page_loads_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    page = report(tmp_path, make_run())
    assert not {"link", "iframe", "object", "embed", "img", "base"} & set(page.tags)
    for _, name, value in page.attributes:
        assert name not in ("src", "srcset", "data", "action")
        assert "://" not in value
    policy = [value for _, name, value in page.attributes if name == "content"]
    assert any("default-src 'none'" in value for value in policy)
    styles = re.findall(r"url\(|@import", (tmp_path / "out" / "report.html").read_text()[:20_000])
    assert styles == []


def test_text_of_the_user_is_never_markup(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("<b>run")
    for name in ("samples.jsonl", "events.jsonl"):
        keys = {"step": 1, "prompt": EVIL, "text": EVIL, "kind": EVIL}
        (folder / name).write_text(json.dumps(keys) + "\n")
    about = json.loads((folder / "recipe.json").read_text())
    about |= {
        "recipe": EVIL,
        "tree": {EVIL: EVIL},
        "versions": {EVIL: EVIL},
        "options": {"a": EVIL},
    }
    (folder / "recipe.json").write_text(json.dumps(about))
    history = (folder / "history.jsonl").read_text().replace("/web", "/<i>web</script>")
    (folder / "history.jsonl").write_text(history)
    clean = report(tmp_path, make_run("clean"))
    page = report(tmp_path, folder)
    assert page.tags.count("script") == clean.tags.count("script") == 3
    assert "img" not in page.tags
    assert "b" not in {tag for tag in page.tags if tag not in clean.tags}
    assert EVIL in page.text
    names = [trace["name"] for trace in page.figures["loss"]["data"]]
    assert "&lt;i&gt;web&lt;/script&gt;" in names


def test_long_curves_are_thinned_and_the_page_says_so(make_run: MakeRun, tmp_path: Path) -> None:
    page = report(tmp_path, make_run(steps=LARGE + 1000))
    traces = page.figures["loss"]["data"]
    assert max(len(trace["y"]) for trace in traces) <= LARGE
    assert "thinned to 4,000 points" in page.text
    assert "thinned to" not in report(tmp_path, make_run("short")).text


def test_thinning_keeps_every_spike() -> None:
    curve = np.sin(np.arange(50_000) / 900.0)
    curve[[123, 31_415]] = 9.0, -9.0
    kept = thin(curve, 4_000)
    assert len(kept) <= 4_000
    assert {0, 123, 31_415, 49_999} <= set(kept.tolist())


def test_commands_are_quoted(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("my run")
    page = report(tmp_path, folder)
    assert f"thalweg sample '{folder.resolve()}'" in page.text
    assert f"thalweg branch '{folder.resolve()}' --at 40 --decay 4" in page.text


def test_a_run_under_home_is_called_by_name(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run()
    monkeypatch.setenv("THALWEG_HOME", str(folder.parent))
    assert "thalweg sample first" in report(tmp_path, folder).text


def test_the_tree_of_branches_is_drawn(make_run: MakeRun, tmp_path: Path) -> None:
    trunk = make_run("trunk")
    make_run("decayed", parent=("trunk", 20))
    page = report(tmp_path, trunk)
    assert "20 to 40" in page.text
    assert ("path", "d", "M500.00 17.0 V51.0") in page.attributes


def test_trials_are_listed(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    facts = {"parent": 20, "values": {"lr": 0.5}, "steps": 2, "keep": "decayed@20"}
    lines = [{**facts, "step": 21, "loss": 2.5}, {**facts, "step": 22, "loss": 1.2345}]
    lines += [{**facts, "keep": None, "values": {"lr": 0.1}, "step": 21, "loss": 3.5}]
    (folder / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    trials = read_run(folder).trials
    assert [(one.step, one.keep, one.loss) for one in trials] == [
        (20, "decayed@20", 1.2345),
        (20, "", 3.5),
    ]
    page = report(tmp_path, folder)
    assert "2 trials" in page.text
    assert '{"lr": 0.5}' in page.text


def test_rewards_have_figures_and_answers_their_verdicts(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("one")
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    lines = [{**line, "reward": 0.5, "pass@4": 0.75, "x": 1.0} for line in lines]
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sample = {"step": 1, "prompt": "1+1=", "text": "2", "verdict": "right", "reward": 1.0}
    (run / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    text = write_report([run], tmp_path / "page.html").read_text()
    page = Page(text)
    assert {"answers-0", "answers-1"} <= set(page.figures)
    assert '<b class="verdict right">right</b>' in text
    assert text.index(">reward<") < text.index(">pass@4<")


def test_several_runs_share_one_page(make_run: MakeRun, tmp_path: Path) -> None:
    folders = [make_run("a-0"), make_run("a-1", seed=1)]
    folders += [make_run("b-0", peak=1e-3, offset=0.5), make_run("b-1", peak=1e-3, seed=1)]
    page = report(tmp_path, *folders)
    names = {trace["meta"]["label"] for trace in page.figures["loss"]["data"]}
    assert {"a-0", "a-1", "b-0", "b-1"} <= names
    first, third = (summarise(read_run(folders[i])).heldout for i in (0, 2))
    assert f"{third - first:+.4f}" in page.text
    assert "train.learn.optimizer.lr.peak" in page.text
    assert "(2 pairs, 95 %)" in page.text


def test_a_killed_run_can_be_reported(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(done=25)
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"step": 26, "lo')
    text = report(tmp_path, folder).text
    assert "step 25 of 40" in text
    assert "thalweg resume" in text


def test_a_run_without_steps_can_be_reported(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "recipe.json").write_text('{"name": "new", "tree": {"type": "Recipe"}}')
    page = report(tmp_path, folder)
    assert "thalweg resume" in page.text
    assert page.figures == {}


def luminance(colour: str) -> float:
    """Return the relative luminance of "#rrggbb" after WCAG 2.1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read(theme: int) -> None:
    import thalweg.report

    css = (Path(thalweg.report.__file__).parent / "page.css").read_text()
    block = css.split(":root {")[theme + 1]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    for ground in (colours["page"], colours["card"]):
        assert contrast(colours["ink"], ground) >= 12
        assert contrast(colours["muted"], ground) >= 5.5
        assert min(contrast(colours[f"s{i}"], ground) for i in range(8)) >= 4.4
