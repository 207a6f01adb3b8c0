"""Unlabelled data find the few directions that count; labels then need only weigh those."""

import numpy as np
from numpy.typing import NDArray

from thalweg.atlas.verdict import at_least, at_most, every, higher, lower
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.rng import rng

__all__ = ["claim"]

# D observed, F factors, N labelled, M unlabelled.

FACTORS, SIGNAL, NOISE, LABEL_NOISE = 5, 1.5, 0.5, 0.3
OBSERVED = (20, 60, 180)
LABELLED = (30, 100)
UNLABELLED = (0, 300, 3000, 30000)
RIDGE = np.logspace(-3, 4, 29)
"""Penalties; the best for the true risk is taken, which favours the learner without unlabelled."""

Array = NDArray[np.float64]


class World:
    """x = B z + noise, y = w z + noise: the total signal in x is the same for every D."""

    def __init__(self, observed: int, seed: int) -> None:
        self.draw = rng(seed, "factors", observed)
        square = self.draw.standard_normal((observed, FACTORS))
        self.B_DF = SIGNAL * np.linalg.qr(square)[0]
        self.w_F = rng(seed, "weights").standard_normal(FACTORS)
        self.cov_DD = self.B_DF @ self.B_DF.T + NOISE**2 * np.eye(observed)
        self.best_D = np.linalg.solve(self.cov_DD, self.B_DF @ self.w_F)

    def sample(self, count: int) -> tuple[Array, Array]:
        """Return x [count, D] and y [count]."""
        z_NF = self.draw.standard_normal((count, FACTORS))
        x_ND = z_NF @ self.B_DF.T + NOISE * self.draw.standard_normal((count, len(self.B_DF)))
        return x_ND, z_NF @ self.w_F + LABEL_NOISE * self.draw.standard_normal(count)

    def excess(self, weights_D: Array) -> float:
        """Return the squared error above that of the best linear predictor, exactly."""
        off_D = weights_D - self.best_D
        return float(off_D @ self.cov_DD @ off_D)


def ridge(world: World, x_ND: Array, y_N: Array) -> float:
    """Return the least excess that any penalty gives."""
    u_NK, s_K, v_KD = np.linalg.svd(x_ND, full_matrices=False)
    along_K = u_NK.T @ y_N
    return min(world.excess((s_K / (s_K**2 + one) * along_K) @ v_KD) for one in RIDGE)


def pretrained(world: World, cov_DD: Array, x_ND: Array, y_N: Array) -> float:
    """Return the excess of least squares on the first factors of a covariance.

    The leading eigenvectors are the likeliest B of a factor model with equal noise.
    """
    basis_DF = np.linalg.eigh(cov_DD)[1][:, -FACTORS:]
    found_F = np.linalg.lstsq(x_ND @ basis_DF, y_N, rcond=None)[0]
    return world.excess(basis_DF @ found_F)


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm: the excess of both learners for every D, N and M."""
    most = size.pick(tiny=300, small=UNLABELLED[-1])

    def excess(seed: int) -> dict[str, float]:
        found = {}
        for d in OBSERVED:
            world = World(d, seed)
            pools = {m: world.sample(min(m, most))[0] for m in UNLABELLED[1:]}
            for n in LABELLED:
                x_ND, y_N = world.sample(n)
                found[f"ridge d{d} n{n}"] = ridge(world, x_ND, y_N)
                for m in UNLABELLED:
                    some = pools[m] if m else x_ND
                    name = f"pretrained d{d} n{n} m{m}"
                    found[name] = pretrained(world, some.T @ some, x_ND, y_N)
        return found

    return {"excess": excess}


def judge(results: Results) -> Verdict:
    """Labels alone need more the more is observed; with many unlabelled they do not."""

    def of(name: str) -> NDArray[np.float64]:
        return results.of("excess", name)

    low, high = OBSERVED[0], OBSERVED[-1]
    rise = of(f"ridge d{high} n30") - of(f"ridge d{low} n30")
    rest = of(f"pretrained d{high} n30 m30000") - of(f"pretrained d{low} n30 m30000")
    by_m = {m: of(f"pretrained d{high} n30 m{m}") for m in UNLABELLED}
    return every(
        at_least(of(f"ridge d{high} n30") - 4 * by_m[30000], 0.0,
                 "excess of ridge minus 4 times that of the pretrained, 180 observed, 30 labels"),
        higher(rise, 0 * rise, "rise of ridge's excess from 20 to 180 observed"),
        at_most(rest - 0.25 * rise, 0.0, "rise of the pretrained's minus a quarter of ridge's"),
        lower(by_m[300], by_m[0], "excess with 300 unlabelled minus that with none"),
        lower(by_m[30000], by_m[300], "excess with 30,000 unlabelled minus that with 300"),
        at_most(by_m[3000] - by_m[30000], 0.05, "what ten times 3,000 unlabelled still gain"),
        lower(of(f"pretrained d{high} n100 m30000"), by_m[30000], "the floor, 100 minus 30 labels"),
    )  # fmt: skip


claim = Claim(
    paper="arXiv:2303.01566",
    statement="With 30 labels and 180 observed variables, factors fitted to 30,000 unlabelled "
    "examples leave at most a quarter of the excess risk of ridge; ridge gets worse with every "
    "variable, the pretrained learner hardly, and unlabelled data help down to a floor set by "
    "labels",
    arms=arms,
    judge=judge,
    seeds=12,
    deviations="Factor model only; principal components are its maximum-likelihood fit. Bounds are "
    "not computed: what they order is measured, as exact excess risk.",
    note="Ridge is given its best penalty for the true risk. The arm with no unlabelled example "
    "takes components from the labelled inputs alone.",
)
