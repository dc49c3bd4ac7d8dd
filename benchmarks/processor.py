"""The processor that a CPU's figures are recorded for, and the instruction set that ran."""

from __future__ import annotations

import os

from maskformer_ext.cli.health import machine
from maskformer_ext.ops.support import library

_NAMES = {"baseline": "baseline", "avx2": "AVX2", "avx512": "AVX-512"}  # as MASKFORMER_EXT_CPU has them
# Torch and its libraries choose for themselves. Peers must be narrowed as our kernels are.
_OF_PEERS = {
    "baseline": {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}


def instruction_set() -> str:
    """Return the set that our kernels run with: "baseline", "avx2" or "avx512"."""
    return library.build_info().get("cpu", "baseline")


def described(model: str, offered: list[str], in_use: str) -> str:
    """Name a processor and the instruction set in use, and say where it offers a wider one."""
    narrowed = "" if offered[-1] == in_use else "narrowed to "
    return f"{model} ({narrowed}{_NAMES[in_use]})"


def processor() -> str:
    """Describe the processor of this machine."""
    return described(machine.processor(), machine.instruction_sets(), instruction_set())


def narrowing_of_peers() -> dict[str, str]:
    """Return the environment that narrows torch and its libraries as MASKFORMER_EXT_CPU narrows our kernels."""
    return _OF_PEERS.get(os.environ.get("MASKFORMER_EXT_CPU", ""), {})
