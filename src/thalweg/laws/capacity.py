"""How many bits of facts a model holds per parameter, from its losses on people it has seen.

    R = [ N log2(N0 / e^p1) + N log2(S0 / e^p2) ] / P,   R_max = [ N log2(N0 / N) + N log2 S0 ] / P

N people out of N0 possible names, S0 possible sets of attributes each, P parameters; p1 and p2 are
the means over people of the *summed* cross-entropies (nats) of the name and of the attribute
tokens. A model that knows the names perfectly has p1 = ln N, not 0: it cannot know who comes next.

Published: about 2 bits a parameter after 1000 exposures, 1 after 100; a seventh of junk-free data
costs up to 20 times at 100 exposures, and a source tag before the useful text repairs most of it.
"""

from typing import NamedTuple

import numpy as np

from thalweg.errors import DialError

__all__ = ["BIOGRAPHY_BITS", "BIOGRAPHY_NAMES", "Capacity", "knowledge_bits", "value_bits"]

BIOGRAPHY_NAMES = 1.6e8
"""N0 of bioS: 400 first, 400 middle and 1000 last names."""
BIOGRAPHY_BITS = float(np.log2(12 * 28 * 200) + np.log2(200.0 * 300 * 100 * 263 * 2))
"""log2 S0 of bioS: birth date, birth city, university, major, company and pronoun; 47.6 bits.
The work city follows from the company and counts nothing."""


class Capacity(NamedTuple):
    """Bits per parameter."""

    ratio: float
    """R, what the losses show."""
    most: float
    """R_max, if everything were known."""


def knowledge_bits(
    people: float,
    parameters: float,
    *,
    name_nats: float,
    value_nats: float,
    names: float = BIOGRAPHY_NAMES,
    attribute_bits: float = BIOGRAPHY_BITS,
) -> Capacity:
    """Return R and R_max.

    Args:
        people: N distinct people in the data.
        parameters: P, without embedding rows of tokens that never occur.
        name_nats: p1, summed over the name's tokens, mean over people.
        value_nats: p2, summed over the attributes' tokens, mean over people.
        names: N0, possible names.
        attribute_bits: log2 S0.

    Raises:
        DialError: More people than names, or a negative number.

    Source: arXiv:2404.05405, Definition 4.3.

    Example:
        >>> found = knowledge_bits(1e4, 3e5, name_nats=float(np.log(1e4)), value_nats=0.0)
        >>> round(found.ratio, 3), round(found.most, 3)
        (2.052, 2.052)
    """
    if not (0 < people <= names and parameters > 0 and name_nats >= 0 and value_nats >= 0):
        raise DialError(
            f"{people:g} people of {names:g} names, {parameters:g} parameters",
            expected="no more people than names, and nothing negative",
            where="knowledge_bits",
            write="knowledge_bits(people=1e4, parameters=1e6, name_nats=9.2, value_nats=0.1)",
        )
    nats_to_bits = float(np.log2(np.e))
    known = people * (np.log2(names) - name_nats * nats_to_bits)
    known += people * (attribute_bits - value_nats * nats_to_bits)
    most = people * (np.log2(names / people) + attribute_bits)
    return Capacity(float(known / parameters), float(most / parameters))


def value_bits(
    attributes: float, choices: float, length: float, tokens: float, *, choice_nats: float
) -> float:
    """Return the term of general data for learning which values exist: K D log2(T^L / (D e^p3)).

    Args:
        attributes: K.
        choices: D values of each chunk.
        length: L tokens of a chunk.
        tokens: T tokens to choose from.
        choice_nats: p3, mean summed cross-entropy of a value given that it is one of its set.

    Source: arXiv:2404.05405, Definition 4.3, third term.

    Example:
        >>> value_bits(1, 2, 1, 8, choice_nats=0.0)
        4.0
    """
    bits = length * np.log2(tokens) - np.log2(choices) - choice_nats * np.log2(np.e)
    return float(attributes * choices * bits)
