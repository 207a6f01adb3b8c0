"""From an entry to a verdict: every arm with every seed, each kept as soon as it is finished.

Finished numbers lie in `$THALWEG_HOME/atlas/NAME/SIZE/results.json` and are used again for as long
as the entry's code is the same, so an experiment that was killed goes on where it was.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from thalweg.atlas.listing import Entry, find_entry, open_claim
from thalweg.atlas.runs import final, history
from thalweg.core.checkpoint import write_file
from thalweg.core.claim import Arm, Metrics, Results, Size, Verdict
from thalweg.core.names import home_folder
from thalweg.core.recipe import Recipe
from thalweg.core.rng import key_seed
from thalweg.errors import DialError, RecipeError

__all__ = ["Outcome", "measure", "reproduce"]

TINY_SEEDS = 2
"""Seeds of the `tiny` size, whatever the claim says: it only shows that the entry runs."""


class Outcome(NamedTuple):
    """A verdict and what it cost."""

    entry: Entry
    size: Size
    seeds: int
    verdict: Verdict
    seconds: float
    """Of all arms and seeds, kept ones included as they were measured."""
    results: Results


def reproduce(
    name: str,
    size: Size = Size(),
    *,
    seeds: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Run what is missing of an entry's experiment and judge it.

    Args:
        name: Of the entry, with dashes or underscores.
        size: How large.
        seeds: How many; None: 2 if tiny, else what the claim says.
        say: Told of every arm and seed that is finished.

    Raises:
        RecipeError: No such entry.
        DialError: Fewer than one seed.
    """
    entry = find_entry(name)
    claim = open_claim(entry)
    count = seeds if seeds is not None else TINY_SEEDS if size.name == "tiny" else claim.seeds
    if count < 1:
        raise DialError(
            f"seeds = {count}", expected="1 or more", where="--seeds", write="--seeds 3"
        )
    file = home_folder() / "atlas" / entry.name / size.name / "results.json"
    kept = _read(file, entry.code)
    arms = claim.arms(size)
    for seed in range(count):
        for arm, what in arms.items():
            done = kept.setdefault(arm, {})
            if str(seed) not in done:
                begin = time.perf_counter()
                metrics = dict(measure(what, seed))
                seconds = time.perf_counter() - begin
                done[str(seed)] = {"metrics": metrics, "seconds": seconds}
                _write(file, entry.code, kept)
                say(f"{entry.name}: {arm}, seed {seed}, {seconds:.1f} s")
    rows = {arm: [kept[arm][str(seed)] for seed in range(count)] for arm in arms}
    results = Results({arm: tuple(row["metrics"] for row in rows[arm]) for arm in arms})
    seconds = sum(row["seconds"] for arm in arms for row in rows[arm])
    return Outcome(entry, size, count, claim.judge(results), seconds, results)


def measure(arm: Arm, seed: int) -> Metrics:
    """Return what one arm measures with one seed; the same whenever it is asked.

    Raises:
        RecipeError: The arm returns something that is not a number.
    """
    if isinstance(arm, Recipe):
        return final(history(replace(arm, seed=seed)))
    with torch.random.fork_rng():
        torch.manual_seed(key_seed(seed, "atlas") % 2**63)
        found = arm(seed)
    for name, value in found.items():
        if not isinstance(value, int | float):
            raise RecipeError(
                f"'{name}' of type {type(value).__name__}",
                expected="numbers: int or float",
                where=f"what an arm returned for seed {seed}",
                write=f"float({name})",
            )
    return {name: float(value) for name, value in found.items()}


def _read(file: Path, code: str) -> dict[str, dict[str, Any]]:
    """Return the finished numbers of this code: arm -> seed -> metrics and seconds."""
    if not file.exists():
        return {}
    kept = json.loads(file.read_text())
    return dict(kept["arms"]) if kept["code"] == code else {}


def _write(file: Path, code: str, arms: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, json.dumps({"code": code, "arms": arms}, indent=1))
