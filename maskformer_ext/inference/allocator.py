"""Keep memory that a step or an image frees, instead of returning it to the system."""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # parameters of glibc's mallopt(3)


def keep_freed_memory() -> bool:
    """Make glibc's malloc reuse large blocks from step to step, or from image to image.

    By default every tensor above 32 MiB is mapped afresh and unmapped again, and the kernel must clear each page on its
    first touch. On two cores of a virtual machine that took half of a training step. The setting is one of the whole
    process, so commands make it, and no function of the library does. Nothing happens where malloc is not glibc's, or
    where the user already chose an allocator or tuned this one.

    Returns:
        Whether the settings were applied.
    """
    tuned = [name for name in os.environ if name.startswith("MALLOC_")] or "malloc" in os.environ.get("LD_PRELOAD", "")
    if tuned or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20))
    return all([libc.mallopt(parameter, value) == 1 for parameter, value in settings])
