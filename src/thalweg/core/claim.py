"""A claim: what a paper says, as something that can fail. The atlas has one file for each.

An arm is a recipe, or a function of a seed that returns numbers. The same seeds go through every
arm, so a judge compares them pair by pair.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from thalweg.core.recipe import Recipe

__all__ = ["Arm", "Claim", "Metrics", "Results", "Size", "Verdict"]

T = TypeVar("T")

Metrics: TypeAlias = Mapping[str, float]
"""What an arm measured, by name."""

Arm: TypeAlias = "Recipe | Callable[[int], Metrics]"
"""A recipe, trained once a seed, or a function of the seed, pure in it."""


@dataclass(frozen=True)
class Size:
    """How large an experiment is: `tiny` shows in seconds that it runs, `small` is evidence."""

    name: Literal["tiny", "small"] = "small"

    def pick(self, *, tiny: T, small: T) -> T:
        """Return the one of two values that belongs to this size.

        Example:
            >>> Size("tiny").pick(tiny=20, small=2000)
            20
        """
        return tiny if self.name == "tiny" else small


@dataclass(frozen=True)
class Results:
    """What every arm measured, one set of numbers a seed, seeds in the same order everywhere."""

    arms: Mapping[str, tuple[Metrics, ...]]

    def of(self, arm: str, metric: str) -> NDArray[np.float64]:
        """Return [S] the values of a metric of an arm, one a seed.

        Raises:
            RecipeError: No such arm or metric.

        Example:
            >>> Results({"rex": ({"loss": 2.0}, {"loss": 2.5})}).of("rex", "loss").tolist()
            [2.0, 2.5]
        """
        for name, known, where in (
            (arm, self.arms, "Results.of"),
            (metric, self.arms.get(arm, ({},))[0], f"arm '{arm}'"),
        ):
            if name not in known:
                raise RecipeError(
                    f"'{name}'",
                    expected="the name of an arm, and a metric that it returns",
                    where=where,
                    write=did_you_mean(name, known),
                )
        return np.array([float(metrics[metric]) for metrics in self.arms[arm]])


class Verdict(NamedTuple):
    """What a judge says, with the numbers it says it from."""

    verdict: Literal["reproduced", "not reproduced", "inconclusive"]
    what: str
    """What the effect is, with its unit and the limit it was held against."""
    effect: float
    """Mean over seeds; NaN where there is no single number."""
    low: float
    """Lower end of the 95 % interval; NaN with fewer than two seeds."""
    high: float
    parts: "tuple[Verdict, ...]" = ()
    """The verdicts it was put together from, in order; none for a single comparison."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a paper says, and the smallest honest experiment that could show it wrong.

    Limits in the judge are written down before the experiment is run, and stay.
    """

    paper: str
    """Its arXiv number (`arXiv:2410.05192`) or reference."""
    statement: str
    """The claim in one sentence, as it is tested."""
    arms: Callable[[Size], Mapping[str, Arm]]
    """Size -> the arms by name; cheap: nothing is run or read yet."""
    judge: Callable[[Results], Verdict]
    """Pure: results -> verdict."""
    seeds: int = 3
    """How many seeds the `small` size takes."""
    deviations: str = ""
    """How and why the experiment differs from the paper's."""
    note: str = ""
    """What a reader of the verdict should know."""
