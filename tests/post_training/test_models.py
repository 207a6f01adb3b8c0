"""Every post-training recipe on every kind of model: ours, a transformers folder, full and LoRA."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from run_helpers import history, rows, stop_after, tensors
from thalweg.core.session import resume, train
from thalweg.data.tokenizer import byte_tokenizer
from thalweg.launch import find_recipe
from thalweg.models import Transformer, export

TASK = ["--task", "Addition(digits=1)", "--new-tokens", "3"]
TEST = ["--test", "Addition(digits=1)", "--new-tokens", "3", "--measure", "2"]
LINES = {
    "sft": ["--data", "sums.jsonl", "--held-out", "0", "--steps", "2", "--batch", "2", *TEST],
    "preference": ["--data", "pairs.jsonl", "--steps", "2", "--batch", "2", *TEST],
    "rl": [*TASK, "--steps", "2", "--batch", "4", "--group", "2", "--measure", "2"],
    "distill": [*TASK, "--steps", "2", "--batch", "4", "--group", "2", "--measure", "2"],
    "sft_then_rl": [
        *TASK, "--steps", "2", "--sft-steps", "2", "--batch", "4", "--group", "2", "--measure", "2",
    ],
    "self_improve": [
        *TASK, "--steps", "2", "--base-steps", "2", "--rounds", "1", "--batch", "8",
        "--votes", "2", "--measure", "2",
    ],
}  # fmt: skip
FIGURES = {
    "rl": "reward pass@1 heldout/pass@1 entropy length mismatch_kl clip sampled_entropy",
    "sft_then_rl": "reward pass@1 heldout/pass@1 entropy length mismatch_kl clip",
    "distill": "reward pass@1 heldout/pass@1 sampled_entropy length engine_kl divergence",
    "self_improve": "reward pass@1 heldout/pass@1 sampled_entropy length engine_kl agreement",
    "sft": "heldout/reward heldout/pass@1 heldout/sampled_entropy heldout/length",
    "preference": "heldout/reward heldout/pass@1 heldout/sampled_entropy heldout/length accuracy",
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with a model of ours, one with tied weights that is not, and data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THALWEG_HOME", str(tmp_path / "runs"))
    (tmp_path / "bytes").mkdir()
    byte_tokenizer().save(tmp_path / "bytes")
    spec = Transformer(vocabulary=257, width=16, layers=1, heads=2, positions=32)
    export(spec.build(0), spec, tmp_path / "ours", tmp_path / "bytes")
    sizes = {"vocab_size": 257, "n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2}
    shape = GPT2Config(**sizes, bos_token_id=256, eos_token_id=256)
    torch.manual_seed(0)
    GPT2LMHeadModel(shape).save_pretrained(tmp_path / "gpt2")
    byte_tokenizer().save(tmp_path / "gpt2")
    sums = [(f"{a}+{b}=", str(a + b)) for a in range(4) for b in range(4)]
    answers = [{"prompt": prompt, "answer": total} for prompt, total in sums]
    pairs = [{"prompt": p, "chosen": total, "rejected": "0" + total} for p, total in sums]
    for name, lines in (("sums", answers), ("pairs", pairs)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def line(recipe: str, model: str, *words: str) -> list[str]:
    teacher = ["--teacher", model] if recipe == "distill" else []
    known = ["--model", model, *teacher, *LINES[recipe], "--length", "16", "--run", "it", "--quiet"]
    return ["train", recipe, *known, *words]


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set")  # peft, of the Conv1D of GPT-2
@pytest.mark.parametrize(("model", "lora"), [("gpt2", 0), ("gpt2", 2), ("ours", 2)])
@pytest.mark.parametrize("recipe", list(LINES))
def test_a_recipe_ends_with_an_export_and_a_report_with_its_figures(
    run, folder, recipe, model, lora
):
    code, said = run(*line(recipe, model, "--lora", str(lora)))
    assert code == 0, said
    loaded = AutoModelForCausalLM.from_pretrained(str(folder / "runs/it/export"))
    assert type(loaded).__name__ == ("GPT2LMHeadModel" if model == "gpt2" else "LlamaForCausalLM")
    page = (folder / "runs/it/report.html").read_text()
    assert [name for name in FIGURES[recipe].split() if f">{name}<" not in page] == []
    samples = [
        json.loads(one) for one in (folder / "runs/it/samples.jsonl").read_text().splitlines()
    ]
    assert {one["verdict"] for one in samples} <= {"right", "wrong", "unparsed"}


@pytest.mark.parametrize("recipe", ["sft", "sft_then_rl", "self_improve"])
def test_a_fresh_model_of_bytes_is_trained_but_not_adapted(run, recipe):
    code, said = run(*line(recipe, "100k", "--lora", "4"))
    assert code == 3
    assert "--lora 4 on a fresh model" in said
    assert "  write:    " in said


@pytest.mark.parametrize("recipe", list(LINES))
def test_a_folder_without_a_tokenizer_is_refused_before_a_run_begins(run, folder, recipe):
    for file in (folder / "ours").glob("tokenizer*"):
        file.unlink()
    code, said = run(*line(recipe, "ours"))
    assert code == 3
    assert f"no tokenizer that can be read in '{folder / 'ours'}'" in said
    assert "--tokenizer bytes" in said
    assert not (folder / "runs" / "it").exists()
    code, said = run(*line(recipe, "ours", "--tokenizer", "bytes"))
    assert code == 0, said


def test_a_tokenizer_of_more_ids_than_the_model_is_refused(run, folder):
    small = Transformer(vocabulary=100, width=16, layers=1, heads=2, positions=32)
    export(small.build(0), small, folder / "small")
    code, said = run(*line("sft", "small", "--tokenizer", "bytes"))
    assert code == 3
    assert "a tokenizer of 257 ids for a model of 100" in said


def test_without_a_task_samples_go_on_from_the_prompts_of_the_data(run, folder):
    for recipe in ("sft", "preference"):
        words = line(recipe, "ours")
        place = words.index("--test")
        del words[place : place + len(TEST)]
        words[words.index("it")] = recipe
        code, said = run(*words)
        assert code == 0, said
        samples = [
            json.loads(one)
            for one in (folder / f"runs/{recipe}/samples.jsonl").read_text().splitlines()
        ]
        assert len(samples) == 3
        assert all(one["prompt"].endswith("=\n") for one in samples)


def test_a_run_with_tied_weights_is_resumed_bit_for_bit(folder):
    recipe = find_recipe("sft")[0](
        model="gpt2", data=["sums.jsonl"], held_out=0.0, steps=4, length=16, batch=2, lr=1e-2
    )
    train(recipe, folder / "whole")
    train(recipe, folder / "cut", session=stop_after(2))
    resume(folder / "cut")
    assert history(folder / "cut") == history(folder / "whole")
    assert tensors(folder / "cut") == tensors(folder / "whole")
    names = [name for name in tensors(folder / "whole") if "wte" in name or "lm_head" in name]
    assert sum(name.startswith("policy.model.") for name in names) == 1
    assert rows(folder / "whole")[-1]["step"] == 4
