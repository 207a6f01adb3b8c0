"""Kill a run at random moments and compare it with the run that nobody killed, bit for bit.

    python benchmarks/faults.py --kills 20
    python benchmarks/faults.py --kills 5 --longest 60 --compile    # compiled, bfloat16

Every line of the table is one life of the run: a process of `thalweg train` or `thalweg resume`
that got SIGKILL after some seconds. At the end histories and exported weights must be equal.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEXT = " ".join(f"word{i % 97} and {i % 31}" for i in range(20_000))
OPTIONS = "--model 250k --tokenizer bytes --length 64".split()
PLAIN, COMPILED = "--batch 16".split(), "--batch 64 --compile --dtype bfloat16".split()


def main() -> int:
    """Run the drill; 0 if nothing changed."""
    parser = argparse.ArgumentParser(description="Kill a run at random moments.")
    parser.add_argument("--kills", type=int, default=20, help="processes to kill")
    parser.add_argument("--steps", type=int, default=600, help="optimizer steps of the run")
    parser.add_argument("--longest", type=float, default=8.0, help="seconds a life may last")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--compile", action="store_true", help="compiled and in bfloat16")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return drill(Path(folder), given)


def drill(home: Path, given: argparse.Namespace) -> int:
    """Train once undisturbed and once under fire; print the table and the verdict."""
    options = ["--steps", str(given.steps), *OPTIONS, *(COMPILED if given.compile else PLAIN)]
    (home / "a.txt").write_text(TEXT)
    begin = time.perf_counter()
    start(home, "undisturbed", options).communicate()
    alone = time.perf_counter() - begin
    print(f"undisturbed: {given.steps} steps in {alone:.1f} s\n")
    print(f"{'life':>4} {'seconds':>8} {'step at the kill':>17} {'checkpoints':>12}")
    draw, process = random.Random(given.seed), start(home, "killed", options)
    for life in range(1, given.kills + 1):
        seconds = draw.uniform(0.5, given.longest)
        try:
            process.wait(seconds)
            print(f"{life:>4} {'':>8} the run had ended: use more --steps")
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        run = home / "killed"
        print(f"{life:>4} {seconds:>8.2f} {last_step(run):>17} {checkpoints(run):>12}", flush=True)
        known = (run / "recipe.json").exists()
        process = command(home, "resume", "killed") if known else start(home, "killed", options)
    process.communicate()
    return verdict(home)


def verdict(home: Path) -> int:
    """Compare both runs; 0 if they are the same."""
    whole, killed = home / "undisturbed", home / "killed"
    same = {
        name: (whole / name).read_bytes() == (killed / name).read_bytes()
        for name in ("history.jsonl", "export/model.safetensors")
    }
    print()
    for name, equal in same.items():
        print(f"{name}: {'equal, bit for bit' if equal else 'DIFFERENT'}")
    return 0 if all(same.values()) else 1


def start(home: Path, run: str, options: list[str]) -> subprocess.Popen[bytes]:
    return command(home, "train", "pretrain", "--data", "a.txt", "--run", run, *options)


def command(home: Path, *words: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "THALWEG_HOME": str(home)}
    line = [sys.executable, "-m", "thalweg", *words, "--quiet"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(line, env=env, cwd=home, **quiet)


def last_step(run: Path) -> int:
    """Return the last whole step of a history; the line being written may be cut."""
    file = run / "history.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def checkpoints(run: Path) -> int:
    return len(list((run / "checkpoints").glob("step-*")))


if __name__ == "__main__":
    sys.exit(main())
