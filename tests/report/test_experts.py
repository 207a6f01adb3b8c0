"""How evenly experts are used, as the page shows it."""

import json

from data_helpers import write_lines
from thalweg.report import read_run, write_report
from thalweg.report.experts import load_figures

LOADS = [(4.0, 4.0, 4.0, 4.0), (8.0, 4.0, 4.0, 0.0), (16.0, 0.0, 0.0, 0.0)]


def with_loads(folder):
    """Write what two layers of four experts were given: layer 1 evenly, layer 0 less and less."""
    file = folder / "history.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line, loads in zip(lines, LOADS, strict=False):
        line |= {f"load/0/{expert}": load for expert, load in enumerate(loads)}
        line |= {f"load/1/{expert}": 2.0 for expert in range(4)}
    write_lines(file, lines)
    return folder


def test_the_largest_load_of_each_layer_is_one_curve(make_run):
    [figure] = load_figures([read_run(with_loads(make_run()))])
    curves = {curve["name"]: curve["y"] for curve in figure.spec["data"]}
    assert curves == {"layer 0": [1.0, 2.0, 4.0], "layer 1": [1.0, 1.0, 1.0]}


def test_no_expert_has_a_figure_of_its_own(make_run, tmp_path):
    page = write_report([with_loads(make_run())], tmp_path / "r.html").read_text()
    assert "largest load of a layer" in page
    assert "load/0/3" not in page.split('id="figures"')[1].split("</script>")[0]


def test_a_run_without_experts_has_none(make_run):
    assert load_figures([read_run(make_run())]) == []
