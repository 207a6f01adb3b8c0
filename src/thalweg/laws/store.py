"""Fits as JSON: the law's fields, its numbers, their covariance and the record."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.errors import DataError
from thalweg.laws.annealing import AnnealingLaw
from thalweg.laws.curve import Origin
from thalweg.laws.law import CurveLaw, Fitted
from thalweg.laws.multipower import MultiPowerLaw
from thalweg.laws.rates import Effective, Scheduled
from thalweg.laws.record import Record

__all__ = ["from_json", "load", "save", "to_json"]

FORMAT = 1
LAWS: Mapping[str, Callable[..., CurveLaw]] = {
    "AnnealingLaw": AnnealingLaw,
    "MultiPowerLaw": MultiPowerLaw,
}
RATES: Mapping[str, Callable[..., Scheduled | Effective]] = {
    "Scheduled": Scheduled,
    "Effective": Effective,
}


def to_json(fitted: Fitted) -> dict[str, Any]:
    """Return a fit as plain data."""
    return {
        "format": FORMAT,
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
        DataError: Parts are missing, or the law is not known.
    """
    try:
        law = dict(data["law"])
        kind, rates = law.pop("$"), dict(law.pop("rates"))
        record = dict(data["record"])
        record["origin"] = Origin(**record["origin"])
        record["curves"] = tuple(record["curves"])
        return Fitted(
            law=LAWS[kind](rates=RATES[rates.pop("$")](**rates), **law),
            values=dict(data["values"]),
            covariance=np.asarray(data["covariance"], dtype=np.float64),
            noise=float(data["noise"]),
            error=float(data["error"]),
            record=Record(**record),
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise DataError(
            f"no fitted law: {type(problem).__name__} {problem}",
            expected=f"the JSON of a fit, format {FORMAT}, laws " + ", ".join(LAWS),
            where=where,
            write="thalweg laws fit CURVE... --out FIT.json",
        ) from problem


def save(fitted: Fitted, path: str | Path) -> Path:
    """Write a fit to a file and return its path."""
    path = Path(path)
    path.write_text(json.dumps(to_json(fitted), indent=1) + "\n", encoding="utf-8")
    return path


def load(path: str | Path) -> Fitted:
    """Read a fit from a file.

    Raises:
        DataError: The file is absent or is no fit.
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
    return from_json(data, where=str(path))


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
