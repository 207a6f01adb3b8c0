import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from core_helpers import play
from data_helpers import text_store
from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.moves import Learn, Score
from thalweg.core.protocols import Context, State
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.session import Origin, Session, resume, train
from thalweg.core.time import Time, share
from thalweg.core.weigh import TokenMean
from thalweg.core.world import World
from thalweg.data import Corpus
from thalweg.errors import DialError, RecipeError
from thalweg.models import Moe, Transformer
from thalweg.objectives import (
    Balanced,
    Distill,
    ExpertCounts,
    LaggedLoad,
    Load,
    NextToken,
    Preference,
    Rebias,
    TopTokens,
)
from thalweg.objectives.loads import loads_of
from thalweg.optim import SGD
from thalweg.schedules import Staircase

SPEC = Transformer(
    vocabulary=16, width=16, layers=2, heads=2, positions=8, initial_std=0.3,
    moe=Moe(experts=4, top=2, hidden=8),
)  # fmt: skip
OBJECTIVE = Balanced(NextToken(), balance=0.5, z=0.1)


def rows(seed: int = 0, number: int = 8) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.ones(number, 7)
    weight[1::2, 4:] = 0.0  # padding
    return Batch(
        {
            "tokens": torch.randint(16, (number, 8), generator=draw),
            "weight": weight,
            "id": torch.arange(number),
            "source": torch.zeros(number, dtype=torch.int64),
        }
    )


@dataclass(frozen=True)
class Drawn:
    """Other rows each step."""

    names: tuple[str, ...] = ("text",)
    makes: tuple[str, ...] = ("tokens", "weight", "id", "source")

    def start(self, ctx: Context) -> State:
        return 0

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        return rows(state, ctx.rows), state + 1


def context(model: Learner, **given) -> Context:
    return Context(Time(0, 4), models={"policy": model}, **given)


def prepared(learner: Learner, batch: Batch, load: Load = Load()) -> Batch:
    ctx = context(learner)
    return TokenMean()(load(Score("policy", "load", fn=ExpertCounts())(batch, ctx), ctx))


def learner() -> Learner:
    return Learner("policy", SPEC.build(0), World())


def test_the_loss_at_the_scope_of_the_batch_is_the_papers():
    model, batch = learner(), rows()
    full = prepared(model, batch)
    found = OBJECTIVE(model.module, full)
    inner = NextToken()(model.module, full)
    counted = batch["weight"].bool()
    lbl, z = [], []
    for layer in model.module(batch["tokens"][:, :-1], routing=True):
        probs, index = layer.probs.detach().numpy()[counted], layer.chosen.numpy()[counted]
        f = np.bincount(index.flatten(), minlength=4) / index.size  # sums to 1
        lbl.append(4 * (f * probs.mean(0)).sum())
        z.append((layer.log_total.detach().numpy()[counted] ** 2).mean())
    expected = float(inner.value.detach()) + 0.5 * np.mean(lbl) + 0.1 * np.mean(z)
    assert float(found.value.detach()) == pytest.approx(expected, rel=1e-5)
    reported = found.sums["balance"] / found.sums["balance/count"]
    assert float(reported) == pytest.approx(np.mean(lbl), rel=1e-5)


def test_a_small_scope_is_the_mean_over_its_blocks():
    model, batch = learner(), rows()
    blocks = [float(_balance(model, prepared(model, part))) for part in batch.split(2)]
    whole = float(_balance(model, prepared(model, batch, Load(rows=2))))
    assert whole == pytest.approx(np.mean(blocks), rel=1e-5)  # equal numbers of tokens
    assert whole > float(_balance(model, prepared(model, batch)))


def _balance(model: Learner, batch: Batch) -> torch.Tensor:
    sums = OBJECTIVE(model.module, batch).sums
    return sums["balance"] / sums["balance/count"]


@pytest.mark.parametrize("load", [Load(), Load(rows=1), Load(rows=4), Load(rows=2, shuffled=True)])
def test_micro_batches_give_the_gradient_of_the_whole(load):
    model, batch = learner(), rows()
    full = prepared(model, batch, load)
    whole = model.gradient(OBJECTIVE, full)
    parts = [model.gradient(OBJECTIVE, part) for part in full.split(1)]
    for name, expected in whole.items():
        found = torch.stack([part[name] for part in parts]).sum(0)
        assert torch.allclose(found, expected, atol=1e-6), name
    assert whole["blocks.0.mixture.router"].abs().max() > 1e-3


def test_padding_is_not_counted():
    model, batch = learner(), rows()
    counts = Score("policy", "load", fn=ExpertCounts())(batch, context(model))["load"]
    assert counts.shape == (8, 2, 4)
    assert counts.sum(-1).tolist() == [[14.0, 14.0], [8.0, 8.0]] * 4
    other = batch["tokens"].clone()
    other[1::2, 5:] = 3
    again = Score("policy", "load", fn=ExpertCounts())(
        batch.plus({"tokens": other}), context(model)
    )
    assert torch.equal(again["load"], counts)


def test_the_scope_is_a_dial():
    steps = Load(rows=Staircase((2, 8), at=(share(0.5),)))
    full = (
        Score("policy", "load", fn=ExpertCounts()),
        steps,
        Learn("policy", OBJECTIVE, SGD(lr=0.0)),
    )
    _, _, memory = play(Recipe({"policy": SPEC}, (Phase(4, Drawn(), full, rows=8),)))
    assert [row["dial/load.shares.rows"] for row in memory.history] == [2, 2, 8, 8]


def test_lagged_shares_are_the_reported_counts_of_the_step_before():
    model, batch = learner(), rows()
    first = LaggedLoad()(batch, context(model))["load_share"]
    assert first.unique().tolist() == [0.25]
    report = {f"load/{i}/{j}": float(i + j) for i in range(2) for j in range(4)}
    share = LaggedLoad()(batch, context(model, last={"report": report}))["load_share"]
    assert share.shape == (8, 2, 4)
    assert share[5, 1].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_a_lagged_run_reports_what_it_reads():
    learn = Learn("policy", OBJECTIVE, SGD(lr=0.1))
    _, _, memory = play(
        Recipe({"policy": SPEC}, (Phase(3, Drawn(), (LaggedLoad(), learn), rows=8),))
    )
    for row in memory.history:
        assert loads_of(row).sum(1).tolist() == [88.0, 88.0]  # 44 tokens, 2 experts each


def test_the_bias_moves_against_the_load_and_only_choices_feel_it():
    spec = replace(SPEC, moe=replace(SPEC.moe, bias=True))
    model = Learner("policy", spec.build(0), World())
    report = {f"load/{i}/{j}": float(j) for i in range(2) for j in range(4)}
    Rebias(rate=0.5)(rows(), context(model, last={"report": report}))
    bias = model.module.blocks[1].mixture.bias
    assert bias.tolist() == [0.5, 0.5, -0.5, -0.5]
    routing = model.module(rows()["tokens"], routing=True)[1]
    assert set(routing.chosen.flatten().tolist()) == {0, 1}
    kept = routing.probs.gather(-1, routing.chosen)
    assert torch.allclose(routing.weight, kept / kept.sum(-1, keepdim=True))
    assert "model.blocks.1.mixture.bias" in model.tensors()


def test_a_bias_evens_out_the_load():
    spec = replace(SPEC, moe=replace(SPEC.moe, bias=True))
    learn = Learn("policy", Balanced(NextToken(), balance=None), SGD(lr=0.0))
    phase = Phase(120, Drawn(), (Rebias(rate=0.01), learn), rows=16)
    _, _, memory = play(Recipe({"policy": spec}, (phase,)))
    most = [
        float((counts / counts.mean(1, keepdim=True)).max())
        for counts in (
            sum(loads_of(row) for row in part) for part in (memory.history[:5], memory.history[-5:])
        )
    ]
    assert most[1] < 1.15 < most[0]


@pytest.mark.parametrize("stop", [1, 4])
def test_counts_of_the_step_before_and_biases_survive_a_resume(stop, tmp_path):
    store = text_store(tmp_path, ["the counts of the step before it", "and the biases"] * 5)
    spec = replace(SPEC, vocabulary=257, moe=replace(SPEC.moe, bias=True))
    learn = Learn("policy", OBJECTIVE, SGD(lr=0.1))
    do = (Rebias(rate=0.05), LaggedLoad(), learn)
    recipe = Recipe({"policy": spec}, (Phase(6, Corpus(store, length=8), do, rows=4),))
    left = iter([*[False] * (stop - 1), True])
    train(recipe, tmp_path / "whole")
    train(recipe, tmp_path / "cut", Origin(), Session(interrupted=lambda: next(left)))
    resume(tmp_path / "cut")
    whole, cut = ((tmp_path / run / "history.jsonl").read_bytes() for run in ("whole", "cut"))
    assert whole == cut
    last = json.loads(whole.splitlines()[-1])
    assert last["router_bias"] >= 0.1  # moved in several steps


def test_an_objective_that_asks_for_logits_is_balanced_too():
    one = learner().module
    likeliest = TopTokens(3)(one, rows()).detach()
    batch = TokenMean()(rows()).plus(
        {"load_share": torch.full((8, 2, 4), 0.25), "teacher_top": likeliest}
    )
    found = Balanced(Distill(), balance=0.5, z=0.1)(one, batch)
    plain = OBJECTIVE(one, batch)
    alone = Distill()(one, batch).value - NextToken()(one, batch).value
    assert (found.value - plain.value - alone).abs() < 1e-5
    assert torch.equal(found.sums["balance"], plain.sums["balance"])


def test_what_does_not_fit_is_refused():
    dense = Learner("policy", replace(SPEC, moe=None).build(0), World())
    with pytest.raises(RecipeError, match="without experts"):
        LaggedLoad()(rows(), context(dense))
    with pytest.raises(RecipeError, match="no bias"):
        Rebias()(rows(), context(learner()))
    with pytest.raises(DialError, match="rows = 0"):
        Load(rows=0)(rows().plus({"load": torch.ones(8, 1, 2)}), context(dense))
    with pytest.raises(RecipeError, match="reads 'tokens'"):
        Balanced(Preference())
    with pytest.raises(RecipeError, match="without experts"):
        OBJECTIVE(dense.module, TokenMean()(rows()).plus({"load_share": torch.ones(8, 2, 4)}))
