"""The five laws of the house, over every public part. A part without an example fails."""

import ast
import copy
import importlib
import inspect
import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import thalweg
from core_helpers import play
from data_helpers import pair_store, preference_store, text_store
from lab import Script
from parts import PARTS, VALUES, halves, public_dataclasses, public_modules
from thalweg import objectives
from thalweg.controllers import (
    AdaptiveEntropy,
    AutoLrs,
    DecayBranches,
    EarlyStop,
    GradientSwitch,
    Hypergradient,
    IdleExperts,
    LearningProgress,
    LossProportional,
    Pilots,
    Reached,
    SkillIt,
    Watch,
)
from thalweg.core.batch import Batch
from thalweg.core.freeze import at
from thalweg.core.learner import Learner
from thalweg.core.moves import Learn
from thalweg.core.names import finder
from thalweg.core.protocols import Context, Loss, Objective, Routing, Scored, Set, Source
from thalweg.core.recipe import CopyOf, Phase, Recipe
from thalweg.core.time import Time, steps
from thalweg.core.tree import read_record, record
from thalweg.core.weigh import TokenMean
from thalweg.core.world import World
from thalweg.data import Biographies, Corpus, Lives, Mixture, Ordered, Pairs, Preferences
from thalweg.models import Lora, Transformer
from thalweg.optim import SGD, AdamW
from thalweg.recipes import summaries
from thalweg.rollouts import Demonstrations, ReplayWindow, Rollouts
from thalweg.tasks import Addition

ROOT = Path(thalweg.__file__).parent

# --- every part is a value that JSON can hold


def test_every_public_dataclass_has_an_example_or_is_no_part():
    known = {type(part).__name__ for part in PARTS} | VALUES
    assert set(public_dataclasses()) - known == set(), "add an example to tests/parts.py"
    assert known - set(public_dataclasses()) == set(), "tests/parts.py names what is gone"


def find(name: str) -> object:
    return halves if name.endswith(":halves") else finder()(name)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_a_part_is_frozen_and_its_record_reads_back(part):
    assert type(part).__dataclass_params__.frozen
    read = read_record(json.loads(json.dumps(record(part), allow_nan=False)), find)
    assert read == part or record(read) == record(part)
    assert type(read) is type(part)


LIVE = [part for part in PARTS if "controllers" not in type(part).__module__]


@pytest.mark.parametrize("part", LIVE, ids=lambda part: type(part).__name__)
def test_a_part_without_schedules_is_frozen_to_itself(part):
    if "schedules" in type(part).__module__ or type(part).__name__ in ("Decay", "From"):
        assert at(part, Time(0, 10, batch_tokens=5)) is not part
    else:
        assert at(part, Time(0, 10)) is part


# --- 1. State is a value.


def text(folder: Path, name: str) -> str:
    return text_store(folder, [f"{name} {i} is a document" for i in range(9)], name)


STATEFUL: Mapping[str, Callable[[Path], Source]] = {
    "Biographies": lambda folder: Biographies(people=9),
    "Lives": lambda folder: Lives(people=9),
    "Corpus": lambda folder: Corpus(text(folder, "a"), length=12),
    "Demonstrations": lambda folder: Demonstrations(task=Addition(), length=12),
    "Pairs": lambda folder: Pairs(pair_store(folder, [("q", "answer")] * 9), length=12),
    "Preferences": lambda folder: Preferences(
        preference_store(folder, [("q", "good", "bad")] * 9), length=12
    ),
    "Mixture": lambda folder: Mixture(
        {n: Corpus(text(folder, n), length=12, name=n) for n in ("a", "b")},
        {"a": 2, "b": 1},
    ),
    "Ordered": lambda folder: Ordered(text(folder, "a"), length=12),
    "Rollouts": lambda folder: Rollouts(
        task=Addition(), group=3, length=12, replay=ReplayWindow(steps=2)
    ),
}
CONTROLLERS: Mapping[str, object] = {
    "AdaptiveEntropy": AdaptiveEntropy(target=2.0, path="lr", metric="loss"),
    "AutoLrs": AutoLrs(low=1e-4, high=1e-1, stage=40, begin=1),
    "DecayBranches": DecayBranches((4, 9), decay=steps(3)),
    "EarlyStop": EarlyStop(against=((1.0, 2.0),)),
    "GradientSwitch": GradientSwitch(taught="a", tried="b", warmup=1, tail=1),
    "Hypergradient": Hypergradient(low=1e-5, high=1e-1, every=1),
    "IdleExperts": IdleExperts(patience=2),
    "LearningProgress": LearningProgress(("a", "b"), every=1),
    "LossProportional": LossProportional(("a", "b"), every=1),
    "Reached": Reached("loss", 1e9),
    "Watch": Watch((1, 8), (0.1, 0.1), (0.0, 0.0), (0.2, 0.2), patience=1),
    "SkillIt": SkillIt(Pilots(("a", "b"), steps=4), every=1),
    "Script": Script(((2, (Set({"lr": 0.1}),)),)),
}
REPORT = {
    **{"loss": 1.0, "grad_norm": 0.5, "grad_cos": 0.1, "dial/learn.policy.optimizer.lr": 0.01},
    "load/0/0": 4.0,
}


def test_every_public_part_with_a_state_has_an_example():
    kinds = [k for m in public_modules() for k in map(m.__dict__.get, m.__all__)]
    classes = {kind for kind in kinds if inspect.isclass(kind) and is_dataclass(kind)}
    sources = {k.__name__ for k in classes if hasattr(k, "start") and hasattr(k, "next")}
    controllers = {k.__name__ for k in classes if hasattr(k, "start") and hasattr(k, "act")}
    assert sources <= set(STATEFUL)
    assert controllers <= set(CONTROLLERS)


@pytest.mark.parametrize("name", list(STATEFUL))
def test_a_source_state_survives_json_and_is_not_changed(tmp_path, name):
    source = STATEFUL[name](tmp_path)
    models = {"actor": Learner("actor", DECODER.build(0), World())}
    ctx = Context(Time(0, 10), rows=3, models=models)
    state = source.start(ctx)
    for _ in range(4):
        before = copy.deepcopy(state)
        batch, after = source.next(state, ctx)
        again, same = source.next(json.loads(json.dumps(state)), ctx)
        assert state == before
        assert after == same == json.loads(json.dumps(after))
        assert all(torch.equal(batch[column], again[column]) for column in batch)
        state = after


@pytest.mark.parametrize("name", list(CONTROLLERS))
def test_a_controller_state_survives_json_and_is_not_changed(name):
    controller = CONTROLLERS[name]
    ctx = Context(Time(0, 10), last={"report": REPORT})
    state = controller.start(ctx)
    before = copy.deepcopy(state)
    actions, after = controller.act(state, ctx)
    again, same = controller.act(json.loads(json.dumps(state)), ctx)
    assert state == before
    assert (list(actions), after) == (list(again), same)
    assert json.loads(json.dumps(after)) == after


# --- 2. Randomness is a function.

DECODER = Transformer(vocabulary=257, width=16, layers=1, heads=2, positions=12)
DROPPING = Lora(base=DECODER, rank=2, dropout=0.5)


def global_states() -> list[object]:
    return [random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()]


def poison(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.mark.parametrize("model", [DECODER, DROPPING], ids=["decoder", "dropout"])
def test_a_run_neither_reads_nor_moves_the_global_generators(tmp_path, model):
    source = STATEFUL["Mixture"](tmp_path)
    learn = Learn("policy", objectives.NextToken(), AdamW(lr=0.01), minibatch=2)
    recipe = Recipe({"policy": model, "ref": CopyOf("policy")}, (Phase(3, source, (learn,), 4),))
    results = []
    for seed in (1, 2):
        poison(seed)
        before = global_states()
        _, learners, memory = play(recipe)
        assert global_states() == before
        results.append((memory.history, learners["policy"].snapshot()))
    (first, ours), (second, theirs) = results
    assert first == second
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_no_file_draws_from_a_global_generator():
    forbidden = {
        "random.random",
        "random.seed",
        "random.shuffle",
        "np.random.seed",
        "random.choice",
    }
    for file in ROOT.rglob("*.py"):
        calls = [n.func for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)]
        assert not forbidden & {ast.unparse(call) for call in calls}, file


# --- 3. Objectives are additive over rows.


class Bigram(nn.Module):
    """A language model that is a table; float64, so that gradients can be checked."""

    def __init__(self, vocabulary: int = 7) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        table = torch.randn(vocabulary, vocabulary, generator=draw, dtype=torch.float64)
        self.table = nn.Parameter(table)

    def forward(
        self,
        tokens,
        document=None,
        *,
        targets_RT=None,
        weight_RT=None,
        temperature=1.0,
        entropy=False,
        routing=False,
        hidden=False,
    ):
        logits = self.table[tokens] / temperature
        shown = self.table[tokens] if hidden else None
        if targets_RT is None:
            return logits if shown is None else shown
        shares = logits.log_softmax(-1)
        logprobs = shares.gather(-1, targets_RT[..., None]).squeeze(-1)
        loss = None if weight_RT is None else -(weight_RT * logprobs).sum()
        spread = -(shares.exp() * shares).sum(-1) if entropy else None
        return Scored(loss, logprobs, spread, self.routed(tokens) if routing else (), shown)

    def routed(self, tokens):
        """Return two layers of three experts that read the table."""
        layers = (self.table[tokens][..., :3], self.table[tokens][..., 3:6])
        return tuple(
            Routing(x.softmax(-1), x.topk(2).indices, x.topk(2).values, x.logsumexp(-1))
            for x in layers
        )


def token_rows(rows: int = 8, length: int = 5) -> Batch:
    draw = torch.Generator().manual_seed(1)
    columns = {
        "tokens": torch.randint(7, (rows, length + 1), generator=draw),
        "weight": torch.rand(rows, length, generator=draw, dtype=torch.float64).round(decimals=1),
        "id": torch.arange(rows),
        "source": torch.zeros(rows, dtype=torch.int64),
    }
    return Batch(columns)


def answer_rows() -> Batch:
    """Return rows with every column that objectives of single answers read."""
    batch = token_rows()
    draw = torch.Generator().manual_seed(2)
    names = ("old", "ref", "advantage", "value", "target_value")
    columns = {
        name: torch.randn(8, 5, generator=draw, dtype=torch.float64) - 2.0 * (i < 2)
        for i, name in enumerate(names)
    }
    shares = torch.randn(8, 5, 7, generator=draw, dtype=torch.float64).log_softmax(-1).topk(3)
    top = torch.stack([shares.indices.double(), shares.values], -1)
    right = torch.tensor([1.0, 0.0] * 4, dtype=torch.float64)
    return batch.plus({**columns, "teacher_top": top, "reward": right})


def general_rows() -> Batch:
    """Return rows of which some are held where a first model had them."""
    batch = token_rows()
    draw = torch.Generator().manual_seed(3)
    first = torch.randn(8, 5, 7, generator=draw, dtype=torch.float64)
    weight = batch["weight"] * (torch.arange(8) % 2 == 0)[:, None]
    margins = torch.tensor([-0.6, 0.4], dtype=torch.float64)[:, None].expand(8, 2, 7)
    return batch.plus({"general_weight": weight, "ref_hidden": first, "ref_margins": margins})


def pair_rows() -> Batch:
    """Return rows of pairs."""
    better, worse = answer_rows(), answer_rows().take(np.arange(8)[::-1].copy())
    columns = {"weight": better["weight"].sum(1), "id": better["id"], "source": better["source"]}
    for name, half in (("chosen", better), ("rejected", worse)):
        columns |= {name: half["tokens"], f"ref_{name}": half["ref"]}
        columns[f"{name}_weight"] = (half["weight"] > 0).double()
    return Batch(columns)


OBJECTIVES: Mapping[str, tuple[Objective, Batch]] = {
    "NextToken": (objectives.NextToken(), token_rows()),
    "Likelihood": (objectives.Likelihood(coverage=4.0), token_rows()),
    "Policy": (objectives.Policy(temperature=0.7), answer_rows()),
    "KlToReference": (objectives.KlToReference("k2", corrected=True), answer_rows()),
    "Rehearsal": (objectives.Rehearsal(objectives.JensenShannon()), answer_rows()),
    "Distill": (objectives.Distill(temperature=2.0), answer_rows()),
    "Entropy": (objectives.Entropy(), token_rows()),
    "ValueLoss": (objectives.ValueLoss(clip=0.5), answer_rows()),
    "Preference": (objectives.Preference(), pair_rows()),
    "Forget": (objectives.Forget(), answer_rows()),
    "Outcome": (objectives.Outcome(), answer_rows()),
    "Balanced": (
        objectives.Balanced(objectives.NextToken(), balance=0.1, z=0.01),
        token_rows().plus({"load_share": torch.rand(8, 2, 3, dtype=torch.float64)}),
    ),
    "ThresholdMargin": (
        objectives.ThresholdMargin(objectives.NextToken(), scale=2.0, weight="weight"),
        general_rows(),
    ),
    "Sum": (
        objectives.Sum(
            {"policy": objectives.Policy(), "entropy": objectives.Entropy()}, {"entropy": 0.1}
        ),
        answer_rows(),
    ),
}
EVERY_OBJECTIVE = pytest.mark.parametrize("name", list(OBJECTIVES))


def test_every_public_objective_has_an_example():
    public = {
        name
        for name in objectives.__all__
        if is_dataclass(getattr(objectives, name)) and gives_a_loss(getattr(objectives, name))
    }
    assert public == set(OBJECTIVES)


def gives_a_loss(kind: type) -> bool:
    call = vars(kind).get("__call__")
    return call is not None and call.__annotations__.get("return") is Loss


def gradient(objective: Objective, batch: Batch) -> tuple[float, torch.Tensor]:
    model = Bigram()
    loss = objective(model, batch).value
    (found,) = torch.autograd.grad(loss, [model.table])
    return float(loss.detach()), found


@EVERY_OBJECTIVE
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=8, max_size=8))
def test_a_loss_is_the_sum_over_any_split_of_its_rows(name, parts):
    objective, batch = OBJECTIVES[name]
    whole, full = gradient(objective, batch)
    indices = [np.flatnonzero(np.array(parts) == part) for part in range(4)]
    each = [gradient(objective, batch.take(index)) for index in indices if len(index)]
    assert sum(value for value, _ in each) == pytest.approx(whole, rel=1e-12)
    assert torch.allclose(sum(g for _, g in each), full, atol=1e-12)


@EVERY_OBJECTIVE
def test_metrics_are_sums_over_rows_too(name):
    objective, batch = OBJECTIVES[name]
    whole = objective(Bigram(), batch)
    parts = [objective(Bigram(), part) for part in batch.split(3)]
    for key, value in whole.sums.items():
        assert float(sum(part.sums[key] for part in parts)) == pytest.approx(float(value))
    for key, value in whole.rows.items():
        assert torch.allclose(torch.cat([part.rows[key] for part in parts]), value)
        assert not value.requires_grad


@EVERY_OBJECTIVE
def test_the_order_of_rows_does_not_matter(name):
    objective, batch = OBJECTIVES[name]
    shuffled = batch.take(np.random.default_rng(0).permutation(batch.rows))
    value, full = gradient(objective, batch)
    again, other = gradient(objective, shuffled)
    assert again == pytest.approx(value, rel=1e-12)
    assert torch.allclose(full, other, atol=1e-12)


@EVERY_OBJECTIVE
def test_rows_of_weight_zero_have_no_gradient(name):
    objective, batch = OBJECTIVES[name]
    weight = batch["weight"].clone()
    weight[3:] = 0
    _, some = gradient(objective, batch.plus({"weight": weight}))
    _, alone = gradient(objective, batch.take([0, 1, 2]))
    assert torch.allclose(some, alone, atol=1e-12)
    _, nothing = gradient(objective, batch.plus({"weight": weight * 0}))
    assert not nothing.any()


@EVERY_OBJECTIVE
def test_the_gradient_is_the_slope(name):
    objective, batch = OBJECTIVES[name]
    model = Bigram()

    def value(table: torch.Tensor) -> torch.Tensor:
        call = lambda *given, **named: torch.func.functional_call(  # noqa: E731
            model, {"table": table}, given, named
        )
        return objective(call, batch).value

    assert torch.autograd.gradcheck(value, (model.table,))


@EVERY_OBJECTIVE
@pytest.mark.parametrize("micro", [5, 11, 25])
def test_micro_batches_give_the_gradient_of_the_whole(name, micro):
    objective, batch = OBJECTIVES[name]
    steps = []
    for size in (None, micro):
        learner = Learner("policy", Bigram(), World())
        learned = learner.learn(objective, TokenMean()(batch), SGD(lr=1.0), micro=size)
        steps.append((learned.loss, learned.grad_norm, learner.module.table.detach().clone()))
    assert steps[0][:2] == pytest.approx(steps[1][:2], rel=1e-6)
    assert torch.allclose(steps[0][2], steps[1][2], atol=1e-6)


# --- 4. Ranks exist in one file, and so do gradients.


def attributes(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {call.attr for call in calls if isinstance(call, ast.Attribute)} | {
        ast.unparse(call) for call in calls if isinstance(call, ast.Attribute)
    }


def distributed(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
    state_dict = "torch.distributed.checkpoint.state_dict"
    return {n for n in found if n.startswith("torch.distributed") and not n.startswith(state_dict)}


DIFFERENTIATE = {ROOT / "core" / "learner.py", ROOT / "monitors" / "geometry.py"}
"""Training, and second derivatives; the atlas has toys of its own outside of the loop."""


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda file: file.stem)
def test_only_the_world_knows_ranks_and_only_the_learner_differentiates(file):
    if file != ROOT / "core" / "world.py":
        assert distributed(file) == set()
    if file not in DIFFERENTIATE and file.parent != ROOT / "atlas":
        assert not {"backward", "autograd.grad", "torch.autograd.grad"} & attributes(file)


# --- 5. The paper's algorithm box is a list.


@pytest.mark.parametrize("name", sorted(summaries()))
def test_a_recipe_is_a_function_with_documented_options(name):
    module = importlib.import_module(f"thalweg.recipes.{name}")
    signature = inspect.signature(module.recipe)
    assert signature.return_annotation is Recipe
    text = inspect.getdoc(module.recipe) or ""
    for option in signature.parameters:
        assert f"\n    {option}: " in text, f"{option} is not documented"
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        assert not isinstance(node, ast.While), "a recipe has no loop of its own"


def check_algorithm(recipe: Recipe) -> None:
    """Every phase is a source and a tuple of moves, all of them frozen values."""
    for phase in recipe.phases:
        assert callable(phase.source.next)
        assert isinstance(phase.do, tuple)
        for part in (phase.source, *phase.do, *phase.monitors, *phase.controllers):
            assert is_dataclass(part)
            assert type(part).__dataclass_params__.frozen
        for move in phase.do:
            assert move.name
            assert isinstance(move.needs, tuple)
            assert isinstance(move.makes, tuple)


def test_moves_make_the_columns_they_say():
    phase = Phase(1, Corpus("x"), (Learn("policy", objectives.NextToken(), AdamW(0.1)),))
    check_algorithm(Recipe({"policy": DECODER}, (phase,)))
    assert math.isfinite(replace(phase, rows=3).rows)
