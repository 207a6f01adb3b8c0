"""What the steps of a solution are worth beside its answer, in examples, for a finite class.

    I(h*, h) = -log P_x( h and h* agree on x )          in steps and answer, or in the answer alone
    I(eps)   = min of I(h*, h) over the h that answer wrongly on more than a share eps of the x
    m(eps)   = (log |H| + log 1/delta) / I(eps)

From m examples on, every hypothesis that agrees with all of them answers wrongly on at most eps,
with probability 1 - delta. Steps never harm: I with them is at least I without, which is at least
eps. It is infinite where every wrong hypothesis is seen by its steps on each x.

Source: arXiv:2505.15927, definition of the CoT information and the bound for finite classes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import DialError

__all__ = ["Supervision", "cot_information", "enough_examples", "examples_needed"]

# H hypotheses, B bad ones, X inputs, M examples, K different ones among them.


class Supervision(NamedTuple):
    """Information of an example about the target, nats."""

    answers: float
    """I(eps) of an input with its answer."""
    steps: float
    """I(eps) of an input with steps and answer."""

    @property
    def ratio(self) -> float:
        """How many examples without steps one with steps is worth."""
        return self.steps / self.answers


def cot_information(
    outputs_HX: NDArray[np.integer],
    traces_HX: NDArray[np.integer],
    target: int,
    eps: float,
    odds_X: NDArray[np.float64] | None = None,
) -> Supervision:
    """Return the information of an example with its steps and of one without.

    Args:
        outputs_HX: Answer of each hypothesis to each input.
        traces_HX: Its steps, as one number each: equal numbers are equal steps.
        target: Which hypothesis is the true one.
        eps: Share of wrong answers that is still good, 0 or more and below 1.
        odds_X: Probability of each input; uniform if not given.

    Returns:
        Infinite numbers where no hypothesis is worse than eps, or none of them ever agrees.

    Raises:
        DialError: Shapes that differ, or eps out of range.

    Example:
        >>> outputs = np.array([[0, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0]])
        >>> traces = np.array([[5, 6, 7, 8], [5, 9, 9, 9], [0, 0, 0, 0]])
        >>> found = cot_information(outputs, traces, target=0, eps=0.1)
        >>> round(found.answers, 3), round(found.steps, 3)
        (0.288, 1.386)
    """
    _check(outputs_HX, traces_HX, eps)
    count = outputs_HX.shape[1]
    odds = np.full(count, 1 / count) if odds_X is None else np.asarray(odds_X, np.float64)
    same_HX = outputs_HX == outputs_HX[target]
    whole_HX = same_HX & (traces_HX == traces_HX[target])
    bad_H = (~same_HX) @ odds > eps
    return Supervision(_least(same_HX[bad_H] @ odds), _least(whole_HX[bad_H] @ odds))


def enough_examples(information: float, hypotheses: int, delta: float = 0.05) -> float:
    """Return m(eps), the bound on the examples from which no bad hypothesis is left.

    Args:
        information: I(eps) of one example, nats.
        hypotheses: |H|.
        delta: Chance that it is not enough.

    Example:
        >>> round(enough_examples(0.5, 1000, delta=0.05), 1)
        19.8
    """
    return float((np.log(hypotheses) + np.log(1 / delta)) / information)


def examples_needed(
    outputs_HX: NDArray[np.integer],
    traces_HX: NDArray[np.integer] | None,
    target: int,
    eps: float,
    drawn_M: NDArray[np.integer],
) -> float:
    """Return after how many of these examples no hypothesis that agrees is worse than eps.

    Args:
        outputs_HX: Answer of each hypothesis to each input.
        traces_HX: Its steps; None: examples do not show them.
        target: Which hypothesis is the true one.
        eps: Share of wrong answers, of inputs alike likely.
        drawn_M: Places of the inputs of the examples, in order.

    Returns:
        A whole number; infinite if these are not enough.

    Example:
        >>> outputs = np.array([[0, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0]])
        >>> examples_needed(outputs, None, target=0, eps=0.1, drawn_M=np.array([0, 1, 3]))
        3.0
    """
    _check(outputs_HX, outputs_HX if traces_HX is None else traces_HX, eps)
    differs_HX = outputs_HX != outputs_HX[target]
    bad_H = differs_HX.mean(axis=1) > eps
    if traces_HX is not None:
        differs_HX = differs_HX | (traces_HX != traces_HX[target])
    if not bad_H.any():
        return 0.0
    shown_K, first_K = np.unique(drawn_M, return_index=True)
    order_K = np.argsort(first_K)
    differs_BK = differs_HX[bad_H][:, shown_K[order_K]]
    if not differs_BK.any(axis=1).all():
        return float("inf")
    return float(first_K[order_K][differs_BK.argmax(axis=1)].max() + 1)


def _least(agreement_B: NDArray[np.float64]) -> float:
    """Return -log of the largest agreement; infinite for none, and for no hypothesis at all."""
    most = float(agreement_B.max(initial=0.0))
    return float(-np.log(min(most, 1.0))) if most > 0 else float("inf")


def _check(outputs_HX: NDArray[np.integer], traces_HX: NDArray[np.integer], eps: float) -> None:
    if outputs_HX.ndim != 2 or outputs_HX.shape != traces_HX.shape or not 0 <= eps < 1:
        raise DialError(
            f"outputs {outputs_HX.shape}, traces {traces_HX.shape}, eps={eps}",
            expected="two tables [hypotheses, inputs] of one shape, and eps in [0, 1)",
            where="cot_information",
            write="cot_information(outputs, traces, target=0, eps=0.05)",
        )
