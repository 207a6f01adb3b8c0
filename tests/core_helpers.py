"""What the tests of the loop share."""

import json
from pathlib import Path

import torch

from lab import Linear2, Lines, Squared
from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.loop import Bench, Memory, run
from thalweg.core.moves import Learn
from thalweg.core.names import finder
from thalweg.core.protocols import Controller, Dial, Move
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.session import build_learners
from thalweg.core.state import RunState
from thalweg.core.world import World
from thalweg.optim import AdamW
from thalweg.schedules import Linear

__all__ = ["line_recipe", "play", "weights"]

LAB = Path(__file__).parent / "lab.py"


def line_recipe(
    steps: int = 12,
    lr: Dial = Linear(0.1, 0.0),
    controllers: tuple[Controller, ...] = (),
    do: tuple[Move, ...] = (),
    micro: int | None = None,
    watch: tuple[str, ...] = (),
) -> Recipe:
    learn = Learn("policy", Squared(), AdamW(lr=lr), micro=micro, watch=watch)
    phase = Phase(steps, Lines(), (learn, *do), rows=8, controllers=controllers)
    return Recipe({"policy": Linear2()}, (phase,))


def play(
    recipe: Recipe, state: RunState | None = None, learners: dict[str, Learner] | None = None
) -> tuple[RunState, dict[str, Learner], Memory]:
    """Run a recipe in memory."""
    learners = build_learners(recipe, World()) if learners is None else learners
    memory = Memory()
    end = run(Bench(recipe, learners, World(), memory, finder(LAB)), state or RunState())
    return end, learners, memory


def resumed_equals_undisturbed(recipe: Recipe, stops: tuple[int, ...]) -> None:
    """Run to each step, send the state through JSON, and go on with copies of the learners."""

    class Ending(Memory):
        """A recorder whose owner asks for the end after some steps."""

        left = 0

        def interrupted(self) -> bool:
            self.left -= 1
            return self.left == 0

    _, learners, memory = play(recipe)
    for stop in stops:
        first, second = Ending(), Memory()
        first.left = stop
        built = build_learners(recipe, World())
        half = run(Bench(recipe, built, World(), first, finder(LAB)), RunState())
        state = RunState.from_json(json.loads(json.dumps(half.to_json())))
        run(Bench(recipe, built, World(), second, finder(LAB)), state)
        assert first.history + second.history == memory.history
        assert first.trials + second.trials == memory.trials
        for name, learner in built.items():
            assert torch.equal(weights(learner), weights(learners[name]))


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.module.parameters()])


def rows(batch: Batch) -> list[list[float]]:
    return batch["x"].tolist()
