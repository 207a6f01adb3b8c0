"""Fits as JSON: the law's fields, its numbers, their covariance and the record."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from thalweg.errors import DataError, RecipeError
from thalweg.laws.annealing import AnnealingLaw
from thalweg.laws.curve import Origin
from thalweg.laws.law import CurveLaw, Fitted
from thalweg.laws.multipower import MultiPowerLaw
from thalweg.laws.rates import Effective, Scheduled
from thalweg.laws.record import Record
from thalweg.laws.sizes import FittedSizes

__all__ = ["from_json", "load", "save", "sizes_from_json", "to_json"]

FORMAT = 1
LAWS: Mapping[str, Callable[..., CurveLaw]] = {
    "AnnealingLaw": AnnealingLaw,
    "MultiPowerLaw": MultiPowerLaw,
}
RATES: Mapping[str, Callable[..., Scheduled | Effective]] = {
    "Scheduled": Scheduled,
    "Effective": Effective,
}


def to_json(fitted: Fitted | FittedSizes) -> dict[str, Any]:
    """Return a fit as plain data."""
    several: dict[str, Any] = {}
    if isinstance(fitted, FittedSizes):
        several = {"sizes": list(fitted.sizes), "size_exponent": fitted.exponent}
    return {
        "format": FORMAT,
        **several,
        "law": _law_record(fitted.law),
        "values": dict(fitted.values),
        "covariance": fitted.covariance.tolist(),
        "noise": fitted.noise,
        "error": fitted.error,
        "record": asdict(fitted.record),
    }


def from_json(data: Mapping[str, Any], *, where: str = "from_json") -> Fitted:
    """Return the fit that `to_json` wrote.

    Raises:
        DataError: Parts are missing, the law is not known, or it is one over several sizes.
    """
    if "sizes" in data:
        raise DataError(
            "a law over models of several sizes",
            expected="the size it is asked about",
            where=where,
            write="load(path, parameters=3e8), --parameters 3e8, or sizes_from_json",
        )
    with _readable(where):
        return Fitted(**_parts(data))


def sizes_from_json(data: Mapping[str, Any], *, where: str = "sizes_from_json") -> FittedSizes:
    """Return the fit over several sizes that `to_json` wrote.

    Raises:
        DataError: Parts are missing, or the law is not known.
    """
    with _readable(where):
        sizes = tuple(float(size) for size in data["sizes"])
        return FittedSizes(sizes=sizes, exponent=float(data["size_exponent"]), **_parts(data))


def save(fitted: Fitted | FittedSizes, path: str | Path) -> Path:
    """Write a fit to a file and return its path."""
    path = Path(path)
    path.write_text(json.dumps(to_json(fitted), indent=1) + "\n", encoding="utf-8")
    return path


def load(
    path: str | Path,
    *,
    parameters: float | None = None,
    elsewhere: Literal["refuse", "warn"] = "refuse",
) -> Fitted:
    """Read a fit from a file.

    Args:
        path: What `save` wrote.
        parameters: Size of the model that is asked about, for a law over several sizes.
        elsewhere: What to do with a size far from those.

    Raises:
        DataError: The file is absent or is no fit, or a size is missing.
        RecipeError: The size is far from the fitted ones, or the law is one of one size.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise DataError(
            f"{path} cannot be read: {problem}",
            expected="the JSON of a fit",
            where=str(path),
            write="thalweg laws fit CURVE... --out FIT.json",
        ) from problem
    if parameters is None:
        return from_json(data, where=str(path))
    if "sizes" in data:
        return sizes_from_json(data, where=str(path)).at(parameters, elsewhere=elsewhere)
    raise RecipeError(
        f"--parameters {parameters:g} for a law of one size",
        expected="a law that was fitted on models of several sizes",
        where=str(path),
        write="thalweg laws fit A.csv B.csv --parameters 14e6 --parameters 27e6, one a file",
    )


def _parts(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that fits of one size and of several share."""
    law = dict(data["law"])
    kind, rates = law.pop("$"), dict(law.pop("rates"))
    record = dict(data["record"])
    record["origin"] = Origin(**record["origin"])
    record["curves"] = tuple(record["curves"])
    return {
        "law": LAWS[kind](rates=RATES[rates.pop("$")](**rates), **law),
        "values": dict(data["values"]),
        "covariance": np.asarray(data["covariance"], dtype=np.float64),
        "noise": float(data["noise"]),
        "error": float(data["error"]),
        "record": Record(**record),
    }


@contextmanager
def _readable(where: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as problem:
        raise DataError(
            f"no fitted law: {type(problem).__name__} {problem}",
            expected=f"the JSON of a fit, format {FORMAT}, laws " + ", ".join(LAWS),
            where=where,
            write="thalweg laws fit CURVE... --out FIT.json",
        ) from problem


def _law_record(law: CurveLaw) -> dict[str, Any]:
    if not isinstance(law, AnnealingLaw | MultiPowerLaw):
        raise DataError(
            f"the law {type(law).__name__}",
            expected=" or ".join(LAWS),
            where="laws.store",
            write="one of these laws; others have no file format",
        )
    record: dict[str, Any] = {"$": type(law).__name__}
    for item in fields(law):
        value = getattr(law, item.name)
        if isinstance(value, Scheduled | Effective):
            value = {"$": type(value).__name__, **asdict(value)}
        record[item.name] = value
    return record
