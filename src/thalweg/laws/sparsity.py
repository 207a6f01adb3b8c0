"""The loss of mixture-of-experts models by parameters, tokens and sparsity.

    L = a N^-alpha + b D^-beta + c (1-S)^-lambda + d (1-S)^-delta N^-gamma + e,   S = (E - K) / E

N counts all parameters, not the active ones. lambda is negative, so the third term falls with S.
The paper's own extrapolation to S = .98 is poor (R2 of 68 %); beyond it a warning is given.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from thalweg.errors import DialError, RecipeError
from thalweg.laws.curve import LawWarning
from thalweg.laws.solve import Columns, Prior, minimise

__all__ = ["Sparsity", "fit_sparsity", "naive_flops"]

Floats = NDArray[np.float64]
FAR_SPARSITY, FAR_PARAMETERS = 0.98, 1e11
STRENGTH = 1.0
"""Weight of the prior that keeps exponents near the published ones."""


def naive_flops(parameters: float, sparsity: float) -> float:
    """Return 6 N (1 - S): training FLOPs a token if every parameter sits in an expert."""
    return 6 * parameters * (1 - sparsity)


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """The law with the constants of its Table 3.

    Source: arXiv:2501.12370, eq. (6) and Table 3.

    Example:
        >>> [round(float(Sparsity().loss(1e9, 2e10, s)), 4) for s in (0.0, 0.9)]
        [2.5657, 2.7019]
    """

    size: float = 16612.50
    """a."""
    tokens: float = 5455.67
    """b."""
    sparse: float = 0.4598
    """c."""
    mixed: float = 17.26
    """d."""
    asymptote: float = 0.94
    """e, nats per token."""
    size_exponent: float = 0.5962
    """alpha."""
    tokens_exponent: float = 0.3954
    """beta."""
    sparse_exponent: float = -0.1666
    """lambda."""
    mixed_exponent: float = 0.1603
    """delta."""
    mixed_size_exponent: float = 0.1595
    """gamma."""

    def loss(self, parameters: ArrayLike, tokens: ArrayLike, sparsity: ArrayLike) -> Floats:
        """Return nats per token.

        Args:
            parameters: N, all of them.
            tokens: D.
            sparsity: S, 0 to below 1.

        Raises:
            DialError: S is 1 or more, or negative.

        Warns:
            LawWarning: S above .98 or N above 1e11, where nothing was fitted.
        """
        n, d = np.asarray(parameters, np.float64), np.asarray(tokens, np.float64)
        s = np.asarray(sparsity, np.float64)
        if (s >= 1).any() or (s < 0).any():
            raise DialError(
                f"sparsity from {s.min():g} to {s.max():g}",
                expected="(experts - active) / experts, from 0 to below 1",
                where="Sparsity.loss",
                write="Sparsity().loss(1e9, 2e10, 0.875)",
            )
        if (s > FAR_SPARSITY + 1e-12).any() or (n > FAR_PARAMETERS * (1 + 1e-12)).any():
            warnings.warn(
                LawWarning(
                    f"sparsity {s.max():g} and {n.max():g} parameters lie beyond the "
                    f"{FAR_SPARSITY} and {FAR_PARAMETERS:g} of the fit"
                ),
                stacklevel=2,
            )
        dense = 1 - s
        return np.asarray(
            self.size * n**-self.size_exponent
            + self.tokens * d**-self.tokens_exponent
            + self.sparse * dense**-self.sparse_exponent
            + self.mixed * dense**-self.mixed_exponent * n**-self.mixed_size_exponent
            + self.asymptote
        )

    def best_sparsity(
        self,
        flops: float,
        parameters: float,
        *,
        flops_per_token: Callable[[float, float], float] = naive_flops,
        most: float = FAR_SPARSITY,
    ) -> float:
        """Return the sparsity with the smallest loss for a budget and a size.

        Args:
            flops: Training budget C; the tokens are C / flops_per_token(N, S).
            parameters: N, all of them: what memory allows.
            flops_per_token: Of N and S. The default takes all parameters to sit in experts.
            most: Largest sparsity looked at.

        Example:
            >>> round(Sparsity().best_sparsity(1e21, 1e9), 3)
            0.623
        """

        def value(s: float) -> float:
            return float(self.loss(parameters, flops / flops_per_token(parameters, s), s))

        grid = np.linspace(0.0, most, 50)
        near = int(np.argmin([value(float(s)) for s in grid]))
        low, high = float(grid[max(near - 1, 0)]), float(grid[min(near + 1, 49)])
        found = minimize_scalar(
            value, bounds=(low, high), method="bounded", options={"xatol": 1e-6}
        )
        ends = [float(found.x), 0.0, most]
        return min(ends, key=value)


def fit_sparsity(
    parameters: ArrayLike,
    tokens: ArrayLike,
    sparsity: ArrayLike,
    loss: ArrayLike,
    *,
    delta: float = 1e-3,
    start: Sequence[float] = (0.5962, 0.3954, -0.1666, 0.1603, 0.1595),
) -> Sparsity:
    """Fit the ten constants by log-Huber, from the published exponents.

    Args:
        parameters: [R] N of every run.
        tokens: [R] D.
        sparsity: [R] S, at least three different ones.
        loss: [R] final losses.
        delta: Huber threshold on log losses.
        start: alpha, beta, lambda, delta, gamma to start from, and the middle of a weak prior.

    Raises:
        RecipeError: Fewer than ten runs or three sparsities.
    """
    n, d, s, y = (np.asarray(v, np.float64) for v in (parameters, tokens, sparsity, loss))
    if y.size < 10 or np.unique(s).size < 3:
        raise RecipeError(
            f"{y.size} runs at {np.unique(s).size} sparsities",
            expected="at least ten runs (the law has ten constants) and three sparsities",
            where="fit_sparsity",
            write="a grid of sizes, tokens and sparsities",
        )
    log_n, log_d, log_s = np.log(n), np.log(d), np.log(1 - s)

    def columns(z: Floats) -> Columns:
        a, b, c = np.exp(-z[0] * log_n), np.exp(-z[1] * log_d), np.exp(-z[2] * log_s)
        mixed = np.exp(-z[3] * log_s - z[4] * log_n)
        slope = np.zeros((y.size, 5, 5))
        slope[:, 0, 0], slope[:, 1, 1], slope[:, 2, 2] = -log_n * a, -log_d * b, -log_s * c
        slope[:, 3, 3], slope[:, 3, 4] = -log_s * mixed, -log_n * mixed
        return Columns(np.stack([a, b, c, mixed, np.ones_like(y)], 1), slope)

    middle = np.array(start, dtype=np.float64)
    prior = Prior(middle, np.full(5, STRENGTH))
    starts = [middle * factor for factor in (1.0, 0.8, 1.25)]
    found = minimise(columns, y, starts, prior=prior, delta=delta)
    return Sparsity(**_named(found.coefficient_M.tolist(), found.shape_P.tolist()))


def _named(linear: Sequence[float], shapes: Sequence[float]) -> dict[str, float]:
    names = ("size", "tokens", "sparse", "mixed", "asymptote")
    ends = (
        "size_exponent",
        "tokens_exponent",
        "sparse_exponent",
        "mixed_exponent",
        "mixed_size_exponent",
    )
    return dict(zip((*names, *ends), (*linear, *shapes), strict=True))
