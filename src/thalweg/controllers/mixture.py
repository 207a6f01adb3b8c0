"""Controllers that set the weights of a mixture from the losses that a run measures.

    LearningProgress   how fast each loss has been changing
    LossProportional   the loss itself, to a power
    SkillIt            in skill.py: a graph of which source helps which loss

Each is a rule on numbers (a pure function, for use elsewhere) and a controller that feeds it. A
controller reads `heldout/loss/NAME` from the reports and Sets `source.weights`; the loop keeps the
values in the run's journal and state, so a resumed run needs neither the losses nor the rule again.
Uniform weights are the baseline to beat: with a graph that is wrong such rules lose to them
(arXiv:2411.05735).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from thalweg.controllers.reading import is_due, losses_in
from thalweg.core.protocols import Action, Context, Set, State
from thalweg.core.time import Span, share
from thalweg.schedules.clock import check_number

__all__ = ["LearningProgress", "LossProportional", "progress_weights"]

# S sources.


def progress_weights(
    fast_S: np.ndarray, slow_S: np.ndarray, theta: float = 0.1, floor: float = 0.05
) -> np.ndarray:
    """Return weights by learning progress |f(fast) - f(slow)|, [S].

    f(x) = x (1 - theta) / (x + theta (1 - 2 x)) magnifies low success. Progress is z-scored over
    the sources that have any success, squashed by a sigmoid, normalised; then `floor` of it all is
    spread evenly. Without any success at all the weights are equal.

    Args:
        fast_S: Success, 0 to 1, averaged over a short past.
        slow_S: The same over a longer one.
        theta: How much low success is magnified; 0.5 not at all.
        floor: Share that is given out evenly.

    Source: arXiv:2106.14876 (bidirectional learning progress), as OMNI uses it.

    Example:
        >>> progress_weights(np.array([0.5, 0.5]), np.array([0.5, 0.5])).tolist()
        [0.5, 0.5]
    """
    seen_S = fast_S > 0
    even_S = np.full(len(fast_S), 1.0 / len(fast_S))
    if not seen_S.any():
        return even_S
    progress_S = np.abs(_magnified(fast_S, theta) - _magnified(slow_S, theta))
    spread = progress_S[seen_S].std()
    z_S = (progress_S - progress_S[seen_S].mean()) / (spread if spread > 0 else 1.0)
    weight_S = np.where(seen_S, 1.0 / (1.0 + np.exp(-z_S)), 0.0)
    mixed_S: np.ndarray = (1.0 - floor) * weight_S / weight_S.sum() + floor * even_S
    return mixed_S


def _magnified(x_S: np.ndarray, theta: float) -> np.ndarray:
    magnified_S: np.ndarray = x_S * (1.0 - theta) / (x_S + theta * (1.0 - 2.0 * x_S))
    return magnified_S


@dataclass(frozen=True)
class LearningProgress:
    """Sample sources by how fast their loss, or success, has been changing, up or down.

    Success p is exp(-loss), the mean probability of a target, less `chance`; fast = EMA(p),
    slow = EMA(fast), over the steps on which all were measured. See `progress_weights`.
    """

    sources: tuple[str, ...]
    every: Span | int = share(0.05)
    """Length of a round."""
    alpha: float = 0.1
    """Weight of the newest record in both averages."""
    theta: float = 0.1
    floor: float = 0.05
    signal: Literal["loss", "success"] = "loss"
    """What is reported: a loss in nats, or a success rate from 0 to 1."""
    chance: float = 0.0
    """Success of a guess; counts as 0.75 at most."""
    losses: str = "heldout/loss/"
    """What stands before a source's name in a report."""
    weights: str = "source.weights"
    """Path of the weights in the phase."""

    @property
    def name(self) -> str:
        """Return `learning_progress`, its place in paths."""
        return "learning_progress"

    def start(self, ctx: Context) -> State:
        """Return the state before the first step.

        Raises:
            DialError: A share outside 0..1.
        """
        check_number(self, "alpha", self.alpha, low=0.0, high=1.0)
        check_number(self, "theta", self.theta, low=0.0, high=1.0)
        check_number(self, "floor", self.floor, low=0.0, high=1.0)
        return {"fast": None, "slow": None}

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Return the weights of the next round where one begins."""
        found = losses_in(ctx.last["report"], self.losses, self.sources)
        if len(found) == len(self.sources):
            state = self._averaged(state, np.array([found[name] for name in self.sources]))
        if state["fast"] is None or not is_due(self.every, ctx.time):
            return (), state
        fast_S, slow_S = np.array(state["fast"]), np.array(state["slow"])
        weight_S = progress_weights(fast_S, slow_S, self.theta, self.floor)
        return [_set(self.weights, self.sources, weight_S)], state

    def _averaged(self, state: State, value_S: np.ndarray) -> State:
        p_S = np.exp(-value_S) if self.signal == "loss" else value_S
        chance = min(self.chance, 0.75)
        p_S = np.maximum(p_S - chance, 0.0) / (1.0 - chance)
        if state["fast"] is None:
            return {"fast": p_S.tolist(), "slow": p_S.tolist()}
        fast_S = self.alpha * p_S + (1.0 - self.alpha) * np.array(state["fast"])
        slow_S = self.alpha * fast_S + (1.0 - self.alpha) * np.array(state["slow"])
        return {"fast": fast_S.tolist(), "slow": slow_S.tolist()}


@dataclass(frozen=True)
class LossProportional:
    """Sample sources in proportion to a power of their loss, averaged over the recent past.

    It gives most to what is hardest, noise included: text that cannot be learned keeps its loss.
    """

    sources: tuple[str, ...]
    every: Span | int = share(0.05)
    """Length of a round."""
    power: float = 1.0
    alpha: float = 0.5
    """Weight of the newest loss in the average."""
    floor: float = 0.05
    """Share that is given out evenly."""
    losses: str = "heldout/loss/"
    """What stands before a source's name in a report; `loss/` for the losses of training."""
    weights: str = "source.weights"
    """Path of the weights in the phase."""

    @property
    def name(self) -> str:
        """Return `loss_proportional`, its place in paths."""
        return "loss_proportional"

    def start(self, ctx: Context) -> State:
        """Return the state before the first step.

        Raises:
            DialError: A share outside 0..1.
        """
        check_number(self, "alpha", self.alpha, low=0.0, high=1.0)
        check_number(self, "floor", self.floor, low=0.0, high=1.0)
        return {"mean": {}}

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Return the weights of the next round where one begins and every source has a loss."""
        mean = dict(state["mean"])
        for name, value in losses_in(ctx.last["report"], self.losses, self.sources).items():
            old = mean.get(name, value)
            mean[name] = self.alpha * value + (1.0 - self.alpha) * old
        state = {"mean": mean}
        if len(mean) < len(self.sources) or not is_due(self.every, ctx.time):
            return (), state
        power_S = np.array([mean[name] for name in self.sources]) ** self.power
        even = 1.0 / len(self.sources)
        weight_S = (1.0 - self.floor) * power_S / power_S.sum() + self.floor * even
        return [_set(self.weights, self.sources, weight_S)], state


def _set(path: str, sources: Sequence[str], weight_S: np.ndarray) -> Set:
    return Set({path: dict(zip(sources, weight_S.tolist(), strict=True))})
