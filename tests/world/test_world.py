"""Two processes give the run of one, however the weights lie, and go on with each other's runs."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_helpers import text_store

JOB = Path(__file__).with_name("job.py")
SHARDS = ("replicate", "full")


def launch(processes: int, folder: Path, tasks: list[dict]) -> None:
    command = [sys.executable, str(JOB), str(folder), json.dumps(tasks)]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *launcher, *command[1:]]
    path = os.pathsep.join([str(JOB.parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Whole runs, runs cut in two at other numbers of processes, and a batch that does not fit.

    Made once, whichever of pytest's workers comes first.
    """
    base = tmp_path_factory.getbasetemp()
    parent = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (parent / "world.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = parent / "world"
        if not (folder / "made").exists():
            make(folder)
    return folder


def make(folder: Path) -> None:
    folder.mkdir()
    texts = [f"document {i}: " + "to be or not to be " * (1 + i % 5) for i in range(60)]
    shutil.copytree(text_store(folder, texts), folder / "store")
    halves = [{"do": "train", "run": f"one-two-{s}", "shard": s, "stop": 4} for s in SHARDS]
    launch(1, folder, [{"do": "train", "run": "one", "shard": "replicate"}, *halves])
    whole = [{"do": "train", "run": f"two-{s}", "shard": s} for s in SHARDS]
    other = [{"do": "train", "run": f"two-one-{s}", "shard": s, "stop": 4} for s in SHARDS]
    rest = [{"do": "resume", "run": f"one-two-{s}"} for s in SHARDS]
    odd = {"do": "train", "run": "odd", "shard": "replicate", "rows": 7}
    launch(2, folder, [*whole, *other, *rest, odd])
    launch(1, folder, [{"do": "resume", "run": f"two-one-{s}"} for s in SHARDS])
    (folder / "made").touch()


def curve(folder: Path, run: str, names: tuple[str, ...] = ("loss", "grad_norm")) -> list[float]:
    rows = [json.loads(line) for line in (folder / run / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [*range(1, 9)]
    return [row[name] for row in rows for name in names]


@pytest.mark.parametrize("shard", SHARDS)
def test_two_ranks_give_the_run_of_one(folder, shard):
    assert curve(folder, f"two-{shard}") == pytest.approx(curve(folder, "one"), rel=1e-5)


@pytest.mark.parametrize("shard", SHARDS)
@pytest.mark.parametrize("run", ["two", "two-one", "one-two"])
def test_what_is_watched_of_a_gradient_is_that_of_one_rank(folder, run, shard):
    names = ("grad_l1", "grad_dot", "grad_cos")
    one = curve(folder, "one", names)
    assert curve(folder, f"{run}-{shard}", names) == pytest.approx(one, rel=1e-3)


@pytest.mark.parametrize("shard", SHARDS)
def test_a_checkpoint_of_two_ranks_is_resumed_by_one(folder, shard):
    assert curve(folder, f"two-one-{shard}") == pytest.approx(curve(folder, "one"), rel=1e-5)


@pytest.mark.parametrize("shard", SHARDS)
def test_a_checkpoint_of_one_rank_is_resumed_by_two(folder, shard):
    assert curve(folder, f"one-two-{shard}") == pytest.approx(curve(folder, "one"), rel=1e-5)


def test_a_batch_that_ranks_cannot_share_is_refused_on_every_rank(folder):
    assert not (folder / "odd").exists()
    text = (folder / "odd.refused").read_text()
    assert "a batch of 7 rows on 2 ranks" in text
    assert "rows=8" in text


def read_by(folder: Path, run: str, rank: int) -> list[int]:
    rows = json.loads((folder / f"{run}.read.{rank}").read_text())
    return [address for part in rows for address in part]


@pytest.mark.parametrize("shard", SHARDS)
def test_a_rank_never_reads_the_tokens_of_another(folder, shard):
    run = f"two-{shard}"
    first, second = read_by(folder, run, 0), read_by(folder, run, 1)
    assert len(first) == len(second) == 8 * 4
    assert set(first).isdisjoint(second)
    assert set(first) | set(second) == set(read_by(folder, "one", 0))
