import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from thalweg.data.weights import (
    capped_simplex,
    epochs_of,
    relative_utility,
    temperature,
    unimax,
    utilimax,
)
from thalweg.errors import RecipeError

GERMANIC = {
    "swe": 179955884499,
    "fas": 184595788282,
    "ekk": 42541080893,
    "isl": 10027573389,
    "fao": 549707867,
}
FOUR = {"a": 5e9, "b": 5e9, "c": 1e9, "d": 100e9}
UTILITY = {
    "a": {"x": 0.9, "y": 0.1, "z": 0.2},
    "b": {"x": 0.1, "y": 0.9, "z": 0.2},
    "c": {"x": 0.3, "y": 0.3, "z": 0.9},
    "d": {"x": 0.05, "y": 0.05, "z": 0.05},
}


def filled(sizes: dict[str, float], budget: float, epochs: float) -> dict[str, float]:
    """Return UniMax as its algorithm box writes it: a loop from the smallest source up."""
    left, share = budget, {}
    names = sorted(sizes, key=sizes.__getitem__)
    for number, name in enumerate(names):
        share[name] = min(left / (len(names) - number), epochs * sizes[name])
        left -= share[name]
    total = sum(share.values())
    return {name: share[name] / total for name in sizes}


def test_unimax_gives_the_published_numbers():
    found = unimax(GERMANIC, 250e9, 4)
    assert {name: round(weight, 6) for name, weight in found.items()} == {
        "swe": 0.276921,
        "fas": 0.276921,
        "ekk": 0.276921,
        "isl": 0.160441,
        "fao": 0.008795,
    }
    epochs = epochs_of(found, GERMANIC, 250e9)
    assert {name: round(count, 3) for name, count in epochs.items()} == {
        "swe": 0.385,
        "fas": 0.375,
        "ekk": 1.627,
        "isl": 4.0,
        "fao": 4.0,
    }


SIZES = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(SIZES, st.floats(0.01, 1.0), st.floats(0.1, 9.0))
def test_unimax_is_the_loop_of_the_paper(sizes: list[float], part: float, epochs: float):
    named = {str(i): size for i, size in enumerate(sizes)}
    budget = part * epochs * sum(sizes)
    found, wanted = unimax(named, budget, epochs), filled(named, budget, epochs)
    assert list(found) == list(named)
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert sum(found.values()) == pytest.approx(1.0)
    assert max(epochs_of(found, named, budget).values()) <= epochs * (1 + 1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 1)), min_size=1, max_size=9))
def test_the_projection_is_feasible_and_nearest(rows: list[tuple[float, float]]):
    point, cap = np.array(rows).T
    cap = cap + max(0.0, 1.0 - cap.sum()) / len(cap) + 1e-9
    found = capped_simplex(point, cap)
    assert found.sum() == pytest.approx(1.0)
    assert np.all((found >= 0) & (found <= cap))
    for i in range(len(cap)):  # no small exchange between two coordinates comes nearer
        for j in range(len(cap)):
            step = min(1e-4, cap[i] - found[i], found[j])
            other = found.copy()
            other[i] += step
            other[j] -= step
            assert np.sum((other - point) ** 2) >= np.sum((found - point) ** 2) - 1e-12


@pytest.mark.parametrize(
    ("risk", "wanted"),
    [
        (0.0, (0.4, 0.4, 0.2, 0.0)),
        (1.0, (0.364, 0.364, 0.2, 0.071)),
        (4.0, (0.292, 0.292, 0.2, 0.217)),
        (16.0, (0.273, 0.273, 0.2, 0.254)),
    ],
)
def test_utilimax_gives_the_measured_numbers(risk: float, wanted: tuple[float, ...]):
    found = utilimax(UTILITY, FOUR, 20e9, 4, risk)
    assert tuple(found.values()) == pytest.approx(wanted, abs=6e-4)
    assert sum(found.values()) == pytest.approx(1.0)


def test_the_default_risk_is_the_number_of_sources():
    assert utilimax(UTILITY, FOUR, 20e9) == utilimax(UTILITY, FOUR, 20e9, 4, 4.0)


@pytest.mark.parametrize("seed", range(6))
def test_utilimax_agrees_with_a_general_solver(seed: int):
    draw = np.random.default_rng(seed)
    count, tasks = int(draw.integers(2, 8)), int(draw.integers(1, 6))
    table = draw.random((count, tasks))
    sizes = {str(i): float(s) for i, s in enumerate(draw.uniform(0.1, 3, count))}
    utility = {str(i): dict(zip("abcdef", row, strict=False)) for i, row in enumerate(table)}
    budget, risk = 0.6 * 4 * sum(sizes.values()), float(draw.uniform(0.05, 3))
    cap = 4 * np.array(list(sizes.values())) / budget

    def cost(w: np.ndarray) -> float:
        return float(np.linalg.norm(w @ table - 1) + risk * (w @ w))

    found = np.array(list(utilimax(utility, sizes, budget, 4, risk).values()))
    slow = minimize(
        cost,
        cap / cap.sum(),
        method="SLSQP",
        bounds=[(0, min(c, 1.0)) for c in cap],
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert cost(found) <= slow.fun + 1e-9
    assert found == pytest.approx(slow.x, abs=1e-4)


def test_equal_utilities_are_unimax():
    same = {name: {"qa": 0.5, "code": 0.2} for name in FOUR}
    found = utilimax(same, FOUR, 20e9, 4)
    assert found == unimax(FOUR, 20e9, 4)
    assert tuple(found.values()) == pytest.approx((0.8 / 3, 0.8 / 3, 0.2, 0.8 / 3))


def test_nearly_equal_utilities_are_nearly_unimax():
    near = {name: {"qa": 0.5 + 1e-7 * i} for i, name in enumerate(FOUR)}
    assert utilimax(near, FOUR, 20e9) == pytest.approx(unimax(FOUR, 20e9), abs=1e-6)


def test_temperature_goes_from_proportional_to_uniform():
    sizes = {"a": 900.0, "b": 100.0}
    assert temperature(sizes) == pytest.approx({"a": 0.9, "b": 0.1})
    assert temperature(sizes, 2.0) == pytest.approx({"a": 0.75, "b": 0.25})
    assert temperature(sizes, float("inf")) == {"a": 0.5, "b": 0.5}


def test_a_task_on_which_all_are_equal_favours_nobody():
    losses = {"a": {"x": 1.0, "y": 2.0}, "b": {"x": 3.0, "y": 2.0}}
    assert relative_utility(losses) == {"a": {"x": 1.0, "y": 1.0}, "b": {"x": 0.0, "y": 1.0}}


def test_an_impossible_cap_says_the_shortfall_and_the_largest_budget():
    with pytest.raises(RecipeError) as caught:
        unimax({"a": 10, "b": 20}, budget=150, epochs=4)
    assert "30 tokens short" in caught.value.given
    assert "at most 120 tokens" in caught.value.expected
    assert "epochs=5" in caught.value.write
    assert unimax({"a": 10, "b": 20}, budget=120, epochs=4) == pytest.approx(
        {"a": 1 / 3, "b": 2 / 3}
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: unimax({}, 1),
        lambda: unimax({"a": 0}, 1),
        lambda: unimax({"a": float("nan")}, 1),
        lambda: unimax({"a": 1}, 0),
        lambda: unimax({"a": 1}, 1, epochs=-1),
        lambda: temperature({"a": 1}, tau=0),
        lambda: utilimax({"b": {"x": 1}}, {"a": 1}, 1),
        lambda: utilimax({"a": {"x": 2}}, {"a": 1}, 1),
        lambda: utilimax({"a": {"x": 1}, "b": {}}, {"a": 1, "b": 1}, 1),
        lambda: relative_utility({"a": {"x": float("inf")}}),
    ],
)
def test_numbers_that_mean_nothing_are_refused(call):
    with pytest.raises(RecipeError, match="expected"):
        call()
