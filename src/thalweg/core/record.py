"""The run's folder: history, timing, events, trials, checkpoints, and the lock on all of it."""

import fcntl
import json
import os
import re
import shutil
import sys
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from thalweg.core.checkpoint import (
    checkpoints,
    read_state,
    step_of,
    write_checkpoint,
    write_file,
)
from thalweg.core.dials import phase_length
from thalweg.core.learner import Learner
from thalweg.core.machine import memory_bytes
from thalweg.core.names import called
from thalweg.core.recipe import Recipe
from thalweg.core.state import RunState
from thalweg.core.time import Time
from thalweg.core.world import World
from thalweg.errors import StateError

__all__ = ["RunFolder", "Watcher", "held"]

Watcher = Callable[[Mapping[str, float], Mapping[str, float]], None]
"""Called after each step on the main rank with the report and the timing."""

FILES = ("history.jsonl", "timing.jsonl", "trials.jsonl", "samples.jsonl")
FLUSH_SECONDS = 0.5
"""Lines reach the disk this often, and before every checkpoint: a resume reads none behind it."""


class RunFolder:
    """The recorder of a run with a folder that is `held`. Only the main rank writes lines.

    `history.jsonl` holds what the run computed and is the same, bit for bit, however often the run
    is killed and resumed. What a clock measured stands in `timing.jsonl`.

    Args:
        path: The folder; it exists.
        recipe: For the distances between checkpoints.
        world: The ranks.
        flops: Training FLOPs of a target token, by phase; none, or 0, if unknown.
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
        flops: Sequence[float] = (),
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
        self._files = {n: (path / n).open("a") for n in FILES} if world.main else {}
        self._waiting: list[tuple[str, Mapping[str, Any]]] = []
        self._begin = clock.perf_counter()
        self._tokens = 0
        self._memory = 0
        self._flushed = 0.0
        self._saved = -1
        self._distances: dict[int, tuple[int, int]] = {}

    def __enter__(self) -> "RunFolder":
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        with suppress(StateError):  # what a full disk left behind was complained of before
            self._flush()
        for file in self._files.values():
            with suppress(OSError):
                file.close()

    def begin(self, state: RunState, lengths: Mapping[str, int]) -> None:
        """Cut the line files back to what they were when the checkpoint of `state` was written.

        Of `timing.jsonl` what is left will do.

        Raises:
            StateError: Another file is shorter than it was.
        """
        self._tokens = state.run_tokens
        self._saved = state.run_step or -1
        self._world.from_main(lambda: self._cut(lengths))

    def step(self, state: RunState, report: Mapping[str, float], seconds: float) -> None:
        """Write the report of the step that led to `state`."""
        if not self._world.main:
            return
        timing = self._timing(state, seconds)
        row = {"step": state.run_step, **report}
        self._line("history.jsonl", row)
        self._line("timing.jsonl", timing)
        if timing["elapsed"] - self._flushed > FLUSH_SECONDS:
            self._flush()
            self._flushed = timing["elapsed"]
        for watch in self._watchers:
            watch(row, timing)

    def save(
        self, state: RunState, learners: Mapping[str, Learner], tags: Sequence[str] = ()
    ) -> None:
        """Write a checkpoint if one is due, or always if it has a tag; prune old ones."""
        if not (tags or self._due(state)):
            return
        kept = [_file_name(tag) for tag in tags if tag != "interrupted"]
        if self._saved == state.run_step:
            self._world.from_main(lambda: self._tag(state.run_step, kept))
            return
        name = ".".join([f"step-{state.run_step:08d}", *kept])
        self._write(self.path, name, state, learners)
        self._saved = state.run_step
        self._world.from_main(lambda: self._prune(name))

    def keep(
        self, state: RunState, learners: Mapping[str, Learner], name: str, parent: int
    ) -> None:
        """Write the end of a trial as a run of its own in `branches/NAME`, which has ended."""
        folder = self.path / "branches" / _file_name(name)
        self._world.from_main(lambda: self._branch(folder, name, parent))
        ended = replace(state, stopped=f"kept at the end of a trial from step {parent}")
        self._write(folder, f"step-{state.run_step:08d}.trial", ended, learners)

    def note(self, step: int, kind: str, text: str) -> None:
        """Add a line to events.jsonl."""
        if self._world.main:
            with (self.path / "events.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, "kind": kind, "text": text}) + "\n")

    def sample(self, step: int, row: Mapping[str, Any]) -> None:
        """Add a line to samples.jsonl."""
        if self._world.main:
            self._line("samples.jsonl", {"step": step, **row})

    def trial(self, state: RunState, rows: list[dict[str, float]], facts: dict[str, Any]) -> None:
        """Add the reports of a trial to trials.jsonl, with the step it started from."""
        if self._world.main:
            for row in rows:
                self._line("trials.jsonl", {"parent": state.run_step, **facts, **row})

    def _cut(self, lengths: Mapping[str, int]) -> None:
        for name, file in self._files.items():
            file.flush()
            size, length = (self.path / name).stat().st_size, lengths.get(name, 0)
            if size < length and name == "timing.jsonl":  # a clock's: nothing goes on from it
                length = (self.path / name).read_bytes().rfind(b"\n") + 1
            elif size < length:
                raise StateError(
                    f"{name} has {size} bytes",
                    expected=f"at least {length}, as when the checkpoint was written",
                    where=str(self.path),
                    write=f"put {name} back; checkpoints and weights are untouched",
                )
            os.truncate(self.path / name, length)

    def _write(
        self, run: Path, name: str, state: RunState, learners: Mapping[str, Learner]
    ) -> None:
        lengths = self._world.from_main(self._lengths) if run == self.path else {}
        body = {"state": state.to_json(), "recipe": self._recipe_record, "lengths": lengths}
        write_checkpoint(run, name, body, learners, self._world)

    def _branch(self, folder: Path, name: str, parent: int) -> None:
        """Make what a run's folder needs to be sampled, measured and exported."""
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        about = json.loads((self.path / "recipe.json").read_text())
        about |= {"name": name, "parent": {"run": self.path.name, "step": parent}}
        write_file(folder / "recipe.json", json.dumps(about, indent=1))
        for file in ("plan.json", "recipe.py"):
            if (self.path / file).exists():
                shutil.copyfile(self.path / file, folder / file)

    def _tag(self, step: int, tags: Sequence[str]) -> None:
        """Add tags to the checkpoint of a step."""
        for path in checkpoints(self.path):
            names = path.name.split(".")
            if step_of(path) == step and not set(tags) <= set(names):
                path.rename(path.with_name(".".join(dict.fromkeys([*names, *tags]))))

    def _timing(self, state: RunState, seconds: float) -> dict[str, Any]:
        rate = (state.run_tokens - self._tokens) / seconds
        self._tokens = state.run_tokens
        if state.run_step % 16 == 1 or not self._memory:  # asking takes a tenth of a millisecond
            self._memory = memory_bytes(self._world.device.type)
        flops = self._flops[state.phase] if self._flops else 0.0
        known = rate > 0 and self._peak > 0 and flops > 0
        return {
            "step": state.run_step,
            "seconds": round(seconds, 6),
            "tokens_per_second": round(rate, 2),
            "utilisation": round(rate * flops / self._peak, 4) if known else None,
            "memory_bytes": self._memory,
            "elapsed": round(clock.perf_counter() - self._begin, 3),
        }

    def _line(self, name: str, row: Mapping[str, Any]) -> None:
        """Keep a row until the next flush: many at once are written for the price of a few."""
        self._waiting.append((name, row))

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for name, row in waiting:
            with self._room_for(name):
                self._files[name].write(json.dumps(row) + "\n")
        for name, file in self._files.items():
            with self._room_for(name):
                file.flush()

    @contextmanager
    def _room_for(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(
                f"{name} cannot be written: {error}",
                expected="room on the disk; what the last checkpoint covers is whole",
                where=str(self.path),
                write=f"make room, then: thalweg resume {called(self.path)}",
            ) from error

    def _lengths(self) -> dict[str, int]:
        self._flush()
        for file in self._files.values():
            os.fsync(file.fileno())
        return {name: (self.path / name).stat().st_size for name in self._files}

    def _due(self, state: RunState) -> bool:
        if state.run_step == 0 or state.phase >= len(self._recipe.phases):
            return True
        return state.step > 0 and any(state.step % steps == 0 for steps in self._apart(state.phase))

    def _apart(self, phase: int) -> tuple[int, int]:
        """Return the steps between checkpoints and between milestones of a phase.

        Endless phases count shares of 10,000 steps.
        """
        if phase not in self._distances:
            steps, width = phase_length(self._recipe.phases[phase])
            time = Time(0, steps if steps is not None else 10_000, 0, 0, width)
            saves = self._recipe.saves
            self._distances[phase] = (
                max(1, saves.every.of(time)),
                max(1, saves.milestone.of(time)),
            )
        return self._distances[phase]

    def _prune(self, newest: str) -> None:
        """Drop checkpoints that are neither among the newest, nor tagged, nor milestones.

        And what another life of the run left of the newest step, or of later ones.
        """
        made = self.path / "checkpoints" / newest
        for path in checkpoints(self.path):
            if step_of(path) >= step_of(made) and path != made:
                shutil.rmtree(path)
        plain = [path for path in checkpoints(self.path) if "." not in path.name]
        for path in plain[: -max(self._recipe.saves.last, 1)]:
            if not self._milestone(path):
                shutil.rmtree(path)

    def _milestone(self, path: Path) -> bool:
        """Return whether a checkpoint stands at the start, or at a multiple of the milestone."""
        try:
            state = RunState.from_json(read_state(path)["state"])
        except (OSError, ValueError, KeyError):  # damaged, and newer ones stand
            return False
        return state.step % self._apart(state.phase)[1] == 0


@contextmanager
def held(path: Path, world: World) -> Iterator[None]:
    """Hold the lock of a run's folder: from before it is read until nothing more is written.

    Raises:
        StateError: Another process holds it.
    """
    locks: list[IO[str]] = []
    world.from_main(lambda: locks.append(_locked(path)))
    try:
        yield
    finally:
        for lock in locks:
            lock.close()


def _file_name(tag: str) -> str:
    """Return a tag as a piece of a file's name."""
    return re.sub(r"[^\w@+=-]", "-", tag)


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
