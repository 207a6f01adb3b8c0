"""Find the way through a tree: mazes as lists of passages.

Wilson's algorithm, started from the way that is asked for instead of from one node: loop-erased
random walks from the other nodes join what stands. The tree is uniform among all trees of the
nodes that contain this way, and its number of hops is exact without a try being thrown away.

Source: arXiv:2502.01612, section 3 (mazes of 30 nodes by hops); Wilson 1996 for the trees.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from thalweg.core.protocols import Grade, Problem
from thalweg.tasks.draw import check_whole, rise

__all__ = ["Maze"]

_ANSWER = re.compile(r"[0-9]{1,4}(?:>[0-9]{1,4})*")
_MOST_NODES = 1000


@dataclass(frozen=True)
class Maze:
    """Give the only way from one node of a tree to another.

    The prompt lists the passages in random order and the ends: `4-1,2-0,2-4:0>1=`; the answer
    is the nodes on the way: `0>2>4>1`.

    Level: hops above `hops`; the nodes stay, so that only the way grows.

    Example:
        >>> problem = Maze(nodes=5, hops=3).make(np.random.default_rng(0), level=0.0)
        >>> problem.prompt, problem.answer
        ('3-4,0-1,4-2,0-3:2>0=', '2>4>3>0')
    """

    nodes: int = 30
    hops: int = 3
    """Passages on the way at level 0, below `nodes`."""

    def __post_init__(self) -> None:
        """Refuse sizes out of range."""
        check_whole("Maze", "nodes", self.nodes, 2, _MOST_NODES)
        check_whole("Maze", "hops", self.hops, 1, self.nodes - 1)

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a tree and two of its nodes; pure in the generator and the level."""
        hops = self.hops + rise(draw, level)
        check_whole("Maze.make", "hops + level", hops, 1, self.nodes - 1)
        way = [int(n) for n in draw.permutation(self.nodes)[: hops + 1]]
        passages = _grow(draw, way, self.nodes)
        texts = [
            f"{passages[i][flip]}-{passages[i][1 - flip]}"
            for i, flip in zip(
                draw.permutation(len(passages)), draw.integers(2, size=len(passages)), strict=True
            )
        ]
        prompt = f"{','.join(texts)}:{way[0]}>{way[-1]}="
        return Problem(prompt, ">".join(map(str, way)), {"difficulty": float(hops)})

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge a way `0>2>1`; in a tree there is one without detours. Spaces do not count."""
        if len(answer) > 100 * _MOST_NODES:
            return Grade(0.0, parsed=False)
        given = "".join(answer.split())
        if not _ANSWER.fullmatch(given):
            return Grade(0.0, parsed=False)
        nodes = [int(node) for node in given.split(">")]
        return Grade(float(nodes == [int(node) for node in problem.answer.split(">")]))


def _grow(draw: np.random.Generator, way: list[int], nodes: int) -> list[tuple[int, int]]:
    """Return the passages of a uniform tree that contains the way."""
    passages = list(pairwise(way))
    inside = set(way)
    for start in range(nodes):
        after: dict[int, int] = {}
        node = start
        while node not in inside:  # keeping only the last exit of each node erases the loops
            step = int(draw.integers(nodes - 1))
            after[node] = step + (step >= node)
            node = after[node]
        node = start
        while node not in inside:
            inside.add(node)
            passages.append((node, after[node]))
            node = after[node]
    return passages
