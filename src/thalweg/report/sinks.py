"""Send the numbers of a run elsewhere too, through the other tool's own library.

A sink never replaces `history.jsonl`; it is told what was written there. The libraries are optional
and are imported when a sink is asked for, so a missing one stops before step 0.
"""

import importlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, final

from thalweg.errors import RecipeError, did_you_mean

__all__ = ["Sink", "TensorBoard", "WandB", "check_sink"]

_NAMES = {"tensorboard": "TensorBoard", "wandb": "WandB"}


class Sink(Protocol):
    """A place that takes named numbers by step."""

    def write(self, step: int, values: Mapping[str, object]) -> None:
        """Take the finite numbers of a step; leave out texts, such as the phase."""
        ...

    def close(self) -> None:
        """Hand over what is buffered. Nothing is written afterwards."""
        ...


@final
class TensorBoard:
    """Writes TensorBoard event files through the `tensorboard` library; needs no TensorFlow.

    A resumed run tells TensorBoard to forget the steps it repeats.

    Args:
        folder: Where the event files go; made if missing.

    Raises:
        RecipeError: `tensorboard` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        writer = _library("tensorboard.summary.writer.event_file_writer", "TensorBoard")
        self._event: Any = _library("tensorboard.compat.proto.event_pb2", "TensorBoard")
        self._summary: Any = _library("tensorboard.compat.proto.summary_pb2", "TensorBoard")
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._writer: Any = writer.EventFileWriter(str(folder))
        self._started = False

    def write(self, step: int, values: Mapping[str, object]) -> None:
        """Write one event with a scalar for each finite number."""
        now = time.time()
        if not self._started:
            log = self._event.SessionLog(status=self._event.SessionLog.START)
            self._writer.add_event(self._event.Event(session_log=log, step=step, wall_time=now))
            self._started = True
        scalars = [
            self._summary.Summary.Value(tag=name, simple_value=value)
            for name, value in _numbers(values).items()
        ]
        summary = self._summary.Summary(value=scalars)
        self._writer.add_event(self._event.Event(summary=summary, step=step, wall_time=now))

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


@final
class WandB:
    """Logs to Weights & Biases through the `wandb` library.

    Args:
        project: Name of the project.
        mode: "online"; "offline" keeps a folder for `wandb sync`; "disabled" does nothing.
        name: Name of the run there; the library invents one when None.
        folder: Where the library keeps its files; its own default when None.

    Raises:
        RecipeError: `wandb` is not installed.
    """

    def __init__(
        self,
        project: str,
        mode: Literal["online", "offline", "disabled"] = "online",
        *,
        name: str | None = None,
        folder: Path | None = None,
    ) -> None:
        library = _library("wandb", "WandB")
        place = None if folder is None else str(folder)
        self._run: Any = library.init(project=project, mode=mode, name=name, dir=place)

    def write(self, step: int, values: Mapping[str, object]) -> None:
        """Log the finite numbers of a step."""
        self._run.log(_numbers(values), step=step)

    def close(self) -> None:
        """Finish the run there."""
        self._run.finish()


def check_sink(kind: str) -> None:
    """Refuse a name that is no sink, and one whose library is missing, before a run is made.

    Raises:
        RecipeError: Neither tensorboard nor wandb, or not installed.
    """
    if kind not in _NAMES:
        raise RecipeError(
            f"sink '{kind}'",
            expected=" or ".join(_NAMES),
            where="--sink",
            write=did_you_mean(kind, _NAMES),
        )
    _library(kind, _NAMES[kind])


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    numbers = {n: float(value) for n, value in values.items() if isinstance(value, (int, float))}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _library(module: str, sink: str) -> Any:
    name = module.split(".", maxsplit=1)[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RecipeError(
            f"the sink {sink}, whose library '{name}' cannot be imported: {error}",
            expected=f"'{name}' installed beside thalweg",
            where=f"thalweg.report.{sink}",
            write=f"pip install {name}",
        ) from error
