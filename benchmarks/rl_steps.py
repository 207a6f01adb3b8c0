"""Speed of post-training steps beside TRL: GRPO, 8 prompts x 8 completions x 64 tokens, and DPO.

Both start from one folder of the 10M model (8 layers, width 256, 8 heads, vocabulary 4096) with a
byte tokenizer: float32 weights under bfloat16 autocast, no KL. Ours is compiled unless --eager,
TRL's is not. Each runs in a process of its own with its own defaults (allocator, threads), in
turns, and a ratio is taken within a round, so what else the machine does weighs on both. The first
three steps are not counted. TRL on bfloat16 weights stands beside it: faster, but at this learning
rate its updates are lost in rounding.

    python benchmarks/rl_steps.py [--rounds 3] [--steps 8] [--only grpo|dpo] [--eager]
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from train_speed import child

JOBS = {"grpo": (8 * 8, "completions", 2.8), "dpo": (2 * 8 * 128, "tokens", 1.8)}
"""What a step holds, its unit, and the ratio to reach."""


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="of a turn, besides its first three")
    parser.add_argument("--only", choices=list(JOBS))
    parser.add_argument("--eager", action="store_true", help="leave torch.compile out")
    chosen = parser.parse_args()
    systems = {
        "ours": ("ours", "eager" if chosen.eager else "compile"),
        "trl": ("trl", "float32"),
        "trl, bfloat16 weights": ("trl", "bfloat16"),
    }
    with tempfile.TemporaryDirectory() as scratch:
        for job in [chosen.only] if chosen.only else JOBS:
            compare(job, systems, chosen, Path(scratch))


def compare(
    job: str, systems: dict[str, tuple[str, str]], chosen: argparse.Namespace, scratch: Path
) -> None:
    """Print rates, and ours over each other within rounds: median and range."""
    count, unit, least = JOBS[job]
    seconds: dict[str, list[float]] = {system: [] for system in systems}
    for number in range(chosen.rounds):
        for system in list(systems)[:: 1 if number % 2 == 0 else -1]:
            words = [job, *systems[system], str(chosen.steps)]
            row = child(sys.executable, "rl_child.py", words, scratch)
            seconds[system].append(row["seconds"])
    for system, found in seconds.items():
        ratios = [b / a for a, b in zip(seconds["ours"], found, strict=True)]
        print(
            f"{job} {system:22} {median(found):6.2f} s a step, "
            f"{count / median(found):8.1f} {unit}/s, "
            f"ours / it {median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})",
            flush=True,
        )
    print(f"{job}: at least {least} is asked for beside trl")


if __name__ == "__main__":
    main()
