import json
import math

import numpy as np
import pytest

from thalweg.errors import DataError
from thalweg.laws import Curve, LawWarning, read
from thalweg.laws.files import rates_between

LR = [1e-3] * 10


@pytest.mark.parametrize(
    ("steps", "loss", "text"),
    [
        ([1, 2], [3.0, math.nan], "loss is nan in row 1"),
        ([1, 2], [3.0, math.inf], "loss is inf in row 1"),
        ([1, 2], [3.0, -1.0], "loss is -1 in row 1"),
        ([2, 1], [3.0, 2.0], "step 1 comes after step 2"),
        ([2, 2], [3.0, 2.0], "step 2 repeats step 2"),
        ([1, 2], [3.0], "2 steps and 1 losses"),
        ([1.5, 2], [3.0, 2.0], "steps is 1.5 in row 0"),
        ([-1, 2], [3.0, 2.0], "steps is -1 in row 0"),
        ([], [], "steps has the shape"),
        ([1, 12], [3.0, 2.0], "10 learning rates for measurements up to step 12"),
    ],
)
def test_a_bad_curve_says_what_is_wrong_and_where(steps, loss, text):
    with pytest.raises(DataError) as caught:
        Curve(name="run-7", steps=steps, loss=loss, lr=LR)
    assert text in str(caught.value)
    assert "run-7" in caught.value.where
    assert caught.value.write


def test_bad_rates_are_refused():
    for lr, text in (([1e-3, math.nan], "lr is nan"), ([0.0, 0.0], "every learning rate is 0")):
        with pytest.raises(DataError, match=text):
            Curve(name="a", steps=[1], loss=[2.0], lr=lr)


def test_a_branch_goes_after_its_trunk():
    trunk = Curve(name="trunk", steps=[1, 2, 3, 4], loss=[5.0, 4.0, 3.5, 3.4], lr=[1.0] * 5)
    branch = Curve(name="b", steps=[3, 4], loss=[3.3, 3.0], lr=[0.0, 0.0, 0.0, 0.5, 0.25])
    whole = branch.after(trunk)
    assert whole.steps.tolist() == [1, 2, 3, 4]
    assert whole.loss.tolist() == [5.0, 4.0, 3.3, 3.0]
    assert whole.lr.tolist() == [1.0, 1.0, 1.0, 0.5, 0.25]


def test_thinning_averages_and_never_over_a_jump():
    lr = np.r_[np.full(50, 1.0), np.full(50, 0.1)]
    loss = np.r_[np.full(50, 4.0), np.full(50, 2.0)]
    thin = Curve(name="a", steps=np.arange(100), loss=loss, lr=lr).thinned(7)
    assert set(thin.loss.tolist()) == {4.0, 2.0}
    assert len(thin) <= 9


def test_cutting_everything_away_is_refused():
    with pytest.raises(DataError, match="no measurement of a is left"):
        Curve(name="a", steps=[1, 2], loss=[3.0, 2.0], lr=LR).since(5)


def test_rates_between_logged_ones_are_lines_and_jumps():
    assert rates_between([0, 4], [0.0, 4.0], 6).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 4.0]
    assert rates_between([0, 2, 4, 6], [1.0, 1.0, 0.1, 0.1], 7).tolist()[3:5] == [1.0, 0.1]
    assert rates_between([0, 2, 4], [1.0, 1.0, 0.0], 5).tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]


def write(folder, name, text):
    file = folder / name
    file.write_text(text)
    return file


def test_an_empty_cell_is_not_logged_and_a_nan_is_an_error(tmp_path):
    good = write(tmp_path, "a.csv", "iter,lr,train_loss\n0,,\n1,0.1,5\n2,0.1,\n3,0.1,4\n")
    assert read(good).steps.tolist() == [1, 3]
    bad = write(tmp_path, "b.csv", "iter,lr,train_loss\n1,0.1,5\n2,0.1,NaN\n")
    with pytest.raises(DataError, match="loss is nan in row 1"):
        read(bad)


def test_two_losses_ask_which(tmp_path):
    file = write(tmp_path, "a.csv", "step,lr,train_loss,val_loss\n1,0.1,5,6\n2,0.1,4,5\n")
    with pytest.raises(DataError, match="train_loss, val_loss"):
        read(file)
    assert read(file, loss="val_loss").loss.tolist() == [6.0, 5.0]


def test_a_missing_rate_says_how_to_give_one(tmp_path):
    file = write(tmp_path, "a.csv", "step,loss\n0,5\n1,4\n")
    with pytest.raises(DataError, match="no learning rate") as caught:
        read(file)
    assert "lr=3e-4" in caught.value.write
    assert read(file, lr=3e-4).lr.tolist() == [3e-4, 3e-4]
    other = write(tmp_path, "lr.csv", "Wall time,Step,Value\n0,0,0.2\n1,1,0.1\n")
    assert read(file, lr=str(other)).lr.tolist() == [0.2, 0.1]


def test_a_panel_export_of_wandb_is_read(tmp_path):
    text = (
        '"Step","run-3 - train/loss","run-3 - train/loss__MIN","run-3 - train/loss__MAX"\n'
        '"0","5.0","4.9","5.1"\n"10","4.0","3.9","4.1"\n'
    )
    file = write(tmp_path, "panel.csv", text)
    assert read(file, lr=1e-3).loss.tolist() == [5.0, 4.0]


def test_a_history_export_of_wandb_is_read(tmp_path):
    text = "_step,_runtime,train/loss,train/learning_rate\n0,1,5,0.1\n1,2,4,0.1\n"
    assert read(write(tmp_path, "h.csv", text)).loss.tolist() == [5.0, 4.0]


def test_scalars_of_tensorboard_are_read(tmp_path):
    loss = write(tmp_path, "loss.json", json.dumps([[0.0, 0, 5.0], [1.0, 4, 4.0]]))
    rate = write(tmp_path, "rate.json", json.dumps([[0.0, 0, 0.1], [1.0, 4, 0.05]]))
    curve = read(loss, lr=str(rate))
    assert curve.loss.tolist() == [5.0, 4.0]
    assert curve.lr == pytest.approx([0.1, 0.0875, 0.075, 0.0625, 0.05])


def test_the_state_of_a_transformers_trainer_is_read(tmp_path):
    history = [
        {"step": 1, "loss": 5.0, "learning_rate": 0.1},
        {"step": 1, "eval_loss": 5.5},
        {"step": 2, "loss": 4.0, "learning_rate": 0.1},
    ]
    file = write(tmp_path, "trainer_state.json", json.dumps({"log_history": history}))
    assert read(file).loss.tolist() == [5.0, 4.0]
    assert read(file, loss="eval_loss").loss.tolist() == [5.5]


def test_a_run_folder_is_read_with_its_origin(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    rows = [
        {"step": k, "tokens": 512 * k, "loss": 5.0 / k, "dial/learn.policy.optimizer.lr": 0.1}
        for k in (1, 2, 3)
    ]
    write(run, "history.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    tree = {"do": [{"optimizer": {"$": "thalweg.optim:AdamW", "weight_decay": 0.1}}]}
    record = {"tree": tree, "models": {"policy": {"parameters": 1000}}}
    write(run, "recipe.json", json.dumps(record))
    curve = read(run)
    assert curve.loss.tolist() == [5.0, 2.5, 5.0 / 3]
    origin = curve.origin
    assert (origin.optimizer, origin.weight_decay) == ("AdamW", 0.1)
    assert (origin.parameters, origin.batch_tokens) == (1000, 512)


def test_rates_that_start_late_are_warned_of_and_a_warmup_fills_them(tmp_path):
    file = write(tmp_path, "a.csv", "step,lr,loss\n100,1.0,5\n101,1.0,4\n102,1.0,3\n")
    with pytest.warns(LawWarning, match="from step 100 on"):
        assert read(file).lr[0] == 1.0
    assert read(file, warmup=50).lr[[0, 24, 49, 60]].tolist() == [0.02, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{", "no table"),
        ("a.jsonl", '{"step": 1\n', "no table"),
        ("a.csv", "", "no rows"),
        ("a.csv", "step,loss,lr\n1,x,0.1\n", "loss is 'x' in row 0"),
        ("a.csv", "epoch,loss,lr\n1,2,0.1\n", "columns for the step: none"),
    ],
)
def test_a_bad_file_says_so(tmp_path, name, text, said):
    with pytest.raises(DataError, match=said):
        read(write(tmp_path, name, text))


def test_an_absent_file_says_so(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "nothing.csv")
