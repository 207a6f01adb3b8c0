"""Quickstart: a small language model on the text every Python has, in minutes, offline.

The text is this machine's own standard library: sources, and the reference topics of `help()`.
The model is small enough for two cores and large enough to write something that looks like Python.
"""

import sysconfig
from pathlib import Path
from typing import Literal

from thalweg.core.moves import Learn
from thalweg.core.recipe import Compute, Phase, Recipe
from thalweg.core.time import share
from thalweg.objectives import NextToken
from thalweg.optim import AdamW
from thalweg.recipes import parts
from thalweg.schedules import Wsd

__all__ = ["recipe"]


def recipe(
    steps: int = 400,
    model: str = "1m",
    tokenizer: str = "bpe:2048",
    length: int = 256,
    batch: int = 16,
    lr: float = 6e-3,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    seed: int = 0,
) -> Recipe:
    """Train a small model on Python's own standard library.

    Args:
        steps: Optimizer steps.
        model: 250k, 1m, 10m ...
        tokenizer: bytes, or bpe:SIZE.
        length: Target tokens of a row.
        batch: Rows of a batch.
        lr: Peak learning rate.
        dtype: Of activations.
        seed: Of weights and order.
    """
    text = parts.read_text({"python": standard_library()}, tokenizer, "text", 0.02)
    spec = parts.open_model(model, text.tokenizer.size, length)
    rate = Wsd(lr, warmup=share(0.05), decay=share(0.3))
    phase = Phase(
        steps,
        parts.mixture(text, length, "", ""),
        (Learn("policy", NextToken(), AdamW(lr=rate)),),
        rows=batch,
        monitors=parts.held_out_monitor(text, length),
    )
    return Recipe({"policy": spec}, (phase,), seed=seed, compute=Compute(dtype=dtype))


def standard_library() -> list[str]:
    """Return the Python files of this machine's standard library, without its tests."""
    root = Path(sysconfig.get_paths()["stdlib"])
    skip = {"test", "tests", "idle_test", "site-packages", "__pycache__", "lib2to3", "turtledemo"}
    files = (f for f in root.rglob("*.py") if not skip & set(f.relative_to(root).parts))
    return [str(file) for file in sorted(files)]
