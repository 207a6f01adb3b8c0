import numpy as np
import pytest
import torch

from core_helpers import play
from test_laws import Bigram
from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.moves import Learn, Score
from thalweg.core.protocols import Context, State
from thalweg.core.recipe import CopyOf, Phase, Recipe
from thalweg.core.time import Time
from thalweg.core.weigh import Each, TokenMean
from thalweg.core.world import World
from thalweg.data import Mixture
from thalweg.errors import RecipeError
from thalweg.models import Transformer
from thalweg.objectives import (
    Hidden,
    Likelihood,
    Margins,
    NextToken,
    Outcome,
    Preference,
    ThresholdMargin,
    WeightOf,
)
from thalweg.objectives.margin import departures, thresholds
from thalweg.optim import AdamW

SPEC = Transformer(vocabulary=16, width=8, layers=1, heads=2, positions=8)
WEIGH = Each({"weight": TokenMean(), "general_weight": TokenMean("general_weight")})


def transcription(h, h0, a, b, mask) -> tuple[float, int]:
    """Return the sum and the count of nonzero terms as gere_trainer.py has them, by loops."""
    total, count = 0.0, 0
    for r in range(h.shape[0]):
        for t in range(h.shape[1]):
            for d in range(h.shape[2]):
                x, first = float(h[r, t, d]), float(h0[r, t, d])
                low, high = float(a[d]), float(b[d])
                if first <= low:
                    term = max(x - low, 0.0)
                elif first >= high:
                    term = max(high - x, 0.0)
                else:
                    term = max(x - high, 0.0) + max(low - x, 0.0)
                term *= float(mask[r, t])
                total += term
                count += term != 0
    return total, count


def held(**columns: torch.Tensor) -> Batch:
    """Return rows that a table of the tokens' states reads, half of them general."""
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(7, (4, 6), generator=draw)
    weight = torch.ones(4, 5, dtype=torch.float64)
    general = weight * torch.tensor([1.0, 0, 1, 0], dtype=torch.float64)[:, None]
    first = torch.randn(4, 5, 7, generator=draw, dtype=torch.float64)
    batch = Batch({"tokens": tokens, "weight": weight, "general_weight": general,
                   "ref_hidden": first} | columns)  # fmt: skip
    return Margins()(batch, Context(Time()))


def test_departures_are_the_loop_of_the_authors():
    draw = torch.Generator().manual_seed(0)
    first, now = torch.randn(2, 3, 4, 5, generator=draw)
    mask = torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
    low, high = thresholds(first, mask)
    inside = first[mask > 0]
    assert torch.allclose(low, inside.mean(0) - inside.std(0, correction=0))
    assert torch.allclose(high, inside.mean(0) + inside.std(0, correction=0))
    term = departures(now, first, low, high) * mask[..., None]
    total, count = transcription(now, first, low, high, mask)
    assert float(term.sum()) == pytest.approx(total, rel=1e-5)
    assert int((term > 0).sum()) == count


def test_places_weighed_by_what_has_left_give_the_mean_of_the_authors():
    batch, model = held(), Bigram()
    now = model.table[batch["tokens"][:, :-1]].detach()
    low, high = batch["ref_margins"][0]
    term = departures(now, batch["ref_hidden"], low, high)
    left = (term > 0).sum(-1) * batch["general_weight"]
    objective = ThresholdMargin(NextToken(), scale=3.0)
    loss = objective(model, batch.plus({"general_weight": left / left.sum()}))
    total, count = transcription(now, batch["ref_hidden"], low, high, batch["general_weight"])
    plain = NextToken()(model, batch).value
    assert float((loss.value - plain).detach()) == pytest.approx(3.0 * total / count, rel=1e-9)


def test_over_all_features_it_is_their_mean():
    batch, model = held(), Bigram()
    objective = ThresholdMargin(NextToken(), scale=1.0, over="all")
    loss = objective(model, batch)
    now = model.table[batch["tokens"][:, :-1]].detach()
    total, _ = transcription(
        now, batch["ref_hidden"], *batch["ref_margins"][0], batch["general_weight"]
    )
    plain = NextToken()(model, batch).value
    assert float((loss.value - plain).detach()) == pytest.approx(total / 7, rel=1e-9)
    assert float(loss.sums["margin/count"]) == 10


def test_a_feature_that_stays_in_its_third_has_no_gradient():
    low, high = torch.tensor(-1.0), torch.tensor(1.0)
    now = torch.tensor([0.5, 2.0, -3.0, 3.0, 0.0], requires_grad=True)
    first = torch.tensor([0.0, 0.0, -2.0, 2.0, 1.5])
    (slope,) = torch.autograd.grad(departures(now, first, low, high).sum(), [now])
    assert slope.tolist() == [0.0, 1.0, 0.0, 0.0, -1.0]


def test_without_general_rows_it_is_the_inner_loss():
    batch = held(general_weight=torch.zeros(4, 5, dtype=torch.float64))
    assert not batch["ref_margins"].any()
    loss, plain = (one(Bigram(), batch) for one in (ThresholdMargin(NextToken()), NextToken()))
    assert float(loss.value.detach()) == float(plain.value.detach())


def test_an_inner_objective_that_asks_otherwise_is_asked_once_more():
    batch = held(reward=torch.ones(4, dtype=torch.float64))
    for inner in (Likelihood(), NextToken()):
        both, alone = ThresholdMargin(inner)(Bigram(), batch), inner(Bigram(), batch)
        assert float(both.value.detach()) > float(alone.value.detach())
    assert ThresholdMargin(Outcome()).needs[0] == "tokens"


def test_an_objective_without_tokens_is_refused():
    with pytest.raises(RecipeError, match="an objective that reads chosen"):
        ThresholdMargin(Preference())


class Rows:
    """Random rows; a run reads other rows each step."""

    names, makes = ("text",), ("tokens", "weight", "id", "source")

    def start(self, ctx: Context) -> State:
        return 0

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        draw = np.random.default_rng(state)
        columns = {
            "tokens": torch.from_numpy(draw.integers(16, size=(ctx.rows, 9))),
            "weight": torch.ones(ctx.rows, 8),
            "id": torch.arange(ctx.rows),
            "source": torch.zeros(ctx.rows, dtype=torch.int64),
        }
        return Batch(columns), state + 1


def recipe(scale: float) -> Recipe:
    moves = (
        WeightOf("general_weight", values=(1,)),
        Score("ref", "ref_hidden", fn=Hidden()),
        Margins(),
        Learn("policy", ThresholdMargin(NextToken(), scale=scale), AdamW(lr=0.01), weigh=WEIGH),
    )
    source = Mixture({"new": Rows(), "old": Rows()}, {"new": 1.0, "old": 1.0})
    return Recipe({"policy": SPEC, "ref": CopyOf("policy")}, (Phase(6, source, moves, rows=8),))


def test_a_run_starts_without_departure_and_is_held_by_the_price():
    ends = {}
    for scale in (0.0, 100.0):
        _, _, memory = play(recipe(scale))
        assert memory.history[0]["margin"] == 0.0
        ends[scale] = memory.history[-1]["margin"]
    assert 0 < ends[100.0] < ends[0.0]


def test_only_general_rows_are_computed_by_the_first_model():
    batch, _ = (
        recipe(1.0)
        .phases[0]
        .source.next(
            recipe(1.0).phases[0].source.start(Context(Time(), rows=8)), Context(Time(), rows=8)
        )
    )
    ctx = Context(Time(), models={"ref": Learner("ref", SPEC.build(0), World())})
    weighed = WeightOf("general_weight", values=(1,))(batch, ctx)
    states = Score("ref", "ref_hidden", fn=Hidden())(weighed, ctx)["ref_hidden"]
    old = weighed["source"] == 1
    whole = ctx.models["ref"].module.encode(batch["tokens"][:, :-1]).detach()
    assert torch.allclose(states[old], whole[old], atol=1e-6)
    assert not states[~old].any()
    none = weighed.plus({"general_weight": torch.zeros(8, 8)})
    assert Score("ref", "ref_hidden", fn=Hidden())(none, ctx)["ref_hidden"].shape == (8, 8, 8)
