"""Two processes, whole weights or shards, give the losses and scores of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

JOB = Path(__file__).with_name("ranks_job.py")


def launch(processes: int, folder: Path) -> dict[str, list[float]]:
    name = f"{processes}.json"
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(start if processes > 1 else []), str(JOB), str(folder), name]
    path = os.pathsep.join([str(JOB.parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return json.loads((folder / name).read_text())


def test_two_processes_give_what_one_gives(tmp_path):
    one, two = launch(1, tmp_path), launch(2, tmp_path)
    assert len(one) == 14
    for name, values in one.items():
        assert two[name] == pytest.approx(values, rel=2e-4, abs=1e-6), name
