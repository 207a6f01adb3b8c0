"""Signals, kills, and what the command line says then."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STEPS = 30


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("faults")
    (home / "a.txt").write_text(" ".join(f"word{i % 97} and {i % 31}" for i in range(3000)))
    return home


def command(home: Path, *words: str, delay: float = 0.0) -> subprocess.Popen[str]:
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), *sys.path])
    env = {**os.environ, "THALWEG_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    line = [sys.executable, "-m", "thalweg", *words, "--quiet"]
    return subprocess.Popen(
        line, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=home
    )


def train(home: Path, run: str, steps: int) -> subprocess.Popen[str]:
    options = f"--model 250k --tokenizer bytes --length 64 --batch 16 --steps {steps}".split()
    return command(home, "train", "pretrain", "--data", "a.txt", *options, "--run", run)


def finished(process: subprocess.Popen[str]) -> int:
    """Return a process's exit code at its end, its pipes read and closed."""
    process.communicate(timeout=300)
    return process.returncode


def wait_for_line(home: Path, run: str, line: int = 2) -> None:
    file = home / run / "history.jsonl"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if file.exists() and len(file.read_text().splitlines()) >= line:
            return
        time.sleep(0.02)
    raise AssertionError("the run did not start within a minute")


def losses(home: Path, run: str) -> list[str]:
    return (home / run / "history.jsonl").read_text().splitlines()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_signal_saves_says_so_and_the_run_goes_on(home, number, code):
    run = f"signal-{code}"
    process = train(home, run, 400)
    wait_for_line(home, run)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "finishing this step, then saving" in err
    assert f"{signal.Signals(number).name}: saved; go on with: thalweg resume {run}" in err
    done = json.loads(losses(home, run)[-1])["step"]
    assert f"step-{done:08d}" in {path.name for path in (home / run / "checkpoints").iterdir()}
    assert done < 400
    again = command(home, "resume", run)
    wait_for_line(home, run, done + 2)
    again.kill()
    again.communicate()
    assert json.loads(losses(home, run)[done])["step"] == done + 1


@pytest.mark.slow
def test_twenty_kills_of_a_language_model_change_nothing(home):
    assert finished(train(home, "whole", STEPS * 4)) == 0
    process, kills, draw = train(home, "killed", STEPS * 4), 0, random.Random(0)
    while kills < 20:
        try:
            process.wait(draw.uniform(3.0, 8.0))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            started = (home / "killed" / "recipe.json").exists()
            process = (
                command(home, "resume", "killed") if started else train(home, "killed", STEPS * 4)
            )
    assert finished(process) == 0
    assert losses(home, "killed") == losses(home, "whole")
    weights = [home / run / "export" / "model.safetensors" for run in ("killed", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
