"""The learner: a model, its optimizer, its place in the world. The only file that differentiates.

`learn` is: for each micro-batch of this rank's rows, objective and backward; sum over ranks; check;
clip; step. Losses are sums over rows with a weight column made for the global batch, so how rows
are split changes nothing but rounding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
)
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from thalweg.core.batch import Batch, places_of
from thalweg.core.gradients import watched
from thalweg.core.grow import Growable, moments
from thalweg.core.protocols import Loss, ModelSpec, Objective
from thalweg.core.returned import check_loss
from thalweg.core.world import World
from thalweg.errors import Diverged
from thalweg.optim import Optimizers, OptimizerSpec, Widening, build
from thalweg.optim.values import whole

__all__ = ["Learned", "Learner", "Snapshot"]

P = TypeVar("P")
A = TypeVar("A")

Snapshot: TypeAlias = dict[str, torch.Tensor]
"""Every tensor of a learner by name, `model.*` and `optimizer.*`; this rank's shards."""


class Learned(NamedTuple):
    """What a step of learning reports, reduced over ranks."""

    loss: float
    """Of the global batch, before the step."""
    grad_norm: float
    """Global L2 norm of the gradient before clipping."""
    sums: dict[str, float]
    """The objective's additive metrics."""
    rows: dict[str, list[float]]
    """The objective's per-row values, R each."""


@runtime_checkable
class Counted(Protocol):
    """A module that knows what it costs."""

    def flops(self, length: int) -> float:
        """Return training FLOPs of a target token in rows of `length`."""
        ...


@runtime_checkable
class Widened(Protocol):
    """A module whose rates were found at another width."""

    def widening(self) -> Mapping[str, Widening]:
        """Return how each parameter grows with the width, by name."""
        ...


class Learner:
    """A model in its world, with the optimizer that its first `learn` asked for.

    Args:
        name: The model's name in the recipe.
        module: The model, weights float32.
        world: The ranks.
        dtype: Of activations under autocast.
        compiled: Whether calls go through torch.compile.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        world: World,
        *,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        self.name = name
        self.world = world
        self.dtype = dtype
        self.compiled = compiled
        self._seat(module)
        self.spec: OptimizerSpec | None = None
        """The optimizer of the last step; its moments are in `tensors()`."""
        self._optimizers: Optimizers | None = None
        self._answering = False

    def learn(
        self,
        objective: Objective,
        batch: Batch,
        optimizer: OptimizerSpec,
        *,
        clip: float | None = None,
        micro: int | None = None,
        watch: Sequence[str] = (),
    ) -> Learned:
        """Take one optimizer step on the global batch.

        Args:
            objective: What to minimise.
            batch: The global batch with its final `weight` column.
            optimizer: The frozen spec of this step; its numbers are written before the step.
            clip: Largest global gradient norm; None or 0 for none.
            micro: Tokens (or rows, for batches without tokens) of a micro-batch on one rank.
            watch: What else to report of the gradient: names of `core.gradients.WATCHED`.

        Raises:
            Diverged: The loss or the gradient is not finite; nothing has stepped.
        """
        optimizers = self._prepare(optimizer)
        optimizers.zero()
        if not self.module.training:
            self.module.train()
        losses = self._backward(objective, batch, micro)
        norm = self._norm()
        learned = self._reduce(losses, norm, batch.rows)
        self._check(learned)
        if watch:
            seen = watched(watch, optimizers.moving, whole)
            learned = learned._replace(sums={**learned.sums, **seen})
        if clip:
            clip_grads_with_norm_(self._weights, clip, norm)
        optimizers.step()
        return learned

    def gradient(self, objective: Objective, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the gradient of the global batch by parameter name, without a step."""
        self.module.zero_grad(set_to_none=True)
        self._backward(objective, batch, None)
        named = self.module.named_parameters()
        grads = {n: whole(p.grad).clone() for n, p in named if p.grad is not None}
        self.module.zero_grad(set_to_none=True)
        return grads

    def score(
        self,
        fn: Callable[[nn.Module, Batch], torch.Tensor],
        batch: Batch,
        *,
        micro: int | None = None,
        often: bool = False,
    ) -> torch.Tensor:
        """Return fn's values for every row [R, ...], without gradients, gathered on the CPU.

        Args:
            fn: Called with the model and rows of the batch.
            batch: The global batch.
            micro: Tokens of a forward pass on one rank; None for all.
            often: Asked at every step, of rows as long as those that train: worth compiling, in a
                run that compiles. Anything else would be compiled anew for a few calls.
        """
        mine = self.world.mine(batch if "weight" in batch else _with_weight(batch))
        model = self._call if often else self.module
        with self.evaluating():
            parts = [fn(model, m.loaded(self.world.device)) for m in _micros(mine, micro)]
        return self.world.gather(torch.cat(parts), batch.rows).cpu()

    def generate(
        self,
        prompts: Sequence[P],
        sampler: Callable[[nn.Module, list[P]], list[A]],
    ) -> list[A]:
        """Return what the sampler writes for each prompt; every rank does its own part.

        A rank holds all weights while it samples, so it may call the model as often as it likes.
        """
        mine = self.world.part(prompts)
        with self.evaluating(), self.world.whole(self.module):
            return self.world.gather_objects(sampler(self.module, mine) if mine else [])

    def snapshot(self) -> Snapshot:
        """Return a copy of all weights and optimizer moments, on the CPU."""
        return {name: t.detach().cpu().clone() for name, t in self.tensors().items()}

    def restore(self, snapshot: Snapshot, optimizer: OptimizerSpec | None = None) -> None:
        """Put a snapshot back. What it does not hold was born later and is reset.

        Args:
            snapshot: Of this learner.
            optimizer: Its `spec` at that time; needed where another has taken over since.
        """
        if optimizer is not None:
            self.module.zero_grad(set_to_none=True)  # or torch makes no state to be filled
            self._prepare(optimizer)
        for name, tensor in self.tensors().items():
            if name in snapshot:
                tensor.copy_(snapshot[name])
            else:
                tensor.zero_()
        if not any(name.startswith("optimizer.") for name in snapshot):
            self._optimizers, self.spec = None, None

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every tensor by name, sharing memory with the learner."""
        model: Any = get_model_state_dict(self.module)
        found: Snapshot = {f"model.{k}": v for k, v in model.items()}
        for number, one in enumerate(self._torch_optimizers()):
            state: Any = get_optimizer_state_dict(self.module, one)["state"]
            for parameter, values in state.items():
                for key, value in values.items():
                    if isinstance(value, torch.Tensor):
                        found[f"optimizer.{number}.{parameter}.{key}"] = value
        return found

    def grow(self, to: ModelSpec, seed: int) -> None:
        """Become a larger model that computes the same; moments of what there was stay.

        Args:
            to: The larger architecture.
            seed: Of the new weights.

        Raises:
            RecipeError: The model cannot become this one without a change of what it computes.
        """
        assert isinstance(self.module, Growable)
        growth = self.module.growth(to)
        before = {name: whole(t).detach().cpu().clone() for name, t in self.tensors().items()}
        weights = {n.removeprefix("model."): t for n, t in before.items() if n[:6] == "model."}
        module = to.build(seed)
        module.load_state_dict(growth.weights(weights, module.state_dict()))
        self._seat(module)
        self._optimizers = None
        if self.spec is not None:
            self._prepare(self.spec)
        after = {n: t for n, t in self.tensors().items() if n.startswith("optimizer.")}
        for name, value in moments(before, after, growth):
            self.world.fill(after[name], value)

    def load(self, read: Callable[[Snapshot], None], optimizer: OptimizerSpec | None) -> None:
        """Fill weights and moments in place with what `read` puts into the tensors it is given.

        Args:
            read: Overwrites the tensors of a snapshot, e.g. from a checkpoint.
            optimizer: The spec whose moments the checkpoint holds; None for weights alone.
        """
        if optimizer is not None:
            self._prepare(optimizer)
        read(self.tensors())

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode, no gradients, the run's activation type, the weights it answers with."""
        training = self.module.training
        self.module.eval()
        try:
            with self.averaged(), torch.no_grad(), self._autocast():
                yield
        finally:
            self.world.reshard(self.module)
            self.module.train(training)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The weights that the model answers with: averages, where its optimizer keeps some.

        Whatever reads weights (scores, samples, export, Copy) does so inside. Afterwards the
        weights are what they were, bit for bit. Checkpoints and snapshots are taken outside: they
        hold the weights that train, and the optimizer's state, from which the averages follow.
        """
        inside, self._answering = self._answering, True
        pairs = [] if inside or self._optimizers is None else self._optimizers.averages()
        kept = [(parameter, parameter.detach().clone()) for parameter, _ in pairs]
        try:
            _overwrite(pairs)
            yield
        finally:
            _overwrite(kept)
            self._answering = inside

    def flops(self, length: int) -> float:
        """Return training FLOPs of a target in rows of `length`: the model's own count, or 6 N."""
        if isinstance(self.module, Counted):
            return self.module.flops(length)
        return 6.0 * self.parameter_count()

    def parameter_count(self) -> int:
        """Return the number of weights of the whole model."""
        return sum(p.numel() for p in self.module.parameters())

    def _seat(self, module: nn.Module) -> None:
        self.module = self.world.place(module)
        self._weights = tuple(self.module.parameters())
        self._call: Any = _compiled(self.module) if self.compiled else self.module

    def _prepare(self, spec: OptimizerSpec) -> Optimizers:
        if self._optimizers is not None and spec is self.spec:
            return self._optimizers
        if self._optimizers is None or not self._optimizers.fits(spec):
            if self._optimizers is not None:  # another takes over: it starts from the answer
                _overwrite(self._optimizers.averages())
            widening = self.module.widening() if isinstance(self.module, Widened) else {}
            self._optimizers = build(spec, list(self.module.named_parameters()), widening)
        self._optimizers.set(spec)
        self.spec = spec
        return self._optimizers

    def _torch_optimizers(self) -> Sequence[torch.optim.Optimizer]:
        return self._optimizers.torch_optimizers if self._optimizers is not None else ()

    def _backward(self, objective: Objective, batch: Batch, micro: int | None) -> list[Loss]:
        losses = []
        for part in _micros(self.world.mine(batch), micro):
            with self._autocast():
                found = objective(self._call, part.loaded(self.world.device))
            loss = check_loss(found, objective, self.name, part.rows)
            loss.value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            losses.append(Loss(loss.value.detach(), loss.sums, loss.rows))
        self.world.sum_gradients(self.module)
        return losses

    def _autocast(self) -> torch.autocast:
        low = self.dtype != torch.float32
        kind = self.world.device.type
        return torch.autocast(kind, dtype=self.dtype if low else None, enabled=low)

    def _norm(self) -> torch.Tensor:
        grads = [p.grad for p in self._weights if p.grad is not None]
        return whole(get_total_norm(grads))

    def _reduce(self, losses: Sequence[Loss], norm: torch.Tensor, rows: int) -> Learned:
        """Sum metrics over micro-batches and ranks with one transfer for scalars, one for rows."""
        names, columns = sorted(losses[0].sums), sorted(losses[0].rows)
        scalars = [x for loss in losses for x in (loss.value, *(loss.sums[n] for n in names))]
        summed = torch.stack(scalars).detach().double()
        if len(losses) > 1:
            summed = summed.view(len(losses), -1).sum(0)
        totals = [*self.world.sum(summed).tolist(), float(norm)]
        table: dict[str, list[float]] = {}
        if columns:
            parts = [torch.stack([x.rows[n].double() for n in columns], 1) for x in losses]
            mine = torch.cat(parts) if len(parts) > 1 else parts[0]
            values = self.world.gather(mine, rows).T.tolist()
            table = dict(zip(columns, values, strict=True))
        return Learned(totals[0], totals[-1], dict(zip(names, totals[1:-1], strict=True)), table)

    def _check(self, learned: Learned) -> None:
        for what, value in (("loss", learned.loss), ("gradient norm", learned.grad_norm)):
            if not abs(value) < float("inf"):
                self.module.zero_grad(set_to_none=True)
                raise Diverged(
                    f"{what} = {value}",
                    expected="a finite number",
                    where=f"model '{self.name}', before its optimizer step",
                    write="a lower learning rate, a longer warm-up, or a look at this batch",
                )


def _compiled(module: nn.Module) -> Any:
    """Return the module through torch.compile.

    torch gives up compiling when a function has been compiled eight times; the models of a run are
    often of one class, each called in a few ways. Whole numbers are lengths: each is compiled.
    """
    limits: Any = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, 64)
    limits.specialize_int = True
    return torch.compile(module)


def _micros(batch: Batch, micro: float | None) -> list[Batch]:
    """Return even parts of about `micro` tokens (rows, where there are no tokens)."""
    if micro is None or batch.rows == 0:
        return [batch]
    most = max(1, round(micro) // places_of(batch))
    count = -(-batch.rows // most)
    return batch.split(-(-batch.rows // count))


@torch.no_grad()
def _overwrite(pairs: Sequence[tuple[nn.Parameter, torch.Tensor]]) -> None:
    for parameter, value in pairs:
        parameter.copy_(value)


def _with_weight(batch: Batch) -> Batch:
    return batch.plus({"weight": torch.ones(batch.rows)})
