"""Speed of post-training steps beside TRL: GRPO, 8 prompts x 8 completions x 64 tokens, and DPO.

Both start from one folder of the 10M model (8 layers, width 256, vocabulary 4096) with a byte
tokenizer, in bfloat16, without a KL; ours is compiled unless --eager, TRL's is not. The systems
take turns within a round and a ratio is taken within a round, so what else the machine does weighs
on both. A turn's first step is not counted: TRL sets its trainer up there.

    python benchmarks/rl_steps.py [--rounds 3] [--steps 3] [--only grpo|dpo] [--eager]
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the command line does, before torch

from thalweg.core.loop import Bench, Memory, run_phase
from thalweg.core.moves import Copy
from thalweg.core.names import finder
from thalweg.core.protocols import Problem
from thalweg.core.recipe import Compute, CopyOf, Phase, Recipe
from thalweg.core.session import build_learners
from thalweg.core.state import RunState
from thalweg.core.world import World
from thalweg.data import Preferences, build_preferences
from thalweg.data.tokenizer import byte_tokenizer
from thalweg.models import Pretrained, Transformer, export, keep_freed_memory
from thalweg.objectives.papers import dpo, grpo
from thalweg.optim import AdamW
from thalweg.rollouts import Judge, Questions, Rollouts, Sampling

SPEC = Transformer(vocabulary=4096, width=256, layers=8, heads=4, hidden=1024, positions=256)
PROMPTS, GROUP, NEW, PAIRS, HALF = 8, 8, 64, 8, 128
LR = 1e-5
Turn = Callable[[int], list[float]]
"""Takes so many steps and returns the seconds of each."""


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="of a turn, besides its first")
    parser.add_argument("--only", choices=["grpo", "dpo"])
    parser.add_argument("--eager", action="store_true", help="leave torch.compile out")
    chosen = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as scratch:
        folder = prepare(Path(scratch))
        if chosen.only != "dpo":
            systems = {"ours": our_grpo(folder, not chosen.eager), "trl": trl_grpo(folder)}
            compare("grpo", systems, chosen, PROMPTS * GROUP, "completions", 2.8)
        if chosen.only != "grpo":
            systems = {"ours": our_dpo(folder, not chosen.eager), "trl": trl_dpo(folder)}
            compare("dpo", systems, chosen, 2 * PAIRS * HALF, "tokens", 1.8)


def prepare(scratch: Path) -> Path:
    """Write the model, its tokenizer, prompts and pairs; return the folder."""
    known = scratch / "bytes"
    known.mkdir()
    byte_tokenizer().save(known)
    export(SPEC.build(0), SPEC, scratch / "model", known)
    draw = random.Random(0)

    def text(length: int) -> str:
        return "".join(draw.choice("abcdefgh ") for _ in range(length))

    rows = [
        {"prompt": text(15), "chosen": text(110), "rejected": text(110), "answer": ""}
        for _ in range(256)
    ]
    (scratch / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return scratch


def checksum(prompt: str, answer: str, problem: Problem) -> float:
    """Return a number that differs between answers, so that every group has something to learn."""
    return sum(map(ord, answer)) % 10 / 10


def our_grpo(folder: Path, compiled: bool) -> Turn:
    """Return our loop: rollouts, advantages, one step of the clipped surrogate, a copy."""
    source = Rollouts(
        task=Questions(str(folder / "rows.jsonl")), tokenizer=str(folder / "model"), group=GROUP,
        sampling=Sampling(new_tokens=NEW), judge=Judge(reward=checksum), length=79, multiple=80,
        template="{prompt}{answer}",
    )  # fmt: skip
    do = (*grpo(kl=0.0).do("policy", AdamW(lr=LR)), Copy("policy", "actor"))
    return ours(folder, Phase(10**6, source, do, rows=PROMPTS * GROUP), ("actor",), compiled)


def our_dpo(folder: Path, compiled: bool) -> Turn:
    """Return our loop: the reference scores both answers at each step, as TRL's does."""
    store = build_preferences(
        [str(folder / "rows.jsonl")], tokenizer=str(folder / "model"), home=folder, progress=False,
        template="{prompt}{answer}",
    ).train  # fmt: skip
    source = Preferences(str(store), length=HALF - 1)
    phase = Phase(10**6, source, dpo().do("policy", AdamW(lr=LR)), rows=PAIRS)
    return ours(folder, phase, ("ref",), compiled)


def ours(folder: Path, phase: Phase, copies: tuple[str, ...], compiled: bool) -> Turn:
    """Return turns of one run that goes on."""
    models: dict[str, Any] = {"policy": Pretrained(str(folder / "model"))}
    models |= {name: CopyOf("policy") for name in copies}
    recipe = Recipe(models, (phase,), compute=Compute(dtype="bfloat16", compile=compiled))
    bench = Bench(recipe, build_learners(recipe, World()), World(), Memory(), finder())
    states = [RunState()]

    def turn(steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            begin = time.perf_counter()
            state, _ = run_phase(bench, phase, states[-1], stop=states[-1].step + 1)
            found.append(time.perf_counter() - begin)
            states[:] = [state]
        return found

    return turn


def trl_grpo(folder: Path) -> Turn:
    """Return TRL's trainer: no KL, one step a batch, bfloat16, not compiled."""
    from trl import GRPOConfig, GRPOTrainer

    def reward(completions: list[str], **others: object) -> list[float]:
        return [checksum("", text, Problem("", "")) for text in completions]

    def make(settings: dict[str, Any], model: Any, rows: Any, tokenizer: Any) -> Any:
        options = GRPOConfig(
            num_generations=GROUP, max_completion_length=NEW, beta=0.0,
            per_device_train_batch_size=PROMPTS * GROUP, **settings,
        )  # fmt: skip
        return GRPOTrainer(
            model=model, reward_funcs=reward, args=options, train_dataset=rows,
            processing_class=tokenizer,
        )  # fmt: skip

    return theirs(folder, make, ("prompt",))


def trl_dpo(folder: Path) -> Turn:
    """Return TRL's DPO trainer with a live reference."""
    from trl import DPOConfig, DPOTrainer

    def make(settings: dict[str, Any], model: Any, rows: Any, tokenizer: Any) -> Any:
        options = DPOConfig(per_device_train_batch_size=PAIRS, max_length=HALF, **settings)
        return DPOTrainer(model=model, args=options, train_dataset=rows, processing_class=tokenizer)

    return theirs(folder, make, ("prompt", "chosen", "rejected"))


def theirs(folder: Path, make: Callable[..., Any], columns: tuple[str, ...]) -> Turn:
    """Return turns of a trainer that is made anew for each, on one model."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.bfloat16)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    data = Dataset.from_list([{name: row[name] for name in columns} for row in rows])

    def turn(steps: int) -> list[float]:
        marks: list[float] = []

        class Clock(TrainerCallback):  # type: ignore[misc]
            def on_step_begin(self, *given: Any, **named: Any) -> None:
                marks.append(time.perf_counter())

        settings = {
            "output_dir": str(folder / "trl"), "max_steps": steps, "learning_rate": LR,
            "report_to": "none", "save_strategy": "no", "logging_strategy": "no", "bf16": True,
            "use_cpu": not torch.cuda.is_available(), "disable_tqdm": True,
            "gradient_checkpointing": False,
        }  # fmt: skip
        trainer = make(settings, model, data, tokenizer)
        trainer.add_callback(Clock())
        trainer.train()
        marks.append(time.perf_counter())
        return [after - before for before, after in pairwise(marks)]

    return turn


def compare(
    name: str, systems: dict[str, Turn], chosen: argparse.Namespace, count: int, unit: str,
    least: float,
) -> None:  # fmt: skip
    """Print rates of both systems and ours over the other within rounds."""
    rounds: dict[str, list[float]] = {system: [] for system in systems}
    for number in range(chosen.rounds + 1):
        for system in list(systems)[:: 1 if number % 2 == 0 else -1]:
            seconds = median(systems[system](chosen.steps + 1)[1:])
            if number:  # the first round warms up
                rounds[system].append(seconds)
    for system, seconds in rounds.items():
        rate = count / median(seconds)
        print(f"{name} {system:6} {median(seconds):7.2f} s a step, {rate:9.1f} {unit}/s")
    ratios = [b / a for a, b in zip(rounds["ours"], rounds["trl"], strict=True)]
    low, high = min(ratios), max(ratios)
    print(f"{name} ours / trl: {median(ratios):.2f} ({low:.2f} .. {high:.2f}); at least {least}")


if __name__ == "__main__":
    main()
