"""The bars on real curves. Means over curves a fit has not seen."""

import pytest

from laws.loss_curves import B_TRAIN, ROOT, WHY_NOT, a_held, a_train, index, set_a, set_b, set_d
from thalweg.laws import AnnealingLaw, Effective, MultiPowerLaw, errors_of, fit

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=WHY_NOT)
DEFAULT = MultiPowerLaw(rates=Effective(), relaxation="steps")


def test_the_published_constants_of_the_annealing_law_come_out():
    values = fit(AnnealingLaw(), set_d()).values
    published = {"asymptote": 2.628, "progress": 0.430, "exponent": 0.550, "annealing": 0.411}
    for name, value in published.items():
        assert values[name] == pytest.approx(value, rel=0.005)


@pytest.mark.parametrize(
    ("size", "mean", "worst"),
    [("25M", 0.0036, 0.0041), ("100M", 0.0035, 0.0052), ("400M", 0.0048, 0.0064)],
)
def test_set_b_is_predicted_better_than_by_its_authors(size, mean, worst):
    curves = set_b(size)
    fitted = fit(DEFAULT, [curves[name] for name in B_TRAIN])
    found = errors_of(fitted, [c for name, c in curves.items() if name not in B_TRAIN])
    assert found.mae <= mean
    assert found.worst <= worst


def test_runs_twice_as_long_are_predicted_from_short_ones():
    found = errors_of(fit(DEFAULT, a_train("0.001")), a_held("0.001"))
    assert found.mae <= 0.0025
    assert found.largest <= 0.025


def test_the_plain_annealing_law_is_as_good_as_published():
    found = errors_of(fit(AnnealingLaw(), a_train("0.001")), a_held("0.001"))
    assert found.mae == pytest.approx(0.00472, abs=1e-4)


@pytest.mark.parametrize("peaks", [("0.001",), ("0.0001", "0.001")])
def test_a_fit_holds_at_peaks_it_has_not_seen(peaks):
    fitted = fit(DEFAULT, [curve for peak in peaks for curve in a_train(peak)])
    for held in ("0.0005", "0.002"):
        assert errors_of(fitted, a_held(held)).mae <= 0.01


def test_a_fit_on_constant_and_cooled_runs_predicts_cosines_at_twice_the_peak():
    runs = [c.since(1500) for c in set_a("L12H14", "openwebtext2").values()]
    fitted = fit(DEFAULT, [c for c in runs if "__wsd__" in c.name])
    assert errors_of(fitted, [c for c in runs if "__cos__" in c.name]).mae <= 0.006


def test_extended_schedules_of_the_bound_win_on_the_124m_runs():
    finals = {r["file"]: float(r["final_val_loss"]) for r in index() if "extend-50k" in r["file"]}
    for length in (100, 200):
        these = {name: v for name, v in finals.items() if f"T{length}000" in name}
        same = next(v for k, v in these.items() if "wsd__lr" in k and k.endswith("0.2.csv"))
        assert sorted(these.values())[-1] == same
