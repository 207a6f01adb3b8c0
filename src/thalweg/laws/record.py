"""What a fit was made on, and the refusal to use it far from there."""

import warnings
from collections.abc import Sequence, Set
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from thalweg.errors import RecipeError
from thalweg.laws.curve import Curve, LawWarning, Origin, total_points

__all__ = ["Record", "check_are_curves", "check_curves", "check_use", "object_to", "record_of"]

HOLD = 0.1
"""A curve that holds one rate for this share of its steps is not one smooth decay."""
FALLEN = 0.99
"""A rate that ends below this share of its peak has fallen."""
FAR = 10.0
"""A peak, batch or model this many times away from the record is refused."""
SAME = 1.02
"""Sizes within this factor are the same."""
NEAR = 1.5
"""Within this factor nothing is said."""
NAMES = ("optimizer", "parametrisation", "dataset")
SIZES = {"batch_tokens": "tokens a batch", "parameters": "parameters", "weight_decay": "decay"}


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a fit was made on; it is asked about nothing far from that."""

    origin: Origin
    """What all curves have in common."""
    lowest_peak: float
    """Smallest peak rate among the curves."""
    highest_peak: float
    """Largest."""
    steps: int
    """Updates of the longest curve."""
    curves: tuple[str, ...]
    """Names."""
    points: int
    """Measurements."""


def record_of(curves: Sequence[Curve]) -> Record:
    """Return the record of a fit on these curves."""
    return Record(
        origin=_common([curve.origin for curve in curves]),
        lowest_peak=min(curve.peak for curve in curves),
        highest_peak=max(curve.peak for curve in curves),
        steps=max(int(curve.steps[-1]) + 1 for curve in curves),
        curves=tuple(curve.name for curve in curves),
        points=total_points(curves),
    )


def check_are_curves(curves: object, where: str) -> None:
    """Refuse what is no list of curves.

    Raises:
        RecipeError: It is not.
    """
    if isinstance(curves, Sequence) and all(isinstance(curve, Curve) for curve in curves):
        return
    raise RecipeError(
        f"one curve, '{curves.name}'" if isinstance(curves, Curve) else f"{curves!r}",
        expected="a list of curves, also where there is one",
        where=where,
        write="[curve], each with Curve(name='a', steps=steps, loss=loss, lr=lr)",
    )


def check_curves(
    curves: Sequence[Curve], parameters: int, one_decay: Literal["refuse", "warn"]
) -> None:
    """Refuse curves that cannot determine a law.

    Raises:
        RecipeError: No curves, fewer points than parameters, curves of different origins, or one
            smooth decay alone.
    """
    points = total_points(curves)
    if points < parameters:
        raise RecipeError(
            f"{points} measurements on {len(curves)} curves",
            expected=f"more than the {parameters} parameters of the law",
            where=", ".join(curve.name for curve in curves) or "laws.fit",
            write="more measurements, or a law with fewer parameters",
        )
    for name in (*NAMES, *SIZES):
        found = {getattr(curve.origin, name) for curve in curves} - {None}
        if not _alike(found):
            raise RecipeError(
                f"curves with different {name}: " + ", ".join(sorted(map(str, found))),
                expected="runs that differ in nothing but their schedules",
                where=", ".join(curve.name for curve in curves),
                write=f"one fit for each {name}",
            )
    if not any(curve.lr[-1] < FALLEN * curve.lr.max() for curve in curves):
        text = "no rate falls, so what a decay gives is not known; add a run with a decay"
        warnings.warn(LawWarning(f"{', '.join(c.name for c in curves)}: {text}"), stacklevel=3)
    if len({curve.lr.tobytes() for curve in curves}) == 1 and not _holds(curves[0]):
        object_to(
            RecipeError(
                "one smooth decay and nothing else",
                expected="two schedules at least, or one with a constant part and a decay",
                where=curves[0].name,
                write="a second short run at a constant rate; on one cosine a law cannot tell "
                "progress from annealing and misses other schedules by .02 to .03 nats",
            ),
            one_decay,
        )


def check_use(
    record: Record,
    peak: float,
    origin: Origin | None,
    elsewhere: Literal["refuse", "warn"],
    *,
    crosses: bool,
) -> None:
    """Compare a planned run with the record of a fit.

    Args:
        record: What the fit was made on.
        peak: Peak rate of the planned run.
        origin: What it is made with; None or an unknown field is not compared.
        elsewhere: What to do where it is far.
        crosses: Whether the law holds at other peaks.

    Raises:
        RecipeError: Another optimizer, parametrisation or text; a peak, batch or model 10 times
            away.

    Warns:
        LawWarning: Between 1.5 and 10 times away; peaks only if the law does not cross them.
    """
    away = max(peak / record.highest_peak, record.lowest_peak / peak)
    span = f"{record.lowest_peak:g} to {record.highest_peak:g}"
    if away >= FAR * (1 - 1e-9):
        object_to(_outside("peak rate", f"{peak:g}", span, "refit with a run near it"), elsewhere)
    elif away > NEAR and not crosses:
        object_to(
            _outside("peak rate", f"{peak:g}", span, "MultiPowerLaw over Effective() rates"), "warn"
        )
    if origin is None:
        return
    for name in NAMES:
        mine, theirs = getattr(record.origin, name), getattr(origin, name)
        if mine is not None and theirs is not None and mine != theirs:
            object_to(_outside(name, str(theirs), str(mine), f"one fit for each {name}"), elsewhere)
    for name, text in SIZES.items():
        mine, theirs = getattr(record.origin, name), getattr(origin, name)
        if mine and theirs:
            far = max(mine / theirs, theirs / mine)
            problem = _outside(
                text, f"{theirs:g}", f"{mine:g}", f"one fit for each number of {text}"
            )
            if far >= FAR:
                object_to(problem, elsewhere)
            elif far > NEAR:
                object_to(problem, "warn")


def object_to(problem: RecipeError, how: Literal["refuse", "warn"]) -> None:
    """Raise the error, or say the same as a warning."""
    if how == "refuse":
        raise problem
    warnings.warn(LawWarning(str(problem)), stacklevel=4)


def _outside(what: str, given: str, record: str, write: str) -> RecipeError:
    return RecipeError(
        f"{what} {given}",
        expected=f"near the {record} this law was fitted on",
        where="the record of the fit",
        write=f"{write}; or --elsewhere warn to use it all the same",
    )


def _common(origins: Sequence[Origin]) -> Origin:
    shared = {}
    for item in fields(Origin):
        found = {getattr(origin, item.name) for origin in origins} - {None}
        shared[item.name] = sorted(found)[len(found) // 2] if found and _alike(found) else None
    return Origin(**shared)


def _alike(found: Set[Any]) -> bool:
    """Say whether all are one name, or numbers within 2 %: masks cost a batch a few targets."""
    if len(found) < 2 or not all(isinstance(one, int | float) for one in found):
        return len(found) < 2
    return bool(max(found) <= SAME * min(found))


def _holds(curve: Curve) -> bool:
    """Say whether some rate is held (or held twice) for a tenth of the run."""
    lr = curve.lr[: int(curve.steps[-1]) + 1]
    same = np.abs(np.diff(lr)) <= 1e-7 * curve.peak
    return bool(same.sum() >= HOLD * lr.size)
