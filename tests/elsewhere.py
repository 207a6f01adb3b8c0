"""A device that is not the CPU, made of CPU tensors: mixing the two is an error, as on a GPU.

A pytest plugin: `pytest -p elsewhere tests/contracts/test_recipes.py` runs tests with every model
of a run there. It finds tensors that were made on the CPU beside a model that is not, and tensors
given to numpy from a device. What it cannot find: kernels that a GPU has and a CPU has not.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

from thalweg.core import world

aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
"""Take tensors of two devices."""
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
"""Take indices from the CPU, as on a GPU."""


class Stream:
    """Nothing to wait for."""

    def wait_stream(self, other: "Stream") -> None: ...

    def synchronize(self) -> None: ...


class Module(_DummyBackendModule):
    """What torch asks of a kind of devices."""

    only = Stream()

    def current_stream(self, device: object = None) -> Stream:
        return self.only

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def get_rng_state(self, device: object = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: object = None) -> None:
        torch.set_rng_state(state)

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        yield


_setup_privateuseone_for_python_backend("elsewhere", backend_module=Module())
DEVICE = torch.device("elsewhere:0")


class There(torch.Tensor):
    """A tensor elsewhere; `inner` is the CPU tensor that it is."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "There":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner = inner
        return made

    def tolist(self) -> Any:
        return self.inner.tolist()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy: .cpu() first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute an operation on the CPU; its result is where its arguments are, or where asked."""
    flat, form = _pytree.tree_flatten((args, kwargs))
    there = [x for x in flat if isinstance(x, There)]
    here = [x for x in flat if isinstance(x, torch.Tensor) and not isinstance(x, There) and x.dim()]
    if there and here and func not in COPIES and func.overloadpacket not in INDEXED:
        shapes = [(str(x.device), *x.shape) for x in (*there, *here)]
        raise RuntimeError(f"{func}: tensors on two devices: {shapes}")
    asked = kwargs.get("device")
    goes = torch.device(asked) == DEVICE if asked is not None else bool(there)
    if func is aten.copy_.default:
        goes = isinstance(args[0], There)
    inner_args, inner_kwargs = _pytree.tree_unflatten(
        [x.inner if isinstance(x, There) else x for x in flat], form
    )
    if asked is not None:
        inner_kwargs |= {"device": torch.device("cpu")}
    known = {id(x.inner): x for x in there}

    def placed(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not goes:
            return value
        return known.get(id(value)) if id(value) in known else There(value)

    out = _pytree.tree_map(placed, func(*inner_args, **inner_kwargs))
    return return_and_correct_aliasing(func, args, kwargs, out) if there else out


class Operations(TorchDispatchMode):
    """Catches what makes tensors: `torch.zeros(..., device=...)` has no argument that is there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class Lists(TorchFunctionMode):
    """Catches Python's numbers: torch fills the memory of a device with them behind all modes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        indexing = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)
        if func in indexing and isinstance(args[0], There):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.tensor(one) if isinstance(one, list) else one for one in index)
            args = (args[0], index, *args[2:])
        return func(*args, **kwargs)


@contextmanager
def open_there(device: str, shard: Any) -> Iterator[world.World]:
    """Open a world of one on the device, whatever device was asked for."""
    with world._repeatable():
        yield world.World(device=DEVICE, shard=shard)


def pytest_configure(config: Any) -> None:
    """Put every run of this process there, until it ends."""
    from thalweg.atlas import runs, trained
    from thalweg.core import session

    opens: Callable[..., Any] = open_there
    for module in (session, runs, trained):
        module.open_world = opens  # type: ignore[attr-defined]
    stack = ExitStack()
    stack.enter_context(Operations())
    stack.enter_context(Lists())
    config.add_cleanup(stack.close)
