"""How many blocks of a kernel a processor holds, and how many `__launch_bounds__` promises."""

from __future__ import annotations

from sass.machines import LIMITS, PARTS

_UNIT = 256  # registers are given to a warp in such units


def resident_blocks(capability: int, threads: int, registers: int, shared: int) -> int:
    """Return how many blocks one processor holds at once.

    Args:
        capability: of the GPU, such as 90.
        threads: of a block.
        registers: of a thread.
        shared: bytes of a block.
    """
    limits = LIMITS[capability]
    warps = -(-threads // 32)
    of_warp = -(-max(registers, 1) * 32 // _UNIT) * _UNIT
    by_registers = limits.registers // PARTS // of_warp * PARTS // warps
    by_shared = limits.shared // (shared + limits.reserved)
    return min(limits.blocks, limits.threads // (32 * warps), by_registers, by_shared)


def limited_by(capability: int, threads: int, registers: int, shared: int) -> str:
    """Name what a processor runs out of first."""
    here = resident_blocks(capability, threads, registers, shared)
    if resident_blocks(capability, threads, 16, shared) > here:
        return "registers"
    if resident_blocks(capability, threads, registers, 0) > here:
        return "shared memory"
    return "threads"
