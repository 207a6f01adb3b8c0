"""Weights of a mixture from sizes, a budget and an epoch cap: pure functions, numpy alone.

A cap of N epochs on a source of c tokens, in a run of C, bounds its share: w <= N c / C. With it,

    temperature   w_s ~ c_s^(1/tau)                                              (no cap)
    unimax        minimise sum w^2                           0 <= w <= cap, sum w = 1
    utilimax      minimise |U^T w - 1|_2 + risk sum w^2      the same

UniMax fills sources from the smallest to the largest, each with an even share of what is left or
its cap; that is the smallest sum of squares, so it is utilimax with utilities that do not differ.
One projection and one solver serve both. The norm is not squared, as in the paper: squaring it
trades utility against risk differently.

Tokens, not documents: give sizes and budget in the unit that a mixture draws in.
"""

import math
from collections.abc import Mapping

import numpy as np

from thalweg.errors import RecipeError

__all__ = [
    "capped_simplex",
    "epochs_of",
    "least_epochs",
    "relative_utility",
    "temperature",
    "unimax",
    "utilimax",
]

# S sources, K tasks.


def temperature(sizes: Mapping[str, float], tau: float = 1.0) -> dict[str, float]:
    """Return weights ~ size^(1/tau): 1 is proportional, infinity uniform.

    Args:
        sizes: Tokens of each source, above 0.
        tau: Above 0; `float("inf")` is allowed.

    Raises:
        RecipeError: A size or the temperature is not positive.

    Example:
        >>> temperature({"big": 400, "small": 100}, tau=2)
        {'big': 0.6666666666666666, 'small': 0.3333333333333333}
    """
    size_S = _sizes(sizes)
    if not tau > 0:
        raise RecipeError(
            f"tau={tau}", expected="a number above 0", where="temperature", write="tau=2.0"
        )
    logs_S = np.log(size_S / size_S.max()) / tau
    return _named(sizes, np.exp(logs_S) / np.exp(logs_S).sum())


def unimax(sizes: Mapping[str, float], budget: float, epochs: float = 4.0) -> dict[str, float]:
    """Return the weights that are as even as a cap on epochs allows.

    Args:
        sizes: Tokens of each source.
        budget: Tokens of the run, in the unit of `sizes`.
        epochs: Most passes over any source. Up to about 4 cost little (arXiv:2305.16264).

    Raises:
        RecipeError: A size or the budget is not positive, or the caps do not fill the budget.

    Source: arXiv:2304.09151, algorithm 1.

    Example:
        >>> unimax({"large": 100, "small": 1}, budget=16)
        {'large': 0.75, 'small': 0.25}
    """
    cap_S = _caps(sizes, budget, epochs)
    return _named(sizes, capped_simplex(np.zeros_like(cap_S), cap_S))


def utilimax(
    utility: Mapping[str, Mapping[str, float]],
    sizes: Mapping[str, float],
    budget: float,
    epochs: float = 4.0,
    risk: float | None = None,
) -> dict[str, float]:
    """Return the weights whose expected utility is nearest to 1 on every task, spread for safety.

    Minimises |U^T w - 1|_2 + risk * sum w^2 over weights within the caps.

    Args:
        utility: Source -> task -> utility from 0 to 1; see `relative_utility`.
        sizes: Tokens of each source.
        budget: Tokens of the run.
        epochs: Most passes over any source.
        risk: What concentration costs; None for the number of sources, the constant of a public
            implementation. The paper's is not known here.

    Raises:
        RecipeError: As `unimax`; or utilities that do not fit the sources, or leave 0..1.

    Source: arXiv:2501.11747 (UtiliMax).

    Example:
        >>> same = {"large": {"qa": 0.5}, "small": {"qa": 0.5}}
        >>> utilimax(same, {"large": 100, "small": 1}, budget=10) == unimax(
        ...     {"large": 100, "small": 1}, budget=10)
        True
    """
    cap_S = _caps(sizes, budget, epochs)
    utility_SK = _utilities(utility, sizes)
    if np.all(utility_SK == utility_SK[:1]):
        return unimax(sizes, budget, epochs)  # w sums to 1: the first term is a constant
    return _named(sizes, _nearest(utility_SK, cap_S, len(cap_S) if risk is None else risk))


def relative_utility(losses: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return utilities from the losses of pilot runs, one run a source.

    On each task the best source gets 1 and the worst 0. Where all are equal, all get 1: such a
    task favours nobody, and adds no distance to the ideal.

    Args:
        losses: Source -> task -> loss after training on that source alone.

    Raises:
        RecipeError: Sources with different tasks, or a loss that is not finite.

    Example:
        >>> relative_utility({"web": {"qa": 2.0}, "code": {"qa": 3.0}, "wiki": {"qa": 2.25}})
        {'web': {'qa': 1.0}, 'code': {'qa': 0.0}, 'wiki': {'qa': 0.75}}
    """
    tasks, loss_SK = _table(losses, losses)
    low_K, high_K = loss_SK.min(0), loss_SK.max(0)
    spread_K = np.where(high_K > low_K, high_K - low_K, 1.0)
    utility_SK = np.where(high_K > low_K, (high_K - loss_SK) / spread_K, 1.0)
    return {
        source: dict(zip(tasks, row, strict=True))
        for source, row in zip(losses, utility_SK.tolist(), strict=True)
    }


def epochs_of(
    weights: Mapping[str, float], sizes: Mapping[str, float], budget: float
) -> dict[str, float]:
    """Return how often a run of `budget` tokens goes through each source.

    Example:
        >>> epochs_of({"web": 3, "code": 1}, {"web": 1e9, "code": 1e8}, budget=4e9)
        {'web': 3.0, 'code': 10.0}
    """
    total = sum(weights.values())
    return {name: budget * weight / total / sizes[name] for name, weight in weights.items()}


def capped_simplex(point_S: np.ndarray, cap_S: np.ndarray) -> np.ndarray:
    """Return the nearest point (least squares) with 0 <= w <= cap and sum 1.

    It is clip(point - shift, 0, cap) for one shift; the sum is piecewise linear in the shift, and
    its corners are known, so the shift is exact.

    Args:
        point_S: float [S].
        cap_S: float [S], each >= 0, summing to 1 or more.

    Example:
        >>> capped_simplex(np.array([0.0, 0.0]), np.array([0.2, 1.0])).tolist()
        [0.2, 0.8]
    """
    cap_S = np.minimum(cap_S, 1.0)
    corner_C = np.sort(np.concatenate([point_S, point_S - cap_S]))
    total_C = np.clip(point_S - corner_C[:, None], 0.0, cap_S).sum(1)  # falls along the corners
    after = int(np.searchsorted(-total_C, -1.0))
    if after == 0:  # the caps sum to 1, up to rounding
        shift = corner_C[0]
    else:
        left, right = corner_C[after - 1], corner_C[after]
        over, under = total_C[after - 1], total_C[after]
        shift = left + (right - left) * (over - 1.0) / (over - under)
    nearest_S: np.ndarray = np.minimum(cap_S, np.maximum(point_S - shift, 0.0))
    return nearest_S


def _nearest(utility_SK: np.ndarray, cap_S: np.ndarray, risk: float) -> np.ndarray:
    """Minimise |U^T w - 1| + risk |w|^2 by FISTA with line search and restarts."""

    def cost(w_S: np.ndarray) -> float:
        return float(np.linalg.norm(w_S @ utility_SK - 1.0) + risk * (w_S @ w_S))

    w_S = ahead_S = capped_simplex(np.zeros_like(cap_S), cap_S)
    length, momentum = 1.0, 1.0
    for _ in range(20_000):
        miss_K = ahead_S @ utility_SK - 1.0
        slope_S = utility_SK @ miss_K / max(np.linalg.norm(miss_K), 1e-300) + 2.0 * risk * ahead_S
        here = cost(ahead_S)
        while True:
            new_S = capped_simplex(ahead_S - length * slope_S, cap_S)
            step_S = new_S - ahead_S
            bound = here + slope_S @ step_S + step_S @ step_S / (2.0 * length)
            if cost(new_S) <= bound + 1e-15 or length < 1e-12:
                break
            length /= 2.0
        uphill = (ahead_S - new_S) @ (new_S - w_S) > 0.0
        following = 1.0 if uphill else (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead_S = new_S if uphill else new_S + (momentum - 1.0) / following * (new_S - w_S)
        moved, w_S, momentum = float(np.abs(new_S - w_S).max()), new_S, following
        if moved < 1e-14 and not uphill:
            break
        length *= 1.1
    return w_S


def least_epochs(sizes: Mapping[str, float], budget: float) -> float:
    """Return the smallest cap of epochs, in thousandths, under which sources fill a budget."""
    return math.ceil(1000 * budget / float(_sizes(sizes).sum())) / 1000


def _caps(sizes: Mapping[str, float], budget: float, epochs: float) -> np.ndarray:
    """Return the largest share of each source [S]; refuse a budget that they do not fill."""
    size_S = _sizes(sizes)
    for name, value in (("budget", budget), ("epochs", epochs)):
        if not 0 < value < np.inf:
            raise RecipeError(
                f"{name}={value}",
                expected="a number above 0",
                where="the weights of a mixture",
                write="budget=2e9, epochs=4",
            )
    most = epochs * float(size_S.sum())
    if most < budget * (1 - 1e-12):
        raise RecipeError(
            f"a budget of {budget:g} tokens from {len(size_S)} sources of {size_S.sum():g} tokens "
            f"together, {epochs:g} epochs each at most: {budget - most:g} tokens short",
            expected=f"a budget of at most {most:g} tokens, the largest possible",
            where="the weights of a mixture",
            write=f"budget={most:.12g}, or epochs={least_epochs(sizes, budget):g}, or more data",
        )
    return epochs * size_S / budget


def _sizes(sizes: Mapping[str, float]) -> np.ndarray:
    size_S = np.array(list(sizes.values()), np.float64)
    bad = [name for name, size in sizes.items() if not 0 < size < np.inf]
    if bad or not len(size_S):
        raise RecipeError(
            "sizes " + ", ".join(f"{name}={sizes[name]}" for name in bad) if bad else "no sizes",
            expected="the tokens of each source, above 0",
            where="the weights of a mixture",
            write="sizes={name: source.size for name, source in mixture.sources.items()}",
        )
    return size_S


def _utilities(
    utility: Mapping[str, Mapping[str, float]], sizes: Mapping[str, float]
) -> np.ndarray:
    _, table_SK = _table(utility, sizes)
    if table_SK.min(initial=0.0) < 0 or table_SK.max(initial=0.0) > 1:
        raise RecipeError(
            f"utilities from {table_SK.min():g} to {table_SK.max():g}",
            expected="0 (useless) to 1 (the best)",
            where="utilimax",
            write="utility=relative_utility(losses)",
        )
    return table_SK


def _table(
    rows: Mapping[str, Mapping[str, float]], names: Mapping[str, object]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the tasks [K] and the values [S, K], rows in the order of `names`."""
    tasks = tuple(next(iter(rows.values()), {}))
    odd = [name for name in {*rows, *names} if set(rows.get(name, ())) != set(tasks)]
    if odd or set(rows) != set(names) or not tasks:
        raise RecipeError(
            f"values for {sorted(rows)}, tasks {sorted(tasks)}"
            + (f"; '{sorted(odd)[0]}' has others" if odd else ""),
            expected=f"the same tasks for each of {sorted(names)}",
            where="the weights of a mixture",
            write="{'web': {'qa': 0.9, 'code': 0.1}, ...}",
        )
    table_SK = np.array([[rows[name][task] for task in tasks] for name in names], np.float64)
    if not np.isfinite(table_SK).all():
        raise RecipeError(
            f"values that are not finite: {table_SK.tolist()}",
            expected="numbers",
            where="the weights of a mixture",
            write="the loss of a run that did not diverge",
        )
    return tasks, table_SK


def _named(names: Mapping[str, object], weight_S: np.ndarray) -> dict[str, float]:
    return dict(zip(names, weight_S.tolist(), strict=True))
