"""Runs on a device that is not the CPU, played on the CPU: no GPU is needed to find a stray tensor.

In processes of their own: torch knows one such device a process, and keeps it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

TESTS = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot be given a device that is written in Python",
)


def run_there(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tests with the plugin `elsewhere`."""
    options = ["-q", "-p", "elsewhere", "-p", "no:cacheprovider", "-n", "0", "--tb", "short"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments],
        cwd=TESTS.parent,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
    )


def test_every_recipe_trains_and_resumes_bit_for_bit_elsewhere():
    done = run_there("tests/contracts/test_recipes.py")
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.slow
def test_every_entry_of_the_atlas_runs_elsewhere():
    done = run_there("tests/contracts/test_atlas.py")
    assert done.returncode == 0, done.stdout[-4000:]


def test_the_device_refuses_what_a_gpu_refuses(tmp_path):
    script = tmp_path / "test_mixed.py"
    script.write_text(
        "import elsewhere, pytest, torch\n"
        "def test_mixed():\n"
        "    there = torch.ones(2, 3, device=elsewhere.DEVICE)\n"
        "    with pytest.raises(RuntimeError, match='two devices'):\n"
        "        there + torch.ones(2, 3)\n"
        "    with pytest.raises(TypeError, match='numpy'):\n"
        "        there.numpy()\n"
        "    assert (there * 2).cpu().tolist() == [[2.0] * 3] * 2\n"
    )
    done = run_there(str(script))
    assert done.returncode == 0, done.stdout[-4000:]
    assert "1 passed" in done.stdout
