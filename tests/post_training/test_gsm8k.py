"""GSM8K with a real model folder: SFT and GRPO for 20 steps without a number that is not finite."""

import json
import math
from pathlib import Path

import pytest

from thalweg.core.session import train
from thalweg.launch import find_recipe

DATA = Path(__file__).parents[2].parent / "shared" / "data"
STORIES, GSM8K = DATA / "stories260k", DATA / "gsm8k"
NEEDED = pytest.mark.skipif(
    not (STORIES.is_dir() and GSM8K.is_dir()), reason="the data is not beside the repository"
)
STEPS = 20


def digits(prompt: str, answer: str, problem: object) -> float:
    """Return the share of digits: what an untrained model can be rewarded for."""
    return sum(sign.isdigit() for sign in answer) / max(len(answer), 1)


def finite(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    for row in rows:
        assert all(math.isfinite(v) for v in row.values() if isinstance(v, float)), row
    return rows


@NEEDED
@pytest.mark.slow
def test_sft_and_grpo_run_20_steps_on_gsm8k_and_every_number_is_finite(tmp_path, monkeypatch):
    monkeypatch.setenv("THALWEG_HOME", str(tmp_path))
    known = {"model": str(STORIES), "tokenizer": "bytes", "steps": STEPS, "length": 512, "seed": 1}
    sft = find_recipe("sft")[0](
        data=[str(GSM8K / "train.jsonl")], prompt="question", overlong="drop", batch=2, lr=1e-3,
        **known,
    )  # fmt: skip
    train(sft, tmp_path / "sft")
    losses = [row["loss"] for row in finite(tmp_path / "sft")]
    assert len(losses) == STEPS
    assert losses[-1] < losses[0]
    for name, extra in (("verdicts", {}), ("own", {"reward": f"{__file__}:digits"})):
        made = find_recipe("rl")[0](
            task=str(GSM8K / "train.jsonl"), batch=8, group=4, new_tokens=24, lr=1e-4,
            test=str(GSM8K / "test.jsonl"), measure=4, **known, **extra,
        )  # fmt: skip
        train(made, tmp_path / name)
        rows = finite(tmp_path / name)
        assert len(rows) == STEPS
        assert max(row["mismatch_kl"] for row in rows) < 1e-4
