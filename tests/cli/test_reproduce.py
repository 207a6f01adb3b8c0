"""`thalweg reproduce`: the list, the table, the record, and what it refuses."""

import json


def test_the_list_names_every_entry_and_runs_none(shell):
    code, out, _ = shell("reproduce", "--list")
    assert code == 0
    assert "rex" in out
    assert "arXiv:2410.05192" in out
    assert not (shell.folder / "runs").exists()


def test_an_entry_is_run_judged_kept_and_recorded(shell):
    code, out, said = shell(
        "reproduce", "stability-sharpness", "--size", "tiny", "--record", "out.json"
    )
    assert code == 0
    assert out.splitlines()[0].split() == [
        *("name", "paper", "verdict", "effect", "95", "%", "interval", "seconds"),
    ]
    assert "stability-sharpness: sgd, seed 0" in said
    assert "tiny shows that an entry runs" in out
    recorded = json.loads((shell.folder / "out.json").read_text())["stability-sharpness"]
    assert recorded["size"] == "tiny"
    code, again, said = shell("reproduce", "stability_sharpness", "--size", "tiny")
    assert again == out
    assert said == ""


def test_an_unknown_entry_is_refused_before_another_is_run(shell):
    code, _, said = shell("reproduce", "rex", "rox", "--size", "tiny")
    assert code == 3
    assert "did you mean 'rex'" in said
    assert "seed 0" not in said


def test_no_seed_is_refused(shell):
    code, _, said = shell("reproduce", "rex", "--seeds", "0")
    assert code == 3
    assert "1 or more" in said
