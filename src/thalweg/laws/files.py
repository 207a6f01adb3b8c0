"""Loss curves from files: CSV, JSON lines and JSON, from this package's runs and from elsewhere.

Known layouts: a run folder of this package; one row a step with columns for step, loss and rate
under their usual names (W&B history exports, `pandas.to_csv`, any JSON lines); a W&B panel export
(`Step`, `run - train/loss`, `... __MIN`), of one run or several; a TensorBoard scalar
(`Wall time, Step, Value`, or JSON triples), whose rates are then a second file; the
`trainer_state.json` of transformers.

An empty cell is a value that was not logged; a NaN is a NaN and an error.
"""

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import DataError, did_you_mean
from thalweg.laws.curve import Curve, LawWarning, Origin
from thalweg.laws.tables import SKIPPED, Row, columns_of, of_run, rows_of, runs_in

__all__ = ["origin_of", "rates_between", "rates_in", "read", "read_all"]

Floats = NDArray[np.float64]

STEP = ("step", "_step", "iter", "iteration", "global_step", "num_updates", "update", "steps")
LOSS = ("loss", "train_loss", "training_loss", "val_loss", "valid_loss", "validation_loss",
        "eval_loss", "test_loss", "value")  # fmt: skip
RATE = ("lr", "learning_rate", "learningrate", "value")
LATE = 3
"""Rates that start later than this many logging intervals leave an unknown warmup."""


class Series(NamedTuple):
    """One logged quantity."""

    steps: Floats
    values: Floats


def read(
    path: str | Path,
    *,
    loss: str | None = None,
    lr: str | float | None = None,
    step: str | None = None,
    warmup: int | None = None,
    origin: Origin | None = None,
    name: str | None = None,
    run: str | None = None,
) -> Curve:
    r"""Read one curve.

    Args:
        path: A CSV, TSV, JSON or JSON-lines file, or a run folder.
        loss: Column of the losses, or the end of its name; found if there is only one.
        lr: Column of the rates, a second file with them, or one number for a constant rate.
        step: Column of the step numbers.
        warmup: Steps of a straight warmup before the first logged rate.
        origin: What the run was made with; a run folder says it by itself.
        name: How tables call the curve; the run's or the file's name if left out.
        run: Which run, of an export that holds several.

    Raises:
        DataError: The file cannot be read, a column is missing or one of several, or the curve
            has NaN, unsorted or repeated steps.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "run.csv"
        >>> _ = file.write_text("step,loss,lr\n0,5.0,0.1\n1,4.5,0.1\n2,4.25,0.05\n")
        >>> curve = read(file)
        >>> curve.name, curve.loss.tolist(), curve.lr.tolist()
        ('run', [5.0, 4.5, 4.25], [0.1, 0.1, 0.05])
    """
    path = Path(path)
    rows, known = rows_of(path), origin or _origin_of(path)
    rows = rows if run is None else of_run(rows, run, path)
    columns = columns_of(rows)
    at = _column(columns, step, STEP, "step", path)
    losses = _series(rows, at, _column(columns, loss, LOSS, "loss", path), path)
    title = name or run or (path.name if path.is_dir() else path.stem)
    last = int(losses.steps.max(initial=0))
    rates = _rates(path, rows, columns, at, lr, last, warmup, run)
    return Curve(name=title, steps=losses.steps, loss=losses.values, lr=rates, origin=known)


def read_all(
    path: str | Path,
    *,
    loss: str | None = None,
    lr: str | float | None = None,
    step: str | None = None,
    warmup: int | None = None,
    origin: Origin | None = None,
) -> list[Curve]:
    r"""Read every run of a file: several of a W&B panel export, one of any other.

    Args:
        path: As in `read`.
        loss: As in `read`.
        lr: As in `read`; a second panel export has the rates of the same runs.
        step: As in `read`.
        warmup: As in `read`.
        origin: As in `read`.

    Raises:
        DataError: As `read`.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "panel.csv"
        >>> _ = file.write_text("Step,a - loss,b - loss\n0,5.0,6.0\n1,4.5,5.5\n")
        >>> [(curve.name, curve.loss.tolist()) for curve in read_all(file, lr=1e-3)]
        [('a', [5.0, 4.5]), ('b', [6.0, 5.5])]
    """
    path = Path(path)
    runs = runs_in(columns_of(rows_of(path))) if not path.is_dir() else ()
    if loss is not None and any(loss.startswith(f"{run} - ") for run in runs):
        runs = ()
    return [
        read(path, loss=loss, lr=lr, step=step, warmup=warmup, origin=origin, run=run)
        for run in (runs if len(runs) > 1 else (None,))
    ]


def rates_in(path: str | Path) -> Floats:
    """Return the rate of every update of a schedule or a run; losses are not asked for.

    Args:
        path: A file with steps and rates, or a run folder.

    Raises:
        DataError: The file cannot be read, or has no such columns.
    """
    path = Path(path)
    rows = rows_of(path)
    columns = columns_of(rows)
    at = _column(columns, None, STEP, "step", path)
    last = int(_series(rows, at, at, path).steps.max(initial=0))
    return _rates(path, rows, columns, at, None, last, None)


def rates_between(steps: Sequence[float], rates: Sequence[float], count: int) -> Floats:
    """Return the rate of every update from logged ones.

    Straight lines between logged rates; a change between two flat stretches is a jump at the
    logged step, and so is one in the last row.

    Args:
        steps: Rising step numbers of the log.
        rates: Logged rates.
        count: Number of updates.

    Example:
        >>> rates_between([0, 2, 4, 6], [1.0, 1.0, 0.1, 0.1], 7).tolist()
        [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1]
    """
    at, value = np.asarray(steps, dtype=np.float64), np.asarray(rates, dtype=np.float64)
    change = np.diff(value) != 0
    flat_before = np.append(True, ~change[:-1]) if change.size else change
    flat_after = np.append(~change[1:], True) if change.size else change
    jump = np.flatnonzero(change & flat_before & flat_after & (np.diff(at) > 1))
    jump = jump[jump > 0] if value.size > 2 else jump[:0]
    at, value = np.insert(at, jump + 1, at[jump + 1] - 1), np.insert(value, jump + 1, value[jump])
    return np.asarray(np.interp(np.arange(count), at, value), dtype=np.float64)


def _column(
    columns: Sequence[str], given: str | None, known: Sequence[str], what: str, path: Path
) -> str:
    """Return the one column that is meant; raise with the choices otherwise."""
    offered = [name for name in columns if name and not name.endswith(SKIPPED)]
    if given is not None:
        found = [name for name in offered if name == given] or [
            name for name in offered if name.endswith(given)
        ]
    else:
        found = [name for name in offered if _short(name) in known]
        exact = [name for name in found if name == known[0]]
        named = [name for name in found if _short(name) != "value"]
        found = exact or named or found
    if len(found) == 1:
        return found[0]
    said = "none" if not found else ", ".join(found)
    hint = did_you_mean(given, offered) if given else "one of: " + ", ".join(offered[:12])
    raise DataError(
        f"columns for the {what}: {said}",
        expected=f"one column with the {what}" + (f" named {given!r}" if given else ""),
        where=str(path),
        write=f"--{what} NAME (in Python {what}='NAME'): {hint}",
    )


def _short(name: str) -> str:
    """Return the last part of a name: `run-3 - train/loss` and `dial/policy.lr` are loss and lr."""
    tail = name.rsplit(" - ", 1)[-1].rsplit("/", 1)[-1].strip()
    if name.startswith("dial/") or tail.lower().startswith("lr-"):
        tail = "lr" if tail.endswith(".lr") or tail.lower().startswith("lr-") else tail
    return tail.lower().replace(" ", "_")


def _series(rows: Iterable[Row], step: str, column: str, path: Path) -> Series:
    pairs = [
        (_number(row.get(step), step, at, path), _number(row.get(column), column, at, path))
        for at, row in enumerate(rows)
        if row.get(column) not in (None, "") and row.get(step) not in (None, "")
    ]
    array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return Series(array[:, 0], array[:, 1])


def _number(value: object, column: str, row: int, path: Path) -> float:
    try:
        return float(value)  # type: ignore[arg-type]  # anything else raises below
    except (TypeError, ValueError):
        raise DataError(
            f"{column} is {value!r} in row {row}",
            expected="a number or an empty cell",
            where=f"{path}, row {row}",
            write="the number, or nothing",
        ) from None


def _rates(
    path: Path,
    rows: list[Row],
    columns: Sequence[str],
    step: str,
    lr: str | float | None,
    last: int,
    warmup: int | None,
    run: str | None = None,
) -> Floats:
    if isinstance(lr, int | float) or (isinstance(lr, str) and _is_number(lr)):
        return _before(Series(np.zeros(1), np.array([float(lr)])), last + 1, warmup, path)
    if isinstance(lr, str) and lr not in columns and Path(lr).is_file():
        other = Path(lr)
        rows = rows_of(other)
        rows = rows if run is None else of_run(rows, run, other)
        columns = columns_of(rows)
        step, lr, path = _column(columns, None, STEP, "step", other), None, other
        known: tuple[str, ...] = RATE
    else:
        known = RATE[:-1]
    if lr is None and not any(_short(name) in known for name in columns):
        raise DataError(
            "no learning rate",
            expected="a column such as lr or learning_rate: a law needs the rate of every step",
            where=f"{path}, columns " + ", ".join(columns[:12]),
            write="--lr COLUMN, --lr other-export.csv, or --lr 3e-4 for a constant rate (in Python "
            "lr=3e-4)",
        )
    series = _series(rows, step, _rate_column(columns, lr, known, path), path)
    order = np.argsort(series.steps, kind="stable")
    at, keep = np.unique(series.steps[order][::-1], return_index=True)
    return _before(Series(at, series.values[order][::-1][keep]), last + 1, warmup, path)


def _rate_column(
    columns: Sequence[str], given: str | None, known: Sequence[str], path: Path
) -> str:
    """Return the rate's column; of several dials of one run the first, if none is named."""
    dials = [name for name in columns if name.startswith("dial/") and _short(name) == "lr"]
    if given is None and len(dials) > 1:
        warnings.warn(LawWarning(f"{path}: {len(dials)} rates, {dials[0]} is used"), stacklevel=5)
        return dials[0]
    return _column(columns, given, known, "lr", path)


def _before(series: Series, count: int, warmup: int | None, path: Path) -> Floats:
    """Return the rates of all updates, with a warmup or a warning before the first known one."""
    if not series.values.size or not np.isfinite(series.values).all():
        bad = "no learning rate" if not series.values.size else "a learning rate is not finite"
        raise DataError(
            bad,
            expected="finite rates",
            where=str(path),
            write="--lr COLUMN (in Python lr=...) with the rate of the optimizer",
        )
    rates = rates_between(series.steps.tolist(), series.values.tolist(), count)
    first = int(series.steps[0])
    if warmup:
        early = np.arange(min(warmup, count))
        rates[: early.size] = rates[min(max(first, warmup), count - 1)] * (early + 1) / warmup
        return rates
    gap = float(np.median(np.diff(series.steps))) if series.steps.size > 1 else math.inf
    if warmup is None and first > LATE * gap:
        warnings.warn(
            LawWarning(
                f"{path}: rates are known from step {first} on; before it the first one is "
                "assumed. Write --warmup STEPS (in Python warmup=) for a warmup, 0 for none"
            ),
            stacklevel=5,
        )
    return rates


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def origin_of(record: Mapping[str, Any]) -> Origin:
    """Return what the record of a run (recipe.json) says it was made with.

    Args:
        record: `tree`, the recipe; `models`, their sizes.
    """
    optimizers = list(_found(record.get("tree"), "optimizer"))
    models = list((record.get("models") or {}).values())
    origin = Origin(
        parameters=models[0].get("parameters") if len(models) == 1 else None,
        dataset=_texts_of(record.get("tree")),
    )
    if len(optimizers) != 1 or not isinstance(optimizers[0], dict):
        return origin
    kind = str(optimizers[0].get("$", "")).rsplit(":", 1)[-1]
    decay = optimizers[0].get("weight_decay")
    known = float(decay) if isinstance(decay, int | float) else None
    return replace(origin, optimizer=kind or None, weight_decay=known)


def _origin_of(path: Path) -> Origin:
    """Return what a run folder says of itself; nothing for other files."""
    file = path / "recipe.json"
    if not path.is_dir() or not file.is_file():
        return Origin()
    return replace(origin_of(json.loads(file.read_text())), batch_tokens=_batch_tokens(path))


def _texts_of(tree: object) -> str | None:
    """Return the texts a recipe trains on: name and store of each; None if it has none."""
    parts = [part for source in _found(tree, "source") for part in _holders(source, "store")]
    names = {f"{one.get('name')} ({Path(str(one['store'])).parent.name[:8]})" for one in parts}
    return ", ".join(sorted(names)) or None


def _batch_tokens(path: Path) -> float | None:
    last: dict[str, Any] = {}
    for row in rows_of(path):
        last = dict(row)
    tokens, step = last.get("tokens"), last.get("step")
    return float(tokens) / float(step) if tokens and step else None


def _holders(tree: object, key: str) -> Iterable[dict[str, Any]]:
    """Yield the objects of a record that have a key."""
    if isinstance(tree, dict):
        if key in tree:
            yield tree
        for value in tree.values():
            yield from _holders(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from _holders(value, key)


def _found(tree: object, key: str) -> Iterable[object]:
    """Yield the values of a key anywhere in a record."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield value
            yield from _found(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from _found(value, key)
