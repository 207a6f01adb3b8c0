"""The curves of ../shared/data/loss-curves, with their schedules as the runs had them."""

import csv
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from thalweg.laws import Curve, Origin
from thalweg.laws.files import rates_between

ROOT = Path(__file__).resolve().parents[3] / "shared" / "data" / "loss-curves"
WHY_NOT = f"{ROOT} is absent"

B_TRAIN = ("cosine_24000", "constant_24000", "wsdcon_9")
B_WARMUP = 2160
A_VOCABULARY = 50304
"""Rows of set A's tied embedding."""
A_SMALL = ("L8H6", "L8H8", "L10H8", "L12H10")
"""33M, 53M, 60M and 93M on SlimPajama; the second two are on OpenWebText2 too."""


def set_b(size: str) -> dict[str, Curve]:
    """Return the nine curves of arXiv:2503.12811 at a size; straight warmup over 2160 steps."""
    found = {}
    for file in sorted((ROOT / "mpl2025" / size).glob("*.csv")):
        rows = np.genfromtxt(file, delimiter=",", names=True)
        at, lr = rows["step"], rows["lr"]
        last = int(at[-1])
        rates = rates_between(
            np.r_[B_WARMUP, at[at > B_WARMUP]], np.r_[3e-4, lr[at > B_WARMUP]], last + 1
        )
        rates[:B_WARMUP] = 3e-4 * np.arange(B_WARMUP) / B_WARMUP
        keep = at != 24000 if "24000" in file.stem else at > 0
        found[file.stem] = Curve(
            name=file.stem,
            steps=at[keep],
            loss=rows["loss"][keep],
            lr=rates,
            origin=Origin(optimizer="AdamW", dataset="mpl2025"),
        )
    return found


def set_d(*, warm: bool = True) -> list[Curve]:
    """Return the two published curves; warm: the warmup counts as the peak, as its authors do."""
    points: dict[str, list[tuple[int, float]]] = {}
    for row in csv.DictReader(
        (ROOT / "tissue2024" / "fig_fit_points.csv").read_text().splitlines()
    ):
        points.setdefault(row["schedule"], []).append((int(row["step"]), float(row["loss"])))
    count, warmup, peak = 20001, 500, 2e-4
    at = np.arange(count)
    fall = 0.5 * peak * (1 + np.cos(np.pi * (at - warmup) / (count - 1 - warmup)))
    shapes = {"cosine": np.where(at < warmup, peak, fall), "constant": np.full(count, peak)}
    return [
        Curve(name=name, steps=[s for s, _ in rows], loss=[y for _, y in rows], lr=shapes[name])
        for name, rows in points.items()
    ]


@lru_cache
def index() -> tuple[dict[str, str], ...]:
    """Return the rows of set A's index."""
    return tuple(csv.DictReader((ROOT / "schaipp2025" / "runs_index.csv").read_text().splitlines()))


@lru_cache
def set_a(
    heads: str = "L12H12", dataset: str = "slimpajama", group: str = "main"
) -> dict[str, Curve]:
    """Return the runs of one model of arXiv:2501.18965: validation losses of whole runs.

    Branches that begin at their cooldown are put after the constant run of their peak.
    """
    rows = [
        row
        for row in index()
        if row["dataset"] == dataset
        and row["group"] == group
        and f"L{row['n_layer']}H{row['n_head']}" == heads
        and "lr0.005" not in row["file"]
    ]
    runs = {row["file"].removesuffix(".csv"): _run(row) for row in rows}
    trunks = {_peak(name): run for name, run in runs.items() if _constant(name)}
    return {
        name: run.after(trunks[_peak(name)])
        if run.steps[0] > 200 and _peak(name) in trunks
        else run
        for name, run in runs.items()
    }


def sized(heads: str, dataset: str = "slimpajama") -> list[Curve]:
    """Return the runs of a model from step 1500 on, its size counted without embeddings."""
    width = next(
        int(row["n_embd"]) for row in index() if f"L{row['n_layer']}H{row['n_head']}" == heads
    )
    return [
        replace(
            curve,
            origin=replace(curve.origin, parameters=curve.origin.parameters - A_VOCABULARY * width),
        ).since(1500)
        for curve in set_a(heads, dataset).values()
    ]


def larger(peaks: tuple[str, ...] = ("0.001", "0.002")) -> list[Curve]:
    """Return the constant, the .2 cooldown and the cosine 124M runs of some peaks."""
    kinds = ("main__stable-124m_", "main__ann124-0.2_", "main__cos-zero-124m_")
    return [
        curve
        for curve in sized("L12H12")
        if curve.name.startswith(kinds)
        and "sqrt0.2" not in curve.name
        and _peak(curve.name) in peaks
    ]


def a_curve(name: str) -> Curve:
    """Return one 124M run of the main group from step 1500 on, by the end of its name."""
    found = [run for key, run in set_a().items() if key.endswith(name)]
    assert len(found) == 1, (name, len(found))
    return found[0].since(1500)


def a_constant(peak: str, steps: int) -> Curve:
    """Return the constant 124M run of a peak, cut."""
    found = [
        r for k, r in set_a().items() if f"stable-124m__slimpajama__L12H12__wsd__lr{peak}__" in k
    ]
    return found[0].since(1500).until(steps)


def a_train(peak: str) -> list[Curve]:
    """Return the three runs of at most 25k steps that laws are fitted on."""
    return [
        a_curve(f"cos-zero-124m__slimpajama__L12H12__cos__lr{peak}__T25000"),
        a_curve(f"ann124-0.2__slimpajama__L12H12__wsd__lr{peak}__T25000__linear0.2"),
        a_constant(peak, 25000),
    ]


def a_held(peak: str) -> list[Curve]:
    """Return the 15 other runs of 25k and 50k steps."""
    names = [
        f"ann124-{share}__slimpajama__L12H12__wsd__lr{peak}__T{length}__{kind}{share}"
        for length in (25000, 50000)
        for share, kind in (
            *((s, "linear") for s in "0.1 0.2 0.4 0.6 0.8 0.9".split()),
            ("0.2", "sqrt"),
        )
        if (length, share, kind) != (25000, "0.2", "linear")
    ]
    names.append(f"cos-zero-124m__slimpajama__L12H12__cos__lr{peak}__T50000")
    return [*(a_curve(name) for name in names), a_constant(peak, 50001)]


def _constant(name: str) -> bool:
    return "__wsd__" in name and name.endswith(("linear0", "sqrt0"))


def _peak(name: str) -> str:
    return name.split("__lr")[1].split("__")[0]


def _run(row: dict[str, str]) -> Curve:
    with (ROOT / "schaipp2025" / "runs" / row["file"]).open() as file:
        rows = [r for r in csv.DictReader(file)]
    constant = _constant(row["file"].removesuffix(".csv"))
    peak, last = float(row["lr"]), int(rows[-1]["iter"])
    lr = [(int(r["iter"]), float(r["lr"])) for r in rows if r["lr"]]
    if constant:
        lr = [pair for pair in lr if pair[0] < int(row["iterations"])]
    at, value = [pair[0] for pair in lr], [pair[1] for pair in lr]
    rates = np.interp(np.arange(last + 1), [0, *at], [0.01 * peak, *value])
    held = [
        (int(r["iter"]), float(r["val_loss"])) for r in rows if r["val_loss"] and int(r["iter"])
    ]
    return Curve(
        name=row["file"].removesuffix(".csv"),
        steps=[s for s, _ in held],
        loss=[y for _, y in held],
        lr=rates,
        origin=Origin(
            optimizer="AdamW",
            batch_tokens=102400.0,
            parametrisation="standard",
            parameters=float(row["parameters"]),
            weight_decay=float(row["weight_decay"]),
            dataset=row["dataset"],
        ),
    )
