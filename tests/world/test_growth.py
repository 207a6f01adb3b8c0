"""Growth of latent attention over ranks: sharded weights and moments grow as whole ones do."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_helpers import text_store

JOB = Path(__file__).with_name("growth_job.py")


def launch(processes: int, folder: Path, *tasks: str) -> None:
    command = [sys.executable, str(JOB), str(folder), *tasks]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *launcher, *command[1:]]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


def curve(folder: Path, run: str) -> list[float]:
    rows = [json.loads(line) for line in (folder / run / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [*range(1, 7)]
    return [row[name] for row in rows for name in ("loss", "grad_norm")]


def test_two_ranks_give_the_run_of_one_and_go_on_with_each_others(tmp_path: Path) -> None:
    texts = [f"document {i}: " + "to be or not to be " * (1 + i % 5) for i in range(30)]
    shutil.copytree(text_store(tmp_path, texts), tmp_path / "store")
    launch(1, tmp_path, "train:one:replicate:-1", "train:cut:full:3")
    launch(2, tmp_path, "train:two:replicate:-1", "train:sharded:full:-1", "resume:cut:full:-1")
    for run in ("two", "sharded", "cut"):
        assert curve(tmp_path, run) == pytest.approx(curve(tmp_path, "one"), rel=2e-5)
