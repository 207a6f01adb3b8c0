"""Speed of post-training, side by side in one run.

Generation: our engine against transformers' `generate`, both in bfloat16 on the same weights of
the 10M model (8 layers, width 256, vocabulary 4096), 32 rows of 16 + 128 tokens. The systems take
turns; a ratio is taken within a round, so what else the machine does weighs on both.

    python benchmarks/rl_speed.py [--rounds 5] [--rows 32] [--new 128] [--eager]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does, before torch

import torch
from transformers import AutoModelForCausalLM

from thalweg.models import Decoder, Transformer, export, keep_freed_memory
from thalweg.rollouts import Sampling, generate

SPEC = Transformer(vocabulary=4096, width=256, layers=8, heads=8, hidden=1024, positions=512)
PROMPT = 16
Task = Callable[[], None]


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--eager", action="store_true", help="leave torch.compile out")
    chosen = parser.parse_args()
    keep_freed_memory()
    systems = generation(chosen.rows, chosen.new, compiled=not chosen.eager)
    compare(systems, chosen.rounds, chosen.rows * chosen.new)


def generation(rows: int, new: int, *, compiled: bool) -> dict[str, Task]:
    """Return both systems, ready to write `rows` answers of `new` tokens."""
    module = SPEC.build(0).eval()
    draw = torch.Generator().manual_seed(0)
    prompts = torch.randint(5, SPEC.vocabulary, (rows, PROMPT), generator=draw)
    return {
        "ours": ours(module, prompts, new, compiled=compiled),
        "transformers": theirs(module, prompts, new),
    }


def ours(module: Decoder, prompts: torch.Tensor, new: int, *, compiled: bool) -> Task:
    """Return our engine, as a rollout calls it: float32 weights under autocast."""

    def write() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            found = generate(module, prompts.tolist(), Sampling(new_tokens=new), compiled=compiled)
        assert sum(len(answer.tokens) for [answer] in found) == prompts.shape[0] * new

    return write


def theirs(module: Decoder, prompts: torch.Tensor, new: int) -> Task:
    """Return transformers with the same weights in bfloat16 and its dynamic cache, eager."""
    with tempfile.TemporaryDirectory() as folder:
        export(module, SPEC, Path(folder))
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    seen = torch.ones_like(prompts)

    def write() -> None:
        with torch.no_grad():
            found = model.generate(
                prompts, attention_mask=seen, do_sample=True, top_k=0, max_new_tokens=new,
                pad_token_id=0,
            )  # fmt: skip
        assert found.shape[1] == PROMPT + new

    return write


def compare(systems: dict[str, Task], rounds: int, tokens: int) -> None:
    """Print tokens per second of each system, and ours over the other within rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for name, task in systems.items():
        begin = time.perf_counter()
        task()
        print(f"{name:14} first call {time.perf_counter() - begin:.1f} s", flush=True)
    for number in range(rounds):
        for name in list(systems)[:: 1 if number % 2 == 0 else -1]:
            begin = time.perf_counter()
            systems[name]()
            seconds[name].append(time.perf_counter() - begin)
    for name, found in seconds.items():
        rate, best = tokens / median(found), tokens / min(found)
        print(f"{name:14} {rate:8.0f} tokens/s (median), {best:8.0f} (best)")
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["transformers"], strict=True)]
    low, high = min(ratios), max(ratios)
    print(f"ours / transformers: {median(ratios):.2f} ({low:.2f} .. {high:.2f}); at least 2.5")


if __name__ == "__main__":
    main()
