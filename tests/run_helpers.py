"""Runs with folders, made from the lab as a recipe file would be."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from core_helpers import LAB
from thalweg.core.moves import Learn
from thalweg.core.names import load_file
from thalweg.core.protocols import Action, Dial
from thalweg.core.recipe import Phase, Recipe, Saves
from thalweg.core.session import Origin, Session, train
from thalweg.core.state import RunState
from thalweg.core.time import steps as count
from thalweg.optim import AdamW, OptimizerSpec
from thalweg.schedules import Linear

__all__ = ["history", "lab", "lab_recipe", "start", "stop_after", "tensors"]

lab = load_file(LAB)


def lab_recipe(
    steps: int = 12,
    *script: tuple[int, tuple[Action, ...]],
    lr: Dial = Linear(0.1, 0.0),
    optimizer: OptimizerSpec | None = None,
    hidden: int = 4,
    saves: Saves = Saves(every=count(3), last=2, milestone=count(100)),
) -> Recipe:
    learn = Learn("policy", lab.Squared(), optimizer or AdamW(lr=lr))
    controllers = (lab.Script(tuple(script)),) if script else ()
    phase = Phase(steps, lab.Lines(), (learn,), rows=8, controllers=controllers)
    return Recipe({"policy": lab.Linear2(hidden=hidden)}, (phase,), saves=saves)


def start(folder: Path, recipe: Recipe, session: Session = Session()) -> RunState:
    return train(recipe, folder, Origin(file=LAB), session)


def stop_after(steps: int) -> Session:
    """Return a session in which somebody asks the run to end after so many steps."""
    left = [steps]

    def interrupted() -> bool:
        left[0] -= 1
        return left[0] <= 0

    return Session(interrupted=interrupted)


def history(folder: Path) -> str:
    return (folder / "history.jsonl").read_text()


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in history(folder).splitlines()]


def tensors(folder: Path) -> dict[str, list[float]]:
    """Return every tensor of a run's last checkpoint, to the last bit."""
    last = sorted((folder / "checkpoints").glob("step-*"))[-1]
    found = {}
    for file in sorted(last.rglob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # not a mapping
                found[f"{file.parent.name}.{name}"] = opened.get_tensor(name).double().tolist()
    return found


def names(folder: Path) -> Sequence[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
