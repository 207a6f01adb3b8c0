"""A mixture of experts learns the same however its batch is split: the balance loss included."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from thalweg.data.grams import make_grams

JOB = Path(__file__).with_name("moe_job.py")


def launch(processes: int, folder: Path, micro: int, *shards: str) -> None:
    command = [sys.executable, str(JOB), str(folder), str(micro), *shards]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *launcher, *command[1:]]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


@pytest.fixture(scope="module")
def steps(tmp_path_factory) -> dict[str, dict]:
    """One batch on one rank, and eight micro-batches on two, whole weights or sharded."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    pairs = [[a, b] for a in range(0, 32, 2) for b in range(32)]
    for place in (one, two):
        make_grams(pairs, [5] * len(pairs), vocabulary=32).save(place / "grams", "by hand")
    launch(1, one, 0, "replicate")
    launch(2, two, 14, "replicate", "full")
    files = {
        f"{place.name[:3]}-{path.stem}": path for place in (one, two) for path in place.glob("*.pt")
    }
    return {name: torch.load(path) for name, path in files.items()}


@pytest.mark.parametrize("scope", ["global", "block", "lagged"])
@pytest.mark.parametrize("shard", ["replicate", "full"])
def test_eight_micro_batches_on_two_ranks_are_one_batch_on_one(steps, scope, shard):
    whole, split = steps[f"one-{scope}-replicate"], steps[f"two-{scope}-{shard}"]
    for name, expected in whole["weights"].items():  # a step of plain descent, so gradients
        assert torch.allclose(split["weights"][name], expected, atol=1e-6), name
    assert split["sums"] == pytest.approx(whole["sums"], rel=1e-6)


def test_biases_are_part_of_what_is_equal(steps):
    weights = steps["two-lagged-full"]["weights"]
    assert weights["blocks.0.mixture.bias"].abs().max() > 0.01
    assert any(name.startswith("grams.") for name in weights)


def test_the_scope_of_a_block_has_another_gradient(steps):
    router = "blocks.0.mixture.router"
    a, b = (steps[f"one-{scope}-replicate"]["weights"][router] for scope in ("global", "block"))
    assert (a - b).abs().max() > 1e-4
