"""What the machine can do: the peak that utilisation is a share of, and memory in use."""

import functools
import time

import psutil
import torch

__all__ = ["memory_bytes", "memory_limit", "peak_flops"]

# Dense bfloat16 tensor-core peaks, FLOP/s, from the vendor's data sheets; by a piece of the name.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}


@functools.lru_cache(maxsize=4)
def peak_flops(kind: str, dtype: torch.dtype) -> float:
    """Return the matrix-multiply peak of one device, FLOP/s: a data sheet's, or measured here.

    Args:
        kind: "cpu" or "cuda".
        dtype: Of the activations.
    """
    if kind == "cuda":
        name = torch.cuda.get_device_name()
        for piece, peak in PEAKS.items():
            if piece in name:
                return peak if dtype != torch.float32 else peak / 2
    return _measured(kind, dtype)


def _measured(kind: str, dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> float:
    """Time a square product; the best of a few."""
    a = torch.ones(size, size, dtype=dtype, device=kind)
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        a @ a
        if kind == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return 2.0 * size**3 / best


def memory_bytes(kind: str) -> int:
    """Return memory in use now: the peak allocated on a GPU, the resident set on a CPU."""
    if kind == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return int(_process().memory_info().rss)


def memory_limit(device: torch.device) -> int:
    """Return the bytes that a GPU has, or the machine."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


@functools.lru_cache(maxsize=1)
def _process() -> psutil.Process:
    return psutil.Process()
