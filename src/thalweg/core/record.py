"""The run's folder: history, timing, events, trials, checkpoints, and the lock on all of it."""

import fcntl
import json
import os
import shutil
import sys
import time as clock
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from thalweg.core.checkpoint import checkpoints, step_of, write_checkpoint
from thalweg.core.dials import phase_length
from thalweg.core.learner import Learner
from thalweg.core.machine import memory_bytes
from thalweg.core.recipe import Recipe
from thalweg.core.state import RunState
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.errors import StateError

__all__ = ["RunFolder", "Watcher"]

Watcher = Callable[[Mapping[str, float], Mapping[str, float]], None]
"""Called after each step on the main rank with the report and the timing."""

FILES = ("history.jsonl", "timing.jsonl", "trials.jsonl", "samples.jsonl")


class RunFolder:
    """The recorder of a run with a folder. Only the main rank writes the line files.

    `history.jsonl` holds what the run computed and is the same, bit for bit, however often the run
    is killed and resumed. What a clock measured stands in `timing.jsonl`.

    Args:
        path: The folder; it exists.
        recipe: For the distances between checkpoints.
        world: The ranks.
        flops: Training FLOPs of a target token; 0 if unknown.
        peak: FLOP/s of all devices together; 0 if unknown.
        watchers: Progress line, sinks.
        interrupted: Whether somebody asked the run to end.
    """

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        world: World,
        *,
        flops: float = 0.0,
        peak: float = 0.0,
        watchers: Sequence[Watcher] = (),
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.path = path
        self.interrupted = interrupted
        self._recipe = recipe
        self._recipe_record: Any = json.loads((path / "recipe.json").read_text())["tree"]
        self._world = world
        self._flops, self._peak = flops, peak
        self._watchers = watchers
        self._lock: IO[str] | None = _locked(path) if world.main else None
        self._files = {n: (path / n).open("a") for n in FILES} if world.main else {}
        self._begin = clock.perf_counter()
        self._tokens = 0
        self._saved = -1

    def __enter__(self) -> "RunFolder":
        """Return itself; the lock is held."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files and release the lock."""
        for file in self._files.values():
            file.close()
        if self._lock is not None:
            self._lock.close()

    def begin(self, state: RunState, lengths: Mapping[str, int]) -> None:
        """Cut the line files back to what they were when the checkpoint of `state` was written."""
        self._tokens = state.run_tokens
        for name, file in self._files.items():
            file.flush()
            os.truncate(self.path / name, lengths.get(name, 0))

    def step(self, state: RunState, report: Mapping[str, float], seconds: float) -> None:
        """Write the report of the step that led to `state`."""
        if not self._world.main:
            return
        timing = self._timing(state, seconds)
        self._line("history.jsonl", {"step": state.run_step, **report})
        self._line("timing.jsonl", timing)
        for watch in self._watchers:
            watch({"step": state.run_step, **report}, timing)

    def save(self, state: RunState, learners: Mapping[str, Learner], tag: str = "") -> None:
        """Write a checkpoint if one is due, or always if it has a tag; prune old ones."""
        if not (tag or self._due(state)):
            return
        kept = f".{tag}" if tag and tag != "interrupted" else ""
        plain = f"step-{state.run_step:08d}"
        if self._saved == state.run_step:
            if kept:
                self._world.from_main(lambda: self._rename(plain, plain + kept))
            return
        lengths = self._world.from_main(self._lengths)
        body = {"state": state.to_json(), "recipe": self._recipe_record, "lengths": lengths}
        write_checkpoint(self.path, plain + kept, body, learners, self._world)
        self._saved = state.run_step
        if self._world.main:
            self._prune()

    def note(self, step: int, kind: str, text: str) -> None:
        """Add a line to events.jsonl."""
        if self._world.main:
            with (self.path / "events.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, "kind": kind, "text": text}) + "\n")

    def trial(self, state: RunState, rows: list[dict[str, float]], facts: dict[str, Any]) -> None:
        """Add the reports of a trial to trials.jsonl, with the step it started from."""
        if self._world.main:
            for row in rows:
                self._line("trials.jsonl", {"parent": state.run_step, **facts, **row})

    def _rename(self, old: str, new: str) -> None:
        folder = self.path / "checkpoints"
        if (folder / old).exists():
            (folder / old).rename(folder / new)

    def _timing(self, state: RunState, seconds: float) -> dict[str, Any]:
        rate = (state.run_tokens - self._tokens) / seconds
        self._tokens = state.run_tokens
        known = rate > 0 and self._peak > 0 and self._flops > 0
        return {
            "step": state.run_step,
            "seconds": round(seconds, 6),
            "tokens_per_second": round(rate, 2),
            "utilisation": round(rate * self._flops / self._peak, 4) if known else None,
            "memory_bytes": memory_bytes(self._world.device.type),
            "elapsed": round(clock.perf_counter() - self._begin, 3),
        }

    def _line(self, name: str, row: Mapping[str, Any]) -> None:
        file = self._files[name]
        try:
            file.write(json.dumps(row) + "\n")
            file.flush()
        except OSError as error:
            raise StateError(
                f"{name} cannot be written: {error}",
                expected="room on the disk; what was written before is whole",
                where=str(self.path),
                write=f"make room, then: thalweg resume {self.path.name}",
            ) from error

    def _lengths(self) -> dict[str, int]:
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        return {name: (self.path / name).stat().st_size for name in self._files}

    def _due(self, state: RunState) -> bool:
        if state.run_step == 0 or state.phase >= len(self._recipe.phases):
            return True
        every = self._span(state, self._recipe.saves.every)
        return every > 0 and state.step % every == 0 and state.step > 0

    def _span(self, state: RunState, span: Any) -> int:
        """Return a length in steps of the phase; endless phases count shares of 10,000 steps."""
        steps, width = phase_length(self._recipe.phases[state.phase])
        return max(1, int(span.of(Time(0, steps if steps is not None else 10_000, 0, 0, width))))

    def _prune(self) -> None:
        """Drop checkpoints that are neither among the newest, nor tagged, nor milestones."""
        plain = [path for path in checkpoints(self.path) if "." not in path.name]
        for path in plain[: -max(self._recipe.saves.last, 1)]:
            if not self._milestone(path):
                shutil.rmtree(path)

    def _milestone(self, path: Path) -> bool:
        """Return whether a checkpoint stands at a multiple of the milestone in its phase."""
        step, first = step_of(path), 0
        for number, phase in enumerate(self._recipe.phases):
            length = phase_length(phase)[0]
            if length is None or step <= first + length:
                apart = self._span(RunState(phase=number), self._recipe.saves.milestone)
                return (step - first) % apart == 0 and step > 0
            first += length
        return True


def _locked(path: Path) -> IO[str]:
    """Take the run's lock, which the system releases when the process ends, however it ends."""
    lock = (path / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        owner = lock.read().strip() or "another process"
        lock.close()
        raise StateError(
            f"run '{path.name}' is being written by {owner}",
            expected="one process (or one torchrun) a run",
            where=str(path / "lock"),
            write="wait for it or end it; or train under another --run name",
        ) from error
    lock.truncate(0)
    lock.write(f"process {os.getpid()} ({Path(sys.argv[0]).name})")
    lock.flush()
    return lock
