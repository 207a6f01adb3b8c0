"""Two processes write the answers of one, however the weights lie."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

JOB = Path(__file__).with_name("job.py")


def launch(processes: int, run: Path, shard: str) -> list[dict]:
    """Return the history of a run."""
    command = [sys.executable, str(JOB), str(run), shard]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *launcher, *command[1:]]
    path = os.pathsep.join([str(JOB.parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> tuple[list[dict], str]:
    folder = tmp_path_factory.mktemp("one") / "run"
    return launch(1, folder, "replicate"), (folder / "samples.jsonl").read_text()


@pytest.mark.parametrize("shard", ["replicate", "full"])
def test_two_processes_write_the_answers_of_one(one, tmp_path, shard):
    history, samples = one
    found = launch(2, tmp_path / "run", shard)
    assert len(found) == len(history) == 4
    for ours, theirs in zip(found, history, strict=True):
        assert ours.pop("phase") == theirs["phase"]
        expected = {name: value for name, value in theirs.items() if name != "phase"}
        assert ours == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert (tmp_path / "run" / "samples.jsonl").read_text() == samples
