"""Bits per parameter: how much a model knows of people it has read about.

The formula and what is published about it stand in `thalweg.laws.capacity`; here the two losses
are measured that it needs, on people as `Biographies` or, in English, `Lives` makes them.

Source: arXiv:2404.05405, Definition 4.3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from thalweg.core.moves import logprobs
from thalweg.core.protocols import Context, Dial
from thalweg.core.time import Span, share
from thalweg.data.biographies import Asked
from thalweg.errors import DialError
from thalweg.laws.capacity import knowledge_bits

__all__ = ["Knowledge", "People"]


class People(Protocol):
    """People of whom it is known how much there is to know."""

    @property
    def people(self) -> int:
        """N, how many there are."""
        ...

    @property
    def all_names(self) -> float:
        """N0, names that there could be."""
        ...

    @property
    def attribute_bits(self) -> float:
        """log2 S0, bits to know of a person whose name is given."""
        ...

    def asked(self, rows: int, ctx: Context) -> Asked:
        """Return rows of the first people, and which of their targets are counted."""
        ...


@dataclass(frozen=True)
class Knowledge:
    """Bits per parameter, `knowledge/ratio`, of at most `knowledge/most`.

    Also the losses they come from, nats summed over the tokens and averaged over people:
    `knowledge/name_nats`, `knowledge/value_nats`. With all attributes of a person in one row, the
    values are known given the name alone: nothing else in the row tells them.
    """

    people: People
    """Who was read about: `Biographies`, or `Lives`."""
    rows: int = 256
    """People that are asked about, the first; the mean stands for all."""
    every: Dial | Span = share(0.1)
    """Distance between measurements."""
    model: str = "policy"

    def __post_init__(self) -> None:
        """Refuse nobody to ask about.

        Raises:
            DialError: No rows.
        """
        if self.rows < 1:
            raise DialError(
                f"rows={self.rows}", expected="1 or more", where="monitors.knowledge",
                write="rows=256",
            )  # fmt: skip

    @property
    def name(self) -> str:
        """Return `knowledge`, its place in paths."""
        return "knowledge"

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return what is known now."""
        asked = self.people.asked(self.rows, ctx)
        nats_RT = -ctx.models[self.model].score(logprobs, asked.batch).double().cpu()
        name_nats = float((nats_RT * asked.names_RT).sum(1).mean())
        value_nats = float((nats_RT * asked.values_RT).sum(1).mean())
        found = knowledge_bits(
            self.people.people,
            ctx.models[self.model].parameter_count(),
            name_nats=name_nats,
            value_nats=value_nats,
            names=self.people.all_names,
            attribute_bits=self.people.attribute_bits,
        )
        return {
            "knowledge/ratio": found.ratio,
            "knowledge/most": found.most,
            "knowledge/name_nats": name_nats,
            "knowledge/value_nats": value_nats,
        }
