"""Automata of three states over two letters: all of them, counted; and one to learn."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from thalweg.core.protocols import Grade, Problem
from thalweg.core.rng import rng

__all__ = ["LETTERS", "STATES", "Automaton", "automata", "drawn"]

# H automata, F tables of transitions, A sets that accept, S states, L letters, X strings, T places.

STATES = 3
LENGTH = 8
"""Letters of a string of the class whose every member is known."""
LETTERS = 16
"""Letters of a string that a decoder learns from."""


@lru_cache(maxsize=1)
def automata() -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Return answers and steps [H, X] of all automata of three states over two letters.

    An automaton is 6 transitions and the set of states that accept; 729 x 8 of them. Steps are
    the states it goes through, read as one number.
    """
    letter_XT = np.array(list(product((0, 1), repeat=LENGTH)))
    move_FSL = np.array(list(product(range(STATES), repeat=2 * STATES))).reshape(-1, STATES, 2)
    state_FX = np.zeros((len(move_FSL), len(letter_XT)), np.int64)
    trace_FX = np.zeros_like(state_FX)
    for letter_X in letter_XT.T:
        state_FX = move_FSL[np.arange(len(move_FSL))[:, None], state_FX, letter_X]
        trace_FX = trace_FX * STATES + state_FX
    accept_AS = np.array(list(product((0, 1), repeat=STATES)))
    answer_HX = np.concatenate([accept_S[state_FX] for accept_S in accept_AS])
    return answer_HX, np.tile(trace_FX, (len(accept_AS), 1))


def drawn(key: int) -> tuple[NDArray[np.integer], int]:
    """Return moves [S, L] and the one state that accepts.

    Each letter permutes the states. The two do so differently, and neither leaves all in place,
    so that every state is reached and no letter may be overlooked.
    """
    draw = rng(key, "automaton")
    while True:
        move_SL = np.stack([draw.permutation(STATES) for _ in range(2)], 1)
        still = (move_SL == np.arange(STATES)[:, None]).all(0).any()
        if not still and (move_SL[:, 0] != move_SL[:, 1]).any():
            return move_SL, int(draw.integers(STATES))


@dataclass(frozen=True)
class Automaton:
    """Does an automaton, drawn by `key`, end in an accepting state? Its states may be shown."""

    key: int
    states: bool
    """Whether the answer begins with the states that were gone through."""

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a string of letters; level 0."""
        move_SL, accepts = drawn(self.key)
        letters = draw.integers(2, size=LETTERS).tolist()
        state, seen = 0, ""
        for letter in letters:
            state = int(move_SL[state, letter])
            seen += "pqr"[state]
        answer = "yn"[int(state != accepts)]
        return Problem("".join(map(str, letters)) + "=", (seen if self.states else "") + answer)

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge the last letter."""
        return Grade(float(answer[-1:] == problem.answer[-1]), parsed=answer[-1:] in ("y", "n"))
