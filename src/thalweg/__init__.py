"""Thalweg: one small training loop in which everything that changes over a run is a schedule.

The public names. They are looked up when they are used, so that `import thalweg.schedules` costs no
torch; the list is a test.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "thalweg.core.batch": (
        "Batch",
        "Lazy",
    ),
    "thalweg.branches": (
        "branch",
        "decayed",
        "extended",
        "graft",
    ),
    "thalweg.core.learner": (
        "Learned",
        "Learner",
    ),
    "thalweg.core.moves": (
        "AT_END",
        "Copy",
        "Learn",
        "NEVER",
        "Score",
        "logprobs",
    ),
    "thalweg.core.plan": ("plan",),
    "thalweg.core.protocols": (
        "Context",
        "Controller",
        "Loss",
        "ModelSpec",
        "Monitor",
        "Move",
        "Next",
        "Objective",
        "Problem",
        "Save",
        "Schedule",
        "Scored",
        "Set",
        "Source",
        "Stop",
        "Task",
        "Trial",
    ),
    "thalweg.core.recipe": (
        "Claim",
        "Compute",
        "CopyOf",
        "Phase",
        "Recipe",
        "Saves",
    ),
    "thalweg.core.rng": ("rng",),
    "thalweg.core.session": (
        "Origin",
        "Session",
        "resume",
        "train",
    ),
    "thalweg.core.time": (
        "Span",
        "Time",
        "share",
        "steps",
        "tokens",
    ),
    "thalweg.core.tree": (
        "at",
        "get",
        "put",
        "record",
    ),
    "thalweg.core.weigh": (
        "AsGiven",
        "RowMean",
        "TokenMean",
    ),
    "thalweg.data": (
        "Corpus",
        "Mixture",
        "Pairs",
        "build",
        "build_pairs",
    ),
    "thalweg.errors": (
        "ColumnError",
        "DataError",
        "DialError",
        "Diverged",
        "NotReproduced",
        "RecipeError",
        "StateError",
        "ThalwegError",
    ),
    "thalweg.evaluate": ("held_out_loss",),
    "thalweg.models": (
        "HuggingFace",
        "Lora",
        "Pretrained",
        "Transformer",
        "export",
        "generate",
        "size",
    ),
    "thalweg.monitors": ("HeldOut",),
    "thalweg.objectives": ("NextToken",),
    "thalweg.optim": (
        "AdamW",
        "Groups",
        "Muon",
        "SGD",
    ),
    "thalweg.schedules": (
        "Blend",
        "By",
        "Constant",
        "Cosine",
        "Cyclic",
        "Exponential",
        "Infinite",
        "Inverse",
        "InverseSqrt",
        "InverseSqrtDecay",
        "Least",
        "Linear",
        "OneCycle",
        "OneMinusSqrt",
        "Polynomial",
        "Power",
        "Repeat",
        "Rewarm",
        "Rex",
        "Sampled",
        "Staircase",
        "Table",
        "Then",
        "Times",
        "Warmup",
        "Wsd",
        "WsdS",
        "Wsdc",
        "refine",
    ),
}

__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'thalweg' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
