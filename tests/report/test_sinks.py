"""Sinks, read back by the other tool's own reader."""

import importlib.util
import json
import math
from pathlib import Path

import pytest

from thalweg.errors import RecipeError
from thalweg.report import Sink, TensorBoard, WandB


def read_scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Return (step, value) of a tag as TensorBoard sees it."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(folder))
    seen.Reload()
    return [(event.step, event.value) for event in seen.Scalars(tag)]


def write_steps(sink: Sink, steps: range, offset: float = 0.0) -> None:
    """Write loss = step + offset."""
    for step in steps:
        sink.write(step, {"loss": step + offset, "gap": math.nan, "phase": "main"})
    sink.close()


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write_steps(TensorBoard(tmp_path), range(1, 4))
    assert read_scalars(tmp_path, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_what_is_no_finite_number_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write_steps(TensorBoard(tmp_path), range(1, 2))
    with pytest.raises(KeyError):
        read_scalars(tmp_path, "gap")


def test_a_resumed_run_replaces_the_steps_it_repeats(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write_steps(TensorBoard(tmp_path), range(1, 4))
    for file in tmp_path.iterdir():  # the reader orders files by the second in their names
        file.rename(file.with_name(file.name.replace("tfevents.", "tfevents.0")))
    write_steps(TensorBoard(tmp_path), range(3, 5), offset=0.5)
    assert read_scalars(tmp_path, "loss") == [(1, 1.0), (2, 2.0), (3, 3.5), (4, 4.5)]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_missing_library_says_what_to_install() -> None:
    with pytest.raises(RecipeError, match="pip install wandb"):
        WandB("project", "offline")


def test_wandb_takes_the_numbers_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    sink = WandB("project", "offline", name="run", folder=tmp_path)
    write_steps(sink, range(1, 3))
    files = list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 1
    assert json.dumps("loss").encode()[1:-1] in files[0].read_bytes()
