"""Where SGD can stay, the trace of the Hessian is at most 2 / rate; full batches allow more."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from thalweg.atlas.verdict import every, fact
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.rng import rng
from thalweg.monitors.geometry import hessian_product

__all__ = ["claim"]

# E rates, n examples, D inputs.

Floats = NDArray[np.float64]

RATES = {"sgd": (0.02, 0.03, 0.045), "gd": (0.02, 0.03, 0.045, 0.06)}
EXAMPLES, INPUTS, START = 6, 8, 1.2
"""More inputs than examples: every example can be fitted exactly."""
CONVERGED, SLACK = 1e-8, 1.05
"""Loss below which a run is at a minimum, and the error of 5 % that the limits are given."""


def problem(seed: int) -> tuple[Floats, Floats]:
    """Return inputs [n, D] and targets [n] of a sparse linear teacher."""
    x = rng(seed, "stability", "inputs").standard_normal((EXAMPLES, INPUTS))
    return x, x[:, 0] - x[:, 1] + x[:, 2]


def descend(kind: str, seed: int, updates: int) -> Floats:
    """Return the weights [E, 2, D] of f(x) = (u^2 - v^2) . x after training at every rate.

    Loss (f - y)^2 / 2, u = v = 1.2 at first; `sgd` sees one example an update, `gd` all.
    """
    x, y = problem(seed)
    rate = np.array(RATES[kind])[:, None]
    u, v = (np.full((len(rate), INPUTS), START) for _ in range(2))
    order = rng(seed, "stability", "order").integers(EXAMPLES, size=updates)
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(updates):
            now = slice(None) if kind == "gd" else slice(order[step], order[step] + 1)
            error = (u * u - v * v) @ x[now].T - y[now]
            slope = 2 * rate * (error @ x[now]) / len(y[now])
            u, v = u - slope * u, v + slope * v
    return np.stack([u, v], axis=1)


def curvature(weights: Floats, seed: int) -> tuple[float, float, float]:
    """Return loss, trace and largest eigenvalue of the Hessian at weights [2, D]."""
    x, y = (torch.from_numpy(part) for part in problem(seed))
    w = torch.from_numpy(weights.copy()).requires_grad_()
    loss = ((x @ (w[0] ** 2 - w[1] ** 2) - y) ** 2).mean() / 2
    if not bool(torch.isfinite(loss)):
        return np.inf, np.inf, np.inf
    product = hessian_product(loss, [w])
    hessian = torch.stack([product(e) for e in torch.eye(2 * INPUTS, dtype=w.dtype)])
    return float(loss.detach()), float(hessian.trace()), float(torch.linalg.eigvalsh(hessian)[-1])


def arms(size: Size) -> dict[str, Arm]:
    """Return one arm a method: how far its minima are from the limits, over all rates."""
    updates = size.pick(tiny=300, small=100_000)

    def measured(kind: str, seed: int) -> dict[str, float]:
        ends = descend(kind, seed, updates)
        found = [curvature(end, seed) for end in ends]
        at = [k for k, (loss, _, _) in enumerate(found) if loss < CONVERGED]
        rate = RATES[kind]
        traces: Sequence[float] = [rate[k] * found[k][1] / 2 for k in at]
        tops: Sequence[float] = [rate[k] * found[k][2] / 2 for k in at]
        return {
            "converged": len(at),
            "trace": max(traces, default=0.0),
            "top": max(tops, default=0.0),
        }

    return {"sgd": lambda seed: measured("sgd", seed), "gd": lambda seed: measured("gd", seed)}


def judge(results: Results) -> Verdict:
    """Both limits at every minimum that was found, and a minimum of GD beyond the one of SGD."""
    sgd, gd = (float(results.of(arm, "trace").max()) for arm in ("sgd", "gd"))
    top = float(results.of("gd", "top").max())
    runs = {arm: int(results.of(arm, "converged").sum()) for arm in ("sgd", "gd")}
    return every(
        fact(
            runs["sgd"] > 0 and sgd <= SLACK,
            f"rate x trace / 2, largest of {runs['sgd']} SGD minima, at most {SLACK}",
            sgd,
        ),
        fact(runs["gd"] > 0 and gd > SLACK, f"the same, {runs['gd']} GD minima, above {SLACK}", gd),
        fact(top <= SLACK, f"rate x largest eigenvalue / 2 of GD minima, at most {SLACK}", top),
    )


claim = Claim(
    paper="arXiv:2305.17490",
    statement="Every minimum that SGD with batches of 1 converges to has trace(H) <= 2 / rate; "
    "gradient descent converges to minima beyond that",
    arms=arms,
    judge=judge,
    seeds=8,
    deviations="A diagonal linear network of 16 weights on 6 examples; the paper's consequence for "
    "generalisation is not tested.",
    note="Runs that diverge or have not converged after 100,000 updates do not count.",
)
