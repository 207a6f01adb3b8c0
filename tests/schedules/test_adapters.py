"""Adapters in the real libraries: torch, transformers, optax. And what the room may import."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from thalweg.core.time import Time, share, steps, tokens
from thalweg.errors import DialError
from thalweg.schedules import Blend, InverseSqrt, Linear, Wsd, for_optax, for_trainer, lambda_lr

RATE = Wsd(3e-4, warmup=steps(3), decay=share(0.4), floor=1e-5)


def expected(end: int, count: int) -> list[float]:
    return [RATE(Time(s, end)) for s in range(count)]


def test_importing_the_room_imports_no_heavy_library() -> None:
    root = str(Path(__file__).parents[2] / "src")
    code = (
        f"import sys; sys.path.insert(0, {root!r}); import thalweg.schedules; "
        "print(sorted({'torch', 'jax', 'transformers', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_lambda_lr_gives_every_group_the_exact_rate() -> None:
    torch = pytest.importorskip("torch")
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [weights[0]], "lr": 7.0}, {"params": [weights[1]]}])
    scheduler = lambda_lr(optimizer, RATE, steps=10)
    found = []
    for _ in range(12):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert found == [[rate, rate] for rate in expected(10, 12)]


def test_lambda_lr_goes_on_from_its_state() -> None:
    torch = pytest.importorskip("torch")

    def fresh():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))])
        return optimizer, lambda_lr(optimizer, RATE, steps=10)

    optimizer, scheduler = fresh()
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    second, resumed = fresh()
    second.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    second.step()
    resumed.step()
    assert second.param_groups[0]["lr"] == RATE(Time(5, 10))


def test_lambda_lr_knows_tokens_when_it_is_told_the_batch() -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))])
    schedule = Linear(1.0, 0.0, over=tokens(40))
    scheduler = lambda_lr(optimizer, schedule, steps=None, batch_tokens=10)
    for _ in range(2):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_schedule_that_cannot_run_leaves_the_optimizer_alone() -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.3)
    for schedule in (RATE, Blend({"a": 1.0}, {"a": 0.0}, over=steps(3))):
        with pytest.raises(DialError):
            lambda_lr(optimizer, schedule, steps=None)
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_the_transformers_trainer_steps_at_the_exact_rates(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    config = transformers.LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    model = transformers.LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters())
    used: list[float] = []
    optimizer.register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))
    row = {"input_ids": [1, 2, 3], "labels": [1, 2, 3]}
    trainer = transformers.Trainer(
        model,
        transformers.TrainingArguments(
            str(tmp_path), max_steps=6, report_to="none", use_cpu=True, disable_tqdm=True
        ),
        train_dataset=[row] * 8,
        optimizers=for_trainer(RATE, optimizer, steps=6),
    )
    trainer.train()
    assert used == expected(6, 6)


def test_optax_gets_the_rates_plain_and_traced() -> None:
    optax = pytest.importorskip("optax")
    jax = pytest.importorskip("jax")
    rate = for_optax(RATE, steps=10)
    traced = jax.jit(rate)
    want = np.asarray(expected(10, 14), np.float32)
    assert [float(rate(s)) for s in range(14)] == want.tolist()
    assert [float(traced(s)) for s in range(14)] == want.tolist()
    assert float(rate(-1)) == want[0]

    optimizer = optax.sgd(rate)
    weight = jax.numpy.float32(1.0)
    state = optimizer.init(weight)
    update = jax.jit(optimizer.update)
    for s in range(12):
        change, state = update(jax.numpy.float32(1.0), state)
        assert float(change) == -want[s]


def test_optax_needs_a_length() -> None:
    pytest.importorskip("jax")
    with pytest.raises(DialError, match="above 0"):
        for_optax(RATE, steps=0)


@pytest.mark.parametrize("bad", [Linear, lambda t: 1.0, None, "cosine"])
def test_what_is_no_schedule_is_refused_by_every_adapter(bad) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("jax")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))])
    for adapt in (
        lambda: lambda_lr(optimizer, bad, steps=10),
        lambda: for_trainer(bad, optimizer, steps=10),
        lambda: for_optax(bad, steps=10),
    ):
        with pytest.raises(DialError, match=r"By\(function\)"):
            adapt()


@pytest.mark.parametrize("bad", ["50", share(1), 0, -1, 2.5, True])
def test_what_is_no_number_of_steps_is_refused_by_every_adapter(bad) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("jax")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))])
    for adapt in (
        lambda: lambda_lr(optimizer, RATE, steps=bad),
        lambda: for_trainer(RATE, optimizer, steps=bad),
        lambda: for_optax(RATE, steps=bad),
    ):
        with pytest.raises(DialError, match="steps=1000"):
            adapt()


def test_optax_has_no_run_without_an_end() -> None:
    pytest.importorskip("jax")
    with pytest.raises(DialError, match="above 0"):
        for_optax(InverseSqrt(1.0, scale=steps(10)), steps=None)
