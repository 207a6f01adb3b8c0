"""Plans from past runs, on curves of a known law."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from thalweg.errors import DataError, RecipeError
from thalweg.laws import Curve, Effective, MultiPowerLaw, Origin, cosine, warmup_hold_decay
from thalweg.laws.law import evaluate
from thalweg.laws.pilots import propose
from thalweg.laws.planner import BUDGETS, Plan, advise, foresee, learn
from thalweg.laws.prediction import Prediction
from thalweg.laws.runs import HELD_OUT, TRAINING, metric_of, run_curve

LAW = MultiPowerLaw(rates=Effective(), relaxation="steps")
TRUE = np.log([1.5, 6.0, 4.0, 0.4, 0.05, 0.6])
MADE = Origin(optimizer="AdamW", batch_tokens=2048.0, parameters=250e3, weight_decay=0.1)
PEAK = 4e-3


def wsd(steps: int, decay: int, peak: float = PEAK) -> np.ndarray:
    return warmup_hold_decay(steps, peak=peak, warmup=20, decay=decay)


def curve(name: str, lr: np.ndarray, noise: float = 2e-3, origin: Origin = MADE) -> Curve:
    at = np.arange(5, lr.size, 8)
    draw = np.random.default_rng(len(name))
    loss = evaluate(LAW, TRUE, lr, at) * (1 + noise * draw.standard_normal(at.size))
    return Curve(name=name, steps=at, loss=loss, lr=lr, origin=origin)


@cache
def past():
    masked = replace(MADE, batch_tokens=2047.7)  # a few targets less, as masks cost
    both = [curve("trunk", wsd(450, 0)), curve("decay", wsd(562, 112), origin=masked)]
    return learn(both, HELD_OUT)


def planned(lr: np.ndarray, origin: Origin = MADE, **more) -> Plan:
    return Plan(lr=lr, tokens=2048.0 * np.arange(1, lr.size + 1), origin=origin, **more)


def test_two_pilots_foresee_the_end_of_a_longer_run_inside_the_interval():
    lr = wsd(1500, 300)
    found = foresee(past(), planned(lr))
    true = evaluate(LAW, TRUE, lr, np.array([1499]))[0]
    assert found.final.loss == pytest.approx(true, abs=0.05)
    assert found.final.low < true < found.final.high
    assert found.final.high - found.final.low < 0.3
    assert found.step[-1] == 1500
    assert found.warnings == ()


def test_advice_has_every_schedule_at_every_budget_and_more_tokens_help():
    found = advise(past(), lambda b: wsd(round(1500 * b), round(300 * b)), 20)
    assert set(found.table) == {"this recipe", "cosine to a tenth", "linear to 0",
                                "WSD, last 10 %", "WSD, last 20 %"}  # fmt: skip
    for losses in found.table.values():
        assert len(losses) == len(BUDGETS)
        assert losses[0] > losses[1] > losses[2]
    assert found.table["this recipe"] == pytest.approx(found.table["WSD, last 20 %"])
    assert found.doubling > found.tenth > 0
    assert 0 < found.start < 1500
    assert found.best.loss <= min(losses[1] for losses in found.table.values()) + 1e-6


def test_other_schedules_decay_less_where_a_warmup_leaves_them_no_room():
    found = advise(past(), lambda b: cosine(round(1500 * b), peak=PEAK, warmup=700), 1400)
    assert all(np.isfinite(losses).all() for losses in found.table.values())


def test_another_optimizer_is_refused_or_warned_of():
    other = planned(wsd(1500, 300), Origin(optimizer="Muon", batch_tokens=2048.0))
    with pytest.raises(RecipeError, match="optimizer Muon"):
        foresee(past(), other)
    assert "optimizer Muon" in foresee(past(), other, elsewhere="warn").warnings[0]


def test_ten_times_the_peak_or_the_model_is_refused():
    with pytest.raises(RecipeError, match="peak rate"):
        foresee(past(), planned(wsd(1500, 300, 10 * PEAK)))
    large = Origin(optimizer="AdamW", batch_tokens=2048.0, parameters=250e4)
    with pytest.raises(RecipeError, match="parameters"):
        foresee(past(), planned(wsd(1500, 300), large))


def test_what_a_law_cannot_know_is_said():
    said = foresee(past(), planned(wsd(1500, 300), readings=7.0)).warnings
    assert "read 7.0 times" in said[0]
    assert "times the longest past run" in foresee(past(), planned(wsd(6000, 1200))).warnings[0]
    known = past()
    swept = foresee(known, planned(cosine(1500, peak=PEAK, warmup=20)))
    assert "laws do not carry over well" in swept.warnings[0]
    near = foresee(known, planned(wsd(1500, 300)))
    assert swept.final.high - swept.final.loss > near.final.high - near.final.loss


def test_one_cosine_alone_is_refused_and_runs_without_a_decay_are_doubted():
    with pytest.raises(RecipeError, match="one smooth decay"):
        learn([curve("cosine", cosine(600, peak=PEAK, warmup=20))], HELD_OUT)
    flat = learn([curve("flat", wsd(300, 0))], HELD_OUT)
    assert "no past run decays" in foresee(flat, planned(wsd(1500, 300))).warnings[-1]


def test_a_plan_shorter_than_what_laws_leave_out_is_refused():
    with pytest.raises(RecipeError, match="of which no law knows"):
        foresee(past(), planned(wsd(22, 0)))


def test_a_prediction_survives_json_and_a_broken_one_is_refused():
    found = foresee(past(), planned(wsd(1500, 300)))
    again = Prediction.from_json(json.loads(json.dumps(found.to_json())))
    assert again.final == pytest.approx(found.final, abs=1e-5)
    assert (again.runs, again.law, again.metric) == (found.runs, found.law, HELD_OUT)
    with pytest.raises(DataError, match="no prediction"):
        Prediction.from_json({**found.to_json(), "low": [1.0]})


def test_pilots_are_a_trunk_and_the_plans_own_decay():
    trunk, decay = propose(wsd(10_000, 2000))
    assert (trunk.steps, decay.at, decay.steps) == (1500, 1500, 1875)
    assert decay.shape[0] == pytest.approx(1.0, abs=1e-3)
    assert decay.shape[-1] == pytest.approx(0.0, abs=1e-3)
    assert decay.new_steps / decay.steps == pytest.approx(0.2, abs=1e-3)
    long, _ = propose(wsd(100_000, 20_000))
    assert long.steps == 10_000
    flat = propose(wsd(1000, 0))[1]
    assert (flat.steps - flat.at) / flat.steps == pytest.approx(0.2, abs=0.01)
    swept = propose(cosine(1000, peak=PEAK, warmup=20))[1]
    assert swept.new_steps <= 0.6 * 300


def test_a_pilots_decay_never_leaves_after_the_trunks_end():
    trunk, decay = propose(warmup_hold_decay(910, peak=PEAK, warmup=10, decay=235))
    assert decay.at <= trunk.steps


@pytest.mark.parametrize("steps", [22, 200])
def test_a_run_that_is_its_own_cheapest_pilot_gets_none(steps):
    with pytest.raises(RecipeError, match="cheapest pilot"):
        propose(wsd(steps, 0))


@pytest.fixture
def folder(tmp_path):
    def make(name: str, rows, parent=None):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.json").write_text(json.dumps({"parent": parent}))
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / "history.jsonl").write_text(text)
        return tmp_path / name

    return make


def row(step: int, loss: float, lr: float = 0.1) -> dict:
    return {"step": step, "tokens": step, "loss": loss, "heldout/loss": loss - 1, "dial/lr": lr}


def test_the_history_of_a_run_is_set_to_the_updates_that_were_seen(folder):
    run = folder("run", [row(s, 9.0 - s, 0.1 * s) for s in range(1, 6)])
    held, single = run_curve(run, HELD_OUT, "lr"), run_curve(run, TRAINING, "lr")
    assert held.steps.tolist() == [0, 1, 2, 3, 4]
    assert held.lr == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert single.steps.tolist() == [0, 1, 2, 3]
    assert single.loss[0] == 7.0, "the loss of row 2 has seen one update"
    assert metric_of([run]) == TRAINING, "five measurements are too few"


def test_a_branch_has_its_trunks_beginning(folder):
    folder("trunk", [row(s, 9.9 - s) for s in range(1, 9)])
    leaf = folder("leaf", [row(s, 4.0 - s / 10, 0.05) for s in (5, 6, 7)],
                  {"run": "trunk", "step": 4})  # fmt: skip
    found = run_curve(leaf, HELD_OUT, "lr")
    assert found.steps.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert found.lr == pytest.approx([0.1] * 4 + [0.05] * 3)
    (leaf.parent / "trunk" / "history.jsonl").unlink()
    with pytest.raises(DataError, match="trunk is gone"):
        run_curve(leaf, HELD_OUT, "lr")


def test_a_branch_keeps_its_own_rates_from_before_its_first_measurement(folder):
    def seldom(step: int, lr: float, every: int) -> dict:
        found = row(step, 4.0 - step / 10, lr)
        return found if step % every == 0 else {k: v for k, v in found.items() if k[0] != "h"}

    folder("trunk", [seldom(s, 0.1, 5) for s in range(1, 21)])
    leaf = folder("leaf", [seldom(s, 0.02, 12) for s in range(9, 13)],
                  {"run": "trunk", "step": 8})  # fmt: skip
    held, single = run_curve(leaf, HELD_OUT, "lr"), run_curve(leaf, TRAINING, "lr")
    assert held.steps.tolist() == [4, 11], "the trunk's step 10 is no part of the branch"
    assert held.lr == pytest.approx([0.1] * 8 + [0.02] * 4)
    assert single.steps.tolist() == list(range(11))
    assert single.lr == pytest.approx([0.1] * 8 + [0.02] * 4)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(1, 3.0), row(2, float("nan")), row(3, 2.0)], "nan"),
        ([row(2, 3.0), row(1, 2.5), row(3, 2.0)], "comes after"),
        ([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}], "column"),
    ],
)
def test_bad_histories_are_refused_with_the_reason(folder, rows, said):
    with pytest.raises(DataError, match=said):
        run_curve(folder("run", rows), TRAINING, "lr")
