"""Compute to a target loss: the `pretrain` recipe's defaults against Trainer's AdamW with cosine.

The peer: AdamW (0.9, 0.95, weight decay 0.1, clip 1), 2 % warm-up, cosine to 0, the best of five
peak rates for each seed, over the whole budget, rows not split at documents (Trainer's collators do
not). The target is its final held-out loss. We: the recipe's defaults, untouched, trained whole at
shares of the budget until two of them bracket the target; tokens needed are interpolated between
them, the loss linear in the log of the tokens. Both start from the same weights and see the same
kind of batches, at the same rows, length and precision; each is measured as it was trained.

The peer's arms run through our loop, which is faster than Trainer's. That is allowed once a run of
Trainer itself, from the same weights on the same batches, has ended within 0.01 nats of ours; it
is done first, stored, and printed (without warm-up, which the two count differently: the first
step of Trainer's has rate 0). `--via trainer` runs Trainer for all of them.

The recipe's defaults were chosen on tinyshakespeare at 0.84M parameters (docs/log.md): only the
other text is a fresh test of them.

Every finished arm is stored in --out and reused, so a stopped benchmark goes on.

    python benchmarks/to_target.py [--model 1m 10m] [--data tinyshakespeare domains] [--seeds 3]
        [--steps 2000] [--batch 32] [--dtype bfloat16] [--compile] [--out runs/to-target]
"""

import argparse
import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch
from scipy import stats

from thalweg.core.learner import Learner
from thalweg.core.loop import Bench, Memory, run
from thalweg.core.moves import Learn
from thalweg.core.names import finder
from thalweg.core.protocols import Context, Source
from thalweg.core.recipe import Recipe
from thalweg.core.session import build_learners
from thalweg.core.state import RunState
from thalweg.core.time import Time, share
from thalweg.core.tree import record
from thalweg.core.world import World, open_world
from thalweg.data import Corpus, Mixture
from thalweg.evaluate import held_out_loss
from thalweg.models import Pretrained, export, keep_freed_memory
from thalweg.optim import AdamW
from thalweg.recipes import pretrain
from thalweg.schedules import Cosine, Warmup

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
TEXTS = {
    "tinyshakespeare": ([f"{SHARED}/tinyshakespeare/input.txt"], "bytes", 0.1),
    "domains": ([f"all={SHARED}/domains/*.jsonl"], "bpe:4096", 0.02),
}
RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
SHARES = (0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4)
STEPS = {"1m": 2000, "10m": 4000}
WARMUP = 0.02
CHECK_STEPS, CHECK_NATS = 60, 0.01


class Arm(NamedTuple):
    """What a finished run says."""

    loss: float
    """Held-out nats per token at its end."""
    tokens: int
    seconds: float


class Setting(NamedTuple):
    """What both sides share."""

    model: str
    data: str
    batch: int
    length: int
    dtype: str
    compiled: bool
    steps: int
    via: str
    out: Path


def main() -> None:
    """Run what is missing and print the table."""
    chosen = _arguments()
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()
    for model in chosen.model:
        for data in chosen.data:
            steps = chosen.steps or STEPS[model]
            setting = Setting(
                model, data, chosen.batch, chosen.length, chosen.dtype, chosen.compile, steps,
                chosen.via, Path(chosen.out),
            )  # fmt: skip
            compare(setting, chosen.seeds, chosen.rates)


def compare(setting: Setting, seeds: int, rates: Sequence[float]) -> None:
    """Print one row: how many tokens we need for the peer's loss, over seeds."""
    if setting.via == "loop":
        check = stored(setting, {"check": CHECK_STEPS}, lambda: against_trainer(setting))
        gap = abs(check.loss)
        print(f"{setting.model} {setting.data}: peer through our loop; Trainer's own run of "
              f"{CHECK_STEPS} steps differs by {gap:.4f} nats")  # fmt: skip
        if gap > CHECK_NATS:
            raise SystemExit(f"more than {CHECK_NATS}: use --via trainer")
    tokens, walls = [], []
    for seed in range(seeds):
        peers = {lr: peer(setting, seed, lr) for lr in rates}
        best = min(peers, key=lambda lr: peers[lr].loss)
        ratio, wall = needed(setting, seed, peers[best])
        tokens.append(ratio)
        walls.append(wall)
        losses = ", ".join(f"{lr:g}: {arm.loss:.4f}" for lr, arm in peers.items())
        print(f"  seed {seed}: peer {losses}; best {best:g}; tokens {ratio:.3f}, wall {wall:.3f}")
        if best in (min(rates), max(rates)):
            print("  the best rate lies at the end of the grid: widen --rates")
    print(f"{setting.model} {setting.data}, {setting.steps} steps: tokens to the peer's loss "
          f"{spread(tokens)}, wall time {spread(walls)} (of the peer's)", flush=True)  # fmt: skip


def needed(setting: Setting, seed: int, target: Arm) -> tuple[float, float]:
    """Return the shares of the peer's tokens and seconds at which our loss is the target's."""
    at = SHARES.index(0.5)
    arms = {at: ours(setting, seed, SHARES[at])}
    step = -1 if arms[at].loss <= target.loss else 1
    while 0 <= at + step < len(SHARES):
        at += step
        arms[at] = ours(setting, seed, SHARES[at])
        if (arms[at].loss <= target.loss) == (step == 1):
            low, high = sorted((at, at - step))
            return _between(arms[low], arms[high], target)
    print(f"  not bracketed: {arms[at].loss:.4f} at {SHARES[at]} of the tokens")
    return arms[at].tokens / target.tokens, arms[at].seconds / target.seconds


def _between(low: Arm, high: Arm, target: Arm) -> tuple[float, float]:
    place = (low.loss - target.loss) / (low.loss - high.loss)
    tokens = math.exp(math.log(low.tokens) + place * math.log(high.tokens / low.tokens))
    pace = high.seconds / high.tokens
    return tokens / target.tokens, tokens * pace / target.seconds


def ours(setting: Setting, seed: int, part: float) -> Arm:
    """Return the recipe's defaults, trained for a share of the steps."""
    recipe = base(setting, seed, max(1, round(part * setting.steps)))
    return stored(setting, record(recipe), lambda: train(recipe))


def peer(setting: Setting, seed: int, lr: float) -> Arm:
    """Return Trainer's AdamW with cosine at one rate, over all steps."""
    recipe = as_trainer(base(setting, seed, setting.steps), lr)
    if setting.via == "loop":
        return stored(setting, record(recipe), lambda: train(recipe))
    return stored(setting, {"trainer": record(recipe)}, lambda: run_trainer(recipe, lr))


def base(setting: Setting, seed: int, steps: int) -> Recipe:
    """Return the pretrain recipe with its defaults, but for what the setting fixes for both."""
    data, tokenizer, held_out = TEXTS[setting.data]
    recipe = pretrain.recipe(
        data, model=setting.model, tokenizer=tokenizer, steps=steps, length=setting.length,
        batch=setting.batch, held_out=held_out, dtype=setting.dtype,  # type: ignore[arg-type]
        compile=setting.compiled, seed=seed,
    )  # fmt: skip
    return recipe


def as_trainer(recipe: Recipe, lr: float, warmup: float = WARMUP) -> Recipe:
    """Return the recipe with AdamW and cosine in place of its optimizer, documents not split."""
    phase = recipe.phases[0]
    (learn,) = phase.do
    assert isinstance(learn, Learn)
    rate = Warmup(Cosine(lr), over=share(warmup)) if warmup else Cosine(lr)
    learn = replace(learn, optimizer=AdamW(lr=rate, betas=(0.9, 0.95), weight_decay=0.1))
    monitors = tuple(
        replace(one, sources={n: _unsplit(s) for n, s in one.sources.items()})  # type: ignore[attr-defined, type-var]
        for one in phase.monitors
    )
    phase = replace(phase, do=(learn,), source=_unsplit(phase.source), monitors=monitors)
    return replace(recipe, phases=(phase,))


def _unsplit(source: Source) -> Source:
    if isinstance(source, Mixture):
        return replace(source, sources={n: _unsplit(s) for n, s in source.sources.items()})
    assert isinstance(source, Corpus)
    return replace(source, mask_documents=False)


def train(recipe: Recipe) -> Arm:
    """Train a recipe in memory and measure it on all of its held-out text."""
    phase = replace(recipe.phases[0], monitors=())
    memory = Memory()
    with open_world("auto", "replicate") as world:
        learners = build_learners(recipe, world)
        begin = time.perf_counter()
        run(Bench(replace(recipe, phases=(phase,)), learners, world, memory, finder()), RunState())
        seconds = time.perf_counter() - begin
    loss = measure(recipe, learners["policy"])
    return Arm(loss, int(memory.history[-1]["tokens"]), seconds)


def measure(recipe: Recipe, learner: Learner) -> float:
    """Return the loss on all held-out text of a recipe."""
    (monitor,) = recipe.phases[0].monitors
    sources = monitor.sources  # type: ignore[attr-defined]
    return held_out_loss(learner, sources, Context(Time(), recipe.seed)).loss


def against_trainer(setting: Setting) -> Arm:
    """Return the difference of held-out losses after a few steps: Trainer's less our loop's."""
    lr = RATES[2]
    recipe = as_trainer(base(setting, 0, CHECK_STEPS), lr, warmup=0.0)
    theirs, mine = run_trainer(recipe, lr, warmup=0.0), train(recipe)
    print(f"  check: Trainer {theirs.loss:.4f} in {theirs.seconds:.0f} s, "
          f"our loop {mine.loss:.4f} in {mine.seconds:.0f} s")  # fmt: skip
    return Arm(theirs.loss - mine.loss, mine.tokens, theirs.seconds)


def run_trainer(recipe: Recipe, lr: float, warmup: float = WARMUP) -> Arm:
    """Train with transformers' Trainer from the same weights on the same batches."""
    import transformers
    from torch.utils.data import Dataset, SequentialSampler

    phase, spec = recipe.phases[0], recipe.models["policy"]
    steps, rows = int(phase.steps), int(phase.rows)  # type: ignore[arg-type]  # numbers here
    ctx = Context(Time(), recipe.seed, rows=rows)
    state, batches = phase.source.start(ctx), []
    for _ in range(steps):
        batch, state = phase.source.next(state, ctx)
        batches.append(batch["tokens"])
    tokens_NT = torch.cat(batches)

    class Rows(Dataset[dict[str, torch.Tensor]]):
        def __len__(self) -> int:
            return len(tokens_NT)

        def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
            return {"input_ids": tokens_NT[i], "labels": tokens_NT[i]}

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> SequentialSampler:
            return SequentialSampler(tokens_NT)

    with tempfile.TemporaryDirectory() as folder:
        learner = build_learners(recipe, World())["policy"]
        export(learner.module, spec, folder)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        model.config.use_cache = False
        arguments = transformers.TrainingArguments(
            output_dir=folder, per_device_train_batch_size=rows, max_steps=steps, learning_rate=lr,
            weight_decay=0.1, adam_beta2=0.95, max_grad_norm=1.0, lr_scheduler_type="cosine",
            warmup_steps=round(warmup * steps), optim="adamw_torch_fused", report_to="none",
            save_strategy="no", logging_strategy="no", disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(), bf16=recipe.compute.dtype == "bfloat16",
            torch_compile=recipe.compute.compile, dataloader_num_workers=0,
        )  # fmt: skip
        begin = time.perf_counter()
        InOrder(model=model, args=arguments, train_dataset=Rows()).train()
        seconds = time.perf_counter() - begin
        model.save_pretrained(folder)
        trained = replace(recipe, models={"policy": Pretrained(folder)})
        loss = measure(trained, build_learners(trained, World())["policy"])
    return Arm(loss, tokens_NT.shape[0] * (tokens_NT.shape[1] - 1), seconds)


def stored(setting: Setting, key: Any, make: Callable[[], Arm]) -> Arm:
    """Return an arm from the folder, or run it and store it."""
    text = json.dumps([setting._replace(out=Path(), steps=0), key], sort_keys=True, default=str)
    name = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    path = setting.out / f"{setting.model}-{setting.data}-{name}.json"
    if path.exists():
        return Arm(**json.loads(path.read_text())["arm"])
    arm = make()
    setting.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"arm": arm._asdict(), "key": json.loads(text)}))
    print(f"  {path.name}: {arm.loss:.4f} nats, {arm.tokens:,} tokens, {arm.seconds:.0f} s",
          flush=True)  # fmt: skip
    return arm


def spread(values: Sequence[float]) -> str:
    """Return the mean with its 95 % interval over seeds."""
    if len(values) < 2:
        return f"{values[0]:.3f} (one seed)"
    half = stats.t.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return f"{mean(values):.3f} ({mean(values) - half:.3f} .. {mean(values) + half:.3f})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", nargs="+", default=["1m", "10m"], choices=sorted(STEPS))
    parser.add_argument("--data", nargs="+", default=list(TEXTS), choices=sorted(TEXTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=None, help="of the peer; 2000 at 1m, 4000")
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--via", default="loop", choices=["loop", "trainer"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", default="runs/to-target")
    return parser.parse_args()


if __name__ == "__main__":
    main()
