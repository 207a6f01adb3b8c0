"""Checkpoints: written to a temporary folder, synced, checksummed, renamed; never pickle.

    checkpoints/step-00001200/state.json           state, record of the recipe, lengths of files
                              MODEL/*.safetensors  weights and moments, each rank its shards
                              manifest.json        size and checksum of every file, written last

A folder whose manifest does not hold is damaged; loading says so and takes the one before.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thalweg.core.learner import Learner
from thalweg.core.names import called
from thalweg.core.tree import read_record, record
from thalweg.core.world import World
from thalweg.errors import StateError

__all__ = [
    "checkpoints",
    "damage_of",
    "fill_learners",
    "new_folder",
    "newest_whole",
    "no_checkpoint",
    "read_state",
    "seal",
    "step_of",
    "write_checkpoint",
    "write_file",
]


def checkpoints(run: Path) -> list[Path]:
    """Return the run's checkpoints, oldest first."""
    return sorted(path for path in (run / "checkpoints").glob("step-*") if path.is_dir())


def write_checkpoint(
    run: Path,
    name: str,
    state: Mapping[str, Any],
    learners: Mapping[str, Learner],
    world: World,
) -> Path:
    """Write a checkpoint, all ranks together; return its folder.

    Raises:
        StateError: The disk is full or cannot be written; earlier checkpoints stand.
    """
    target, temporary = run / "checkpoints" / name, run / "checkpoints" / f".{name}"
    optimizers = {key: record(learner.spec) for key, learner in learners.items()}
    try:
        world.from_main(lambda: _clear(temporary))
        for key, learner in learners.items():
            world.save_tensors(learner.tensors(), temporary / key)
        world.barrier()
        body = {**state, "optimizers": optimizers}
        world.from_main(lambda: _finish(temporary, target, body))
    except OSError as error:
        raise _cannot_write(error, run) from error
    return target


def newest_whole(run: Path, warn: Callable[[str], None], at_most: int | None = None) -> Path | None:
    """Return the newest checkpoint whose checksums hold, or None if the run has not begun.

    Args:
        run: The run's folder.
        warn: Told of each damaged checkpoint that is passed over.
        at_most: Only checkpoints of at most this many steps of the run.

    Raises:
        StateError: All checkpoints are damaged; or there are none, and a history.
    """
    found = [p for p in checkpoints(run) if at_most is None or step_of(p) <= at_most]
    for path in reversed(found):
        damage = damage_of(path)
        if not damage:
            return path
        warn(f"{path.name} is damaged ({damage}); using the checkpoint before it")
    if found:
        raise StateError(
            f"{len(found)} checkpoints, all damaged",
            expected="one whose checksums hold",
            where=str(run / "checkpoints"),
            write="restore the folder from a backup, or train again under another --run name",
        )
    if at_most is None and _has_lines(run):
        raise no_checkpoint(run)
    return None


def no_checkpoint(run: Path) -> StateError:
    """Return the error for a run without a checkpoint, and whether a resume would make one.

    The first checkpoint is written before the first line of the history, so a run that has lines
    has lost its checkpoints, and only a run that has none begins anew.
    """
    begun = _has_lines(run)
    again = "train again under another --run name, or delete the run's folder"
    return StateError(
        f"run '{run.name}' without a checkpoint" + ", but with a history" * begun,
        expected="weights to go on from",
        where=str(run / "checkpoints"),
        write=f"put the folder back; or {again}" if begun else f"thalweg resume {called(run)}",
    )


def step_of(path: Path) -> int:
    """Return the step of the run at which a checkpoint was written."""
    return int(path.name.split("-")[1].split(".")[0])


def damage_of(path: Path) -> str:
    """Return what is wrong with a checkpoint, or an empty string."""
    try:
        found = json.loads((path / "manifest.json").read_text()).items()
        manifest = {name: (size, checksum) for name, (size, checksum) in found}
    except (OSError, ValueError, TypeError, AttributeError):
        return "no readable manifest.json"
    if "state.json" not in manifest:
        return "manifest.json lists no state.json"
    for name, (size, checksum) in manifest.items():
        file = path / name
        if not file.exists():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, not {size}"
        if _checksum(file) != checksum:
            return f"{name} was altered: its checksum does not hold"
    return ""


def read_state(path: Path) -> dict[str, Any]:
    """Return the state.json of a checkpoint."""
    data: dict[str, Any] = json.loads((path / "state.json").read_text())
    return data


def fill_learners(
    path: Path, learners: Mapping[str, Learner], world: World, find: Callable[[str], Any]
) -> None:
    """Load weights and moments into learners, from any number of ranks into any other.

    Raises:
        StateError: The checkpoint holds other models, or tensors of other shapes.
    """
    optimizers = read_state(path)["optimizers"]
    if optimizers.keys() != learners.keys():
        raise StateError(
            f"a checkpoint of models {sorted(optimizers)}",
            expected=f"models {sorted(learners)}",
            where=str(path),
            write="resume with the recipe that wrote the run",
        )
    for name, learner in learners.items():
        spec = read_record(optimizers[name], find)
        folder = path / name
        try:
            learner.load(lambda tensors, f=folder: world.load_tensors(tensors, f), spec)  # type: ignore[misc]
        except (KeyError, ValueError, RuntimeError) as error:
            raise StateError(
                f"tensors that do not fit model '{name}': {str(error)[:300]}",
                expected="the weights that this recipe's model has",
                where=str(folder),
                write="resume with the recipe and version that wrote the run",
            ) from error


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill that stands as `folder` at the end: whole, or not at all.

    Raises:
        StateError: The folder exists, or cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        if folder.exists():
            raise FileExistsError(folder)
        _clear(temporary)
        yield temporary
        temporary.rename(folder)
    except OSError as error:
        if not folder.exists():
            raise StateError(
                f"a folder that cannot be written: {error}",
                expected="a disk with room, and the right to write there",
                where=str(folder.parent),
                write="make room, or another place: THALWEG_HOME=...",
            ) from error
        run = (folder / "recipe.json").exists()
        raise StateError(
            f"run '{folder.name}' exists" if run else f"'{folder}' exists, and is no run",
            expected="a new name",
            where=str(folder),
            write=f"thalweg resume {called(folder)}, or " * run + "--run another-name",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_file(path: Path, text: str) -> None:
    """Write a file so that it is either old or new, whole, even if the machine stops."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def seal(folder: Path) -> None:
    """Write the manifest of a checkpoint's folder: size and checksum of every file in it."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"]
    manifest = {}
    for file in sorted(files):
        _sync(file)
        manifest[str(file.relative_to(folder))] = (file.stat().st_size, _checksum(file))
    write_file(folder / "manifest.json", json.dumps(manifest, indent=1))
    _sync(folder)


def _has_lines(run: Path) -> bool:
    file = run / "history.jsonl"
    return file.exists() and file.stat().st_size > 0


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _finish(temporary: Path, target: Path, body: Mapping[str, Any]) -> None:
    write_file(temporary / "state.json", json.dumps(body))
    seal(temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
    _sync(target.parent)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot_write(error: OSError, run: Path) -> StateError:
    return StateError(
        f"the checkpoint cannot be written: {error}",
        expected="room for one more checkpoint; earlier ones are untouched",
        where=str(run / "checkpoints"),
        write=f"make room, then: thalweg resume {called(run)}",
    )
