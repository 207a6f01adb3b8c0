"""Bits per parameter: how much a model knows of people it has read about.

The formula and what is published about it stand in `thalweg.laws.capacity`; here the two losses
are measured that it needs, on people as `Biographies` makes them.

Source: arXiv:2404.05405, Definition 4.3.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.moves import logprobs
from thalweg.core.protocols import Context, Dial
from thalweg.core.time import Span, share
from thalweg.data.biographies import Biographies
from thalweg.errors import DialError
from thalweg.laws.capacity import knowledge_bits

__all__ = ["Knowledge"]


@dataclass(frozen=True)
class Knowledge:
    """Bits per parameter, `knowledge/ratio`, of at most `knowledge/most`.

    Also the losses they come from, nats summed over the tokens and averaged over people:
    `knowledge/name_nats`, `knowledge/value_nats`. With all attributes of a person in one row, the
    values are known given the name alone: nothing else in the row tells them.
    """

    people: Biographies
    """Who was read about."""
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
        asked = replace(self.people, shuffle=False)
        wanted = replace(ctx, rows=min(self.rows, asked.people))
        batch, _ = asked.next(asked.start(wanted), wanted)
        learner = ctx.models[self.model]
        name_nats, value_nats = learner.score(self._nats, batch).double().mean(0).tolist()
        found = knowledge_bits(
            asked.people,
            learner.parameter_count(),
            name_nats=name_nats,
            value_nats=value_nats,
            names=asked.all_names,
            attribute_bits=asked.attribute_bits,
        )
        return {
            "knowledge/ratio": found.ratio,
            "knowledge/most": found.most,
            "knowledge/name_nats": name_nats,
            "knowledge/value_nats": value_nats,
        }

    def _nats(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return [R, 2]: summed nats of the name and of the values of each person."""
        nats_RT = -logprobs(model, batch)
        values = torch.from_numpy(self.people.value_targets).to(nats_RT.device)
        names = nats_RT[:, : self.people.name_tokens]
        return torch.stack([names.sum(1), nats_RT[:, values].sum(1)], 1)
