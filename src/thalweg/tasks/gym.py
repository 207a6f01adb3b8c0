"""Tasks of reasoning-gym, a library of more than 100 generators. Needs the extra `gym`.

A problem is the one item of a data set of size 1 under a drawn seed. The score is the library's
own; it may give part of the points. It does not tell what it could not read from what is wrong,
so only an empty answer counts as unreadable. Levels are not its notion either: give another
`settings` instead.
"""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from thalweg.core.protocols import Grade, Problem
from thalweg.errors import RecipeError
from thalweg.tasks.draw import no_levels

__all__ = ["Gym"]


@dataclass(frozen=True)
class Gym:
    """One task of reasoning-gym by its name there.

    Example:
        >>> Gym("chain_sum", {"max_terms": 3}).name
        'chain_sum'
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Settings of the data set; `seed` and `size` are ours."""

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a problem; pure in the generator.

        Raises:
            RecipeError: The package is missing.
            DialError: A level other than 0.
        """
        no_levels("Gym", level)
        item = self._items(int(draw.integers(1 << 31)))[0]
        facts = {"difficulty": 0.0, "item": json.loads(json.dumps(item, default=str))}
        return Problem(str(item["question"]), str(item["answer"]), facts)

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge an answer by the library's own scorer; what makes it fail is not readable."""
        if not answer.strip():
            return Grade(0.0, parsed=False)
        scorer = self._items(0)
        try:
            return Grade(float(scorer.score_answer(answer, problem.facts["item"])))
        except Exception:
            return Grade(0.0, parsed=False)

    def _items(self, seed: int) -> Any:
        try:
            gym = importlib.import_module("reasoning_gym")
        except ImportError as error:
            raise RecipeError(
                "no package reasoning_gym",
                expected=f"the library that has the task {self.name!r}",
                where="Gym",
                write="pip install 'thalweg[gym]'",
            ) from error
        return gym.create_dataset(self.name, seed=seed, size=1, **self.settings)
