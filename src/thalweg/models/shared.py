"""Rows that begin alike, read once: the answers to a prompt stand behind it side by side.

    prompt a a a          prompt a a a b b b c c c
    prompt b b b   ->     an answer looks at the prompt and at itself
    prompt c c c

The stream of a block is one row of W = p + n (T - p) tokens a group, instead of n rows of T. Every
layer but attention works on single tokens and need not know; a token's position is still the one in
its own row. The prompt's gradient is that of all its rows, added up where they part.
"""

from typing import NamedTuple

import torch

__all__ = ["Shared"]

# R rows in G groups of n, T positions of a row, p of them shared, W positions of a packed group.


class Shared(NamedTuple):
    """How groups are packed.

    Example:
        >>> two = Shared(rows=2, prefix=1)
        >>> two.packed(torch.tensor([[7, 1, 2], [7, 3, 4]])).tolist()
        [[7, 1, 2, 3, 4]]
    """

    rows: int
    """n: rows of a group, next to each other in the batch."""
    prefix: int
    """p: positions that the rows of a group have in common; fewer than all."""

    def packed(self, values_RT: torch.Tensor) -> torch.Tensor:
        """Return [G, W]: what the first row of each group begins with, then the rest of each."""
        rest = values_RT[:, self.prefix :].reshape(len(values_RT) // self.rows, -1)
        return torch.cat([values_RT[:: self.rows, : self.prefix], rest], 1)

    def spread(self, values_GW: torch.Tensor) -> torch.Tensor:
        """Return [R, T]: the inverse of `packed`."""
        first, rest = self.parted(values_GW, 1)
        return torch.cat([first, rest], 2).flatten(0, 1)

    def places(self, length: int, device: torch.device) -> torch.Tensor:
        """Return each token's position in its own row, int64 [W], for rows of T = `length`."""
        places = torch.arange(length, device=device)
        return torch.cat([places[: self.prefix], places[self.prefix :].repeat(self.rows)])

    def longest(self, width: int) -> int:
        """Return T, for packed groups of `width` tokens."""
        return self.prefix + (width - self.prefix) // self.rows

    def parted(self, values: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return prefixes [..., n, p, ...] and rests [..., n, T - p, ...] of [..., W, ...]."""
        sizes = [self.prefix, values.shape[axis] - self.prefix]
        first, rest = torch.split(values, sizes, axis)
        counts = [-1] * (values.ndim + 1)
        counts[axis] = self.rows
        return first.unsqueeze(axis).expand(counts), torch.unflatten(rest, axis, (self.rows, -1))
