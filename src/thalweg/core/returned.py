"""Whether parts return what their kind returns: the second thing that is looked at of a recipe.

`core.form` looks at parts before a run, this file at what comes out of them: at every step where
that costs nothing, at the first step of a phase where it costs something.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from thalweg.core.batch import PAIR_WEIGHTS, Batch, Column, spec_of
from thalweg.core.lazy import Lazy
from thalweg.core.protocols import Action, Loss, Next, Objective, Save, Set, State, Stop, Trial
from thalweg.errors import ColumnError, DialError, RecipeError

__all__ = ["check_actions", "check_batch", "check_columns", "check_drawn", "check_loss", "numbers"]

_ACTIONS = (Set, Trial, Next, Stop, Save)
_TAKEN = ("step", "phase", "tokens", "loss", "grad_norm")
_OF_PAIRS = ("chosen", "rejected", *PAIR_WEIGHTS)


def check_drawn(found: object, source: object, step: int) -> tuple[Batch, State]:
    """Return what a source gave at a step of the run, if that is a batch and a state."""
    if not (isinstance(found, tuple) and len(found) == 2):
        raise RecipeError(
            f"{_kind(found)} from {type(source).__name__}.next",
            expected="a Batch and the next state",
            where=f"step {step}",
            write="return Batch({...}), {...}",
        )
    return check_batch(found[0], source), found[1]


def check_batch(found: object, part: object) -> Batch:
    """Return what a source or a move gave, if that is a batch."""
    if isinstance(found, Batch):
        return found
    raise RecipeError(
        f"{_kind(found)} from {type(part).__name__}",
        expected="a Batch",
        where=type(part).__name__,
        write='return Batch({"tokens": ..., "weight": ...}), or batch.plus({...})',
    )


def check_columns(batch: Batch, makes: Sequence[str], names: Sequence[str], maker: str) -> None:
    """Refuse columns that are not what the table in `core.batch` says; unread ones pass.

    Args:
        batch: The first batch of a phase.
        makes: Columns that were said to be made.
        names: Names of the sources, which `source` counts.
        maker: What made it, for the error.

    Raises:
        ColumnError: A column is missing, is no tensor, holds numbers of another kind, or has
            another shape than its line of the table beside the tokens of this batch.
    """
    for name in makes:
        if name not in batch:
            raise _odd(f"no column '{name}'", "every column of `makes`", maker, f'"{name}": ...')
    for name in batch:
        _check_column(name, batch.column(name), maker)
    _check_shapes(batch, maker)
    source = batch.column("source") if "source" in batch else None
    if isinstance(source, torch.Tensor) and names and batch.rows:
        low, high = int(source.min()), int(source.max())
        if low < 0 or high >= len(names):
            raise _odd(
                f"'source' from {low} to {high}",
                f"0 to {len(names) - 1}, places in names {[*names]}",
                maker,
                "the number of its name for each row",
            )


def _check_column(name: str, column: Column, maker: str) -> None:
    if isinstance(column, Lazy):
        return
    if not isinstance(column, torch.Tensor):
        raise _odd(f"'{name}' as {_kind(column)}", "a tensor", maker, f"torch.as_tensor({name})")
    spec = spec_of(name)
    if spec is not None and spec.dtype.startswith("int") and column.is_floating_point():
        raise _odd(f"'{name}' of {column.dtype}", spec.dtype, maker, f"{name}.long()")


def _check_shapes(batch: Batch, maker: str) -> None:
    """Refuse columns of targets that are not one narrower than `tokens`."""
    tokens = batch.column("tokens") if "tokens" in batch else None
    if not isinstance(tokens, torch.Tensor):
        return
    if tokens.dim() != 2:
        raise _odd(f"'tokens' of shape {[*tokens.shape]}", "[R, T]", maker, "tokens[None]")
    wanted = (batch.rows, tokens.shape[1] - 1)
    for name in batch:
        column, spec = batch.column(name), spec_of(name)
        if spec is None or spec.shape != "[R, T-1]" or name.endswith(_OF_PAIRS):
            continue
        if isinstance(column, torch.Tensor) and column.shape != wanted:
            raise _odd(
                f"'{name}' of shape {[*column.shape]} beside tokens {[*tokens.shape]}",
                f"{[*wanted]}: a value for each target, tokens[:, 1:]",
                maker,
                f"{name}[:, 1:], if there is one for each token",
            )


def check_loss(loss: object, objective: Objective, model: str, rows: int) -> Loss:
    """Return what an objective gave, if something can be learned from it.

    Args:
        loss: What it returned.
        objective: The objective.
        model: Name of the model that learns.
        rows: Rows of the micro-batch.

    Raises:
        RecipeError: No `Loss`; a value that is no scalar made by calling the model; metrics that
            are no scalars, or not one a row.
    """
    if not isinstance(loss, Loss):
        wrong = _kind(loss)
    elif not isinstance(loss.value, torch.Tensor) or loss.value.dim():
        wrong = f"a loss whose value is {_shape(loss.value)}"
    elif not loss.value.requires_grad:
        wrong = "a loss that no weight has a part in"
    elif odd := [n for n, x in loss.sums.items() if not isinstance(x, torch.Tensor) or x.dim()]:
        wrong = f"a sum '{odd[0]}' that is {_shape(loss.sums[odd[0]])}"
    elif odd := [name for name in loss.sums if _is_taken(name)]:
        wrong = f"a sum '{odd[0]}', a name that the loop has taken"
    elif odd := [n for n, x in loss.rows.items() if getattr(x, "shape", None) != (rows,)]:
        wrong = f"rows '{odd[0]}' that are {_shape(loss.rows[odd[0]])}, of {rows} rows"
    else:
        return loss
    raise RecipeError(
        wrong,
        expected="Loss(value, sums, rows): a scalar made by calling the model, tensors without "
        "dimensions by name, tensors [R] by name",
        where=f"{type(objective).__name__}, learn.{model}",
        write="return Loss((weight * nats).sum())",
    )


def check_actions(found: object, controller: object) -> tuple[list[Action], State]:
    """Return what a controller's `act` gave, if that is actions and a state."""
    name = type(controller).__name__
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], tuple | list):
        odd = [action for action in found[0] if not isinstance(action, _ACTIONS)]
        if not odd:
            for action in found[0]:
                _check_trial(action, name)
            return [*found[0]], found[1]
        given = f"{_kind(odd[0])} among the actions of {name}"
    else:
        given = f"{_kind(found)} from {name}.act"
    raise RecipeError(
        given,
        expected="a tuple of Set, Trial, Next, Stop or Save, perhaps empty, and the next state",
        where=name,
        write='return (Set({"lr": 1e-4}),), state',
    )


def _check_trial(action: Action, controller: str) -> None:
    """Refuse a trial of no steps, which tells nothing and would be asked for again, for ever."""
    if not isinstance(action, Trial):
        return
    if (
        type(action.steps) is not int
        or action.steps < 1
        or action.data not in ("rewind", "continue")
    ):
        raise DialError(
            f"{action}",
            expected="steps: a whole number, 1 or more; data: 'rewind' or 'continue'",
            where=controller,
            write='Trial({"lr": 1e-3}, steps=20)',
        )


def numbers(found: object, part: str) -> Mapping[str, Any]:
    """Return what a monitor measured, or a part logs, if that is numbers by name."""
    if isinstance(found, Mapping) and all(type(name) is str for name in found):
        odd = [name for name, value in found.items() if not _is_number(value)]
        taken = [name for name in found if _is_taken(name)]
        if not odd and not taken:
            return found
        given = f"'{odd[0]}': {_kind(found[odd[0]])}" if odd else f"'{taken[0]}'"
    else:
        given = "names that are not all text" if isinstance(found, Mapping) else _kind(found)
    raise RecipeError(
        f"{given} from {part}",
        expected=f"numbers, under names other than the loop's: {_TAKEN}, tokens/..., dial/...",
        where=part,
        write='{"my_name": float(value)}',
    )


def _is_taken(name: str) -> bool:
    """Return whether a column of the history is the loop's own."""
    return name in _TAKEN or name.startswith(("dial/", "tokens/"))


def _is_number(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return value.numel() == 1
    return hasattr(value, "__float__") and not isinstance(value, str)


def _kind(value: object) -> str:
    """Return what a value is, with its article."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "None" if value is None else f"a {type(value).__name__}"


def _shape(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {[*value.shape]}"
    return _kind(value)


def _odd(given: str, expected: str, maker: str, write: str) -> ColumnError:
    return ColumnError(given, expected=expected, where=maker, write=write)
