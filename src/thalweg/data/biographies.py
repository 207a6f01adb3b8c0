"""People who do not exist: text of which it is known, in bits, how much there is to know.

A row is a person: a name, then each attribute's label and value, in a new order at every exposure.

    start  name ... name   label value ... value   label value ... value   ...

It is the compact form of the paper's bioD: a value has C chunks of one token out of D each, so it
carries C log2(D) bits; a name has n tokens out of M, so there are M^n names, of which N are taken.
Templates in English, as the paper's bioS has them, add tokens and nothing to know; they are left
out. Rows of an exposure come in a new order; `exposures` = rows drawn / people.

Source: arXiv:2404.05405, section 2 and Definition 4.3.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log2
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, State
from thalweg.core.rng import rng
from thalweg.core.time import Time
from thalweg.data.order import shuffled
from thalweg.errors import DataError

__all__ = ["Asked", "Biographies"]

# N people, R rows, T tokens of a row, K attributes, C chunks of a value.

START = 0
"""The token before every name, unless people are tagged."""


class Asked(NamedTuple):
    """People to ask a model about."""

    batch: Batch
    """A row each, worded in one fixed way."""
    names_RT: torch.Tensor
    """bool [R, T - 1]: targets of the name."""
    values_RT: torch.Tensor
    """bool [R, T - 1]: targets of what there is to know."""


@dataclass(frozen=True)
class Biographies:
    """Names and values drawn by `key`; the order of rows and attributes by the run's seed.

    Example:
        >>> one = Biographies(people=600)
        >>> one.row_tokens, one.attribute_bits, one.all_names
        (15, 40.0, 32768.0)
    """

    people: int
    """N, each with a name of its own."""
    attributes: int = 4
    """K."""
    chunks: int = 2
    """C tokens of a value."""
    choices: int = 32
    """D tokens that a chunk may be."""
    name_tokens: int = 3
    name_choices: int = 32
    """M tokens that each token of a name may be."""
    key: int = 0
    """Which people."""
    shuffle: bool = True
    """Whether rows and attributes come in a new order at every exposure, or as they were made."""
    tagged: bool = False
    """Whether rows begin with a token of their own, the last id, instead of the common one: what
    tells a model which source it reads."""
    name: str = "people"
    """What the log calls it."""

    makes: ClassVar[tuple[str, ...]] = ("tokens", "weight", "source", "id")
    offline: ClassVar[bool] = True
    """No model writes its rows."""

    def __post_init__(self) -> None:
        """Refuse more people than names, and nothing to know.

        Raises:
            DataError: One of them.
        """
        sizes = (self.attributes, self.chunks, self.choices, self.name_tokens, self.name_choices)
        if min(sizes) < 1 or not 1 <= self.people <= self.all_names:
            raise DataError(
                f"{self.people} people of {self.all_names:g} names, {self.attributes} attributes",
                expected="1 person or more, no more than names, and one or more of everything",
                where="Biographies",
                write=f"name_tokens={self.name_tokens + 1}, or fewer people",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """One name, its own."""
        return (self.name,)

    @property
    def row_tokens(self) -> int:
        """Targets of a row."""
        return self.name_tokens + self.attributes * (1 + self.chunks)

    @property
    def vocabulary(self) -> int:
        """Number of token ids: start, labels, tokens of names, tokens of values; all occur."""
        return 1 + self.attributes + self.name_choices + self.choices + int(self.tagged)

    @property
    def sizes(self) -> Mapping[str, int]:
        """Targets of one exposure of all people."""
        return {self.name: self.people * self.row_tokens}

    @property
    def all_names(self) -> float:
        """N0 = M^n, the names that there could be."""
        return float(self.name_choices) ** self.name_tokens

    @property
    def attribute_bits(self) -> float:
        """log2 S0 = K C log2(D), what there is to know of a person whose name is given."""
        return self.attributes * self.chunks * log2(self.choices)

    @property
    def value_targets(self) -> np.ndarray:
        """Whether each target is part of a value, bool [T - 1]; the first ones are the name."""
        kinds = np.zeros(self.row_tokens, bool)
        values = kinds[self.name_tokens :].reshape(self.attributes, 1 + self.chunks)
        values[:, 1:] = True
        return kinds

    def shares(self, time: Time) -> Mapping[str, float]:
        """Return the share of rows of each name: all."""
        return {self.name: 1.0}

    def start(self, ctx: Context) -> State:
        """Return the state before the first row: its number."""
        return {"row": 0}

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return the next rows."""
        first = int(state["row"])
        ids = np.arange(first, first + ctx.rows)
        place = shuffled(ids, self.people, ctx.seed, self.name if self.shuffle else None)
        order = np.tile(np.arange(self.attributes), (ctx.rows, 1))
        if self.shuffle:
            order = np.stack([ctx.rng(self.name, "order", i).permutation(self.attributes)
                              for i in ids.tolist()])  # fmt: skip
        columns = {
            "tokens": torch.from_numpy(self._rows(place, order)),
            "weight": torch.ones(ctx.rows, self.row_tokens),
            "source": torch.zeros(ctx.rows, dtype=torch.int64),
            "id": torch.from_numpy(ids),
        }
        return Batch(columns), {"row": first + ctx.rows}

    def asked(self, rows: int, ctx: Context) -> Asked:
        """Return the first people in a fixed order, and which targets are names and values."""
        fixed = replace(self, shuffle=False)
        batch, _ = fixed.next({"row": 0}, replace(ctx, rows=min(rows, self.people)))
        values_T = torch.from_numpy(self.value_targets)
        names_T = torch.arange(self.row_tokens) < self.name_tokens
        shape = (batch.rows, self.row_tokens)
        return Asked(batch, names_T.expand(shape), values_T.expand(shape))

    def _rows(self, person_R: np.ndarray, order_RK: np.ndarray) -> np.ndarray:
        """Return int64 [R, T]."""
        name_Nn, value_NKC = _people(self)
        start_R1 = np.full((len(person_R), 1), self.vocabulary - 1 if self.tagged else START)
        value_RKC = np.take_along_axis(value_NKC[person_R], order_RK[:, :, None], axis=1)
        facts_RKC = np.concatenate([1 + order_RK[:, :, None], value_RKC], axis=2)
        flat_RA = facts_RKC.reshape(len(person_R), -1)
        return np.concatenate([start_R1, name_Nn[person_R], flat_RA], axis=1).astype(np.int64)


@lru_cache(maxsize=4)
def _people(made: Biographies) -> tuple[np.ndarray, np.ndarray]:
    """Return the token ids of names [N, n] and of values [N, K, C]."""
    draw = rng(made.key, "people")
    number_N = draw.choice(int(made.all_names), made.people, replace=False)
    digit_n = made.name_choices ** np.arange(made.name_tokens)
    name_Nn = number_N[:, None] // digit_n % made.name_choices
    shape = (made.people, made.attributes, made.chunks)
    value_NKC = draw.integers(made.choices, size=shape)
    base = 1 + made.attributes
    return base + name_Nn, base + made.name_choices + value_NKC
