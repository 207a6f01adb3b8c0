"""Thalweg: one small training loop in which everything that changes over a run is a schedule.

The public names. They are looked up when they are used, so that `import thalweg.schedules` costs no
torch; the list is a test.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "thalweg.core.batch": ("Batch", "Lazy"),
}

__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'thalweg' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
