"""Final numbers and paired differences, against numbers worked out by hand."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lab import Linear2, Lines, Squared
from thalweg.core.moves import Learn
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.tree import record
from thalweg.monitors import HeldOut
from thalweg.objectives import NextToken
from thalweg.optim import AdamW
from thalweg.report import compare, read_run, recipe_difference, summarise, text_table

MakeRun = Callable[..., Path]


def tiny(folder: Path, losses: list[float], *, seed: int = 0, lr: float = 1.0) -> Path:
    """Write a run whose every number is known; held-out loss is the last loss."""
    folder.mkdir(parents=True)
    tree = {"type": "Recipe", "seed": seed, "lr": lr}
    models = {"a": {"parameters": 10}, "b": {"parameters": 5}}
    about = {"recipe": "r", "seed": seed, "tree": tree, "models": models}
    (folder / "recipe.json").write_text(json.dumps(about))
    lines = [{"step": i + 1, "tokens": 100 * (i + 1), "loss": x} for i, x in enumerate(losses)]
    lines[-1]["heldout/loss"] = losses[-1]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    timing = [
        {"step": 1, "tokens_per_second": 10, "memory_bytes": 7, "elapsed": 10},
        {"step": 2, "tokens_per_second": 40, "memory_bytes": 9, "elapsed": 12},
        {"step": 3, "tokens_per_second": 20, "memory_bytes": 8, "elapsed": 17},
    ]
    (folder / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in timing))
    return folder


def test_the_final_loss_is_the_mean_of_the_last_twentieth(tmp_path: Path) -> None:
    run = read_run(tiny(tmp_path / "a", [9.0] * 38 + [3.0, 2.0]))
    assert summarise(run).loss == 2.5


def test_a_summary_holds_the_numbers_of_the_files(tmp_path: Path) -> None:
    summary = summarise(read_run(tiny(tmp_path / "a", [4.0, 3.0, 2.0])))
    assert (summary.steps, summary.tokens, summary.heldout) == (3, 300.0, 2.0)
    assert summary.perplexity == pytest.approx(math.e**2)
    assert (summary.seconds, summary.tokens_per_second) == (17.0, 20.0)
    assert (summary.memory_bytes, summary.parameters) == (9.0, 15.0)
    assert math.isnan(summary.utilisation)


def test_runs_that_differ_only_in_seed_form_a_group(tmp_path: Path) -> None:
    runs = [read_run(tiny(tmp_path / f"a-{s}", [2.0], seed=s)) for s in (0, 1)]
    comparison = compare(runs)
    assert comparison.groups == (("a", ("a-0", "a-1"), (0, 1)),)
    assert comparison.differences == ()


def test_paired_differences_have_a_t_interval(tmp_path: Path) -> None:
    base, other = (2.0, 3.0, 4.0), (2.1, 3.2, 4.3)  # gaps .1 .2 .3: mean .2, sd .1
    runs = [read_run(tiny(tmp_path / f"a-{s}", [base[s]], seed=s)) for s in range(3)]
    runs += [read_run(tiny(tmp_path / f"b-{s}", [other[s]], seed=s, lr=2.0)) for s in range(3)]
    gap = compare(runs).differences[0]
    half = 4.302653 * 0.1 / math.sqrt(3)  # t(0.975, 2) from the table
    assert (gap.metric, gap.baseline, gap.group, gap.seeds) == ("heldout", "a", "b", (0, 1, 2))
    assert gap.mean == pytest.approx(0.2)
    assert (gap.low, gap.high) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-6)


def test_one_pair_gives_a_difference_without_an_interval(tmp_path: Path) -> None:
    runs = [read_run(tiny(tmp_path / "a", [2.0])), read_run(tiny(tmp_path / "b", [2.5], lr=2.0))]
    gap = compare(runs).differences[0]
    assert gap.mean == 0.5
    assert math.isnan(gap.low)


def test_groups_without_a_common_seed_are_not_subtracted(tmp_path: Path) -> None:
    first = read_run(tiny(tmp_path / "a", [2.0], seed=0))
    second = read_run(tiny(tmp_path / "b", [2.5], seed=1, lr=2.0))
    comparison = compare([first, second])
    assert math.isnan(comparison.differences[0].mean)
    assert "no seed for which both measured it" in text_table(comparison)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, {"heldout": "", "loss": ""}),
        ({"rows": 4}, {"heldout": "", "loss": ""}),
        ({"source": Lines(slope=2.0)}, {"heldout": "", "loss": "on other data"}),
        (
            {"do": (Learn("policy", NextToken(), AdamW(lr=1.0)),)},
            {"heldout": "", "loss": "under other objectives"},
        ),
        (
            {"monitors": (HeldOut({"a": Lines(slope=2.0)}),)},
            {"heldout": "of other held-out texts", "loss": ""},
        ),
    ],
)
def test_losses_that_were_not_measured_on_the_same_are_said_to_be(tmp_path, changes, said):
    learn = Learn("policy", Squared(), AdamW(lr=1.0))
    phase = Phase(3, Lines(), (learn,), rows=8, monitors=(HeldOut({"a": Lines()}),))
    other = replace(phase, **(changes or {"steps": 4}))
    runs = [
        replace(
            read_run(tiny(tmp_path / name, [2.0])),
            tree=record(Recipe({"policy": Linear2()}, (one,))),
        )
        for name, one in (("a", phase), ("b", other))
    ]
    comparison = compare(runs)
    assert {gap.metric: gap.unlike for gap in comparison.differences} == said
    assert ("not alike" in text_table(comparison)) == any(said.values())


def test_the_table_is_aligned_and_says_the_numbers(tmp_path: Path) -> None:
    runs = [read_run(tiny(tmp_path / name, [2.0], lr=lr)) for name, lr in (("a", 1), ("long", 2))]
    lines = text_table(compare(runs)).splitlines()
    assert lines[0].split()[:3] == ["run", "steps", "tokens"]
    assert lines[2].split()[:5] == ["a", "1", "100", "2.0000", "2.0000"]
    assert len(lines[2]) == len(lines[3])


def test_recipes_are_compared_by_path(tmp_path: Path) -> None:
    runs = [read_run(tiny(tmp_path / str(lr), [2.0], lr=lr)) for lr in (1.0, 2.0)]
    assert recipe_difference(runs) == {"lr": ("1.0", "2.0")}


def test_a_part_of_another_kind_is_one_row_that_reads_as_code(tmp_path: Path) -> None:
    span = {"$": "core.time:Span", "count": 0.25, "unit": "share"}
    rates = ({"$": "a:Wsd", "peak": 0.00848528137, "decay": span}, {"$": "a:Constant", "value": 1})
    runs = [read_run(tiny(tmp_path / str(i), [2.0])) for i in range(2)]
    trees = [
        {"$": "r:Recipe", "phases": [{"$": "r:Phase", "name": "main", "do": [
            {"$": "m:Learn", "model": "policy", "lr": lr, "clip": 1.0}]}]}
        for lr in rates
    ]  # fmt: skip
    both = [replace(run, tree=tree) for run, tree in zip(runs, trees, strict=True)]
    assert recipe_difference(both) == {
        "main.learn.policy.lr": ("Wsd(peak=0.00848528, decay=share(0.25))", "Constant(value=1)")
    }


def test_a_value_that_one_lacks_and_values_that_look_alike_are_shown(tmp_path: Path) -> None:
    runs = [read_run(tiny(tmp_path / str(i), [2.0])) for i in range(2)]
    trees = [{"a": 1, "x": 0.12345678901}, {"x": 0.12345678902}]
    both = [replace(run, tree=tree) for run, tree in zip(runs, trees, strict=True)]
    assert recipe_difference(both) == {
        "a": ("1", "\u2013"),
        "x": ("0.12345678901", "0.12345678902"),
    }


def test_an_empty_run_can_be_summarised(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    summary = summarise(read_run(tmp_path))
    assert summary.steps == 0
    assert math.isnan(summary.loss)
