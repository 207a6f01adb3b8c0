"""Rates of a run from its lengths, in steps."""

import pytest

from thalweg.errors import DialError
from thalweg.laws import cosine, warmup_hold_decay


@pytest.mark.parametrize("rates", [warmup_hold_decay, cosine])
@pytest.mark.parametrize("warmup", [0.1, 20.0, -1, 101, "10", True, None])
def test_a_warmup_that_is_no_number_of_steps_of_the_run_is_refused(rates, warmup):
    with pytest.raises(DialError, match="warmup = "):
        rates(100, peak=1e-3, warmup=warmup)


@pytest.mark.parametrize("decay", [0.2, -1, 81, "10"])
def test_a_decay_that_does_not_fit_behind_the_warmup_is_refused(decay):
    with pytest.raises(DialError, match="decay = "):
        warmup_hold_decay(100, peak=1e-3, warmup=20, decay=decay)


@pytest.mark.parametrize("steps", [100.5, "100", None, -1])
def test_a_run_of_no_number_of_steps_is_refused(steps):
    for rates in (warmup_hold_decay, cosine):
        with pytest.raises(DialError, match="steps = "):
            rates(steps, peak=1e-3)


def test_warmup_and_decay_may_be_the_whole_run():
    assert warmup_hold_decay(4, peak=1.0, warmup=2, decay=2).tolist() == [0.5, 1.0, 1.0, 0.5]
