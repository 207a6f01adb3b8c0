"""The small Gaussian process, against scikit-learn's numbers written down here."""

import numpy as np
import pytest

from thalweg.controllers.gaussian import Kernel, fit_process, log_likelihood, lowest_bound
from thalweg.errors import RecipeError

X = [0.05, 0.3, 0.55, 0.8, 0.95]
Y = [3.1, 2.4, 2.2, 2.9, 4.0]


def test_the_posterior_is_that_of_scikit_learn():
    # 1.9.1: GaussianProcessRegressor(ConstantKernel(1.7) * Matern(0.4, nu=2.5), alpha=0.03,
    # optimizer=None, normalize_y=True)
    process = fit_process(X, Y, Kernel(1.7, 0.4, 0.03))
    mean, deviation = process.at(np.array([0.0, 0.42, 0.7, 1.0]))
    assert mean == pytest.approx(
        [3.1689702174849836, 2.220227505941677, 2.490681673187991, 4.14043786117759], rel=1e-12
    )
    assert deviation == pytest.approx(
        [0.15461193494217354, 0.13313635952205513, 0.1304391799397491, 0.15390296894657796],
        rel=1e-10,
    )
    found = log_likelihood(process.kernel, process.points, process.values)
    assert found == pytest.approx(-8.009385733408749, rel=1e-12)


def test_the_kernel_is_as_likely_as_the_best_of_scikit_learns_twenty_restarts():
    # ... with WhiteKernel(0.01, (1e-5, 10)), bounds as ours, n_restarts_optimizer=20
    process = fit_process(X, Y)
    found = log_likelihood(process.kernel, process.points, process.values)
    assert found == pytest.approx(-7.087197576778463, abs=1e-8)
    assert process.kernel == pytest.approx((0.576**2, 0.14, 0.673), rel=2e-3)


def test_the_posterior_is_the_slow_formula():
    kernel = Kernel(2.0, 0.3, 0.1)
    process = fit_process(X, Y, kernel)

    def k(a: float, b: float) -> float:
        r = 5**0.5 * abs(a - b) / 0.3
        return 2.0 * (1 + r + r * r / 3) * float(np.exp(-r))

    big = np.array([[k(a, b) + 0.1 * (a == b) for b in X] for a in X])
    across = np.array([k(0.6, b) for b in X])
    z = (np.array(Y) - np.mean(Y)) / np.std(Y)
    mean = np.mean(Y) + np.std(Y) * across @ np.linalg.inv(big) @ z
    variance = 2.0 - across @ np.linalg.inv(big) @ across
    (found,), (deviation,) = process.at(np.array([0.6]))
    assert found == pytest.approx(mean, rel=1e-12)
    assert deviation == pytest.approx(np.std(Y) * variance**0.5, rel=1e-10)


def test_equal_values_and_a_single_point_are_fine():
    assert fit_process([0.3], [2.0]).at(np.array([0.3]))[0] == pytest.approx([2.0])
    assert fit_process([0.3, 0.6], [2.0, 2.0]).at(np.array([0.9]))[0] == pytest.approx([2.0])


def test_a_large_kappa_goes_where_nothing_is_known_and_none_to_the_least_mean():
    process = fit_process([0.0, 0.2, 0.4], [3.0, 1.0, 2.0], Kernel(1.0, 0.3, 1e-5))
    assert lowest_bound(process, 1000.0) == 1.0
    assert 0.2 < lowest_bound(process, 0.0) < 0.3


def test_a_point_is_never_asked_for_twice():
    points = [0.0, 1.0]
    for _ in range(12):
        process = fit_process(points, [(p - 0.6) ** 2 for p in points])
        points.append(lowest_bound(process, 2.0))
    assert len(set(points)) == len(points)
    assert min(abs(p - 0.6) for p in points) < 0.02


@pytest.mark.parametrize(("x", "y"), [([], []), ([0.1], [1.0, 2.0]), ([0.1], [float("inf")])])
def test_points_without_values_are_refused(x, y):
    with pytest.raises(RecipeError, match="finite value"):
        fit_process(x, y)
