"""What `thalweg laws` does, as functions over files. No torch."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import DataError, RecipeError, did_you_mean
from thalweg.laws.annealing import AnnealingLaw
from thalweg.laws.boundlaw import BoundLaw
from thalweg.laws.choose import Errors, cross_validate, errors_of
from thalweg.laws.curve import Curve, Origin
from thalweg.laws.design import optimise
from thalweg.laws.files import read
from thalweg.laws.law import CurveLaw, fit
from thalweg.laws.multipower import MultiPowerLaw
from thalweg.laws.rates import Effective, cosine, warmup_hold_decay
from thalweg.laws.store import load, save

__all__ = [
    "LAWS",
    "Answer",
    "compare_files",
    "fit_files",
    "law_named",
    "optimise_file",
    "predict_file",
]

Floats = NDArray[np.float64]

LAWS: Mapping[str, Callable[[float], CurveLaw]] = {
    "effective": lambda decay: MultiPowerLaw(
        rates=Effective(weight_decay=decay), relaxation="steps"
    ),
    "effective-rates": lambda decay: MultiPowerLaw(rates=Effective(weight_decay=decay)),
    "effective-annealing": lambda decay: AnnealingLaw(
        decay=None, rates=Effective(weight_decay=decay)
    ),
    "multi-power": lambda decay: MultiPowerLaw(),
    "annealing": lambda decay: AnnealingLaw(),
    "convex-bound": lambda decay: BoundLaw(),
}
"""From a name and the weight decay of the runs to a law."""
USUAL_DECAY = 0.1
ROWS = 12
"""Rows of a printed prediction."""


class Answer(NamedTuple):
    """What a verb says, and the file it wrote."""

    text: str
    file: Path | None


def law_named(
    name: str, curves: Sequence[Curve] = (), weight_decay: float | None = None
) -> CurveLaw:
    """Return a law by its name on the command line.

    Args:
        name: One of LAWS.
        curves: Runs whose origin may say the weight decay.
        weight_decay: Overrules them; 0.1 if nothing is known.

    Raises:
        RecipeError: The name is not known.
    """
    if name not in LAWS:
        raise RecipeError(
            f"a law {name!r}",
            expected="the name of a law",
            where="--law",
            write=did_you_mean(name, LAWS),
        )
    known = [c.origin.weight_decay for c in curves if c.origin.weight_decay is not None]
    decay = weight_decay if weight_decay is not None else known[0] if known else USUAL_DECAY
    return LAWS[name](decay)


def fit_files(
    paths: Sequence[str | Path],
    *,
    out: str | Path,
    law: str = "effective",
    loss: str | None = None,
    lr: str | float | None = None,
    warmup: int | None = None,
    since: int = 0,
    origin: Origin | None = None,
    one_decay: Literal["refuse", "warn"] = "refuse",
) -> Answer:
    """Fit a law to curves in files and write it as JSON.

    Args:
        paths: CSV, JSON, JSON-lines files or run folders, as `read` takes them.
        out: File for the fit.
        law: One of LAWS.
        loss: Column of the losses.
        lr: Column of the rates, another file, or a number.
        warmup: Steps of a straight warmup before the first logged rate.
        since: Measurements before this step are left out; a law does not know the first steps.
        origin: What the runs were made with, where the files do not say.
        one_decay: What to do with one smooth decay alone.
    """
    curves = _curves(paths, loss, lr, warmup, since, origin)
    which = law_named(law, curves)
    fitted = fit(which, curves, one_decay=one_decay)
    file = save(fitted, out)
    lines = [f"{which.name} ({law}) on {len(curves)} curves, {fitted.record.points} measurements"]
    spread = np.sqrt(np.maximum(np.diag(fitted.covariance), 0.0))
    for name, error in zip((*which.coefficients, *which.shapes), spread, strict=True):
        lines.append(f"  {name:10s} {fitted.values[name]:12.5g}   +- {100 * error:.2g} %")
    lines.append(
        f"  mean error {fitted.error:.4f} nats on these curves; on unseen ones ask compare"
    )
    lines.append(
        f"  for peaks near {fitted.record.lowest_peak:g} to {fitted.record.highest_peak:g}"
    )
    lines.append(f"written to {file}")
    return Answer("\n".join(lines), file)


def predict_file(
    path: str | Path,
    *,
    schedule: str | Path | None = None,
    steps: int | None = None,
    peak: float | None = None,
    warmup: int = 0,
    decay: int = 0,
    shape: Literal["wsd", "cosine"] = "wsd",
    floor: float = 0.0,
    level: float = 0.9,
    out: str | Path | None = None,
    elsewhere: Literal["refuse", "warn"] = "refuse",
) -> Answer:
    """Predict a loss curve with an interval.

    Args:
        path: A fit.
        schedule: A file with a run's rates, one row a logged step; or the numbers below.
        steps: Horizon.
        peak: Peak rate; the record's largest if left out.
        warmup: Steps of the rise.
        decay: Steps of the fall, for wsd.
        shape: `wsd`: hold, then a line to the floor; `cosine`.
        floor: Final rate as a share of the peak.
        level: Share of measurements that should lie in the interval.
        out: A CSV with step, lr, loss, low, high.
        elsewhere: What to do where the record does not reach.
    """
    fitted = load(path)
    if schedule is not None:
        lr = read(schedule, name=str(schedule)).lr
    elif steps is not None:
        top = peak if peak is not None else fitted.record.highest_peak
        lr = (
            cosine(steps, peak=top, warmup=warmup, floor=floor * top)
            if shape == "cosine"
            else warmup_hold_decay(steps, peak=top, warmup=warmup, decay=decay, floor=floor * top)
        )
    else:
        raise RecipeError(
            "neither a schedule nor a number of steps",
            expected="a file with rates, or steps and a peak",
            where="thalweg laws predict",
            write="thalweg laws predict FIT.json --steps 20000 --peak 1e-3 --decay 4000",
        )
    some = np.unique(np.linspace(max(warmup, lr.size // 50), lr.size - 1, 200).astype(np.int64))
    band = fitted.band(lr, some, level=level, elsewhere=elsewhere)
    table = np.stack([some, lr[some], band.loss, band.low, band.high], 1)
    pick = np.unique(np.linspace(0, some.size - 1, ROWS).astype(int))
    lines = [f"{'step':>9s} {'rate':>10s} {'loss':>8s}   {100 * level:.0f} % of measurements"]
    lines += [
        f"{r[0]:9.0f} {r[1]:10.3g} {r[2]:8.4f}   {r[3]:.4f} to {r[4]:.4f}" for r in table[pick]
    ]
    return Answer("\n".join(lines), _write(out, ("step", "lr", "loss", "low", "high"), table))


def optimise_file(
    path: str | Path,
    steps: int,
    *,
    peak: float | None = None,
    warmup: int = 0,
    floor: float = 0.0,
    family: Literal["cooldown", "free"] = "cooldown",
    out: str | Path | None = None,
    elsewhere: Literal["refuse", "warn"] = "refuse",
) -> Answer:
    """Recommend the schedule a fit likes best, beside a cosine and a short linear decay.

    Args:
        path: A fit.
        steps: Horizon.
        peak: Peak rate; left out, the record's.
        warmup: Steps of the rise.
        floor: Final rate as a share of the peak.
        family: `cooldown` or `free`.
        out: A CSV with step and lr.
        elsewhere: What to do where the record does not reach.
    """
    fitted = load(path)
    best = optimise(
        fitted, steps, peak=peak, warmup=warmup, floor=floor, family=family, elsewhere=elsewhere
    )
    usual = cosine(steps, peak=best.peak, warmup=warmup, floor=0.1 * best.peak)
    short = warmup_hold_decay(steps, peak=best.peak, warmup=warmup, decay=steps // 5)
    what = f"peak {best.peak:g}, "
    if family == "cooldown":
        start = round(steps - best.cooldown * (steps - warmup))
        what += f"decay from step {start} ({100 * best.cooldown:.0f} %), (1 - x)^{best.power:.2f}"
    else:
        what += "a free falling curve"
    lines = [
        f"best: {what}",
        f"  expected final loss      {best.loss:.4f}",
        f"  cosine to a tenth        {fitted.final(usual):.4f}",
        f"  linear over the last 20 % {fitted.final(short):.4f}",
    ]
    table = np.stack([np.arange(steps), best.rates], 1)
    return Answer("\n".join(lines), _write(out, ("step", "lr"), table))


def compare_files(
    paths: Sequence[str | Path],
    *,
    laws: Sequence[str] = tuple(LAWS),
    held: Sequence[str | Path] = (),
    loss: str | None = None,
    lr: str | float | None = None,
    warmup: int | None = None,
    since: int = 0,
    origin: Origin | None = None,
) -> Answer:
    """Compare laws by their errors on curves they were not fitted on.

    Args:
        paths: Curves to fit on.
        laws: Names from LAWS.
        held: Curves to predict; without them each curve of `paths` is predicted from the others.
        loss: As in fit_files.
        lr: As in fit_files.
        warmup: As in fit_files.
        since: As in fit_files.
        origin: As in fit_files.
    """
    curves = _curves(paths, loss, lr, warmup, since, origin)
    unseen = _curves(held, loss, lr, warmup, since, origin)
    rows = []
    for name in laws:
        law = law_named(name, curves)
        found = errors_of(fit(law, curves), unseen) if unseen else cross_validate(law, curves)
        rows.append((name, found))
    rows.sort(key=lambda row: row[1].mae)
    how = f"{len(unseen)} held-out curves" if unseen else "each curve from the others"
    return Answer("\n".join([f"errors on {how}, nats", *_table(rows)]), None)


def _table(rows: Sequence[tuple[str, Errors]]) -> list[str]:
    lines = [
        f"{'law':20s} {'mean':>8s} {'largest':>8s} {'final':>8s} {'worst rel.':>10s} {'R2':>8s}"
    ]
    for name, e in rows:
        lines.append(
            f"{name:20s} {e.mae:8.4f} {e.largest:8.4f} {e.final:8.4f} {e.worst:10.4f} {e.r2:8.4f}"
        )
    return lines


def _curves(
    paths: Sequence[str | Path],
    loss: str | None,
    lr: str | float | None,
    warmup: int | None,
    since: int,
    origin: Origin | None,
) -> list[Curve]:
    curves = [read(path, loss=loss, lr=lr, warmup=warmup, origin=origin) for path in paths]
    return [curve.since(since) if since else curve for curve in curves]


def _write(out: str | Path | None, names: Sequence[str], table: Floats) -> Path | None:
    if out is None:
        return None
    file = Path(out)
    try:
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(names)
            writer.writerows([[f"{value:.9g}" for value in row] for row in table])
    except OSError as problem:
        raise DataError(
            f"{file} cannot be written: {problem}",
            expected="a folder that exists",
            where="--out",
            write="another path",
        ) from problem
    return file
