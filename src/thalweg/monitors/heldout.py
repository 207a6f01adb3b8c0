"""Loss on held-out text while a run goes on."""

from collections.abc import Mapping
from dataclasses import dataclass

from thalweg.core.protocols import Context, Dial, Source
from thalweg.core.time import Span, share
from thalweg.errors import DialError
from thalweg.evaluate.likelihood import held_out_loss

__all__ = ["HeldOut"]


@dataclass(frozen=True)
class HeldOut:
    """Held-out loss, nats per token: `heldout/loss`, and `heldout/loss/SOURCE` for several.

    Always the same rows, so points of one run and of several compare. At the defaults, beside
    batches of 32 rows, each source costs 1.3 % of a run of 1,200 steps; the recipes share 64 rows.
    """

    sources: Mapping[str, Source]
    """Text by name, in the same order for every run: `Corpus(..., seed=0)`, or `shuffle=False`."""
    every: Dial | Span = share(0.05)
    """Distance between measurements."""
    most: int | None = 64
    """Rows of each source; None for all."""
    model: str = "policy"
    micro: int | None = None
    """Tokens of a forward pass on one rank; None for 32 rows."""

    def __post_init__(self) -> None:
        """Refuse nothing to measure: its loss would be 0.

        Raises:
            DialError: No text or no rows.
        """
        if not self.sources or (self.most is not None and self.most < 1):
            raise DialError(
                f"{len(self.sources)} sources, most={self.most}",
                expected="one source or more, and one row of each or more",
                where="monitors.heldout",
                write='HeldOut({"web": ...}, most=64)',
            )

    @property
    def name(self) -> str:
        """Return `heldout`, its place in paths."""
        return "heldout"

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return the losses now."""
        found = held_out_loss(
            ctx.models[self.model], self.sources, ctx, rows=self.most, micro=self.micro
        )
        values = {"heldout/loss": found.loss}
        if len(self.sources) > 1:
            values |= {f"heldout/loss/{name}": loss for name, loss in found.by_source().items()}
        return values
