"""One system of train_speed.py, in a process of its own. Prints one line `RESULT {...}`.

Weights start from the same folder for ours and for Trainer; both read the same windows of the same
tokens in the same order.
"""

import json
import math
import resource
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

SHAPE = {
    "vocab": 4096,
    "dim": 256,
    "layers": 8,
    "heads": 8,
    "hidden": 1024,
    "seq": 256,
    "batch": 16,
}
LR, WARM = 1e-3, 4


def main() -> None:
    """Run the system named on the command line."""
    system, precision, mode, steps, scratch = sys.argv[1:6]
    tokens = make_tokens(Path(scratch))
    if system != "litgpt":
        make_weights(Path(scratch))
    run = {"ours": ours, "trainer": trainer, "litgpt": litgpt, "limit": limit}[system]
    times, loss = run(tokens, Path(scratch), precision, mode == "compile", int(steps))
    seconds = median(np.diff(times)[min(WARM, len(times) // 3) :])
    rate = SHAPE["seq"] * SHAPE["batch"] / seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("RESULT " + json.dumps({"tokens_per_second": rate, "loss": loss, "peak_mib": peak}))


def make_tokens(scratch: Path) -> Path:
    """Return a file of token ids, Zipf distributed with a little order, so that a loss can fall."""
    path = scratch / "tokens.npy"
    if not path.exists():
        draw = np.random.default_rng(0)
        share = 1.0 / np.arange(1, SHAPE["vocab"] + 1)
        ids = draw.choice(SHAPE["vocab"], size=2_000_000, p=share / share.sum())
        ids[1::2] = (ids[0::2] * 7 + 1) % SHAPE["vocab"]
        np.save(path, ids.astype(np.uint16))
    return path


def make_weights(scratch: Path) -> Path:
    """Return a Hugging Face folder with fresh weights."""
    from thalweg.models import Transformer, export

    folder = scratch / "weights"
    if not folder.exists():
        spec = Transformer(
            vocabulary=SHAPE["vocab"], width=SHAPE["dim"], layers=SHAPE["layers"],
            heads=SHAPE["heads"], hidden=SHAPE["hidden"], positions=SHAPE["seq"],
        )  # fmt: skip
        export(spec.build(0), spec, folder)
    return folder


def ours(
    tokens: Path, scratch: Path, precision: str, compiled: bool, steps: int
) -> tuple[list[float], float]:
    """The whole product: loop, folder, progress line."""
    from thalweg.core.moves import Learn
    from thalweg.core.recipe import Compute, Phase, Recipe, Saves
    from thalweg.core.session import Session, train
    from thalweg.core.time import steps as count
    from thalweg.data import Corpus
    from thalweg.models import Pretrained, keep_freed_memory
    from thalweg.objectives import NextToken
    from thalweg.optim import AdamW
    from thalweg.report import Progress
    from thalweg.schedules import Cosine

    keep_freed_memory()
    optimizer = AdamW(lr=Cosine(LR, 0.0), betas=(0.9, 0.999), weight_decay=0.1)
    phase = Phase(
        steps,
        Corpus(str(tokens), length=SHAPE["seq"], shuffle=False, mask_documents=False),
        (Learn("policy", NextToken(), optimizer),),
        rows=SHAPE["batch"],
    )
    recipe = Recipe(
        {"policy": Pretrained(str(scratch / "weights"))},
        (phase,),
        compute=Compute(
            dtype="bfloat16" if precision == "bfloat16" else "float32", compile=compiled
        ),
        saves=Saves(every=count(10**9), milestone=count(10**9)),
    )
    times, losses = [], []

    def watch(report, timing) -> None:
        times.append(time.perf_counter())
        losses.append(report["loss"])

    with Progress(steps=steps) as bar:
        folder = scratch / f"run-{time.time_ns()}"
        train(recipe, folder, session=Session([lambda: watch, lambda: bar.update]))
    return times, float(np.mean(losses[-20:]))


def trainer(
    tokens: Path, scratch: Path, precision: str, compiled: bool, steps: int
) -> tuple[list[float], float]:
    """transformers' Trainer with fused AdamW, in its best setting."""
    import torch
    import transformers
    from torch.utils.data import Dataset, SequentialSampler

    ids = np.load(tokens, mmap_mode="r")

    class Windows(Dataset):
        def __len__(self) -> int:
            return (len(ids) - 1) // SHAPE["seq"]

        def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
            row = ids[i * SHAPE["seq"] : (i + 1) * SHAPE["seq"] + 1].astype(np.int64)
            return {"input_ids": torch.from_numpy(row), "labels": torch.from_numpy(row)}

    times: list[float] = []
    losses: list[float] = []

    class Watch(transformers.TrainerCallback):
        def on_step_end(self, *_, **__) -> None:
            times.append(time.perf_counter())

        def on_log(self, args, state, control, logs, **_) -> None:
            if "loss" in logs:
                losses.append(logs["loss"])

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_, **__):
            return SequentialSampler(self.train_dataset)

    model = transformers.AutoModelForCausalLM.from_pretrained(
        scratch / "weights", dtype=torch.float32, attn_implementation="sdpa"
    )
    model.config.use_cache = False
    arguments = transformers.TrainingArguments(
        output_dir=str(scratch / "hf"), per_device_train_batch_size=SHAPE["batch"], max_steps=steps,
        learning_rate=LR, weight_decay=0.1, adam_beta2=0.999, max_grad_norm=1.0,
        lr_scheduler_type="cosine", warmup_steps=0, report_to="none", save_strategy="no",
        logging_steps=20 if steps < 200 else 1, use_cpu=True, bf16=precision == "bf16",
        torch_compile=compiled, optim="adamw_torch_fused", dataloader_num_workers=0,
        disable_tqdm=True,
    )  # fmt: skip
    InOrder(model=model, args=arguments, train_dataset=Windows(), callbacks=[Watch()]).train()
    return times, float(np.mean(losses[-20:]))


def litgpt(
    tokens: Path, scratch: Path, precision: str, compiled: bool, steps: int
) -> tuple[list[float], float]:
    """litgpt's own pretraining program, its loop and its model."""
    import litgpt as library
    import litgpt.pretrain as program
    import torch
    from lightning.fabric.wrappers import _FabricOptimizer
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.data import DataModule
    from torch.utils.data import DataLoader, Dataset, Subset

    ids = np.load(tokens, mmap_mode="r")
    times: list[float] = []

    class Windows(Dataset):
        def __len__(self) -> int:
            return (len(ids) - 1) // SHAPE["seq"]

        def __getitem__(self, i: int) -> torch.Tensor:
            row = ids[i * SHAPE["seq"] : (i + 1) * SHAPE["seq"] + 1]
            return torch.from_numpy(row.astype(np.int64))

    class Data(DataModule):
        def connect(self, tokenizer=None, batch_size=1, max_seq_length=None) -> None:
            self.size = batch_size

        def train_dataloader(self) -> DataLoader:
            return DataLoader(Windows(), batch_size=self.size)

        def val_dataloader(self) -> DataLoader:
            return DataLoader(Subset(Windows(), range(16)), batch_size=self.size)

    step = _FabricOptimizer.step

    def timed(self, *args, **kwargs):
        done = step(self, *args, **kwargs)
        times.append(time.perf_counter())
        return done

    _FabricOptimizer.step = timed
    program.save_checkpoint = lambda *_, **__: None  # the timing is done by then
    config = library.Config(
        name="bench", block_size=SHAPE["seq"], vocab_size=SHAPE["vocab"],
        padded_vocab_size=SHAPE["vocab"], n_layer=SHAPE["layers"], n_head=SHAPE["heads"],
        n_embd=SHAPE["dim"], rotary_percentage=1.0, parallel_residual=False, bias=False,
        norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP", intermediate_size=SHAPE["hidden"],
    )  # fmt: skip
    count = steps * SHAPE["seq"] * SHAPE["batch"]
    program.setup(
        "bench", model_config=config, out_dir=scratch / "lit", precision=precision, data=Data(),
        train=TrainArgs(save_interval=None, log_interval=100, global_batch_size=SHAPE["batch"],
                        micro_batch_size=SHAPE["batch"], max_tokens=count, max_norm=1.0,
                        lr_warmup_steps=2, tie_embeddings=False, max_seq_length=SHAPE["seq"]),
        eval=EvalArgs(interval=100000, max_iters=1, final_validation=False),
        logger_name="csv", devices=1,
    )  # fmt: skip
    return times, math.nan


def limit(
    tokens: Path, scratch: Path, precision: str, compiled: bool, steps: int
) -> tuple[list[float], float]:
    """The model's matrix products (forward and both backward ones) and attention, nothing else."""
    import torch

    from thalweg.models import attention, keep_freed_memory

    keep_freed_memory()
    n, d, h = SHAPE["seq"] * SHAPE["batch"], SHAPE["dim"], SHAPE["hidden"]
    shapes = [(d, 3 * d), (d, d), (d, 2 * h), (h, d)] * SHAPE["layers"] + [(d, SHAPE["vocab"])]
    low = torch.bfloat16
    made = {
        s: (
            torch.randn(n, s[0], dtype=low),
            torch.randn(s, dtype=low),
            torch.randn(n, s[1], dtype=low),
        )
        for s in set(shapes)
    }
    width = d // SHAPE["heads"]
    heads = (SHAPE["batch"], SHAPE["heads"], SHAPE["seq"], width)
    q, k, v = (torch.randn(heads, dtype=low, requires_grad=True) for _ in range(3))
    look = torch.compile(attention, dynamic=False)
    up = torch.randn(heads, dtype=low)
    times = []
    for _ in range(steps):
        for shape in shapes:
            x, w, g = made[shape]
            x @ w
            g @ w.t()
            x.t() @ g
        for _ in range(SHAPE["layers"]):
            look(q, k, v).backward(up)
        times.append(time.perf_counter())
    return times, math.nan


if __name__ == "__main__":
    main()
