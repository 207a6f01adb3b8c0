"""One example of every public part, and the rooms they are found in."""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType

import thalweg
from thalweg import models, objectives, optim, schedules
from thalweg.core import recipe as recipes
from thalweg.core.dials import From
from thalweg.core.moves import Copy, Learn, Score
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.time import Time, share, steps
from thalweg.core.weigh import AsGiven, RowMean, TokenMean
from thalweg.data import Corpus, Mixture, Pairs
from thalweg.models.transformer import Llama3Rope
from thalweg.monitors import HeldOut

__all__ = ["PARTS", "VALUES", "public_dataclasses", "public_modules"]

ROOT = Path(thalweg.__file__).parent
ROOMS = ("core", "controllers", "data", "models", "monitors", "objectives", "optim", "schedules")


def public_modules() -> Iterator[ModuleType]:
    """Yield every module of the rooms that parts live in."""
    for room in ROOMS:
        if not any((ROOT / room).glob("*.py")) and not (ROOT / f"{room}.py").exists():
            continue
        package = importlib.import_module(f"thalweg.{room}")
        yield package
        for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
            yield importlib.import_module(f"{package.__name__}.{module.name}")


def public_dataclasses() -> dict[str, type]:
    """Return every public frozen dataclass of the rooms by its name."""
    found = {}
    for module in public_modules():
        for name in module.__all__:
            kind = getattr(module, name)
            if isinstance(kind, type) and is_dataclass(kind):
                found[kind.__name__] = kind
    return found


def halves(time: Time) -> float:
    return 0.5


LEARN = Learn("policy", objectives.NextToken(), optim.AdamW(lr=1e-3), micro=64)
CORPUS = Corpus("folder", length=16)
DECODER = models.Transformer(vocabulary=32, width=16, layers=1, heads=2, positions=8)
ROPE = Llama3Rope(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_positions=64)

PARTS = [
    # core
    Copy("policy", "actor", every=4, mix=0.5),
    LEARN,
    Score("ref", "ref"),
    AsGiven(0.5),
    RowMean(),
    TokenMean(),
    recipes.Compute(dtype="bfloat16"),
    recipes.CopyOf("policy"),
    recipes.Saves(),
    Phase(10, CORPUS, (LEARN,), rows=4),
    Recipe({"policy": DECODER}, (Phase(10, CORPUS, (LEARN,), rows=4),)),
    steps(10),
    From(schedules.Linear(1.0, 0.0), 3, 5),
    # data
    CORPUS,
    Pairs("folder", length=16),
    Mixture({"a": CORPUS, "b": Pairs("folder", length=16)}, {"a": 1.0, "b": 2.0}),
    # models
    DECODER,
    models.Transformer(
        vocabulary=32, width=16, layers=1, heads=2, positions=8, rope_scaling=ROPE, tied=True
    ),
    ROPE,
    models.Pretrained("folder"),
    models.HuggingFace("folder"),
    models.Lora(base=DECODER, rank=2),
    # monitors, objectives, optimizers
    HeldOut({"text": CORPUS}, every=share(0.1)),
    objectives.NextToken(),
    optim.AdamW(lr=1e-3),
    optim.SGD(lr=1e-3, momentum=0.9),
    optim.Muon(lr=0.02, adam=optim.AdamW(lr=1e-3)),
    optim.Groups({"*bias": optim.SGD(lr=0.1), "*": optim.AdamW(lr=1e-3)}),
    # schedules
    schedules.Blend({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}),
    schedules.By(halves),
    schedules.Constant(0.1),
    schedules.Cosine(0.1),
    schedules.Cyclic(0.1, 1.0, half=steps(4)),
    schedules.Exponential(1.0, 0.1),
    schedules.Infinite(1.0, 0.5, 0.1, steps(4), steps(2), at=share(0.8)),
    schedules.Inverse(1.0, 0.1),
    schedules.InverseSqrt(1.0, scale=steps(20)),
    schedules.InverseSqrtDecay(1.0, 0.1, alpha=9.0),
    schedules.Least(schedules.Linear(0.0, 1.0), schedules.Linear(1.0, 0.0)),
    schedules.Linear(1.0, 0.0),
    schedules.OneCycle(1.0, 0.1, 0.001),
    schedules.OneMinusSqrt(1.0),
    schedules.Polynomial(1.0, 0.0, power=2.0),
    schedules.Power(0.02, rows=4.0, before=1e9),
    schedules.Repeat(schedules.Cosine(1.0), every=steps(4)),
    schedules.Rewarm(1.0, 0.1, stages=(steps(4), steps(4)), warmup=steps(1)),
    schedules.Rex(1.0),
    schedules.Sampled(schedules.Linear(1.0, 0.0), at=(share(0.5),)),
    schedules.Staircase((1.0, 0.1), at=(share(0.5),)),
    schedules.Table((0.0, 1.0, 0.0), at=(0.0, 0.25, 1.0)),
    schedules.Then(schedules.Linear(1.0, 0.5), schedules.Cosine(0.5), after=share(0.3)),
    schedules.Times(schedules.Cosine(1.0), schedules.Linear(1.0, 0.5)),
    schedules.Warmup(schedules.Cosine(1.0), over=steps(4)),
    schedules.Wsd(2e-3, warmup=steps(4), decay=share(0.25)),
    schedules.WsdS(2e-3, targets=(share(0.5), share(1.0)), decay=share(0.25)),
    schedules.Wsdc(2e-3, 1e-4, stable=steps(4), decay=steps(2)),
]

VALUES = {
    *("Bench", "Claim", "ColumnSpec", "Context", "Dials", "Lazy", "Origin", "Plan"),
    *("Problem", "RunState", "Session", "Share", "Time", "World"),
    *("Next", "Save", "Set", "Stop", "Trial"),  # actions: they pass, they are not recorded
    *("Job", "Plain", "Segment", "Store", "Tokenizer"),
}
"""Public dataclasses that no recipe holds."""
