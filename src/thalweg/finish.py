"""What a run is good for once it stands: samples, held-out loss, an exported folder, a report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from textwrap import wrap
from typing import NamedTuple

from safetensors import SafetensorError

from thalweg.core.batch import targets_of
from thalweg.core.checkpoint import (
    checkpoints,
    damage_of,
    fill_learners,
    newest_whole,
    no_checkpoint,
    read_state,
    step_of,
)
from thalweg.core.grow import Growable
from thalweg.core.learner import Learner
from thalweg.core.names import called, finder
from thalweg.core.protocols import Context, Foreseen, ModelSpec, Source
from thalweg.core.recipe import Recipe, origin
from thalweg.core.replay import batch_at
from thalweg.core.session import build_learners, check_recipe, open_run
from thalweg.core.state import RunState
from thalweg.core.text import encodes
from thalweg.core.time import Time
from thalweg.core.tree import flatten
from thalweg.core.world import World, is_main
from thalweg.data import Corpus, Ordered, Pairs, Preferences
from thalweg.data.tokenizer import Tokenizer, load_tokenizer
from thalweg.errors import DataError, StateError, did_you_mean, no_room
from thalweg.evaluate import HeldOutLoss, held_out_loss
from thalweg.models import Decoder, export
from thalweg.monitors import HeldOut, Stability
from thalweg.report import write_report
from thalweg.rollouts import Answer, Demonstrations, Rollouts, Sampling, Solved, generate

__all__ = [
    "Written",
    "close",
    "evaluate",
    "export_run",
    "finish",
    "open_learner",
    "sample",
    "show_data",
]

PROMPTS = ("import ", "def ", "The ")
"""What a run is asked to go on from when nobody says."""


def open_learner(
    run: Path, model: str = "policy", step: int | None = None
) -> tuple[Recipe, Learner]:
    """Return a run's recipe and a model of it with the weights of its newest whole checkpoint.

    Args:
        run: The run's folder.
        model: Name in the recipe.
        step: Only checkpoints of at most this step.

    Raises:
        StateError: No such model, no whole checkpoint, or a recipe.json that was changed.
    """
    recipe, file = open_run(run)
    path = newest_whole(run, lambda text: None, step)
    if path is None:
        raise no_checkpoint(run)
    if model not in recipe.models:
        raise StateError(
            f"model '{model}' of run '{run.name}'",
            expected=f"one of {sorted(recipe.models)}",
            where=str(run),
            write=did_you_mean(model, recipe.models),
        )
    saved = read_state(path)
    check_recipe(saved, run)
    learners = build_learners(recipe, World(), RunState.from_json(saved["state"]))
    fill_learners(path, learners, World(), finder(file))
    return recipe, learners[model]


class Written(NamedTuple):
    """A prompt and how a model goes on."""

    prompt: str
    text: str
    full: bool
    """Whether the model's positions ended it, before as many tokens as were asked for."""


def sample(
    run: Path,
    prompts: tuple[str, ...] = PROMPTS,
    *,
    tokens: int = 120,
    temperature: float = 0.8,
    top_p: float = 0.95,
    seed: int = 0,
    model: str = "policy",
) -> list[Written]:
    """Return what a run's model writes after each prompt.

    Raises:
        DataError: A prompt that is no text.
        StateError: No such model, no whole checkpoint, or data without a tokenizer.
    """
    _check_text(prompts)
    recipe, learner = open_learner(run, model)
    tokenizer = load_tokenizer(tokenizer_of(recipe, run))
    ids = [[tokenizer.end_id, *tokenizer.encode(prompt)] for prompt in prompts]
    how = Sampling(new_tokens=tokens, temperature=temperature, top_p=top_p)
    answers = _written(learner, tokenizer, ids, how, seed)
    return [
        Written(prompt, text, not answer.finished and len(answer.tokens) < tokens)
        for prompt, (text, answer) in zip(prompts, answers, strict=True)
    ]


def _check_text(prompts: Sequence[str]) -> None:
    """Refuse a prompt that holds bytes of another encoding, which a shell may hand on."""
    for prompt in prompts:
        if not encodes(prompt):
            raise DataError(
                f"prompt {prompt!a}",
                expected="text in UTF-8",
                where="--prompt",
                write="the prompt in UTF-8, as iconv -t UTF-8 writes it",
            )


def evaluate(
    run: Path, data: Mapping[str, Path] | None = None, length: int = 0, model: str = "policy"
) -> HeldOutLoss:
    """Return the loss on the run's held-out text, or on stores by name.

    Raises:
        StateError: The run held nothing out, and no text was given.
    """
    recipe, learner = open_learner(run, model)
    held = _held_out(recipe)
    if data is not None:
        length = length or next((t.length for t in _texts(recipe)), 256)
        held = {n: Corpus(str(p), length=length, shuffle=False, name=n) for n, p in data.items()}
    if not held:
        raise StateError(
            "a run without held-out text",
            expected="text to measure on",
            where=str(run),
            write=f"thalweg evaluate {called(run)} --data FILES",
        )
    return held_out_loss(learner, held, Context(Time(), recipe.seed))


def _held_out(recipe: Recipe) -> dict[str, Source]:
    """Return the texts that the monitors of a run measure losses on, by name."""
    found: dict[str, Source] = {}
    for monitor in (one for phase in recipe.phases for one in phase.monitors):
        if isinstance(monitor, HeldOut):
            found |= monitor.sources
        if isinstance(monitor, Stability):
            found |= {**monitor.old, **monitor.new}
    return found


def export_run(run: Path, folder: Path, model: str = "policy") -> Path:
    """Write a folder that transformers loads, tokenizer included; return it.

    Raises:
        StateError: The disk is full.
    """
    recipe, learner = open_learner(run, model)
    with _room_for(folder, f"thalweg export {called(run)} {quote(str(folder))}"):
        return _export(recipe, learner, folder)


def finish(run: Path, prompts: tuple[str, ...] = PROMPTS) -> Path:
    """Write samples, the exported folder and the report of a run; return the report.

    Samples go on from the prompts of the run's own data, where it has some. A run that has no text
    gets the report alone, one on ids no samples; one that showed answers keeps them as its samples.
    """
    recipe, _ = open_run(run)
    known = tokenizer_folder(recipe)
    if (known is not None or _stores(recipe)) and "policy" in recipe.models:
        recipe, learner = open_learner(run)
        shown = any(_shows(value) for value in flatten(recipe.phases).values())
        if known is not None and not shown:
            step = read_state(newest_whole(run, lambda text: None) or run)["state"]["run_step"]
            rows = _samples(recipe, learner, prompts)
            with (run / "samples.jsonl").open("w") as file:
                for prompt, text in rows:
                    file.write(json.dumps({"step": step, "prompt": prompt, "text": text}) + "\n")
        _export(recipe, learner, run / "export")
    return write_report([run], run / "report.html")


def close(folder: Path, state: RunState, code: int) -> None:
    """Write samples, export and report of a finished run on the main rank; print what is next.

    Raises:
        StateError: The disk is full.
    """
    if not is_main():
        return
    run = called(folder)
    with _room_for(folder, f"thalweg resume {run}"):
        page = folder / "report.html"
        report = finish(folder) if code == 0 else write_report([folder], page)
    print(f"\n{run}: {state.run_step} steps, {state.run_tokens:,} tokens")
    if state.stopped:
        print(f"stopped: {state.stopped}")
    print(f"report:  {report}")
    for file in read_samples(folder)[:1]:
        print(f"sample:  {file[0]!r} ->\n{file[0]}{file[1]}")
    if (folder / "export").exists():
        print(f"export:  {folder / 'export'}  (transformers: AutoModelForCausalLM.from_pretrained)")
    if code == 0:
        steps = [step_of(path) for path in checkpoints(folder)]
        at = steps[len(steps) // 2]
        print("next:")
        if (folder / "export").exists() and tokenizer_folder(open_run(folder)[0]) is not None:
            print(f"  thalweg sample {run} --prompt {quote(_prompt_to_try(folder))}")
        print(f"  thalweg branch {run} --at {at} --decay {max(1, at // 4)}")
        print(f"  thalweg extend {run} --steps {max(1, state.run_step // 2)}")
        if isinstance(open_run(folder)[0].phases[0].source, Foreseen):
            print(f"  thalweg data {run} --step 1")


@contextmanager
def _room_for(place: Path, again: str) -> Iterator[None]:
    """Say of a disk that is full what could not be written, and what to call again."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not no_room(error):
            raise
        raise StateError(
            f"'{place}' cannot be written: {error}",
            expected="room on the disk; checkpoints and history are whole",
            where=str(place.absolute()),
            write=f"make room, then: {again}",
        ) from error


def read_samples(folder: Path) -> list[tuple[str, str]]:
    """Return (prompt, text) of a run's samples."""
    file = folder / "samples.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(row["prompt"], row["text"]) for row in map(json.loads, lines)]


def _prompt_to_try(folder: Path) -> str:
    """Return a prompt of the run's own samples, or how a long one begins, if it has one."""
    own = (wrap(start, 60) for start, _ in read_samples(folder) if start not in PROMPTS)
    return next((lines[0] for lines in own if lines and lines[0].isprintable()), "def main(")


def show_data(run: Path, step: int, rows: int = 4, characters: int = 400) -> str:
    """Return what a step of a run saw: source, row number and text of each row."""
    recipe, file = open_run(run)
    newest = next((path for path in reversed(checkpoints(run)) if not damage_of(path)), None)
    if newest is not None:
        check_recipe(read_state(newest), run)
    batch, names = batch_at(run, recipe, step, finder(file))
    folder = tokenizer_folder(recipe)
    tokenizer = load_tokenizer(folder) if folder is not None else None
    columns = [name for name in ("tokens", "chosen", "rejected") if name in batch]
    counted = targets_of(batch).tolist()
    lines = [f"step {step}: {batch.rows} rows, {sum(counted)} target tokens"]
    shown = batch.take(range(min(rows, batch.rows)))
    for i in range(shown.rows):
        source, number = names[int(shown["source"][i])], int(shown["id"][i])
        texts = [_text(tokenizer, shown[name][i].tolist())[:characters] for name in columns]
        lines += [f"\n--- row {i}: {source} #{number}, {counted[i]} targets", *texts]
    if batch.rows > shown.rows:
        lines.append(f"\n... and {batch.rows - shown.rows} more rows (--rows)")
    return "\n".join(lines)


def tokenizer_folder(recipe: Recipe) -> str | None:
    """Return the store or the tokenizer of a run's text; None without text, or if none is kept."""
    stores = [one for one in _stores(recipe) if not _keeps_none(one)]
    values = flatten(recipe.phases).values()
    asked = [value.tokenizer for value in values if isinstance(value, Rollouts | Demonstrations)]
    return next(iter([*stores, *asked]), None)


def tokenizer_of(recipe: Recipe, run: Path) -> str:
    """Return the tokenizer of a run's text; bytes where it reads none.

    Raises:
        StateError: Its data came as ids, without one.
    """
    known = tokenizer_folder(recipe)
    if known is None and _stores(recipe):
        raise StateError(
            f"a run on ids, whose tokenizer nobody kept: {_stores(recipe)[0]}",
            expected="text that was built here: its store has tokenizer.json",
            where=str(run),
            write=f"thalweg export {called(run)} FOLDER, for transformers and your own tokenizer",
        )
    return known or "bytes"


def _stores(recipe: Recipe) -> list[str]:
    """Return what sources read: folders of stores, or files of other layouts."""
    named = (getattr(value, "store", None) for value in flatten(recipe.phases).values())
    return [store for store in named if isinstance(store, str)]


def _keeps_none(store: str) -> bool:
    """Return whether a store of another layout stands there, which has no tokenizer."""
    place = Path(store).expanduser()
    return place.exists() and not (place / "tokenizer.json").is_file()


def _texts(recipe: Recipe) -> list[Corpus | Ordered | Pairs]:
    """Return everything in the phases that reads rows of text."""
    values = flatten(recipe.phases).values()
    return [value for value in values if isinstance(value, Corpus | Ordered | Pairs)]


def _spec(recipe: Recipe, learner: Learner) -> ModelSpec:
    """Return what built a model; of one that may have grown, its own word counts."""
    spec, module = origin(recipe, learner.name)[1], learner.module
    return module.spec if isinstance(spec, Growable) and isinstance(module, Decoder) else spec


def _shows(part: object) -> bool:
    """Return whether a part of a run puts answers among its samples."""
    return isinstance(part, Rollouts) or (isinstance(part, Solved) and part.show > 0)


def _samples(
    recipe: Recipe, learner: Learner, prompts: Sequence[str], count: int = 3
) -> list[tuple[str, str]]:
    """Return what the model writes after prompts of the run's pairs; after these without any."""
    tokenizer = load_tokenizer(tokenizer_folder(recipe) or "bytes")
    ids = [[tokenizer.end_id, *tokenizer.encode(prompt)] for prompt in prompts]
    pairs = [v for v in flatten(recipe.phases).values() if isinstance(v, Pairs | Preferences)]
    if pairs:
        ids = _asked(min(pairs, key=lambda one: one.shuffle), recipe.seed, count)
    how = Sampling(new_tokens=120, temperature=0.8, top_p=0.95)
    begun = [tokenizer.decode(one, special=False) for one in ids]
    answers = _written(learner, tokenizer, ids, how)
    return [(start, text) for start, (text, _) in zip(begun, answers, strict=True)]


def _asked(source: Pairs | Preferences, seed: int, count: int) -> list[list[int]]:
    """Return prompts, as ids: the beginning of rows up to the first target that counts."""
    ctx = Context(Time(), seed, rows=count)
    batch, _ = source.next(source.start(ctx), ctx)
    column, weight = (
        ("tokens", "weight") if isinstance(source, Pairs) else ("chosen", "chosen_weight")
    )
    firsts = (batch[weight] > 0).int().argmax(1).tolist()
    return [ids[: first + 1] for ids, first in zip(batch[column].tolist(), firsts, strict=True)]


def _written(
    learner: Learner,
    tokenizer: Tokenizer,
    ids: Sequence[Sequence[int]],
    how: Sampling,
    seed: int = 0,
) -> list[tuple[str, Answer]]:
    """Return what a model writes after each prompt, as text and as it was drawn."""
    with learner.evaluating():
        made = generate(learner.module, ids, how, end_id=tokenizer.end_id, seed=seed)
    return [(tokenizer.decode(answer.tokens, special=False), answer) for [answer] in made]


def _export(recipe: Recipe, learner: Learner, folder: Path) -> Path:
    known = tokenizer_folder(recipe)
    with learner.averaged(), TemporaryDirectory() as scratch:
        if known is not None and not Path(known).is_dir():
            load_tokenizer(known).save(scratch)
            known = scratch
        export(learner.module, _spec(recipe, learner), folder, known)
    return folder


def _text(tokenizer: Tokenizer | None, ids: list[int]) -> str:
    """Return ids as text, without what fills the end of a row; as numbers without a tokenizer."""
    if tokenizer is None:
        return " ".join(map(str, ids))
    shown = [*ids]
    while shown[-2:] == [tokenizer.end_id] * 2:
        shown.pop()
    return tokenizer.decode(shown)
