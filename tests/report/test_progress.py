"""The live line."""

import io
import time

import pytest

from thalweg.report import Progress, progress_line


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_says_everything_that_is_known() -> None:
    values = {
        "step": 1234,
        "phase": "train",
        "loss": 2.34567,
        "lr": 3e-4,
        "tokens_per_second": 12_345.0,
        "utilisation": 0.412,
    }
    assert progress_line(values, steps=5000, left=83.0) == (
        "step 1,234/5,000 | train | loss 2.346 | lr 3.00e-04 | 12.3k tok/s | util 41 % | "
        "1 min 23 s left"
    )


def test_a_line_leaves_out_what_is_unknown() -> None:
    values = {"step": 3, "phase": "", "utilisation": None}
    assert progress_line(values, steps=None, left=float("nan")) == "step 3"


def test_without_a_terminal_one_line_is_printed_every_few_seconds() -> None:
    out, clock = io.StringIO(), Clock()
    with Progress(steps=100, every_seconds=10.0, stream=out, clock=clock) as bar:
        for step in range(1, 101):
            clock.now = 0.5 * step
            bar.update({"step": step, "phase": "train", "loss": 2.0, "dial/a.lr": 0.1}, {})
    steps = [line.split(" | ")[0] for line in out.getvalue().splitlines()]
    assert steps == [f"step {n}/100" for n in (1, 21, 41, 61, 81, 100)]


def test_the_time_left_follows_the_mean_speed() -> None:
    out, clock = io.StringIO(), Clock()
    with Progress(steps=100, every_seconds=10.0, stream=out, clock=clock) as bar:
        for step in (1, 11):
            clock.now = 2.0 * step
            bar.update({"step": step, "loss": 2.0}, {})
    assert out.getvalue().splitlines()[-1].endswith("2 min 58 s left")  # 89 steps of 2 s


def test_a_run_that_is_interrupted_at_once_does_not_say_that_nothing_is_left() -> None:
    out, clock = io.StringIO(), Clock()
    with Progress(steps=100, every_seconds=10.0, stream=out, clock=clock) as bar:
        for step in (1, 2, 3):
            bar.update({"step": step, "loss": 2.0}, {})
    assert out.getvalue().splitlines()[-1].startswith("step 3/100")
    assert " left" not in out.getvalue()


def test_the_loss_is_smoothed_without_a_bias_at_the_start() -> None:
    out = io.StringIO()
    with Progress(steps=3, stream=out) as bar:
        bar.update({"step": 1, "loss": 4.0}, {})
        bar.update({"step": 2, "loss": 2.0}, {})
    mean = (0.95 * 4.0 + 2.0) / 1.95
    assert [line.split(" | ")[1] for line in out.getvalue().splitlines()] == [
        "loss 4.000",
        f"loss {mean:.3f}",
    ]


def test_the_last_measured_speed_stays_on_the_line() -> None:
    out = io.StringIO()
    with Progress(steps=3, stream=out) as bar:
        bar.update({"step": 1}, {"tokens_per_second": 5_000.0, "utilisation": None})
        bar.update({"step": 2}, {})
    assert out.getvalue().splitlines()[-1].startswith("step 2/3 | 5,000 tok/s")


def test_long_lines_are_not_broken_and_markup_is_not_read() -> None:
    out = io.StringIO()
    with Progress(steps=3, stream=out) as bar:
        bar.note("[red]" + 300 * "x")
    assert out.getvalue() == "[red]" + 300 * "x" + "\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_call_costs_little(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    report = {"step": 1, "loss": 2.0, "phase": "train", **{f"dial/{i}.lr": 0.1 for i in range(9)}}
    timing = {"tokens_per_second": 1e4, "utilisation": 0.4}
    with Progress(steps=10**6, stream=stream) as bar:
        bar.update(report, timing)
        start = time.perf_counter()
        for _ in range(20_000):
            bar.update(report, timing)
        spent = time.perf_counter() - start
    assert spent / 20_000 < 2e-4


def test_on_a_terminal_the_line_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, clock = io.StringIO(), Clock()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    with Progress(steps=10, stream=stream, clock=clock) as bar:
        for step in range(1, 11):
            clock.now += 1.0
            bar.update({"step": step, "loss": 1.0}, {})
    assert "step 10/10" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()
