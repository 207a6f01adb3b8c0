"""What a continued run gained and forgot, as the page says it."""

import json
from pathlib import Path

from data_helpers import write_lines
from thalweg.report import read_run, write_report
from thalweg.report.forgetting import change_of


def with_gap(folder: Path, old: list[float], new: list[float]) -> Path:
    """Write losses on old and new text into a run: before, then after each step."""
    file = folder / "history.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0] |= {"stability/old/before": old[0], "stability/new/before": new[0]}
    for line, a, b in zip(lines, old[1:], new[1:], strict=False):
        line |= {"stability/old": a, "stability/new": b}
    write_lines(file, lines)
    return folder


def test_a_run_says_what_it_gained_what_it_forgot_and_the_gap(make_run, tmp_path):
    folder = with_gap(make_run("again"), [2.0, 2.5, 3.0, 2.25], [4.0, 3.75, 3.5, 3.0])
    change = change_of(read_run(folder))
    assert change is not None
    assert change.words == (
        "Gained 1.000 on new text. Forgot 0.250 of the old. "
        "The gap: 1.000 above the start at step 2, of which 0.750 had come back by the end."
    )
    page = write_report([folder], tmp_path / "r.html").read_text()
    assert change.words in page
    assert "Gained and forgotten" in page
    assert "stability/old/before" not in page.split('id="figures"')[1].split("</script>")[0]


def test_several_runs_share_the_table(make_run, tmp_path):
    folders = [with_gap(make_run(name), [2.0, 2.5, 2.0], [4.0, 3.0, 2.0]) for name in ("a", "b")]
    page = write_report(folders, tmp_path / "r.html").read_text()
    assert page.count("Gained 2.000 on new text. Forgot 0.000 of the old.") == 2


def test_no_gap_is_said_too(make_run):
    change = change_of(read_run(with_gap(make_run(), [2.0, 1.75, 1.5], [4.0, 4.5, 4.25])))
    assert change is not None
    assert change.words == (
        "Lost 0.250 on new text. Improved by 0.500 on the old. "
        "No gap: the old text never was above its start."
    )


def test_a_loss_that_only_rises_is_no_gap_that_closes(make_run):
    change = change_of(read_run(with_gap(make_run(), [2.0, 2.5, 3.0], [4.0, 3.5, 3.0])))
    assert change is not None
    assert change.words.endswith(
        "No gap that closes: the worst is the end, 1.000 above the start at step 2."
    )


def test_a_run_without_old_text_has_no_such_section(make_run, tmp_path):
    folder = make_run()
    assert change_of(read_run(folder)) is None
    assert "Gained and forgotten" not in write_report([folder], tmp_path / "r.html").read_text()
