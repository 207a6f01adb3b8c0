"""What a row's routing is held against, and the bias that balances without a loss.

    Load         load           -> load_share    counts of this step, from one forward pass more
    LaggedLoad                  -> load_share    counts of the step before, free
    Rebias                      moves the routers' bias by the counts of the step before

The counts of the step before are those that `Balanced` reports, which the run's state carries, so
both are the same however a batch is split and after a resume.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, Dial
from thalweg.errors import DialError, RecipeError

__all__ = ["LaggedLoad", "Load", "Rebias", "load_shares", "loads_of"]

# R rows, B blocks of rows, L layers, E experts.


@dataclass(frozen=True)
class Load:
    """Hold every row against the counts of its block of rows: a scope of the balance loss.

    Rows 1: each sequence by itself. Rows n: blocks of n in the order of the batch, the paper's
    micro-batch. None: the global batch. A schedule over rows is the paper's change of scope.

    Source: arXiv:2501.11873, eq. (3) to (5), and sec. 4.2 for shuffled blocks.
    """

    rows: Dial = None
    """Of a block; None: all of the batch."""
    shuffled: bool = False
    """Whether blocks are drawn from the whole batch: few tokens, but of every kind."""

    name: ClassVar[str] = "load.shares"
    needs: ClassVar[tuple[str, ...]] = ("load",)
    makes: ClassVar[tuple[str, ...]] = ("load_share",)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the shares.

        Raises:
            DialError: Blocks of less than one row.
        """
        rows = batch.rows if self.rows is None else int(self.rows)
        if rows < 1:
            raise DialError(
                f"rows = {self.rows}",
                expected="1 or more, or None for the whole batch",
                where="Load.rows",
                write="rows=1 for the scope of a sequence",
            )
        order_R = torch.arange(batch.rows)
        if self.shuffled:
            draw = ctx.rng("load", int(ctx.time.run_step))
            order_R = torch.from_numpy(draw.permutation(batch.rows))
        return batch.plus({"load_share": load_shares(batch["load"], order_R // rows)})


def load_shares(counts_RLE: torch.Tensor, block_R: torch.Tensor) -> torch.Tensor:
    """Return for each row the shares of experts in its block [R, L, E]; even where none counts.

    Args:
        counts_RLE: Tokens of each row that chose an expert.
        block_R: int64 [R]: number of each row's block, from 0.

    Example:
        >>> counts = torch.tensor([[[2.0, 0.0]], [[1.0, 1.0]]])
        >>> load_shares(counts, torch.tensor([0, 0])).flatten().tolist()
        [0.75, 0.25, 0.75, 0.25]
    """
    blocks = int(block_R.max()) + 1
    empty_BLE = counts_RLE.new_zeros(blocks, *counts_RLE.shape[1:])
    return _shares(empty_BLE.index_add(0, block_R, counts_RLE))[block_R]


@dataclass(frozen=True)
class LaggedLoad:
    """Hold every row against the global counts of the step before: no forward pass more.

    In the first step shares are even, which has no gradient.
    """

    model: str = "policy"

    name: ClassVar[str] = "load.shares"
    needs: ClassVar[tuple[str, ...]] = ()
    makes: ClassVar[tuple[str, ...]] = ("load_share",)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch with the shares.

        Raises:
            RecipeError: The model has no experts.
        """
        module = ctx.models[self.model].module
        layers, experts = module.routers if isinstance(module, _Routed) else (0, 0)
        if not layers:
            raise RecipeError(
                f"'{self.model}', a model without experts",
                expected="a mixture of experts",
                where="LaggedLoad.model",
                write="Transformer(moe=Moe(experts=8, top=2), ...)",
            )
        counts_LE = loads_of(ctx.last.get("report", {}), self.model)
        if counts_LE is None:
            counts_LE = torch.ones(layers, experts)
        return batch.plus({"load_share": _shares(counts_LE).expand(batch.rows, -1, -1)})


@dataclass(frozen=True)
class Rebias:
    """Balance without a loss: b_i += rate * sign(mean count - count_i), by the step before.

    Put it before Learn, whose objective is `Balanced(..., balance=None)`, and give the model
    `Moe(bias=True)`. Standing at the beginning of a step it does what an update at the end of the
    last one would; the counts of the run's very last step are not used. Reports `router_bias`, the
    largest of them.

    Source: arXiv:2408.15664, algorithm 1; global counts: arXiv:2501.11873, sec. 4.3.
    """

    model: str = "policy"
    rate: Dial = 0.001
    """The step of a bias, in units of scores; of the source."""

    needs: ClassVar[tuple[str, ...]] = ()
    makes: ClassVar[tuple[str, ...]] = ()

    @property
    def name(self) -> str:
        """Return `rebias.MODEL`."""
        return f"rebias.{self.model}"

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        """Return the batch unchanged; the biases have moved.

        Raises:
            RecipeError: The model's routers have no bias.
        """
        named = ctx.models[self.model].module.named_buffers()
        biases = [buffer for name, buffer in named if name.endswith("mixture.bias")]
        if not biases:
            raise RecipeError(
                f"'{self.model}', whose routers have no bias",
                expected="a mixture of experts that is chosen by score plus bias",
                where=f"{self.name}.model",
                write="Moe(experts=8, top=2, bias=True)",
            )
        counts_LE = loads_of(ctx.last.get("report", {}), self.model)
        if counts_LE is not None:
            for bias_E, counts_E in zip(biases, counts_LE, strict=True):
                bias_E += self.rate * torch.sign(counts_E.mean() - counts_E).to(bias_E.device)
        ctx.log({"router_bias": max(float(bias.abs().max()) for bias in biases)})
        return batch


def loads_of(report: Mapping[str, float], model: str = "policy") -> torch.Tensor | None:
    """Return the counts [L, E] in a report, as `Balanced` names them; None where there are none.

    Example:
        >>> loads_of({"load/0/0": 3.0, "load/0/1": 1.0, "loss": 2.0}).tolist()
        [[3.0, 1.0]]
    """
    for prefix in (f"{model}/load/", "load/"):
        found = {
            tuple(map(int, name.removeprefix(prefix).split("/"))): value
            for name, value in report.items()
            if name.startswith(prefix)
        }
        if found:
            layers, experts = (max(place[axis] for place in found) + 1 for axis in (0, 1))
            return torch.tensor([[found[i, j] for j in range(experts)] for i in range(layers)])
    return None


def _shares(counts: torch.Tensor) -> torch.Tensor:
    total = counts.sum(-1, keepdim=True)
    return torch.where(total > 0, counts / total.clamp_min(1e-30), 1.0 / counts.shape[-1])


@runtime_checkable
class _Routed(Protocol):
    """A model that says how many layers have experts, and how many of them."""

    @property
    def routers(self) -> tuple[int, int]:
        """Return layers and experts."""
        ...
