"""Ranks exist here and nowhere else. Everyone else sees the global batch.

A world of one process does nothing. With several (torchrun), each rank takes an equal, contiguous
part of every batch; gradients and metrics are SUMS over ranks, because losses are sums over rows.
"""

import atexit
import gc
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
import torch.distributed as dist
import torch.utils.deterministic
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from thalweg.core.batch import Batch, is_weight
from thalweg.core.machine import memory_limit
from thalweg.core.rng import key_seed
from thalweg.errors import RecipeError

__all__ = ["World", "is_main", "open_world"]

T = TypeVar("T")
CPU = torch.device("cpu")


@runtime_checkable
class Blocked(Protocol):
    """A module that says which of its parts are sharded one by one."""

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The repeated parts."""
        ...


@dataclass(frozen=True)
class World:
    """The ranks of a run."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    shard: Literal["replicate", "full"] = "replicate"

    @property
    def main(self) -> bool:
        """Whether this rank writes files and talks to people."""
        return self.rank == 0

    @property
    def sharded(self) -> bool:
        """Whether a rank holds a part of each weight only."""
        return self.size > 1 and self.shard == "full"

    @property
    def memory(self) -> int:
        """Bytes that a rank may use at most: of its GPU, or its part of the machine."""
        beside = 1 if self.device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return memory_limit(self.device) // beside

    def held(self, size: int) -> int:
        """Return how many of `size` bytes of weights and moments a rank holds."""
        return size // self.size if self.sharded else size

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the device, and shard it where the world says so."""
        module = module.to(self.device)
        if not self.sharded:
            return module
        mesh = init_device_mesh(self.device.type, (self.size,))
        parts = [*module.blocks] if isinstance(module, Blocked) else []
        for part in [*parts, module]:
            wrapped = fully_shard(part, mesh=mesh)
            wrapped.set_gradient_divide_factor(1.0)  # losses are sums, so gradients are sums
            wrapped.set_force_sum_reduction_for_comms(True)  # gloo knows no scaled sum
        return module

    def mine(self, batch: Batch) -> Batch:
        """Return this rank's rows. Short batches are padded by rows of weight 0."""
        if self.size == 1:
            return batch
        each = -(-batch.rows // self.size)
        index = np.arange(self.rank * each, (self.rank + 1) * each)
        padding = index >= batch.rows
        part = batch.take(np.where(padding, 0, index))
        if not padding.any():
            return part
        weights = {name: part[name].clone() for name in part if is_weight(name)}
        for weight in weights.values():
            weight[torch.from_numpy(padding)] = 0
        return part.plus(weights)

    def read_early(self, batch: Batch) -> Batch:
        """Return the batch with its lazy columns read, if this rank takes all rows.

        A rank of several reads its own rows, after it has taken them.
        """
        return batch.loaded() if self.size == 1 else batch

    def part(self, items: Sequence[T]) -> list[T]:
        """Return this rank's even part of a list, in order; the last ones may get fewer."""
        each = -(-len(items) // self.size)
        return list(items[self.rank * each : (self.rank + 1) * each])

    def gather(self, values: torch.Tensor, rows: int) -> torch.Tensor:
        """Return the rows of all ranks' parts, in batch order, without padding."""
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)[:rows]

    def gather_objects(self, values: list[T]) -> list[T]:
        """Return the concatenation of all ranks' lists."""
        if self.size == 1:
            return values
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, values)
        return [value for part in parts for value in part]

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over ranks."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def sum_gradients(self, module: nn.Module) -> None:
        """Replace every gradient by its sum over ranks. FSDP has done so already.

        A weight that no rank's rows reached keeps no gradient, as on one rank.
        """
        if self.size == 1 or isinstance(module, FSDPModule):
            return
        weights = [p for p in module.parameters() if p.requires_grad]
        flat = torch.cat([_gradient(p).flatten() for p in weights])
        reached = torch.tensor([float(p.grad is not None) for p in weights], device=self.device)
        dist.all_reduce(flat)
        dist.all_reduce(reached)
        totals = torch.split(flat, [p.numel() for p in weights])
        for weight, total, ranks in zip(weights, totals, reached.tolist(), strict=True):
            weight.grad = total.view_as(weight).clone() if ranks else None

    def from_main(self, make: Callable[[], T]) -> T:
        """Return what `make` returns on the main rank, on every rank. Errors are raised on all."""
        if self.size == 1:
            return make()
        box: list[Any] = [None, None]
        if self.main:
            try:
                box[0] = make()
            except Exception as error:  # handed to every rank, then raised
                box[1] = error
        dist.broadcast_object_list(box)
        if box[1] is not None:
            raise box[1]
        value: T = box[0]
        return value

    @contextmanager
    def whole(self, module: nn.Module) -> Iterator[None]:
        """Let every rank hold all weights of a module inside; ranks need not do the same there."""
        parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        try:
            yield
        finally:
            for part in parts:
                part.reshard()
                part.set_reshard_after_forward(part is not module, recurse=False)

    def reshard(self, module: nn.Module) -> None:
        """Give back whole weights: a forward pass that no backward follows leaves the root's whole.

        An optimizer made then would hold copies, and a step would not reach the weights.
        """
        if isinstance(module, FSDPModule):
            module.reshard()

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank."""
        if self.size == 1:
            return flag
        value = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(value)
        return bool(value.item() > 0)

    def seed(self, seed: int, run_step: int) -> None:
        """Make what modules draw from torch's own generators (dropout) a function of the step.

        The generators are seeded one by one: `torch.manual_seed` takes a millisecond a step, most
        of it to note down who asked for the seeds of devices that are not there.
        """
        number = key_seed(seed, "torch", run_step, self.rank)
        for generator in self._generators():
            generator.manual_seed(number)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Give torch's own generators back at the end as they were: `seed` moves them."""
        states = [generator.get_state() for generator in self._generators()]
        try:
            yield
        finally:
            for generator, state in zip(self._generators(), states, strict=True):
                generator.set_state(state)

    def _generators(self) -> list[torch.Generator]:
        some = [torch.default_generator]
        if self.device.type == "cuda":
            some.append(torch.cuda.default_generators[self.device.index or 0])
        return some

    @torch.no_grad()
    def fill(self, tensor: torch.Tensor, whole: torch.Tensor) -> None:
        """Overwrite a tensor, sharded or not, by one that every rank holds whole."""
        whole = whole.to(tensor.device)
        if isinstance(tensor, DTensor):
            mesh, where = tensor.device_mesh, tensor.placements
            whole = distribute_tensor(whole, mesh, where, src_data_rank=None)
        tensor.copy_(whole)

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.size > 1:
            dist.barrier()

    def save_tensors(self, tensors: dict[str, torch.Tensor], folder: Path) -> None:
        """Write tensors as safetensors, each rank its own shards; one of two names once."""
        if self.main:
            folder.mkdir(parents=True, exist_ok=True)
        self.barrier()
        once = _once(tensors)
        writer = HuggingFaceStorageWriter(
            str(folder), fqn_to_index_mapping=_files(once), save_distributed=True
        )
        with _plainly():
            save(once, storage_writer=writer, no_dist=self.size == 1)

    def load_tensors(self, tensors: dict[str, torch.Tensor], folder: Path) -> None:
        """Fill tensors in place from a folder that any number of ranks wrote.

        Moments that it lacks are 0: when it was written no gradient had reached their weight.
        """
        reader, wanted = HuggingFaceStorageReader(str(folder)), _once(tensors)
        held = reader.read_metadata().state_dict_metadata
        for name in [n for n in wanted if n.startswith("optimizer.") and n not in held]:
            wanted.pop(name).zero_()
        with _plainly():
            load(wanted, storage_reader=reader, no_dist=self.size == 1)


def _once(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors without further names of the same memory: a head that is the embedding."""
    found: dict[tuple[object, ...], str] = {}
    for name, tensor in tensors.items():
        own = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        alike = (own.data_ptr(), own.shape, own.stride()) if own.numel() else (name,)
        found.setdefault(alike, name)
    return {name: tensors[name] for name in found.values()}


def _files(tensors: dict[str, torch.Tensor]) -> dict[str, int]:
    """Return the number of the file of each tensor, from 1.

    A file is put together in memory before it is written: sixteen files, none below 16 MiB, keep
    that small.
    """
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    most = max(sum(sizes.values()) // 16, 1 << 24)
    numbers, number, held = {}, 1, 0
    for name, size in sizes.items():
        if held and held + size > most:
            number, held = number + 1, 0
        numbers[name] = number
        held += size
    return numbers


def _gradient(weight: nn.Parameter) -> torch.Tensor:
    """Return a gradient, or zeros where this rank's rows did not reach the weight."""
    return weight.grad if weight.grad is not None else torch.zeros_like(weight)


@contextmanager
def _plainly() -> Iterator[None]:
    """Silence the note that one process saves alone, which is meant; raise what failed as it is."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            yield
    except CheckpointException as error:
        causes = [failure[0] for failure in error.failures.values()]
        raise causes[0] from None


def is_main() -> bool:
    """Return whether this process writes and talks; torchrun says so before a world is open."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def open_world(
    device: Literal["auto", "cpu", "cuda"], shard: Literal["replicate", "full"]
) -> Iterator[World]:
    """Join the ranks that torchrun started, or be a world of one. They part when the process ends.

    Inside, torch takes the operators whose results are the same every time, as a run that resumes
    exactly needs them; of an operator that has none it warns.

    Raises:
        RecipeError: A GPU was asked for and there is none.
    """
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise RecipeError(
            "device = 'cuda'",
            expected="a GPU that torch can use",
            where="compute.device",
            write="compute.device='cpu', or install a CUDA build of torch",
        )
    kind = "cuda" if cuda and device != "cpu" else "cpu"
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device(kind, local) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or its sums may differ
        torch.cuda.set_device(place)
    if size == 1:
        with _repeatable():
            yield World(device=place, shard=shard)
        return
    if not dist.is_initialized():  # once a process: torch's stores do not survive a second time
        dist.init_process_group("cuda:nccl,cpu:gloo" if kind == "cuda" else "gloo")
        atexit.register(_part)
    with _repeatable():
        yield World(dist.get_rank(), size, place, shard)
    dist.barrier()  # a rank that leaves early would take its connections from the others


@contextmanager
def _repeatable() -> Iterator[None]:
    """Let torch take operators that give the same bits every time.

    The compiler otherwise adds up the gradient of an embedding in the order in which threads come.
    """
    memory: Any = torch.utils.deterministic
    was, filled = torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # nobody here reads what nobody wrote
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(was)
        memory.fill_uninitialized_memory = filled


def _part() -> None:
    """Leave the ranks while Python stands: gloo's threads may not outlive it."""
    dist.destroy_process_group()
    gc.collect()
