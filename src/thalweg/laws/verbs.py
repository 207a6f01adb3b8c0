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
from thalweg.laws.files import rates_in, read_all
from thalweg.laws.law import CurveLaw, Fitted, fit
from thalweg.laws.multipower import MultiPowerLaw
from thalweg.laws.rates import Effective, cosine, warmup_hold_decay
from thalweg.laws.sizes import GROWTHS, FittedSizes, fit_sizes, sized, sizes_of
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
Rates = str | float | Sequence[str | float] | None
"""Column, file or number; one for all files, or one for each."""
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
    lr: Rates = None,
    step: str | None = None,
    warmup: int | None = None,
    since: int = 0,
    origin: Origin | None = None,
    parameters: Sequence[float] = (),
    one_decay: Literal["refuse", "warn"] = "refuse",
) -> Answer:
    """Fit a law to curves in files and write it as JSON; models of several sizes share one law.

    Args:
        paths: CSV, JSON, JSON-lines files or run folders, as `read` takes them.
        out: File for the fit.
        law: One of LAWS.
        loss: Column of the losses.
        lr: Column of the rates, another file, or a number; one for all or one a file.
        step: Column of the step numbers.
        warmup: Steps of a straight warmup before the first logged rate.
        since: Measurements before this step are left out; a law does not know the first steps.
        origin: What the runs were made with, where the files do not say.
        parameters: Of the models without embeddings, where the files do not say: one number a
            file, or one for all.
        one_decay: What to do with one smooth decay alone.
    """
    curves = sized(_curves(paths, loss, lr, step, warmup, since, origin), parameters)
    which = law_named(law, curves)
    several = len(sizes_of(curves)) > 1
    fitted = fit_sizes(which, curves) if several else fit(which, curves, one_decay=one_decay)
    file = save(fitted, out)
    count = f"{len(curves)} curve{'s' * (len(curves) > 1)}"
    lines = [f"{which.name} ({law}) on {count}, {fitted.record.points} measurements"]
    lines += _numbers(fitted)
    lines.append(
        f"  mean error {fitted.error:.4f} nats on these curves; on unseen ones ask compare"
    )
    lines.append(
        "  for peaks near "
        + " to ".join(
            dict.fromkeys(
                f"{peak:g}" for peak in (fitted.record.lowest_peak, fitted.record.highest_peak)
            )
        )
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
    parameters: float | None = None,
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
        parameters: Size of the model, for a fit over several sizes.
        out: A CSV with step, lr, loss, low, high.
        elsewhere: What to do where the record does not reach.
    """
    fitted = load(path, parameters=parameters, elsewhere=elsewhere)
    _check_schedule(steps, peak, warmup, decay, floor, level)
    if schedule is not None:
        lr = rates_in(schedule)
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
    parameters: float | None = None,
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
        parameters: Size of the model, for a fit over several sizes.
        out: A CSV with step and lr.
        elsewhere: What to do where the record does not reach.
    """
    fitted = load(path, parameters=parameters, elsewhere=elsewhere)
    _check_schedule(steps, peak, warmup, 0, floor)
    best = optimise(
        fitted, steps, peak=peak, warmup=warmup, floor=floor, family=family, elsewhere=elsewhere
    )
    usual = cosine(steps, peak=best.peak, warmup=warmup, floor=0.1 * best.peak)
    tail = min(steps // 5, steps - warmup)
    short = warmup_hold_decay(steps, peak=best.peak, warmup=warmup, decay=tail)
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
    lr: Rates = None,
    step: str | None = None,
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
        step: As in fit_files.
        warmup: As in fit_files.
        since: As in fit_files.
        origin: As in fit_files.
    """
    curves = _curves(paths, loss, lr, step, warmup, since, origin)
    unseen = _curves(held, loss, lr, step, warmup, since, origin)
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
    lr: Rates,
    step: str | None,
    warmup: int | None,
    since: int,
    origin: Origin | None,
) -> list[Curve]:
    curves = [
        curve
        for path, rate in zip(paths, _each_rate(paths, lr), strict=True)
        for curve in read_all(path, loss=loss, lr=rate, step=step, warmup=warmup, origin=origin)
    ]
    return [curve.since(since) if since else curve for curve in curves]


def _each_rate(paths: Sequence[str | Path], lr: Rates) -> Sequence[str | float | None]:
    """Return the rates of each file; one file of rates does not stand for several runs."""
    given: Sequence[str | float | None]
    given = [lr] if lr is None or isinstance(lr, str | int | float) else lr
    one_file = len(given) == 1 and isinstance(given[0], str) and Path(given[0]).is_file()
    if len(given) == 1 and not (one_file and len(paths) > 1):
        return [given[0]] * len(paths)
    if len(given) != len(paths):
        raise RecipeError(
            f"rates from {', '.join(map(str, given))} for {len(paths)} curves",
            expected="one column name or number for all, or a file for each curve, in their order",
            where="--lr",
            write="thalweg laws fit A.csv B.csv --lr A-lr.csv --lr B-lr.csv",
        )
    return given


def _numbers(fitted: Fitted | FittedSizes) -> list[str]:
    """Return a line for each number of a fit, with its standard error."""
    law = fitted.law
    linear: tuple[str, ...] = law.coefficients
    growths: tuple[str, ...] = ()
    head = []
    if isinstance(fitted, FittedSizes):
        linear, growths = ("floor", *linear), GROWTHS
        sizes = ", ".join(f"{size:.4g}" for size in fitted.sizes)
        head = [
            f"  models of {sizes} parameters; at N = {fitted.reference:.4g} n the asymptote is "
            f"floor + asymptote n^-{fitted.exponent:g}"
        ]
    spread = np.sqrt(np.maximum(np.diag(fitted.covariance), 0.0)).tolist()
    width = 16 if growths else 10
    for name, error in zip((*linear, *law.shapes, *growths), spread, strict=True):
        percent = f"{100 * error:.0f}" if error >= 0.1 else f"{100 * error:.2g}"
        size = f"{error:.2g}" if name in growths else f"{percent} %"
        head.append(f"  {name:{width}s} {fitted.values[name]:12.5g}   +- {size}")
    return head


def _check_schedule(
    steps: int | None,
    peak: float | None,
    warmup: int,
    decay: int,
    floor: float,
    level: float = 0.9,
) -> None:
    """Refuse numbers that make no schedule, by the names of their options."""
    least = {"steps": steps, "warmup": warmup, "decay": decay}
    bad = [f"--{name} {n}" for name, n in least.items() if n is not None and n < (name == "steps")]
    bad += [f"--peak {peak:g}"] if peak is not None and not 0 < peak < np.inf else []
    bad += [f"--floor {floor:g}"] if not 0 <= floor < 1 else []
    bad += [f"--level {level:g}"] if not 0 < level < 1 else []
    if not bad and steps is not None and warmup + decay >= steps + (decay > 0):
        bad = [f"--warmup {warmup} and --decay {decay} in --steps {steps}"]
    if bad:
        raise RecipeError(
            ", ".join(bad),
            expected="a peak above 0, steps for warm-up and decay, floor and level as shares",
            where="the schedule",
            write="--steps 20000 --peak 1e-3 --warmup 300 --decay 4000",
        )


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
