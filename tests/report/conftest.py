"""Folders as a run leaves them, made without a run."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

MakeRun = Callable[..., Path]

SOURCES = ("web", "code")


def write_lines(path: Path, lines: Sequence[Mapping[str, object]]) -> None:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def wsd(step: int, steps: int, peak: float) -> float:
    """Return a warmup-stable-decay learning rate that ends at a tenth of the peak."""
    warm, cool = steps // 20 or 1, steps // 5 or 1
    rise = min(1.0, (step + 1) / warm)
    fall = min(1.0, max(0.0, (step - (steps - cool)) / cool))
    return peak * rise * (1 - 0.97 * fall)


def make_folder(
    folder: Path,
    *,
    steps: int = 40,
    done: int | None = None,
    seed: int = 0,
    peak: float = 3e-3,
    offset: float = 0.0,
    parent: tuple[str, int] | None = None,
    rows: int = 8,
    length: int = 128,
) -> Path:
    """Write the folder of a run with two sources, a decaying loss and noise; returns it."""
    folder.mkdir(parents=True)
    done = steps if done is None else done
    draw = np.random.default_rng(seed)
    batch = rows * length
    start = parent[1] if parent else 0
    tree = {
        "$": "made:Recipe",
        "models": {"policy": {"$": "made:Transformer", "size": "1m", "width": 128, "depth": 4}},
        "phases": [
            {
                "$": "made:Phase",
                "name": "train",
                "steps": steps,
                "rows": rows,
                "source": {
                    "$": "made:Mixture",
                    "sources": {n: {"$": "made:Corpus"} for n in SOURCES},
                },
                "do": [
                    {
                        "$": "made:Learn",
                        "optimizer": {"$": "made:AdamW", "lr": {"peak": peak}},
                    }
                ],
            }
        ],
        "seed": seed,
    }
    recipe = {
        "name": folder.name,
        "recipe": "quickstart",
        "options": {"minutes": 4, "data": None},
        "overrides": {"lr.peak": peak},
        "parent": {"run": parent[0], "step": parent[1]} if parent else None,
        "versions": {"thalweg": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
        "seed": seed,
        "tree": tree,
        "models": {"policy": {"parameters": 1_049_600, "flops_per_token": 6.9e6}},
        "flops_per_token": {"warm": 2.3e6, "train": 6.9e6},
    }
    (folder / "recipe.json").write_text(json.dumps(recipe))
    (folder / "checkpoints" / f"step-{done:08d}.end").mkdir(parents=True)
    share = np.linspace(0.9, 0.3, steps)
    every = np.linspace(0, steps - 1, min(steps, 200)).astype(int)
    plan = {
        "steps": steps,
        "tokens": steps * batch,
        "sources": {
            "web": {"tokens": float(share.sum() * batch), "epochs": 0.8, "size": 2_000_000},
            "code": {"tokens": float((1 - share).sum() * batch), "epochs": 1.6, "size": 500_000},
        },
        "dials": {
            "learn.policy.optimizer.lr": {
                "step": every.tolist(),
                "value": [wsd(int(s), steps, peak) for s in every],
            },
            "source.weights.web": {"step": every.tolist(), "value": share[every].tolist()},
        },
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    history, timing = [], []
    taken = dict.fromkeys(SOURCES, 0.0)
    for s in range(start, done):
        base = 2.1 + 6.2 / (1 + s / (0.012 * steps)) ** 0.8 + offset
        base -= 0.12 * max(0.0, (s - 0.8 * steps) / (0.2 * steps))
        loss = base + 0.06 * float(draw.normal())
        for name, part in zip(SOURCES, (share[s], 1 - share[s]), strict=True):
            taken[name] += part * batch
        line: dict[str, object] = {
            "step": s + 1,
            "phase": "warm" if s < 0.3 * steps else "train",
            "tokens": (s + 1) * batch,
            "loss": loss,
            "grad_norm": 0.4 + 3 / (1 + s / 30) + 0.08 * abs(float(draw.normal())),
            "dial/learn.policy.optimizer.lr": wsd(s, steps, peak),
            "dial/learn.policy.optimizer.weight_decay": 0.1,
            "dial/source.weights.web": float(share[s]),
            "loss/web": loss + 0.3,
            "loss/code": loss - 0.5,
            "tokens/web": taken["web"],
            "tokens/code": taken["code"],
        }
        if (s + 1) % max(1, steps // 20) == 0:
            line |= {"heldout/loss": base + 0.05, "heldout/loss/web": base + 0.35}
            line |= {"heldout/loss/code": base - 0.45, "sharpness": 14 + 30 * math.sqrt(s / steps)}
        history.append(line)
        if (s + 1) % 2 == 0:
            seconds = 0.05 + 0.004 * abs(float(draw.normal()))
            timing.append(
                {
                    "step": s + 1,
                    "seconds": seconds,
                    "tokens_per_second": batch / seconds,
                    "utilisation": 0.55 * 0.05 / seconds,
                    "memory_bytes": 4.0e8 + 5e6 * (s > 0.1 * steps),
                    "elapsed": 0.055 * (s + 1 - start),
                }
            )
    write_lines(folder / "history.jsonl", history)
    write_lines(folder / "timing.jsonl", timing)
    text = "the parser reads a line, and returns a tuple of names.\n\n    def read(self):\n        "
    samples = [
        {"step": int(s), "prompt": "def main", "text": f"(args):\n    # {text}"}
        for s in np.linspace(start + 1, done, 5)
    ]
    write_lines(folder / "samples.jsonl", samples)
    events = [
        {"step": start, "kind": "start", "text": "seed and data fingerprint recorded"},
        {"step": done // 2, "kind": "warning", "text": "loss rose by 0.4 nats within 10 steps"},
        {"step": done // 2, "kind": "resume", "text": "from checkpoints/step-20 after a kill"},
        {"step": done, "kind": "save", "text": f"checkpoints/step-{done}"},
    ]
    write_lines(folder / "events.jsonl", events)
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Return a function that writes a run's folder under `tmp_path/runs` and returns it."""

    def make(name: str = "first", **options: object) -> Path:
        return make_folder(tmp_path / "runs" / name, **options)  # type: ignore[arg-type]

    return make
