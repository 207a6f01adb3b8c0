"""Learn, Score, Copy, and what they do to a learner."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from core_helpers import weights
from lab import Linear2, Lines, Squared
from thalweg.core.batch import Batch
from thalweg.core.freeze import at
from thalweg.core.learner import Learner
from thalweg.core.moves import AT_END, NEVER, Copy, Learn, Score
from thalweg.core.protocols import Context, Loss
from thalweg.core.report import Report
from thalweg.core.time import Time
from thalweg.core.weigh import AsGiven, TokenMean
from thalweg.core.world import World
from thalweg.errors import Diverged, RecipeError
from thalweg.optim import SGD, AdamW, Groups, NAdamW
from thalweg.schedules import Linear


def learner(seed: int = 0, hidden: int = 4) -> Learner:
    return Learner("policy", Linear2(hidden=hidden).build(seed), World())


def rows(count: int = 8) -> Batch:
    return Lines().next({"row": 0}, Context(Time(), rows=count))[0]


def moved(move, batch: Batch, models: dict[str, Learner], step: int = 0) -> tuple[Batch, Report]:
    report = Report(("lines",))
    time = Time(step, 10, run_step=step)
    return move(batch, Context(time, models=models, learned=report.learned)), report


@pytest.mark.parametrize("micro", [1, 3, 5, 8, 100])
def test_micro_batches_change_nothing_but_rounding(micro):
    whole, parts = learner(), learner()
    batch = TokenMean()(rows())
    one = whole.learn(Squared(), batch, SGD(lr=0.1))
    many = parts.learn(Squared(), batch, SGD(lr=0.1), micro=micro)
    assert many.loss == pytest.approx(one.loss, rel=1e-6)
    assert many.grad_norm == pytest.approx(one.grad_norm, rel=1e-6)
    assert torch.allclose(weights(whole), weights(parts), atol=1e-6)
    assert many.rows["loss"] == pytest.approx(one.rows["loss"])


def test_minibatches_take_steps_of_full_size():
    one, many = learner(), learner()
    moved(Learn("policy", Squared(), SGD(lr=1e-4), clip=None), rows(), {"policy": one})
    learn = Learn("policy", Squared(), SGD(lr=1e-4), minibatch=2, clip=None)
    _, report = moved(learn, rows(), {"policy": many})
    fresh = weights(learner())
    ratio = (weights(many) - fresh).norm() / (weights(one) - fresh).norm()
    assert float(ratio) == pytest.approx(4.0, rel=0.01), "four steps, each as long as the whole"
    assert len(report.rows()["id"]) == 8


def test_passes_go_through_the_batch_in_new_orders():
    seen = []

    @dataclass(frozen=True)
    class Watching:
        needs = ("x", "y", "weight")

        def __call__(self, model, batch: Batch) -> Loss:
            seen.append(batch["id"].tolist())
            return Squared()(model, batch)

    moved(
        Learn("policy", Watching(), SGD(lr=0.0), passes=2, minibatch=4),
        rows(),
        {"policy": learner()},
    )
    assert [sorted(seen[0] + seen[1]), sorted(seen[2] + seen[3])] == [[*range(8)]] * 2
    assert seen[0] != seen[2]


def test_learning_leaves_the_batch_as_it_was():
    batch = rows()
    after, _ = moved(Learn("policy", Squared(), SGD(lr=0.1)), batch, {"policy": learner()})
    assert after is batch


def test_the_gradient_is_clipped_to_a_norm_and_reported_before():
    free, clipped = learner(), learner()
    batch = TokenMean()(rows())
    norm = free.learn(Squared(), batch, SGD(lr=1.0)).grad_norm
    learned = clipped.learn(Squared(), batch, SGD(lr=1.0), clip=norm / 4)
    assert learned.grad_norm == norm
    step = (weights(clipped) - weights(learner())).norm()
    assert float(step) == pytest.approx(norm / 4, rel=1e-4)


@dataclass(frozen=True)
class Broken:
    """An objective whose loss, or only its gradient, is not a number."""

    gradient_only: bool = False
    needs = ("x", "weight")

    def __call__(self, model, batch: Batch) -> Loss:
        out = model(batch["x"]).sum()
        root = torch.sqrt(out * 0.0) if self.gradient_only else out * float("nan")
        return Loss(root)


@pytest.mark.parametrize("objective", [Broken(), Broken(True)])
def test_a_loss_that_is_not_finite_stops_before_the_step(objective):
    one = learner()
    one.learn(Squared(), TokenMean()(rows()), AdamW(lr=0.1))
    before = one.snapshot()
    with pytest.raises(Diverged, match="model 'policy', before its optimizer step"):
        one.learn(objective, TokenMean()(rows()), AdamW(lr=0.1))
    after = one.snapshot()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize(
    "spec", [AdamW(lr=0.1), SGD(lr=0.1, momentum=0.9), Groups({"*bias": SGD(0.1), "*": AdamW(0.1)})]
)
def test_a_restored_learner_goes_on_as_if_nothing_had_happened(spec):
    one, batch = learner(), TokenMean()(rows())
    one.learn(Squared(), batch, spec)
    kept = one.snapshot()
    undisturbed = [one.learn(Squared(), batch, spec).loss for _ in range(3)]
    one.restore(kept)
    assert [one.learn(Squared(), batch, spec).loss for _ in range(3)] == undisturbed


def test_a_snapshot_from_before_the_first_step_restores_a_fresh_optimizer():
    one, batch = learner(), TokenMean()(rows())
    kept = one.snapshot()
    first = [one.learn(Squared(), batch, AdamW(lr=0.1)).loss for _ in range(3)]
    one.restore(kept)
    assert [one.learn(Squared(), batch, AdamW(lr=0.1)).loss for _ in range(3)] == first


def test_momentum_that_a_trial_gave_birth_to_is_gone_after_it():
    spec = Groups({"*bias": AdamW(0.1), "*": SGD(0.1)})
    heavy = Groups({"*bias": AdamW(0.1), "*": SGD(0.1, momentum=0.9)})
    one, two, batch = learner(), learner(), TokenMean()(rows())
    for each in (one, two):
        each.learn(Squared(), batch, spec)
    kept = one.snapshot()
    one.learn(Squared(), batch, heavy)
    one.restore(kept)
    for _ in range(2):
        one.learn(Squared(), batch, heavy)
        two.learn(Squared(), batch, heavy)
    assert torch.equal(weights(one), weights(two))


def test_a_restored_learner_has_its_own_optimizer_again():
    one, two, batch = learner(), learner(), TokenMean()(rows())
    for each in (one, two):
        each.learn(Squared(), batch, AdamW(lr=0.1))
    kept, spec = one.snapshot(), one.spec
    for other in (NAdamW(lr=0.1), SGD(lr=0.1, momentum=0.9)):
        one.learn(Squared(), batch, other)
        one.restore(kept, spec)
        assert one.spec == spec
    for each in (one, two):
        each.learn(Squared(), batch, AdamW(lr=0.1))
    assert torch.equal(weights(one), weights(two))


class Halves(nn.Module):
    """A model whose second half takes no part until it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Linear2().build(0), Linear2().build(1)
        self.both = False

    def forward(self, x_RD: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.first(x_RD)
        return found + self.second(x_RD) if self.both else found


@pytest.mark.parametrize("spec", [AdamW(lr=0.1), SGD(lr=0.1, momentum=0.9)])
def test_weights_that_no_gradient_had_reached_are_loaded_without_moments(tmp_path, spec):
    one, two, batch = (*(Learner("policy", Halves(), World()) for _ in range(2)), rows())
    batch = TokenMean()(batch)
    one.learn(Squared(), batch, spec)
    one.world.save_tensors(one.tensors(), tmp_path / "policy")
    two.load(lambda tensors: two.world.load_tensors(tensors, tmp_path / "policy"), spec)
    for each in (one, two):
        each.module.both = True
        for _ in range(2):
            each.learn(Squared(), batch, spec)
    assert torch.equal(weights(one), weights(two))


def test_sizes_of_parts_may_be_schedules():
    for field in ("minibatch", "micro"):
        learn = Learn("policy", Squared(), SGD(lr=0.1), **{field: Linear(2.0, 5.0)})
        now = at(learn, Time(1, 10))
        _, report = moved(now, rows(), {"policy": learner()})
        assert len(report.rows()["id"]) == 8


def test_a_gradient_is_given_without_a_step_or_a_trace():
    one, batch = learner(), TokenMean()(rows())
    before = one.snapshot()
    found = one.gradient(Squared(), batch)
    assert set(found) == {name for name, _ in one.module.named_parameters()}
    assert all(p.grad is None for p in one.module.parameters())
    after = one.snapshot()
    assert all(torch.equal(after[name], before[name]) for name in before)


def squares(model, batch: Batch) -> torch.Tensor:
    return model(batch["x"]).squeeze(1) ** 2


@pytest.mark.parametrize("micro", [None, 3])
def test_scores_are_a_column_without_gradient_in_evaluation_mode(micro):
    one = learner()
    one.module.train()
    batch, _ = moved(Score("policy", "ref", squares, micro), rows(), {"policy": one})
    assert batch["ref"].shape == (8,)
    assert not batch["ref"].requires_grad
    assert one.module.training


def test_a_copy_takes_weights_every_so_many_steps():
    models = {"policy": learner(0), "actor": learner(1)}
    copy = Copy("policy", "actor", every=3)
    for step in (0, 1):
        moved(copy, rows(), models, step)
        assert not torch.equal(weights(models["actor"]), weights(models["policy"]))
    moved(copy, rows(), models, 2)
    assert torch.equal(weights(models["actor"]), weights(models["policy"]))


def test_a_mixed_copy_is_an_average():
    models = {"policy": learner(0), "teacher": learner(1)}
    expected = 0.25 * weights(models["policy"]) + 0.75 * weights(models["teacher"])
    moved(Copy("policy", "teacher", mix=0.25), rows(), models)
    assert torch.allclose(weights(models["teacher"]), expected)


@pytest.mark.parametrize(("every", "steps"), [(NEVER, []), (AT_END, [9]), (4, [3, 7])])
def test_a_copy_is_due_as_it_says(every, steps):
    copied = []
    for step in range(10):
        models = {"policy": learner(0), "actor": learner(1)}
        moved(Copy("policy", "actor", every), rows(), models, step)
        if torch.equal(weights(models["actor"]), weights(models["policy"])):
            copied.append(step)
    assert copied == steps


def test_models_of_different_shapes_are_not_copied():
    with pytest.raises(RecipeError, match="different parameters"):
        moved(Copy("policy", "ref"), rows(), {"policy": learner(), "ref": learner(hidden=0)})


def test_a_batch_of_which_nothing_is_left_teaches_nothing():
    one = learner()
    nothing = rows().take([])
    learned = one.learn(Squared(), TokenMean()(nothing), SGD(lr=1.0), micro=3)
    assert (learned.loss, learned.grad_norm) == (0.0, 0.0)
    assert torch.equal(weights(one), weights(learner()))


def test_a_second_learner_reports_under_its_name():
    models = {"policy": learner(0), "prm": learner(1)}
    report = Report(("lines",))
    ctx = Context(Time(0, 1), models=models, learned=report.learned)
    for model in models:
        Learn(model, Squared(), SGD(0.1), weigh=AsGiven(0.1))(rows(), ctx)
    values = report.values()
    assert {"loss", "grad_norm", "prm/loss", "prm/grad_norm"} <= set(values)


def test_losses_are_reported_by_source():
    report = Report(("a", "b"))
    ctx = Context(Time(0, 1), models={"policy": learner()}, learned=report.learned)
    batch = rows(4).plus({"source": torch.tensor([0, 1, 1, 1])})
    Learn("policy", replace(Squared()), SGD(0.0))(batch, ctx)
    values = report.values()
    each = report.rows()["loss"]
    assert values["loss/a"] == each[0]
    assert values["loss/b"] == pytest.approx(sum(each[1:]) / 3)
