"""Reading the folder of a run."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from thalweg.errors import StateError
from thalweg.report import family, read_run

MakeRun = Callable[..., Path]


def write(folder: Path, name: str, *lines: object) -> None:
    """Write JSON lines; strings are written as they are."""
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / name).write_text("\n".join(text) + "\n")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a folder with nothing but a recipe."""
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"name": "bare", "recipe": "quickstart"}))
    return folder


def test_a_run_that_has_not_started_has_an_empty_history(bare: Path) -> None:
    run = read_run(bare)
    assert len(run.history) == 0
    assert math.isnan(run.wall_seconds)
    assert run.sources == ()
    assert not run.finished


def test_history_and_timing_are_joined_by_step(bare: Path) -> None:
    write(bare, "history.jsonl", {"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0})
    write(bare, "timing.jsonl", {"step": 2, "tokens_per_second": 500, "utilisation": None})
    history = read_run(bare).history
    assert history.column("loss").tolist() == [3.0, 2.0]
    assert np.isnan(history.column("tokens_per_second")[0])
    assert history.column("tokens_per_second")[1] == 500.0
    assert len(history.points("utilisation").value) == 0


def test_sparse_columns_are_nan_where_absent(bare: Path) -> None:
    lines = [{"step": 1}, {"step": 2, "heldout/loss": 1.5}, {"step": 3}]
    write(bare, "history.jsonl", *lines)
    points = read_run(bare).history.points("heldout/loss")
    assert points.step.tolist() == [2]
    assert points.value.tolist() == [1.5]


def test_a_half_written_last_line_is_left_out(bare: Path) -> None:
    (bare / "history.jsonl").write_bytes(b'{"step": 1, "loss": 3.0}\n{"step": 2, "lo')
    assert read_run(bare).history.step.tolist() == [1]


def test_a_last_line_cut_inside_a_character_is_left_out(bare: Path) -> None:
    half = '{"step": 2, "text": "\u00e9'.encode()[:-1]
    (bare / "samples.jsonl").write_bytes(b'{"step": 1, "prompt": "", "text": "a"}\n' + half)
    assert [sample.text for sample in read_run(bare).samples] == ["a"]


@pytest.mark.parametrize("garbage", ["{oops", "[1, 2]", "\x00\x00"])
def test_garbage_in_the_middle_names_file_and_line(bare: Path, garbage: str) -> None:
    write(bare, "history.jsonl", {"step": 1}, garbage, {"step": 3})
    with pytest.raises(StateError, match=r"history\.jsonl, line 2"):
        read_run(bare)


def test_the_later_of_two_lines_of_a_step_counts(bare: Path) -> None:
    lines = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.5}, {"step": 2, "loss": 2.0}]
    write(bare, "history.jsonl", *lines)
    assert read_run(bare).history.column("loss").tolist() == [3.0, 2.0]


def test_wall_time_adds_up_over_resumes(bare: Path) -> None:
    lines = [{"step": s, "elapsed": e} for s, e in ((1, 10), (2, 20), (2, 4), (3, 9))]
    write(bare, "timing.jsonl", *lines)
    assert read_run(bare).wall_seconds == 29.0


def test_a_folder_without_a_recipe_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"recipe\.json"):
        read_run(tmp_path)


def test_plan_models_and_parent_are_read(make_run: MakeRun) -> None:
    run = read_run(make_run("child", parent=("trunk", 20)))
    assert run.parent is not None
    assert (run.parent.run, run.parent.step) == ("trunk", 20)
    assert run.plan.sources["code"].size == 500_000
    assert run.models["policy"].parameters == 1_049_600
    assert run.sources == ("web", "code")
    assert run.history.step[0] == 21


def test_each_step_costs_what_learns_in_its_phase(make_run: MakeRun, bare: Path) -> None:
    run = read_run(make_run("two", steps=40))
    warm = 12 * 8 * 128
    assert run.history.phase.count("warm") == 12
    assert run.flops == pytest.approx(2.3e6 * warm + 6.9e6 * (40 * 8 * 128 - warm))
    assert math.isnan(read_run(bare).flops)


def test_the_family_is_the_whole_tree_in_drawing_order(make_run: MakeRun) -> None:
    make_run("trunk")
    make_run("late", parent=("trunk", 30))
    early = make_run("early", parent=("trunk", 10), done=25)
    make_run("grandchild", parent=("early", 20))
    make_run("stranger")
    members = family([early])
    assert [(m.name, m.depth, m.start, m.end) for m in members] == [
        ("trunk", 0, 0, 40),
        ("early", 1, 10, 25),
        ("grandchild", 2, 20, 40),
        ("late", 1, 30, 40),
    ]


def test_runs_that_name_each_other_as_parents_do_not_hang(make_run: MakeRun) -> None:
    first = make_run("first", parent=("second", 5))
    make_run("second", parent=("first", 5))
    assert {member.name for member in family([first])} == {"first", "second"}
