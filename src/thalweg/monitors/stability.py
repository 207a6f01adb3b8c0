"""The stability gap: what a run forgets, and regains, right after its text has changed.

The fall comes within the first steps and is gone long before the end, so measuring every 5 % of a
run misses it. This monitor measures after steps 1, 2, 3, ... and ever more rarely: about `early`
times in each doubling. Its cost is a forward pass over `2 * rows` rows each time; with 16 rows
beside batches of 32, that is under 2 % of a run of 700 steps or more, 1.2 % of 1,200, .2 % of
10,000. In shorter runs it is more, and there it is cheap.

Nothing is kept between measurements: the history is the state, so a resumed run has the same
numbers. `thalweg.laws.forgetting` makes depths, minima and windows of them; the report shows them.

Source: arXiv:2205.13452.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from thalweg.core.protocols import Context, Source
from thalweg.errors import DialError
from thalweg.evaluate.likelihood import held_out_loss

__all__ = ["Stability"]


@dataclass(frozen=True)
class Stability:
    """Held-out loss on old and on new text, often at first: `stability/old`, `stability/new`.

    Nats per token. What the model was before the first step of the phase stands in the line of
    that step as `stability/old/before`, `stability/new/before`.
    """

    old: Mapping[str, Source]
    """Text like that of before, by name; in the same order for every run, as `HeldOut` has it."""
    new: Mapping[str, Source]
    """Text like that to be learned."""
    rows: int = 16
    """Rows of old text, and of new; shared evenly by their sources, at least one each."""
    early: int = 4
    """Measurements in each doubling of the steps; every step before the first."""
    model: str = "policy"
    micro: int | None = None
    """Tokens of a forward pass on one rank; None for all."""

    def __post_init__(self) -> None:
        """Refuse nothing to measure.

        Raises:
            DialError: No text, no rows, or no measurements.
        """
        if min(len(self.old), len(self.new), self.rows, self.early) < 1:
            raise DialError(
                f"{len(self.old)} old and {len(self.new)} new texts, rows={self.rows}, "
                f"early={self.early}",
                expected="one or more of each",
                where="monitors.stability",
                write='Stability(old={"web": ...}, new={"law": ...})',
            )

    @property
    def name(self) -> str:
        """Return `stability`, its place in paths."""
        return "stability"

    @property
    def every(self) -> int:
        """Return 1: it is asked after each step, and answers where a measurement is due."""
        return 1

    def due(self, done: int) -> bool:
        """Return whether there is a measurement after `done` steps of the phase.

        Example:
            >>> one = Stability({"a": None}, {"b": None}, early=2)
            >>> [done for done in range(1, 33) if one.due(done)]
            [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
        """
        distance = 1 << max(0, (done // self.early).bit_length() - 1)
        return done % distance == 0

    def before(self, ctx: Context) -> Mapping[str, float]:
        """Return the losses of the model as it came."""
        return {f"{name}/before": loss for name, loss in self._losses(ctx).items()}

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return the losses now; nothing where no measurement is due."""
        done = int(ctx.time.step) + 1
        return self._losses(ctx) if self.due(done) or done == ctx.time.steps else {}

    def _losses(self, ctx: Context) -> dict[str, float]:
        learner = ctx.models[self.model]
        found = {}
        for role, sources in (("old", self.old), ("new", self.new)):
            each = -(-self.rows // len(sources))
            measured = held_out_loss(learner, sources, ctx, rows=each, micro=self.micro)
            found[f"stability/{role}"] = measured.loss
        return found
