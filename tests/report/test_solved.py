"""What a run solves, against numbers worked out by hand."""

import json
import math
import re
from pathlib import Path

import pytest

from thalweg.report import compare, read_run, text_table, write_report
from thalweg.report.solved import solving


def run(folder: Path, lines: list[dict]) -> Path:
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"recipe": folder.name, "seed": 0}))
    numbered = [{"step": i + 1, "tokens": i + 1, **line} for i, line in enumerate(lines)]
    (folder / "history.jsonl").write_text("".join(json.dumps(one) + "\n" for one in numbered))
    return folder


def test_the_end_is_measured_on_problems_kept_apart_and_the_start_before_the_last_phase(tmp_path):
    sft = [{"phase": "sft", "heldout/pass@1": value} for value in (0.0, 0.4)]
    rl = [{"phase": "rl", "heldout/pass@1": 0.5 + n / 100, "reward": n / 100} for n in range(40)]
    found = solving(read_run(run(tmp_path / "a", sft + rl)).history)
    assert found == (pytest.approx(0.89), 0.4, pytest.approx(0.385))
    assert (found.text, found.note) == ("89.0 %", "from 40.0 %")


def test_without_problems_kept_apart_the_run_s_own_count(tmp_path):
    lines = [{"phase": "main", "pass@1": n / 40, "reward": 1.0} for n in range(40)]
    found = solving(read_run(run(tmp_path / "a", lines)).history)
    assert found == (pytest.approx(38.5 / 40), 0.0, 1.0)


def test_a_comparison_has_columns_of_answers_only_where_some_were_judged(tmp_path):
    plain = read_run(run(tmp_path / "plain", [{"phase": "main", "loss": 1.0}]))
    judged = read_run(run(tmp_path / "rl", [{"phase": "main", "pass@1": 0.25, "reward": 0.5}]))
    assert "pass@1" not in text_table(compare([plain, plain]))
    table = text_table(compare([plain, judged])).splitlines()
    assert table[0].split()[-2:] == ["pass@1", "reward"]
    assert table[3].split()[-1] == "0.5000"
    assert "25.0 %" in table[3]
    assert math.isnan(solving(plain.history).end)


def test_the_page_marks_the_most_solved_not_the_lowest_loss_of_a_policy(tmp_path):
    ends = {"a": (0.25, -0.5), "b": (0.75, 0.1)}
    runs = [
        run(tmp_path / name, [{"phase": "rl", "pass@1": solved, "loss": loss, "reward": solved}])
        for name, (solved, loss) in ends.items()
    ]
    page = write_report(runs, tmp_path / "page.html").read_text()
    assert re.findall(r'class="best">([^<]*)', page) == ["75.0 %"]
