"""Draw the pictures of schedules.md: one of every example that the tests have.

Run it from anywhere: `python docs/draw_schedules.py`. A test says when it must be run again.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from schedule_examples import BATCH_TOKENS, END, EXAMPLES, MADE  # noqa: E402
from thalweg.core.protocols import Schedule  # noqa: E402
from thalweg.core.time import Time  # noqa: E402
from thalweg.report.dials import dial_svg  # noqa: E402

__all__ = ["FOLDER", "pictures"]

FOLDER = ROOT / "docs" / "img" / "schedules"


def pictures() -> dict[str, str]:
    """Return file name -> SVG for every example, and for every function that makes a schedule."""
    named = {type(example.schedule).__name__: example.schedule for example in EXAMPLES}
    return {
        f"{name.lower()}.svg": picture(name, schedule) for name, schedule in (named | MADE).items()
    }


def picture(name: str, schedule: Schedule) -> str:
    """Return the SVG of one schedule over the phase of the examples."""
    s = np.arange(END + 1)
    time = Time(s, END, tokens=BATCH_TOKENS * s, run_step=s, batch_tokens=BATCH_TOKENS)
    value = schedule(time)
    named = value if isinstance(value, Mapping) else {name: value}
    return dial_svg({key: (s.tolist(), np.asarray(y).tolist()) for key, y in named.items()})


def main() -> None:
    """Write every picture."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pictures().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
