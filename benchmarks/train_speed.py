"""Training speed against transformers' Trainer and litgpt, side by side in one run.

Every system trains the same shape (10.49M parameters, 16 x 256 tokens a step, AdamW, clip 1.0) in
a process of its own, in turns, several rounds; ratios are taken within a round. Also measured in
every round: the limit, that is the model's own matrix products and attention and nothing else.

    python benchmarks/train_speed.py                    # ours, Trainer, limit
    python benchmarks/train_speed.py --litgpt PYTHON    # and litgpt, in its own environment
    python benchmarks/train_speed.py --equal            # losses after 200 steps, same data
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
CHILD = "speed_child.py"
SHAPE = {
    "vocab": 4096,
    "dim": 256,
    "layers": 8,
    "heads": 8,
    "hidden": 1024,
    "seq": 256,
    "batch": 16,
}


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--litgpt", default="", help="python of an environment with litgpt")
    parser.add_argument("--equal", action="store_true", help="compare losses instead of speeds")
    parser.add_argument("--only", default="", help="systems, comma separated")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if chosen.equal:
            compare_losses(Path(scratch))
        else:
            compare_speeds(chosen, Path(scratch))


def compare_speeds(chosen: argparse.Namespace, scratch: Path) -> None:
    """Print tokens/s, peak memory, and ratios within rounds."""
    systems = {
        "ours": ["ours", "bfloat16", "compile"],
        "trainer bf16 compile": ["trainer", "bf16", "compile"],
        "trainer bf16": ["trainer", "bf16", "eager"],
        "limit": ["limit", "bfloat16", "-"],
    }
    if chosen.litgpt:
        systems["litgpt bf16-true compile"] = ["litgpt", "bf16-true", "compile"]
    if chosen.only:
        systems = {name: systems[name] for name in chosen.only.split(",")}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in systems}
    for number in range(chosen.rounds):
        order = list(systems) if number % 2 == 0 else list(systems)[::-1]
        for name in order:
            python = chosen.litgpt if name.startswith("litgpt") else sys.executable
            row = child(python, CHILD, [*systems[name], str(chosen.steps)], scratch)
            rows[name].append(row)
            print(f"round {number + 1}  {name:26} {row}", flush=True)
    report(rows)


def report(rows: dict[str, list[dict[str, float]]]) -> None:
    """Print medians, and ours over each peer: median and range of the rounds."""
    print(f"\n{'system':26} {'tokens/s':>9} {'peak MiB':>9}   ours / it (range)")
    for name, found in rows.items():
        rates = [row["tokens_per_second"] for row in found]
        ratios = [o["tokens_per_second"] / r for o, r in zip(rows["ours"], rates, strict=True)]
        memory = median(row["peak_mib"] for row in found)
        print(
            f"{name:26} {median(rates):9.0f} {memory:9.0f}   "
            f"{median(ratios):.3f} ({min(ratios):.3f} .. {max(ratios):.3f})"
        )


def compare_losses(scratch: Path) -> None:
    """Print the mean loss of the last 20 of 200 steps, ours and Trainer's."""
    ours = child(sys.executable, CHILD, ["ours", "bfloat16", "compile", "200"], scratch)
    theirs = child(sys.executable, CHILD, ["trainer", "bf16", "eager", "200"], scratch)
    gap = ours["loss"] - theirs["loss"]
    print(f"loss at the end of 200 steps: ours {ours['loss']:.4f}, Trainer {theirs['loss']:.4f}")
    print(f"difference {gap:+.4f} (at most 0.01 in size)")


def child(python: str, script: str, arguments: list[str], scratch: Path) -> dict[str, float]:
    """Run one system in a process of its own; return what it measured.

    Ours has the setting of threads that its command line makes, a peer has its own defaults.
    """
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    environment.pop("GOMP_SPINCOUNT", None)
    if {"ours", "limit"} & set(arguments):
        environment["GOMP_SPINCOUNT"] = "2000"
    command = [python, str(HERE / script), *arguments, str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        sys.exit(f"{arguments} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    row: dict[str, float] = json.loads(lines[-1].removeprefix("RESULT "))
    return row


if __name__ == "__main__":
    main()
