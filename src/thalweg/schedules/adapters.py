"""Thalweg's schedules in other people's loops: torch, the transformers `Trainer`, optax.

Each adapter counts optimizer steps from 0 and gives the schedule `Time(step, steps)`, so the rate
at step s is `schedule(Time(s, steps))`, exactly the number Thalweg's own loop would use. The
foreign library is imported when the adapter is called.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from thalweg.core.protocols import Schedule
from thalweg.core.time import Count, Time
from thalweg.errors import DialError
from thalweg.schedules.clock import Piece, check_schedule, number_at

if TYPE_CHECKING:
    import jax
    import torch

__all__ = ["TrainerOptimizers", "for_optax", "for_trainer", "lambda_lr"]

OptaxSchedule: TypeAlias = "Callable[[int | jax.Array], jax.Array]"


class TrainerOptimizers(NamedTuple):
    """What `transformers.Trainer` takes as `optimizers`."""

    optimizer: "torch.optim.Optimizer"
    """As given."""
    scheduler: "torch.optim.lr_scheduler.LambdaLR"
    """Sets its learning rate."""


def lambda_lr(
    optimizer: "torch.optim.Optimizer",
    schedule: Schedule[Piece] | float,
    steps: int | None,
    *,
    batch_tokens: int = 0,
) -> "torch.optim.lr_scheduler.LambdaLR":
    """Return a torch scheduler that gives every group the rate `schedule(Time(step, steps))`.

    LambdaLR multiplies base rates by a factor. Here every base rate becomes 1 and the factor is the
    rate, exact to the last bit. Step it once after each `optimizer.step()`.

    Args:
        optimizer: Its groups' `lr` and `initial_lr` are overwritten.
        schedule: Learning rate; a schedule of numbers.
        steps: Optimizer steps of the run; None if it has no end.
        batch_tokens: Tokens a step, for schedules with lengths in `tokens(...)`.

    Raises:
        DialError: No schedule of numbers, no number of steps, or a schedule that does not fit a
            run of this length.

    Example:
        >>> import torch
        >>> from thalweg.schedules import Linear
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
        >>> scheduler = lambda_lr(optimizer, Linear(1.0, 0.0), steps=4)
        >>> optimizer.step(), scheduler.step(), optimizer.param_groups[0]["lr"]
        (None, None, 0.75)
    """
    import torch

    _check("lambda_lr", schedule, steps, endless=True)

    def rate(step: int) -> float:
        return float(number_at(schedule, _clock(step, steps, batch_tokens), "lambda_lr"))

    rate(0)  # refuse what cannot run before the optimizer is touched
    for group in optimizer.param_groups:
        group["initial_lr"] = 1.0
        old = group["lr"]  # a tensor is kept: a compiled step holds on to it
        group["lr"] = old.fill_(1.0) if isinstance(old, torch.Tensor) else 1.0
    return torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def for_trainer(
    schedule: Schedule[Piece] | float,
    optimizer: "torch.optim.Optimizer",
    *,
    steps: int | None,
    batch_tokens: int = 0,
) -> TrainerOptimizers:
    """Return what `transformers.Trainer(optimizers=...)` takes: the optimizer and its scheduler.

    `TrainingArguments.learning_rate`, `lr_scheduler_type` and `warmup_steps` then have no say.

    Args:
        schedule: Learning rate; a schedule of numbers.
        optimizer: Any torch optimizer over the model's parameters.
        steps: Optimizer steps of the run: the same number as `TrainingArguments.max_steps`.
        batch_tokens: Tokens a step, for schedules with lengths in `tokens(...)`.

    Raises:
        DialError: As `lambda_lr`.

    Example:
        >>> import torch
        >>> from thalweg.schedules import Linear
        >>> optimizer = torch.optim.AdamW(torch.nn.Linear(2, 2).parameters())
        >>> for_trainer(Linear(3e-4, 0.0), optimizer, steps=100).scheduler.get_last_lr()
        [0.0003]
    """
    scheduler = lambda_lr(optimizer, schedule, steps, batch_tokens=batch_tokens)
    return TrainerOptimizers(optimizer, scheduler)


def for_optax(
    schedule: Schedule[Piece] | float, steps: int, *, batch_tokens: int = 0
) -> OptaxSchedule:
    """Return an optax schedule: a function of the count, also when it is traced under `jax.jit`.

    A traced count has no value that numpy could use, so the rates of steps 0 to `steps` are
    computed now, into a table of jax's default float type (float32 unless x64 is on), and the
    function looks them up. A count past the end gets the last rate, one below 0 the first.

    Args:
        schedule: Learning rate; a schedule of numbers.
        steps: Optimizer steps of the run, above 0.
        batch_tokens: Tokens a step, for schedules with lengths in `tokens(...)`.

    Returns:
        count -> scalar jax array.

    Raises:
        DialError: No schedule of numbers, no positive number of steps, or a schedule that does not
            fit a run of this length.

    Example:
        >>> from thalweg.schedules import Linear
        >>> rate = for_optax(Linear(1.0, 0.0), steps=4)
        >>> float(rate(1)), float(rate(99))
        (0.75, 0.0)
    """
    import jax.numpy as jnp

    _check("for_optax", schedule, steps, endless=False)
    clock = _clock(np.arange(steps + 1), steps, batch_tokens)
    table = jnp.asarray(number_at(schedule, clock, "for_optax"))
    return lambda count: jnp.take(table, jnp.clip(count, 0, steps))


def _check(where: str, schedule: object, steps: object, *, endless: bool) -> None:
    """Refuse what is no schedule, and what is no number of steps.

    Raises:
        DialError: They are not.
    """
    check_schedule(where, "schedule", schedule)
    if steps is None and endless:
        return
    if isinstance(steps, int | np.integer) and not isinstance(steps, bool) and steps > 0:
        return
    raise DialError(
        f"steps = {steps!r}",
        expected="the number of optimizer steps, above 0" + (", or None" if endless else ""),
        where=where,
        write="steps=1000",
    )


def _clock(step: Count, steps: int | None, batch_tokens: int) -> Time:
    return Time(step, steps, tokens=step * batch_tokens, run_step=step, batch_tokens=batch_tokens)
