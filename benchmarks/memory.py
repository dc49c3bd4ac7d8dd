"""Peak memory of one call, page faults, and the allocator settings that a steady state needs."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

GIGABYTE = 1 << 30
# glibc takes blocks above the first threshold from the kernel, and gives them back on free. Above the second threshold
# it gives back the top of the heap. With both out of reach, memory that was touched once stays mapped.
STEADY_STATE = {"MALLOC_MMAP_THRESHOLD_": str(64 * GIGABYTE), "MALLOC_TRIM_THRESHOLD_": str(64 * GIGABYTE)}


def _status(key: str) -> int:
    """Read one size of this process from the kernel, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def available_memory() -> int:
    """Return the memory that is available on the machine, in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise KeyError("MemAvailable")


def touch_memory(limit: int = 8 * GIGABYTE) -> int:
    """Write to memory once and free it, so that later allocations find it mapped. Return its bytes."""
    size = min(limit, available_memory() // 2)
    block = torch.ones(size // 4, dtype=torch.float32)
    del block
    return size


def page_faults() -> int:
    """Return how many page faults of this process needed no disk so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _release_free_memory() -> None:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def peak_extra(call: Callable[[], Any], device: str) -> dict[str, float | str]:
    """Measure the most memory that a call holds at once, beyond what was in use before it.

    On a CPU this is the resident memory of the process. It must be a fresh process with the default allocator: an
    allocator that keeps freed memory would show nothing.

    Before the call, the kernel's high-water mark is set back to the present use. Some kernels do not allow that
    (`method: high-water mark`). The figure is then by how much the mark rose. It understates the peak if the mark was
    above the use.

    Args:
        call: what to run. Its result is part of what it holds.
        device: cpu or cuda.

    Returns:
        `extra`: bytes beyond the use before. `process`: bytes of the whole process, on a GPU of the device's tensors.
        `method`: how it was measured.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = call()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated()
        del result
        return {"extra": peak - before, "process": peak, "method": "torch.cuda.max_memory_allocated"}
    _release_free_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before, method = _status("VmRSS"), "reset high-water mark"
    except OSError:
        before, method = _status("VmHWM"), "high-water mark"
    result = call()
    peak = _status("VmHWM")
    del result
    return {"extra": peak - before, "process": peak, "method": method}


def is_steady_state() -> bool:
    """Return whether this process was started with the settings of a steady state."""
    return all(os.environ.get(name) == value for name, value in STEADY_STATE.items())


def default_allocator_environment() -> dict[str, str]:
    """Return this process's environment without any setting of the allocator."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
