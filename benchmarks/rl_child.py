"""One system of rl_steps.py, in a process of its own. Prints one line `RESULT {...}`."""

import json
import random
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

PROMPTS, GROUP, NEW, PAIRS, HALF = 8, 8, 64, 8, 128
LR, WARM = 1e-5, 3


def main() -> None:
    """Run what the command line names: JOB SYSTEM MODE STEPS SCRATCH."""
    job, system, mode, steps, scratch = sys.argv[1:6]
    folder = prepare(Path(scratch))
    jobs = {
        "grpo": {"ours": our_grpo, "trl": trl_grpo},
        "dpo": {"ours": our_dpo, "trl": trl_dpo},
    }
    seconds = jobs[job][system](folder, mode, WARM + int(steps))
    print("RESULT " + json.dumps({"seconds": median(seconds[WARM:])}))


def prepare(scratch: Path) -> Path:
    """Write the model, its tokenizer, prompts and pairs, once; return their folder."""
    from thalweg.data.tokenizer import byte_tokenizer
    from thalweg.models import Transformer, export

    folder = scratch / "given"
    if folder.exists():
        return folder
    known = scratch / "bytes"
    known.mkdir()
    byte_tokenizer().save(known)
    spec = Transformer(vocabulary=4096, width=256, layers=8, heads=8, hidden=1024, positions=256)
    export(spec.build(0), spec, folder / "model", known)
    draw = random.Random(0)

    def text(length: int) -> str:
        return "".join(draw.choice("abcdefgh ") for _ in range(length))

    rows = [
        {"prompt": text(15), "chosen": text(110), "rejected": text(110), "answer": ""}
        for _ in range(256)
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def checksum(answer: str) -> float:
    """Return a number that differs between answers, so that every group has something to learn."""
    return sum(map(ord, answer)) % 10 / 10


def our_grpo(folder: Path, mode: str, steps: int) -> list[float]:
    """Our loop: rollouts, advantages, one step of the clipped surrogate, a copy."""
    from thalweg.core.moves import Copy
    from thalweg.core.recipe import Phase
    from thalweg.objectives.papers import grpo
    from thalweg.optim import AdamW
    from thalweg.rollouts import Judge, Questions, Rollouts, Sampling

    judge = Judge(reward=lambda _, answer, __: checksum(answer))
    source = Rollouts(
        task=Questions(str(folder / "rows.jsonl")), tokenizer=str(folder / "model"), group=GROUP,
        sampling=Sampling(new_tokens=NEW), judge=judge, length=79, multiple=80,
        template="{prompt}{answer}",
    )  # fmt: skip
    do = (*grpo(kl=0.0).do("policy", AdamW(lr=LR)), Copy("policy", "actor"))
    return ours(folder, Phase(steps, source, do, rows=PROMPTS * GROUP), "actor", mode, steps)


def our_dpo(folder: Path, mode: str, steps: int) -> list[float]:
    """Our loop: the reference scores both answers at each step, as TRL's does."""
    from thalweg.core.recipe import Phase
    from thalweg.data import Preferences, build_preferences
    from thalweg.objectives.papers import dpo
    from thalweg.optim import AdamW

    store = build_preferences(
        [str(folder / "rows.jsonl")], tokenizer=str(folder / "model"), home=folder, progress=False,
        template="{prompt}{answer}",
    ).train  # fmt: skip
    source = Preferences(str(store), length=HALF - 1)
    phase = Phase(steps, source, dpo().do("policy", AdamW(lr=LR)), rows=PAIRS)
    return ours(folder, phase, "ref", mode, steps)


def ours(folder: Path, phase: Any, copy: str, mode: str, steps: int) -> list[float]:
    """Return the seconds of each step."""
    from thalweg.core.loop import Bench, Memory, run_phase
    from thalweg.core.names import finder
    from thalweg.core.recipe import Compute, CopyOf, Recipe
    from thalweg.core.session import build_learners
    from thalweg.core.state import RunState
    from thalweg.core.world import open_world
    from thalweg.models import Pretrained, keep_freed_memory

    keep_freed_memory()
    models: dict[str, Any] = {
        "policy": Pretrained(str(folder / "model")), copy: CopyOf("policy")
    }  # fmt: skip
    compute = Compute(dtype="bfloat16", compile=mode == "compile")
    recipe = Recipe(models, (phase,), compute=compute)
    state, seconds = RunState(), []
    with open_world("cpu", "replicate") as world:
        bench = Bench(recipe, build_learners(recipe, world), world, Memory(), finder())
        for step in range(steps):
            begin = time.perf_counter()
            state, _ = run_phase(bench, phase, state, stop=step + 1)
            seconds.append(time.perf_counter() - begin)
    return seconds


def trl_grpo(folder: Path, mode: str, steps: int) -> list[float]:
    """TRL's trainer: no KL, one step a batch."""
    from trl import GRPOConfig, GRPOTrainer

    def reward(completions: list[str], **others: object) -> list[float]:
        return [checksum(text) for text in completions]

    def make(settings: dict[str, Any], model: Any, rows: Any, tokenizer: Any) -> Any:
        model.generation_config.eos_token_id = None
        options = GRPOConfig(
            num_generations=GROUP, max_completion_length=NEW, beta=0.0,
            per_device_train_batch_size=PROMPTS * GROUP,
            generation_kwargs={"min_new_tokens": NEW}, **settings,
        )  # fmt: skip
        return GRPOTrainer(
            model=model, reward_funcs=reward, args=options, train_dataset=rows,
            processing_class=tokenizer,
        )  # fmt: skip

    return theirs(folder, mode, steps, make, ("prompt",))


def trl_dpo(folder: Path, mode: str, steps: int) -> list[float]:
    """TRL's DPO trainer with a live reference."""
    from trl import DPOConfig, DPOTrainer

    def make(settings: dict[str, Any], model: Any, rows: Any, tokenizer: Any) -> Any:
        options = DPOConfig(per_device_train_batch_size=PAIRS, max_length=HALF, **settings)
        return DPOTrainer(model=model, args=options, train_dataset=rows, processing_class=tokenizer)

    return theirs(folder, mode, steps, make, ("prompt", "chosen", "rejected"))


def theirs(folder: Path, mode: str, steps: int, make: Any, columns: tuple[str, ...]) -> list[float]:
    """Return the seconds of each step of a trainer; mode is the type of its weights."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=getattr(torch, mode))
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    data = Dataset.from_list([{name: row[name] for name in columns} for row in rows])
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


if __name__ == "__main__":
    main()
