"""The library of the host stand-in for CUDA, in the process that tools/host_cuda.py starts."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

PATH = os.environ.get("MASKFORMER_EXT_HOST_CUDA", "")
ALL_BLOCKS = 2**64 - 1


@cache
def library() -> ctypes.CDLL:
    """Load the library, and say what its functions take and return."""
    loaded = ctypes.CDLL(PATH)
    for name in ("run_faulty_kernel", "faulty_kernels", "check_fragments", "host_cuda_banks"):
        getattr(loaded, name).restype = ctypes.c_char_p
    loaded.host_cuda_configure.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_bool, ctypes.c_bool]
    return loaded


@contextmanager
def configured(
    *, seed: int = 1, most_blocks: int = ALL_BLOCKS, rounding: bool = True, banks: bool = False
) -> Iterator[None]:
    """Set the options that csrc/host_cuda/options.h explains; afterwards they are the usual ones."""
    library().host_cuda_configure(seed, most_blocks, rounding, banks)
    try:
        yield
    finally:
        library().host_cuda_configure(1, ALL_BLOCKS, True, False)


def banks() -> list[tuple[int, int, int, int]]:
    """Return per place in the code: its address, accesses of a warp, wavefronts, wavefronts without conflicts.

    Counting begins anew.
    """
    lines = library().host_cuda_banks().decode().splitlines()
    return [tuple(int(word) for word in line.split()) for line in lines]  # type: ignore[misc]


def banks_by_line() -> dict[str, tuple[int, float]]:
    """Return the accesses of warps per line of source, and how many times the fewest wavefronts they take."""
    counted = banks()
    command = ["addr2line", "-i", "-e", PATH, *(hex(address - 1) for address, *_ in counted), "-a"]
    blocks = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("0x")[1:]
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for block, (_, *numbers) in zip(blocks, counted, strict=True):
        places = [line.rpartition("csrc/")[2].split(" ")[0] for line in block.splitlines()[1:]]
        place = next((one for one in places if not one.startswith("host_cuda/")), places[0])
        sums[place] = [old + new for old, new in zip(sums[place], numbers, strict=True)]
    return {place: (accesses, wavefronts / least) for place, (accesses, wavefronts, least) in sums.items()}
