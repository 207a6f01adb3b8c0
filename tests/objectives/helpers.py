"""Log-probs as parameters, so that a gradient is a score weight; and rows to try objectives on."""

import numpy as np
import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.protocols import Objective, Scored

ROWS, WIDTH = 6, 5


class Given(nn.Module):
    """A model that is its log-probs: whatever it is asked, it gives those of that column."""

    def __init__(self, **logprobs: torch.Tensor) -> None:
        super().__init__()
        self.by_column = nn.ParameterDict(
            {name: nn.Parameter(value.clone()) for name, value in logprobs.items()}
        )
        self.calls = 0

    def forward(self, tokens, document=None, *, targets_RT, temperature=1.0, entropy=False):
        self.calls += 1
        logprobs = torch.cat(list(self.by_column.values()))
        assert logprobs.shape == targets_RT.shape
        return Scored(None, logprobs, -logprobs if entropy else None)


def draw(*shape: int, seed: int = 0, low: float = -3.0, high: float = -0.1) -> torch.Tensor:
    """Return float64 numbers between two bounds."""
    made = np.random.default_rng(seed).uniform(low, high, shape)
    return torch.from_numpy(made)


def weights(rows: int = ROWS, width: int = WIDTH) -> torch.Tensor:
    """Return uneven weights with zeros, at least two a row counting."""
    raw = draw(rows, width, seed=9, low=0.5, high=2.0)
    raw[:, 0] = 0.0
    raw[1, 3:] = 0.0
    return raw / raw.sum()


def token_batch() -> Batch:
    """Return rows with every column that objectives of single answers read; float64."""
    logp = draw(ROWS, WIDTH)
    return Batch(
        {
            "tokens": torch.zeros(ROWS, WIDTH + 1, dtype=torch.int64),
            "weight": weights(),
            "logp": logp,
            "old": logp + draw(ROWS, WIDTH, seed=1, low=-0.6, high=0.6),
            "current": logp + draw(ROWS, WIDTH, seed=2, low=-0.2, high=0.2),
            "ref": logp + draw(ROWS, WIDTH, seed=3, low=-0.6, high=0.6),
            "advantage": draw(ROWS, WIDTH, seed=4, low=-1.0, high=1.0),
            "rate": draw(ROWS, seed=5, low=0.2, high=0.8),
            "reward": torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64),
        }
    )


def pair_batch() -> Batch:
    """Return rows of pairs; float64."""
    high, low = draw(ROWS, WIDTH, seed=6), draw(ROWS, WIDTH, seed=7)
    mask = (weights() > 0).double()
    return Batch(
        {
            "chosen": torch.zeros(ROWS, WIDTH + 1, dtype=torch.int64),
            "rejected": torch.zeros(ROWS, WIDTH + 1, dtype=torch.int64),
            "chosen_weight": mask,
            "rejected_weight": mask.flip(0),
            "weight": draw(ROWS, seed=8, low=0.1, high=1.0),
            "logp_chosen": high,
            "logp_rejected": low,
            "ref_chosen": high + draw(ROWS, WIDTH, seed=10, low=-0.6, high=0.6),
            "ref_rejected": low + draw(ROWS, WIDTH, seed=11, low=-0.6, high=0.6),
        }
    )


def slope(objective: Objective, batch: Batch) -> torch.Tensor:
    """Return the gradient of the loss in the log-probs [R, T], of pairs [2 R, T]."""
    if "chosen" in batch:
        model = Given(chosen=batch["logp_chosen"], rejected=batch["logp_rejected"])
    else:
        model = Given(tokens=batch["logp"])
    loss = objective(model, batch).value
    found = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat(found)
