"""How well laws predict real loss curves they were not fitted on, beside the published numbers.

Curves: ../shared/data/loss-curves (sets A, B and D of its README). Model choice: the default was
chosen on set A (its 25k and 50k runs at four peaks, and its other sizes), not on set B; docs/log.md
says in what order what was looked at.

    python benchmarks/laws.py [--speed]
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "laws"))

from loss_curves import (
    A_SMALL,
    B_TRAIN,
    ROOT,
    a_held,
    a_train,
    index,
    larger,
    set_a,
    set_b,
    set_d,
    sized,
)

from thalweg.laws import (
    AnnealingLaw,
    BoundLaw,
    Curve,
    CurveLaw,
    Effective,
    Errors,
    Fitted,
    LawWarning,
    MultiPowerLaw,
    errors_of,
    fit,
    fit_sizes,
    optimise,
    warmup_hold_decay,
)

LAWS: Mapping[str, Callable[[], CurveLaw]] = {
    "effective multi-power, steps (default)": lambda: MultiPowerLaw(
        rates=Effective(), relaxation="steps"
    ),
    "effective multi-power, rates": lambda: MultiPowerLaw(rates=Effective()),
    "effective annealing, lambda fitted": lambda: AnnealingLaw(decay=None, rates=Effective()),
    "multi-power with prior": MultiPowerLaw,
    "multi-power, free": lambda: MultiPowerLaw(strength=0.0),
    "annealing, lambda .999": AnnealingLaw,
    "annealing, lambda fitted": lambda: AnnealingLaw(decay=None),
}
AUTHORS = "multi-power, authors' parameters"
PUBLISHED_B = {
    "25M": Errors(0.99880, 0.00376, 0.00110, 0.00409, 0.0290, 0.0050),
    "100M": Errors(0.99830, 0.00435, 0.00142, 0.00583, 0.0327, 0.0089),
    "400M": Errors(0.99776, 0.00484, 0.00168, 0.00995, 0.0530, 0.0110),
}
PUBLISHED_A = Errors(0.99764, 0.00472, 0.00152, 0.0053, 0.0255, 0.0088)
BARS_B = "bars: mean .0036 / .0035 / .0048, worst relative .0041 / .0052 / .0064"
BARS_A = "bars: mean .0045, largest .025"
HEAD = " " * 51 + "     R2    mean  relat.   worst    max  final"
PEAKS = ("0.0001", "0.0005", "0.001", "0.002")
SIZES = (
    ("L8H6", "slimpajama"),
    ("L8H8", "slimpajama"),
    ("L10H8", "slimpajama"),
    ("L12H10", "slimpajama"),
    ("L10H8", "openwebtext2"),
    ("L12H10", "openwebtext2"),
    ("L12H14", "openwebtext2"),
)
EXTENSIONS_210M = {100: (2.7935, 2.7843, 2.7718), 200: (2.7461, 2.7347)}
"""Final losses of the 210M runs as published: same schedule, then the bound's two answers."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--speed", action="store_true", help="time fits and predictions too")
    chosen = parser.parse_args()
    if not ROOT.is_dir():
        print(f"{ROOT} is absent: nothing to measure")
        return
    warnings.simplefilter("ignore", LawWarning)
    table_b()
    table_a()
    table_peaks()
    table_sizes()
    table_larger()
    table_extension()
    constants()
    if chosen.speed:
        speed()


def row(size: str, name: str, e: Errors) -> None:
    """Print one line of a table."""
    print(
        f"    {size:6s} {name:38s} {e.r2:7.5f} {e.mae:7.5f} {e.relative:7.5f} {e.worst:7.5f} "
        f"{e.largest:6.4f} {e.final:6.4f}"
    )


def table_b() -> None:
    """Set B, the authors' split: three curves fitted, six predicted."""
    print("Set B: fit on cosine_24000, constant_24000, wsdcon_9; means over the other six")
    print(f"{HEAD}\n    {BARS_B}")
    for size in ("25M", "100M", "400M"):
        curves = set_b(size)
        held = [curve for name, curve in curves.items() if name not in B_TRAIN]
        row(size, AUTHORS, PUBLISHED_B[size])
        for name, law in LAWS.items():
            row(size, name, errors_of(fit(law(), [curves[key] for key in B_TRAIN]), held))


def table_a() -> None:
    """Set A at one peak: three curves of at most 25k steps fitted, 15 predicted."""
    print("Set A: 124M, peak 1e-3; cosine, cooldown .2 and constant of 25k; 15 others up to 50k")
    print(f"{HEAD}\n    {BARS_A}")
    row("124M", "annealing, lambda .999, as published", PUBLISHED_A)
    for name, law in {**LAWS, "convex bound": BoundLaw}.items():
        row("124M", name, errors_of(fit(law(), a_train("0.001")), a_held("0.001")))


def table_peaks() -> None:
    """Set A across peaks: mean absolute error on the 15 runs of each peak."""
    print("Set A across peaks: mean error on the 15 runs of each peak; fitted peaks in brackets")
    print(f"    {'fitted on peaks':18s} {'law':38s} " + " ".join(f"{p:>8s}" for p in PEAKS))
    for peaks in (("0.001",), ("0.0001", "0.001"), ("0.002",), ("0.0005",)):
        train = [curve for peak in peaks for curve in a_train(peak)]
        for name, law in LAWS.items():
            fitted = fit(law(), train)
            cells = []
            for peak in PEAKS:
                mean = errors_of(fitted, a_held(peak)).mae
                cells.append(f"[{mean:.4f}]" if peak in peaks else f" {mean:.4f} ")
            print(f"    {'+'.join(peaks):18s} {name:38s} " + " ".join(cells))


def table_sizes() -> None:
    """Other sizes: constant and cooled runs at one peak fitted, cosines at twice it predicted."""
    print("Set A, other sizes: fit on warmup-stable-decay runs, predict cosines at twice the peak")
    kinds = ("effective multi-power, steps (default)", "multi-power with prior")
    print(f"    {'':22s} {'peak':>7s} {'runs':>5s} " + " ".join(f"{k:>40s}" for k in kinds))
    for heads, dataset in SIZES:
        runs = [c.since(1500) for c in set_a(heads, dataset).values()]
        train: list[Curve] = [c for c in runs if "__wsd__" in c.name]
        held = [c for c in runs if "__cos__" in c.name]
        found = [errors_of(fit(LAWS[kind](), train), held).mae for kind in kinds]
        print(
            f"    {heads + ' ' + dataset:22s} {train[0].peak:7g} {len(held):5d} "
            + " ".join(f"{mae:40.4f}" for mae in found)
        )


def table_larger() -> None:
    """Larger models: one law over smaller ones, beside what each size's own law would give."""
    print("Set A, larger models from smaller ones: mean error | final error | inside 90 %")
    runs = [(heads, "slimpajama", larger(), "124M") for heads in (A_SMALL, A_SMALL[:3])]
    runs.append((A_SMALL[:3], "slimpajama", sized("L12H10"), "93M"))
    runs.append((A_SMALL[2:], "openwebtext2", sized("L12H14", "openwebtext2"), "166M"))
    for heads, dataset, held, name in runs:
        each = [sized(one, dataset) for one in heads]
        law = MultiPowerLaw(rates=Effective(), relaxation="steps")
        over = fit_sizes(law, [curve for curves in each for curve in curves])
        size = held[0].origin.parameters
        known = [fit(law, curves) for curves in each]
        log_n = np.log([curves[0].origin.parameters for curves in each])
        reached = size / over.sizes[-1]
        print(f"    {name} ({size / 1e6:.0f}M without embeddings, {reached:.1f} times the largest)")
        at = over.at(size)
        found = errors_of(at, held)
        label = f"one law over {len(each)} sizes"
        print(f"        {label:28s} {found.mae:.4f} | {found.final:.4f} | {covered(at, held):.2f}")
        tables: dict[str, Callable[[Curve], np.ndarray]] = {
            "own laws, log-linear in N": lambda c, k=known, n=log_n, s=size: extrapolated(
                c, k, n, s
            ),
            "law of the nearest size": lambda c, k=known: k[-1].expect(c.lr, c.steps),
        }
        for label, expected in tables.items():
            miss = [np.abs(expected(curve) - curve.loss) for curve in held]
            mean, final = np.mean([(m.mean(), m[-1]) for m in miss], axis=0)
            print(f"        {label:28s} {mean:.4f} | {final:.4f}")


def extrapolated(
    curve: Curve, laws: Sequence[Fitted], log_n: np.ndarray, size: float
) -> np.ndarray:
    """Return the losses that laws of single sizes lead to, point by point, as a power of N."""
    rows = np.log([law.expect(curve.lr, curve.steps) for law in laws])
    slope, height = np.polyfit(log_n, rows, 1)
    return np.exp(slope * np.log(size) + height)


def covered(fitted: Fitted, curves: Sequence[Curve]) -> float:
    """Return the share of measurements inside the interval, mean over curves."""
    shares = []
    for curve in curves:
        band = fitted.band(curve.lr, curve.steps)
        shares.append(np.mean((band.low <= curve.loss) & (curve.loss <= band.high)))
    return float(np.mean(shares))


def table_extension() -> None:
    """The bound's continued schedules against the same schedule, final losses."""
    print("Extension of a finished run: final loss, the same schedule against the bound's")
    finals = {
        r["file"].split("__wsd")[1]: float(r["final_val_loss"])
        for r in index()
        if "extend-50k" in r["file"]
    }
    wins = total = 0
    for length in (100, 200):
        same = finals[f"__lr0.001__T{length}000__linear0.2.csv"]
        others = [v for k, v in finals.items() if f"T{length}000" in k and v != same]
        for label, base, answers in (
            ("124M", same, others),
            ("210M", EXTENSIONS_210M[length][0], EXTENSIONS_210M[length][1:]),
        ):
            wins += sum(answer < base for answer in answers)
            total += len(answers)
            print(f"    {label} {length}k: {base:.4f} -> " + ", ".join(f"{v:.4f}" for v in answers))
    print(f"    the bound's schedule wins {wins} of {total}")


def constants() -> None:
    """Set D: the published constants of the annealing law."""
    values = fit(AnnealingLaw(), set_d()).values
    published = {"asymptote": 2.6278, "progress": 0.4297, "exponent": 0.5498, "annealing": 0.4108}
    print("Set D: " + ", ".join(f"{k} {values[k]:.4f} ({v})" for k, v in published.items()))


def speed() -> None:
    """Print wall times on this machine."""
    print("Speed, this machine, seconds")
    for name, law in LAWS.items():
        train = a_train("0.001")
        fitting = timed(lambda law=law, train=train: fit(law(), train))
        print(f"    fit 3 curves of 25k steps      {name:38s} {fitting:.3f}")
    fitted = fit(MultiPowerLaw(rates=Effective(), relaxation="steps"), a_train("0.001"))
    design = timed(lambda: optimise(fitted, 50000, peak=1e-3, warmup=300))
    free = timed(lambda: optimise(fitted, 50000, peak=1e-3, warmup=300, family="free"))
    lr = warmup_hold_decay(1_000_000, peak=1e-3, warmup=2000, decay=200_000)
    print(f"    optimise 50k steps: {design:.3f}; any falling curve: {free:.3f}")
    print(f"    predict 1M steps: {timed(lambda: fitted.predict(lr)):.4f}")


def timed(call: Callable[[], object], times: int = 3) -> float:
    """Return the shortest of some wall times."""
    seconds: Sequence[float] = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds = [*seconds, time.perf_counter() - start]
    return float(np.min(seconds))


if __name__ == "__main__":
    main()
