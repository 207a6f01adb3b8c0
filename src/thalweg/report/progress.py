"""A live line on stderr while a run goes on: rich on a terminal, plain lines elsewhere.

`update` is called at every step and must cost nothing: it keeps running means and draws only when
enough time has passed. The thread that rich could start is not used; it would take turns with the
training step.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TextIO, final

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from thalweg.laws.prediction import Prediction
from thalweg.report.numbers import duration_text, rate_text

__all__ = ["Progress", "progress_line"]

SMOOTHING = 0.95
"""Weight of the past in the smoothed loss: about the last 20 steps."""


def progress_line(values: Mapping[str, object], *, steps: int | None, left: float) -> str:
    """Return the state of a run in one line; what is not known is left out.

    Args:
        values: `step`, `phase`, `loss` (nats a token), `lr`, `tokens_per_second`,
            `utilisation` (0 to 1), `predicted` (a text); any may be missing.
        steps: Length of the run; None when it has no end.
        left: Seconds to the end; NaN when unknown.

    Example:
        >>> progress_line({"step": 50, "loss": 2.5, "lr": 3e-4}, steps=200, left=90.0)
        'step 50/200 | loss 2.500 | lr 3.00e-04 | 1 min 30 s left'
    """
    step = f"step {_number(values.get('step')):,.0f}" + (f"/{steps:,}" if steps else "")
    parts = [step, str(values.get("phase") or "")]
    forms: tuple[tuple[str, Callable[[float], str]], ...] = (
        ("loss", lambda x: f"loss {x:.3f}"),
        ("lr", lambda x: f"lr {x:.2e}"),
        ("tokens_per_second", lambda x: f"{rate_text(x)} tok/s"),
        ("utilisation", lambda x: f"util {100 * x:.0f} %"),
    )
    for name, form in forms:
        value = _number(values.get(name))
        parts.append(form(value) if math.isfinite(value) else "")
    parts.append(str(values.get("predicted") or ""))
    parts.append(f"{duration_text(left)} left" if math.isfinite(left) else "")
    return " | ".join(part for part in parts if part)


@final
class Progress:
    """Shows how a run goes. Use it in a `with` statement and call `update` after each step.

    Args:
        steps: Length of the run in steps; None when it has no end.
        prediction: The loss that was expected of the run; shown beside the measured one.
        every_seconds: Seconds between plain lines where there is no terminal.
        stream: Where to write; stderr when None.
        clock: Seconds that only rise; for tests.

    Example:
        >>> with Progress(steps=2, stream=sys.stdout) as bar:
        ...     bar.update({"step": 1, "loss": 2.0}, {})
        step 1/2 | loss 2.000
    """

    def __init__(
        self,
        *,
        steps: int | None,
        prediction: Prediction | None = None,
        every_seconds: float = 10.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steps = steps
        self._prediction = prediction
        self._held: tuple[float, float] | None = None
        self._console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._terminal = self._console.is_terminal
        self._every = 0.5 if self._terminal else every_seconds
        self._clock = clock
        self._values: dict[str, object] = {}
        self._lr = ""
        self._loss = self._weight = 0.0
        self._first: tuple[float, float] | None = None
        self._drawn = -math.inf
        self._shown: object = None

    def __enter__(self) -> "Progress":
        """Start drawing."""
        if self._terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Draw the last state and let go of the terminal."""
        if self._values and self._shown != self._values["step"]:
            self._draw()
        if self._terminal:
            self._live.stop()

    def update(self, report: Mapping[str, object], timing: Mapping[str, object]) -> None:
        """Take in a step. Draws at most twice a second, or one plain line every few seconds.

        Args:
            report: The step's line of the history: `step`, `phase`, `loss`, `dial/...lr`.
            timing: The step's line of the timing; empty where nothing was measured.
        """
        now = self._clock()
        loss = _number(report.get("loss"))
        if math.isfinite(loss):
            self._loss = SMOOTHING * self._loss + (1 - SMOOTHING) * loss
            self._weight = SMOOTHING * self._weight + (1 - SMOOTHING)
        held = _number(report.get("heldout/loss"))
        if math.isfinite(held):
            self._held = (_number(report.get("step")), held)
        if timing:
            self._values.update(
                {key: timing[key] for key in ("tokens_per_second", "utilisation") if key in timing}
            )
        if self._first is None:
            self._first = (_number(report.get("step")), now)
            self._lr = _rate_name(report)
        self._values["step"] = report.get("step")
        self._values["phase"] = report.get("phase")
        self._values["lr"] = report.get(self._lr)
        if now - self._drawn >= self._every:
            self._drawn = now
            self._draw()

    def note(self, text: str) -> None:
        """Print a line above the progress line: a warning, a sample, a save."""
        self._console.print(Text(text))

    def _draw(self) -> None:
        self._shown = self._values["step"]
        if self._weight > 0:
            self._values["loss"] = self._loss / self._weight
            self._values["predicted"] = self._deviation()
        line = progress_line(self._values, steps=self._steps, left=self._left())
        if not self._terminal:
            self._console.print(Text(line))
            return
        step = _number(self._values["step"])
        bar = ProgressBar(total=self._steps, completed=step, width=20, pulse=self._steps is None)
        row = Table.grid(padding=(0, 1))
        row.add_row(bar, Text(line, no_wrap=True, overflow="ellipsis"))
        self._live.update(row, refresh=True)

    def _deviation(self) -> str:
        """Return the loss against its prediction: the last held-out one, or the smoothed one."""
        if self._prediction is None:
            return ""
        found = (_number(self._values["step"]), _number(self._values["loss"]))
        name = "loss"
        if self._prediction.metric == "heldout/loss":
            if self._held is None:
                return ""
            name, found = f"held-out {self._held[1]:.3f}", self._held
        deviation = self._prediction.judge(*found)
        if deviation is None:
            return ""
        return f"{name} {deviation.gap:+.3f} from the prediction, {deviation.place}"

    def _left(self) -> float:
        """Return the seconds to go at the mean speed since the first step, which compiles."""
        if self._first is None or self._steps is None:
            return math.nan
        step, since = self._first
        done = _number(self._values["step"]) - step
        left = self._steps - step - done
        if not done > 0 or (left > 0 and not self._drawn > since):
            return math.nan
        return max(0.0, left * (self._drawn - since) / done)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _rate_name(report: Mapping[str, object]) -> str:
    """Return the first learning rate among the dials."""
    names = [key for key in report if key.startswith("dial/") and key.split(".")[-1] == "lr"]
    return names[0] if names else "lr"
