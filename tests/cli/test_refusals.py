"""Bad input gets an error of four parts before step 0, and nothing is written."""

import re

import pytest

from thalweg.launch import parse_override


@pytest.fixture
def refuse(shell):
    """Run a bad command; return its message after checking its form."""

    def run(*arguments: str, code: int = 3) -> str:
        before = sorted(path.name for path in (shell.folder / "runs").glob("*/recipe.json"))
        found, _, err = shell(*arguments)
        assert found == code, err
        if code == 3:
            message = err[err.index("error: ") :]
            for part in ("  expected: ", "  where:    ", "  write:    "):
                assert part in message
        after = sorted(path.name for path in (shell.folder / "runs").glob("*/recipe.json"))
        assert after == before, "nothing was written"
        return err

    return run


def train(*arguments: str, data: str = "a.txt") -> tuple[str, ...]:
    small = "--model 250k --tokenizer bytes --length 16 --batch 4 --quiet --steps 2".split()
    return ("train", "pretrain", "--data", data, *small, *arguments)


def test_an_unknown_recipe_is_answered_with_the_nearest(refuse):
    assert "did you mean 'pretrain'?" in refuse("train", "pretrian")


def test_an_unknown_option_is_answered_with_the_nearest(refuse):
    assert "--steps" in refuse("train", "pretrain", "--data", "a.txt", "--stps", "3", code=2)


def test_an_unknown_path_is_answered_with_the_nearest(refuse):
    assert "did you mean 'lr.peak'" in refuse(*train("lr.peek=1"))


def test_an_ambiguous_path_is_answered_with_the_candidates(refuse):
    assert "ends" in refuse(*train("decay.unit='steps'", "unit='steps'"))


def test_a_value_of_another_kind_is_refused(refuse):
    assert "'fast'" in refuse(*train("lr.peak=fast"))


def test_an_argument_that_is_no_override_is_refused(refuse):
    assert "path=literal" in refuse(*train("hello"))


def test_an_empty_corpus_is_refused(refuse, shell):
    (shell.folder / "empty.txt").write_text("")
    assert "empty corpus" in refuse(*train(data="empty.txt"))


def test_a_text_smaller_than_one_row_is_refused(refuse, shell):
    (shell.folder / "tiny.txt").write_text("seven..")
    found = refuse(*train("--held-out", "0", data="tiny.txt"))
    assert "a source of 7 targets, less than one row of 16" in found
    assert "write:    --length 7 (in Python length=7), or more text" in found


def test_an_undecodable_file_is_named_with_its_byte(refuse, shell):
    (shell.folder / "bad.txt").write_bytes(b"abc\xff\xfe")
    assert "bad.txt, byte 3" in refuse(*train(data="bad.txt"))


def test_a_record_without_the_field_is_named_with_its_line(refuse, shell):
    (shell.folder / "x.jsonl").write_text('{"text": "a b"}\n{"txt": "c"}\n')
    err = refuse(*train(data="x.jsonl"))
    assert "x.jsonl, line 2" in err
    assert "txt" in err


@pytest.mark.parametrize("weights", ["a=-1,b=1", "a=nan,b=1", "a=0,b=0"])
def test_weights_that_mean_nothing_are_refused(refuse, weights):
    refuse(*train("--data", "b.txt", "--weights", weights))


@pytest.mark.parametrize("option", ["--weights", "--to"])
def test_two_weights_for_one_source_are_refused(refuse, option):
    err = refuse(*train("--data", "b.txt", option, "a=1,b=1,a=3"))
    assert "two weights for 'a': a=1 and a=3" in err
    assert f"write:    {option} b=1,a=3" in err


def test_a_weight_for_no_source_is_refused(refuse):
    assert "did you mean" in refuse(*train("--data", "b.txt", "--weights", "a=1,bb=1"))


def test_a_ramp_to_no_source_or_to_none_at_all_is_refused(refuse):
    assert "where:    --to" in refuse(*train("--data", "b.txt", "--to", "bb=1"))
    assert "a weight above 0" in refuse(*train("--data", "b.txt", "--to", "a=0"))


def test_a_cap_that_the_budget_breaks_is_answered_with_what_would_do(refuse, shell):
    found = refuse(*train("--data", "b.txt", "--weights", "unimax:0.001"))
    assert "tokens short" in found
    wants = re.search(r"write: +--tokens ([0-9.]+), --weights (unimax:[0-9.]+),", found)
    plan = ("plan", *train("--data", "b.txt")[1:])
    assert shell(*plan, "--weights", wants[2])[0] == 0
    less = [part for part in plan if part not in ("--steps", "2")]
    assert shell(*less, "--weights", "unimax:0.001", "--tokens", wants[1])[0] == 0


@pytest.mark.parametrize("weights", ["unimax", "unimax:-1", "temperature:0", "unimix:4"])
def test_a_rule_of_weights_that_is_none_is_refused(refuse, weights):
    assert "where:    --weights" in refuse(*train("--data", "b.txt", "--weights", weights))


def test_a_vocabulary_larger_than_the_models_is_refused(refuse):
    assert "token ids up to 256" in refuse(*train("models.policy.vocabulary=100"))


def test_rows_longer_than_the_positions_are_refused(refuse):
    assert "rows of 16 tokens" in refuse(*train("models.policy.positions=8"))


def test_a_run_that_exists_is_left_alone(refuse, shell):
    shell(*train("--run", "mine"))
    assert "thalweg resume mine" in refuse(*train("--run", "mine"))


def test_a_schedule_that_needs_an_end_is_refused_in_an_endless_run(refuse):
    assert "endless" in refuse(*train("steps=None"))


def test_an_empty_batch_is_refused(refuse):
    assert "rows = 0" in refuse(*train("rows=0"))


def test_a_missing_file_is_named(refuse):
    assert "gone.txt" in refuse(*train(data="gone.txt"))


def test_a_missing_run_is_answered_with_those_there_are(refuse):
    refuse("resume", "nothing")
    refuse("report", "nothing")


def test_a_hub_name_without_network_says_so(refuse, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    err = refuse("train", "pretrain", "--data", "a.txt", "--tokenizer", "owner/none", "--quiet")
    assert "owner/none" in err


def test_an_override_reads_literals_and_bare_words():
    assert parse_override("lr.peak=2e-3") == ("lr.peak", 0.002)
    assert parse_override("compute.dtype=bfloat16") == ("compute.dtype", "bfloat16")
    assert parse_override("micro=None") == ("micro", None)
    assert parse_override("compute.compile=true") == ("compute.compile", True)
    assert parse_override("betas=(0.9, 0.99)") == ("betas", (0.9, 0.99))
