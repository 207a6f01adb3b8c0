"""A run whose model grows: it can be cut anywhere, and its folder knows what stood when."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_helpers import text_store
from run_helpers import history, rows, stop_after
from thalweg.core.grow import Grow, models_at
from thalweg.core.moves import Copy, Learn
from thalweg.core.plan import plan
from thalweg.core.recipe import CopyOf, Phase, Recipe, Saves, check
from thalweg.core.session import resume, train
from thalweg.core.time import steps
from thalweg.data import Corpus
from thalweg.describe import cost, description
from thalweg.errors import RecipeError
from thalweg.finish import export_run, open_learner
from thalweg.models import Lora, Pretrained, Transformer, larger
from thalweg.objectives import NextToken
from thalweg.optim import AdamW, Muon, OptimizerSpec, ScheduleFree

SMALL = Transformer(vocabulary=257, width=16, layers=1, heads=2, positions=16)
DEEP = larger(SMALL, layers=3)
WIDE = larger(DEEP, width=32)
ADAM = AdamW(lr=3e-3)


def recipe(store: str, optimizer: OptimizerSpec = ADAM) -> Recipe:
    """Three phases of four steps: small, deeper, wider."""
    learn = Learn("policy", NextToken(), optimizer)
    text = Corpus(store, length=16)
    return Recipe(
        {"policy": SMALL},
        (
            Phase(4, text, (learn,), rows=4, name="small"),
            Phase(4, text, (Grow("policy", DEEP), learn), rows=4, name="deep"),
            Phase(4, text, (Grow("policy", WIDE), learn), rows=4, name="wide"),
        ),
        saves=Saves(every=steps(2), last=99),
    )


@pytest.fixture
def store(tmp_path: Path) -> str:
    return text_store(tmp_path, [f"text {i}, " + "to be or not to be " * 4 for i in range(40)])


@pytest.mark.parametrize("optimizer", [ADAM, Muon(lr=0.02, adam=ADAM)], ids=["AdamW", "Muon"])
def test_a_run_cut_anywhere_goes_on_bit_for_bit(
    optimizer: OptimizerSpec, store: str, tmp_path: Path
) -> None:
    made = recipe(store, optimizer)
    train(made, tmp_path / "whole")
    train(made, tmp_path / "cut", session=stop_after(3))
    for stop in (1, 1, 3):  # at 4, the end of a phase; at 5, behind the growth; at 8
        resume(tmp_path / "cut", stop_after(stop))
    resume(tmp_path / "cut")
    assert history(tmp_path / "cut") == history(tmp_path / "whole")
    assert [row["phase"] for row in rows(tmp_path / "cut")] == ["small"] * 4 + ["deep"] * 4 + [
        "wide"
    ] * 4


def test_the_folder_knows_what_stood_when(store: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe(store), run)
    facts = json.loads((run / "recipe.json").read_text())["models"]["policy"]
    sizes = [facts["parameters"], *(stage["parameters"] for stage in facts["stages"])]
    assert [stage["phase"] for stage in facts["stages"]] == ["deep", "wide"]
    assert sizes == [cost(Recipe({"policy": s}, recipe(store).phases[:1])).parameters["policy"]
                     for s in (SMALL, DEEP, WIDE)]  # fmt: skip
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    grown = [(e["step"], e["text"]) for e in events if e["kind"] == "grow"]
    assert grown == [
        (5, f"policy: {sizes[0]:,} -> {sizes[1]:,} weights"),
        (9, f"policy: {sizes[1]:,} -> {sizes[2]:,} weights"),
    ]
    for step, spec in ((4, SMALL), (6, DEEP), (12, WIDE)):
        assert open_learner(run, step=step)[1].module.spec == spec
    export_run(run, tmp_path / "export")
    assert Pretrained(str(tmp_path / "export")).transformer.width == 32


def test_the_plan_counts_each_phase_with_its_model(store: str) -> None:
    made = recipe(store)
    text = description(plan(made), made)
    found = cost(made)
    assert (
        found.parameters["policy"] < found.grown["deep"]["policy"] < found.grown["wide"]["policy"]
    )
    alone = [SMALL.build(0).flops(16), DEEP.build(0).flops(16), WIDE.build(0).flops(16)]
    assert found.flops == sum(4 * 64 * flops for flops in alone)
    assert "from 'wide' on" in text
    assert f"{found.flops:.3g} in all" in text


def test_the_architecture_follows_from_the_step() -> None:
    made = recipe("nowhere")
    places = [(0, 0), (0, 4), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
    found = [models_at(made, phase, step)["policy"] for phase, step in places]
    assert found == [SMALL, SMALL, SMALL, DEEP, DEEP, WIDE, WIDE]


def test_growth_that_cannot_be_is_refused_before_the_first_step() -> None:
    made = recipe("nowhere")
    shrunk = replace(made.phases[2], do=(Grow("policy", SMALL), *made.phases[2].do[1:]))
    with pytest.raises(RecipeError, match="layers: 3 -> 1"):
        check(replace(made, phases=(*made.phases[:2], shrunk)))
    with pytest.raises(RecipeError, match="ScheduleFree has trained"):
        check(recipe("nowhere", ScheduleFree(AdamW(lr=1e-3))))
    with pytest.raises(RecipeError, match=r"grow\.policy of a Lora"):
        check(replace(made, models={"policy": Lora(base=SMALL)}))
    with pytest.raises(RecipeError, match="a phase of 0 steps"):
        check(replace(made, phases=(made.phases[0], replace(made.phases[1], steps=0))))
    with pytest.raises(RecipeError, match="model 'actor'"):
        check(replace(made, phases=(replace(made.phases[1], do=(Grow("actor", DEEP),)),)))


def test_a_copy_must_grow_alike() -> None:
    made = recipe("nowhere")
    models = {"policy": SMALL, "actor": CopyOf("policy")}
    grow, learn = made.phases[1].do
    apart = replace(made.phases[1], do=(grow, learn, Copy("policy", "actor")))
    with pytest.raises(RecipeError, match="another architecture"):
        check(Recipe(models, (apart,)))
    check(Recipe(models, (replace(apart, do=(grow, Grow("actor", DEEP), *apart.do[1:])),)))
